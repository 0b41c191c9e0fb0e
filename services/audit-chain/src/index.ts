/** @lenserfight/audit-chain: the worker is `main.ts`; this is what its tests and others may use of it. */
export { AuditChainConfig, defaultLinking } from './config.ts'
export { type Linker, type LinkerOptions, startLinker } from './linker.ts'
