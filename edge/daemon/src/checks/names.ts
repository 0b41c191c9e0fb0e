/** The questions that can be asked of a machine (DG; RFC-0003 §8). The doctor asks all of them, a daemon before it starts. */
export const checkNames = [
  'clock',
  'keychain',
  'identity',
  'daemon',
  'sync',
  'policy',
  'transport',
  'bus',
  'config',
] as const
export type CheckName = (typeof checkNames)[number]
