import type { EdgeConfig, Settings, Store } from '@lenserfight/daemon/client'
import { openState } from '@lenserfight/daemon/client'
import { ensurePrivateFolder, type Keychain, openKeychain } from '@lenserfight/keychain'
import type { CliConfig } from './config.ts'
import type { Output } from './output.ts'

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
  readonly close: () => void
}

/** How long somebody may take to type the keychain's password at its prompt, milliseconds. */
const passwordMs = 60_000

export const createContext = (config: CliConfig, output: Output, gatewayFile?: string): Context => {
  const { edge } = config
  let state: { store: Store; settings: Settings } | undefined
  let keychain: Promise<Keychain> | undefined
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
    close: () => state?.store.close(),
  }
}
