import { type Refusal, refuse } from '../errors.ts'

/** Does anybody here apply that kind? */
export function checkSupportedKind(kind: string, isSupported: (kind: string) => boolean): Refusal | null {
  return isSupported(kind) ? null : refuse('unsupported_kind', 'nobody applies that kind')
}
