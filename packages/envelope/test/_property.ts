import type { ExecutionContext } from 'ava'
import fc from 'fast-check'

/** Checks a property; a counterexample is told with its seed, which AVA would not show beside the assertion that failed. */
export const always = <T>(t: ExecutionContext, property: fc.IProperty<T>, parameters?: fc.Parameters<T>): void => {
  try {
    fc.assert(property, parameters)
  } catch (error) {
    t.log((error as Error).message)
    throw error
  }
}
