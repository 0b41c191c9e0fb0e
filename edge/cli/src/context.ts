import type { EdgeConfig, Settings, Store } from '@lenserfight/daemon/client'
import { openState } from '@lenserfight/daemon/client'
import { ensurePrivateFolder, type Keychain, openKeychain } from '@lenserfight/keychain'
import type { CliConfig } from './config.ts'
import { type Output, plain } from './output.ts'
import { type Project, readProject } from './project/config.ts'

/** What a command is given. State and keychain are opened on first use, and the state closed when the command ends. */
export interface Context {
  readonly config: CliConfig
  readonly edge: EdgeConfig
  readonly output: Output
  /** The descriptor file that the command line names. */
  readonly gatewayFile: string | undefined
  readonly store: () => Store
  readonly settings: () => Settings
  readonly keychain: () => Promise<Keychain>
  /** The project's configuration; a secret in its file is warned of, and not taken up. */
  readonly project: () => Project
  readonly close: () => void
}

/** How long somebody may take to type the keychain's password at its prompt, milliseconds. */
const passwordMs = 60_000

/** What is said of a secret in a project's file: where it is, never what. */
export const secretWarning = (file: string, member: string): string =>
  plain(
    `WARNING: secret_in_config: ${member} in ${file} holds a secret. Remove it there, and replace it at its issuer.`,
  )

export const createContext = (config: CliConfig, output: Output, gatewayFile?: string): Context => {
  const { edge } = config
  let state: { store: Store; settings: Settings } | undefined
  let keychain: Promise<Keychain> | undefined
  let project: Project | undefined
  const open = () => {
    ensurePrivateFolder(edge.profileFolder)
    state ??= openState(edge)
    return state
  }
  return {
    config,
    edge,
    output,
    gatewayFile,
    store: () => open().store,
    settings: () => open().settings,
    keychain: () => {
      keychain ??= openKeychain({
        fileFallback: edge.fileFallback,
        folder: edge.keysFolder,
        warn: output.note,
        hasDisplay: config.hasDisplay,
        ...(config.hasDisplay ? { deadlineMs: passwordMs } : {}),
      })
      return keychain
    },
    project: () => {
      if (project === undefined) {
        project = readProject(config)
        for (const member of project.secrets) output.note(secretWarning(project.file as string, member))
      }
      return project
    },
    close: () => state?.store.close(),
  }
}
