/** @lenserfight/bus: NATS. Connect, publish, consume; the only code that acks, naks or terms. */
export { type BrokerConfigOptions, brokerConfig } from './broker-config.ts'
export { toBusError } from './bus-error.ts'
export { type Bus, connectService, type ServiceConnection } from './connect-service.ts'
export { connectSystem, type KickResult, type SystemBus, type SystemConnection } from './connect-system.ts'
export type { Connection, ConnectionEvents } from './connection.ts'
export { consume } from './consume/index.ts'
export {
  type Burial,
  type ConsumeOptions,
  type ConsumeStats,
  type ConsumeTiming,
  type Consumption,
  type Delivery,
  type Disposition,
  done,
  type HandleContext,
} from './consume/types.ts'
export * from './edge.ts'
export { type Listening, type ListenOptions, listen } from './listen.ts'
export { readSigner } from './read-signer.ts'
export { serviceReconnect } from './reconnect.ts'
export {
  type AddressedReceipt,
  type Addressee,
  type Answer,
  type Change,
  createAnswers,
  createNotices,
  createReceipts,
  type SendAnswer,
  type SendNotice,
  type SendReceipts,
  type Voice,
} from './speak.ts'
export {
  type Checked,
  createRecheck,
  decodeVerified,
  type Recheck,
  type RecheckOptions,
  refusalOf,
  type VerifiedMessage,
} from './verified.ts'
