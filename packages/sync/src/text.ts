import { canonicalize } from '@lenserfight/envelope'
import type { ObjectState } from './types.ts'

const texts = new WeakMap<ObjectState, string>()

/** A state's canonical JSON (RFC 8785), clocks included. Most of what a merge costs is this, so each state is written once. */
export const textOf = (state: ObjectState): string => {
  let text = texts.get(state)
  if (text === undefined) {
    text = canonicalize({ clock: state.clock, paths: state.paths })
    texts.set(state, text)
  }
  return text
}
