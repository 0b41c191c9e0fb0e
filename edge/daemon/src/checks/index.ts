/** What may be wrong with a machine: one file a question, asked by the doctor and by a daemon that is to start. */
export { type CanaryTimes, type Hops, hopsOf, judgeBus } from './bus.ts'
export { type ClockReading, isClockOff, judgeClock, measureClock, readClock } from './clock.ts'
export { type ConfigFacts, judgeConfig } from './config.ts'
export { judgeDaemon } from './daemon.ts'
export { type DeviceStanding, type IdentityFacts, judgeIdentity, requireIdentity } from './identity.ts'
export { checkKeychain, readDeviceKeys } from './keychain.ts'
export { type CheckName, checkNames } from './names.ts'
export { type Check, runChecks } from './run-checks.ts'
export { judgeSync, type Moment, SyncReport, syncReportOf } from './sync.ts'
export { hostOf, judgeTransport, reachGateway, type TransportFacts } from './transport.ts'
export {
  asFailed,
  type CheckData,
  type CheckResult,
  demand,
  type Failed,
  type Passed,
  type Verdict,
} from './types.ts'
