/** @lenserfight/daemon: signs for the device. Here: what the command line shares with it. */
export * from './client.ts'
export { type Daemon, type DaemonOptions, startDaemon } from './daemon.ts'
export { type ClientOptions, createGatewayClient, type GatewayClient, resultOf } from './gateway/client.ts'
export { connectGateway, type Link, type LinkEvent, type LinkOptions } from './gateway/link.ts'
export { createTrust, type GatewayTrust, type TrustOptions } from './gateway/trust.ts'
export { resolveBind } from './http/bind.ts'
export { runDaemon } from './run.ts'
export { daemonVersion } from './version.ts'
