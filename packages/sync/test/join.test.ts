import { canonicalize } from '@lenserfight/envelope'
import test from 'ava'
import fc from 'fast-check'
import { digestOf, emptyState, join, joinClocks, type ObjectState } from '../src/index.ts'
import { gatewayOf, history, live, localOf } from './_world.ts'

const textOf = (state: ObjectState): string => canonicalize(state)

/** Some of the states that there ever were of one object: at the gateway, on machines, and edits alone. */
const states = fc.tuple(history, fc.infiniteStream(fc.nat())).map(([of, picks]) => {
  const world = live(of)
  const all = [...world.versions.map(({ state }) => state), ...world.machines.map(localOf), ...world.pieces]
  const state = (): ObjectState => all[(picks.next().value ?? 0) % all.length] ?? emptyState
  // Parts of histories that met nowhere, too.
  const mixed = (): ObjectState => join(join(state(), state()), state())
  return { world, state: mixed, nat: () => picks.next().value ?? 0 }
})

test('SC-2, rule 2: whatever two hold, each joined into the other gives the same bytes; joined again, nothing', (t) => {
  t.notThrows(() =>
    fc.assert(
      fc.property(states, ({ state }) => {
        for (let i = 0; i < 20; i += 1) {
          const [a, b, c] = [state(), state(), state()] as const
          const [ab, ba] = [join(a, b), join(b, a)]
          if (textOf(ab) !== textOf(ba)) throw new Error('the order of two')
          if (textOf(join(ab, c)) !== textOf(join(a, join(b, c)))) throw new Error('the grouping of three')
          for (const known of [a, b, ab]) if (textOf(join(ab, known)) !== textOf(ab)) throw new Error('seen before')
          if (canonicalize(ab.clock) !== canonicalize(joinClocks(b.clock, a.clock))) throw new Error('the clock')
          for (const path of [...Object.keys(a.paths), ...Object.keys(b.paths)]) {
            if (!Object.hasOwn(ab.paths, path)) throw new Error(`lost ${path}`)
          }
        }
      }),
      { numRuns: 200 },
    ),
  )
})

test('SC-2: all edits of a history, merged in any order and by any who, come to the state that the gateway has', (t) => {
  t.notThrows(() =>
    fc.assert(
      fc.property(states, ({ world, nat }) => {
        const heaps = [...world.pieces, ...world.pieces.slice(0, 3)]
        while (heaps.length > 1) {
          const [one] = heaps.splice(nat() % heaps.length, 1) as [ObjectState]
          const place = nat() % heaps.length
          heaps[place] = join(heaps[place] ?? emptyState, one)
        }
        if (digestOf(heaps[0] ?? emptyState) !== digestOf(gatewayOf(world).state)) throw new Error('another state')
      }),
      { numRuns: 300 },
    ),
  )
})
