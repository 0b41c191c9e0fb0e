import test from 'ava'
import { adviceFor, failureOf } from './failures.ts'

const desk = { platform: 'linux', hasDisplay: false, deadlineMs: 10_000 } as const
const screen = { ...desk, hasDisplay: true }

test('what a keychain’s library says becomes a code', (t) => {
  const cases = [
    // libsecret, through keytar and through @napi-rs/keyring
    ['Cannot create an item in a locked collection', desk, 'keychain_locked'],
    ['Couldn’t access platform storage: Secret Service: unlock prompt was dismissed', desk, 'keychain_locked'],
    ['Couldn’t access platform storage: Secret Service: unlock prompt was dismissed', screen, 'keychain_refused'],
    ['Cannot autolaunch D-Bus without X11 $DISPLAY', desk, 'keychain_unavailable'],
    ['The name org.freedesktop.secrets was not provided by any .service files', desk, 'keychain_unavailable'],
    // macOS
    ['User interaction is not allowed.', screen, 'keychain_locked'],
    ['User canceled the operation.', screen, 'keychain_refused'],
    ['The user name or passphrase you entered is not correct.', screen, 'keychain_refused'],
    ['', desk, 'keychain_unavailable'],
  ] as const
  for (const [message, where, code] of cases) {
    const failure = failureOf(message, where)
    t.is(failure.code, code, message)
    if (message !== '') t.false(failure.detail?.includes(message) ?? false)
  }
})

test('advice is for the system at hand', (t) => {
  t.regex(adviceFor('no_service', desk), /Debian: apt-get install gnome-keyring/)
  t.regex(adviceFor('absent', desk), /Debian: apt-get install libsecret/)
  t.regex(adviceFor('silent', desk), /within 10 s.*D-Bus/)
  for (const platform of ['darwin', 'win32'] as const) {
    for (const obstacle of ['no_service', 'absent', 'silent', 'not_kept'] as const) {
      t.notRegex(adviceFor(obstacle, { ...desk, platform }), /Debian|D-Bus/)
    }
  }
})
