/** @lenserfight/bus/edge: what speaks to the gateway from outside. Without streams, which no edge may use and each would load. */
export { type AskOptions, connectEdge, type EdgeBus, type EdgeConnection, type EdgeListener } from './connect-edge.ts'
export {
  type GatewayBodies,
  type GatewayExpectations,
  type KeyList,
  openGatewayMessage,
  type TrustedKey,
  verifyGatewayMessage,
  verifyKeyList,
} from './gateway-keys.ts'
export { edgeReconnect, jitteredDelay, type ReconnectTiming } from './reconnect.ts'
