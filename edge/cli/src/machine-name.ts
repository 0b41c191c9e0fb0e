import { hostname } from 'node:os'
import { limits } from '@lenserfight/schemas'

/** What people call this machine, of the form that names have; undefined where it has no name. */
export const machineName = (name = hostname()): string | undefined =>
  [...name.trim().replaceAll(/\p{C}/gu, '\u{fffd}')].slice(0, limits.deviceNameChars).join('') || undefined
