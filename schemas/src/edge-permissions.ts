import { kindsInScope, kindsInState } from './kinds.ts'
import type { DeviceLevel, SessionScope } from './ladders.ts'
import { askSubject, ctlSubjects, inSubject, nilUuid } from './subjects.ts'
import type { Permissions } from './topology.ts'

const own = (lenser: string, kid: string): string => `ltg.v1.out.${lenser}.${kid}.*`

/**
 * What a device may publish and hear: its doors kind by kind as its state allows, never a wildcard;
 * its own answers and orders. No inbox, no broker API (protocol.md, Accounts).
 * `clockOff`: a connect whose time was refused is admitted to ask for its status alone, and learns why.
 */
export const devicePermissions = (device: {
  lenser: string
  kid: string
  state: DeviceLevel
  clockOff?: boolean
}): Permissions => {
  const { lenser, kid, state } = device
  const ingress = device.clockOff ? [] : kindsInState('in', state)
  return {
    publish: [
      ...ingress.map((kind) => inSubject({ lenser, kid, kind })),
      ...kindsInState('ask', state)
        .filter((kind) => kind === 'status' || !device.clockOff)
        .map((kind) => askSubject({ lenser, kid, kind })),
    ],
    subscribe: [own(lenser, kid), ...ctlSubjects(lenser, kid)],
  }
}

/** A session key that nobody vouched for yet: its login, and the answer to it. */
export const loginPermissions = (kid: string): Permissions => ({
  publish: [askSubject({ lenser: nilUuid, kid, kind: 'login' })],
  subscribe: [own(nilUuid, kid)],
})

/**
 * A session that somebody vouched for: what its scope may ask, and the answers. A sign-in's key may log in again: who was
 * cut off before the first answer knows neither that it succeeded nor for which account. An API key never does.
 */
export const sessionPermissions = (lenser: string, kid: string, scope: SessionScope): Permissions => {
  const login = scope === 'owner' ? loginPermissions(kid) : { publish: [], subscribe: [] }
  return {
    publish: [...kindsInScope(scope).map((kind) => askSubject({ lenser, kid, kind })), ...login.publish],
    subscribe: [own(lenser, kid), ...login.subscribe],
  }
}
