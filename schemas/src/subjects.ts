import type { KindName } from './kinds.ts'

/** Stands for the Lenser in the subjects of a session that has not logged in yet. */
export const nilUuid = '00000000-0000-0000-0000-000000000000'
const prefix = 'ltg.v1'

export interface DoorSubject {
  readonly lenser: string
  readonly kid: string
  readonly kind: string
}

export const inSubject = ({ lenser, kid, kind }: DoorSubject): string => `${prefix}.in.${lenser}.${kid}.${kind}`
export const askSubject = ({ lenser, kid, kind }: DoorSubject): string => `${prefix}.ask.${lenser}.${kid}.${kind}`
export type OutName = 'receipt' | 'change' | 'lease' | 'answer'
/** Where every answer goes: derived from the door's subject, never chosen by the asker. */
export const outSubject = (lenser: string, kid: string, name: OutName): string =>
  `${prefix}.out.${lenser}.${kid}.${name}`
export const okSubject = (kind: KindName): string => `${prefix}.ok.${kind}`
export const deadSubject = (consumer: string): string => `${prefix}.dead.${consumer}`
export const ctlSubjects = (lenser: string, device: string): readonly string[] => [
  `${prefix}.ctl.global`,
  `${prefix}.ctl.workspace.${lenser}`,
  `${prefix}.ctl.device.${device}`,
  `${prefix}.ctl.keys`,
]

const uuid = '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}'
const doorPattern = new RegExp(`^ltg\\.v1\\.(in|ask)\\.(${uuid})\\.(${uuid})\\.([a-z_]{1,32})$`)

/** Reads a door's subject; undefined for what is none. The broker authenticated these names. */
export const parseDoorSubject = (subject: string): (DoorSubject & { door: 'in' | 'ask' }) | undefined => {
  const match = doorPattern.exec(subject)
  if (match === null) return undefined
  const [, door, lenser, kid, kind] = match as unknown as [string, 'in' | 'ask', string, string, string]
  return { door, lenser, kid, kind }
}
