import test from 'ava'
import { idsOf, requirementStates, titlesOf } from './titles.ts'

const requirements = [
  { id: 'RP-1', section: 's', requirement: 'window', acceptance: '' },
  { id: 'RP-2', section: 's', requirement: 'nonce', acceptance: '' },
]
// Spelled in two parts, so that the tool does not take these examples for tests of this file.
const call = 'te' + 'st'

test('titles are read from plain, serial and escaped calls, and not from skipped ones', (t) => {
  const source = [
    `${call}('RP-1: one', x)`,
    `${call}.serial("RP-2: two", x)`,
    `${call}('it\\'s', x)`,
    `${call}.${'skip'}('RP-2: not', x)`,
  ].join('\n')
  t.deepEqual(titlesOf(source), ['RP-1: one', 'RP-2: two', "it's"])
})

test('a title may begin with several ids, and names none elsewhere', (t) => {
  t.deepEqual(idsOf('RP-1 RP-2: both'), ['RP-1', 'RP-2'])
  t.deepEqual(idsOf('RP-1, RP-2: both'), ['RP-1', 'RP-2'])
  t.deepEqual(idsOf('a nonce (RP-2) is unique'), [])
})

test('a requirement without a test is open, and an unknown id is an error', (t) => {
  const states = requirementStates(requirements, [{ file: 'a.test.ts', text: `${call}('RP-2: nonce', x)` }])
  t.deepEqual(
    states.map(({ id, state, tests }) => [id, state, tests.length]),
    [
      ['RP-1', 'open', 0],
      ['RP-2', 'tested', 1],
    ],
  )
  t.throws(() => requirementStates(requirements, [{ file: 'a.test.ts', text: `${call}('XX-9: x', x)` }]), {
    message: /XX-9/,
  })
})
