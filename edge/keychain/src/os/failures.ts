/** Where somebody sits: what advice depends on. */
export interface Desk {
  readonly platform: NodeJS.Platform
  /** Whether there is a screen on which a keychain could ask for its password. */
  readonly hasDisplay: boolean
  /** How long an answer may take, milliseconds. */
  readonly deadlineMs: number
}

/** What kept a keychain from being used, beside what its library said. */
export type Obstacle = 'absent' | 'silent' | 'not_kept' | 'no_service'

export type KeychainFailure = 'keychain_unavailable' | 'keychain_locked' | 'keychain_refused'

const debian = 'on Debian: apt-get install gnome-keyring libsecret-1-0 dbus-user-session'

const noService = (platform: NodeJS.Platform): string => {
  if (platform === 'linux') return `no Secret Service answers on the session’s D-Bus; ${debian}, then sign in again`
  if (platform === 'darwin')
    return 'the login keychain cannot be reached; open Keychain Access and check that it is there'
  return 'the credential store cannot be reached; check that its service runs for this user'
}

/** keytar is built where libsecret's headers are; the other library comes built. */
const absent = (platform: NodeJS.Platform): string =>
  platform === 'linux'
    ? 'its library (keytar or @napi-rs/keyring) does not load; on Debian: apt-get install libsecret-1-dev, then npm ci'
    : 'its library (keytar or @napi-rs/keyring) does not load; install with optional dependencies: npm ci'

/** What to do about an obstacle, as part of a sentence. */
export const adviceFor = (obstacle: Obstacle, { platform, deadlineMs }: Desk): string => {
  if (obstacle === 'absent') return absent(platform)
  if (obstacle === 'no_service') return noService(platform)
  if (obstacle === 'not_kept') return 'it does not hold what it was told to'
  const waited = `it gave no answer within ${deadlineMs / 1000} s; if it asks for a password, give it and try again`
  return platform === 'linux' ? `${waited}, else restart the session’s D-Bus by signing in again` : waited
}

/** Words by which keychains say why not. macOS: errSecInteractionNotAllowed, errSecUserCanceled, errSecAuthFailed. */
const locked = /locked|interaction is not allowed/i
const dismissed = /dismissed|no such prompt|prompt/i
const refused = /cancell?ed|denied|not correct|not authori[sz]ed/i

/** What a library's message means, and what to do. Its own words are left out: they are no sentence and nobody vouches for them. */
export const failureOf = (message: string, desk: Desk): { code: KeychainFailure; detail: string | undefined } => {
  if (refused.test(message)) return { code: 'keychain_refused', detail: undefined }
  // Where nobody could be asked, nobody refused.
  if (dismissed.test(message)) {
    return { code: desk.hasDisplay ? 'keychain_refused' : 'keychain_locked', detail: undefined }
  }
  if (locked.test(message)) return { code: 'keychain_locked', detail: undefined }
  return { code: 'keychain_unavailable', detail: adviceFor('no_service', desk) }
}
