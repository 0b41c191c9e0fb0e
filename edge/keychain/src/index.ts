/** @lenserfight/keychain: where a private key lives on the developer's machine, and files that nobody else may read. */
export { ensureKeyPair, readKeyPair } from './key-pairs.ts'
export {
  type Keychain,
  type KeychainBackend,
  type KeychainOptions,
  keychainBackends,
  openKeychain,
} from './keychain.ts'
export {
  checkPrivateFile,
  ensurePrivateFile,
  ensurePrivateFolder,
  readPrivateFile,
  writePrivateFile,
} from './private-files.ts'
