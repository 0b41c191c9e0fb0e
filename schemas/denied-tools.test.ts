import test from 'ava'
import { PolicySetBody } from './src/bodies/owner.ts'
import { Check } from './typebox/index.mjs'

const id = '019d3c5e-77a1-7000-8000-000000000001'
const isTaken = (member: string, name: string): boolean =>
  Check(PolicySetBody, { kind: 'policy_set', aud: id, op_id: id, [member]: [name] })

test('a denied tool’s * stands last, or alone: one in another place would deny nothing', (t) => {
  for (const member of ['denied_tools', 'denied_tools_add', 'denied_tools_remove']) {
    for (const name of ['shell', 'mcp/*', 'a*', '*', `${'a'.repeat(128)}*`]) t.true(isTaken(member, name), name)
    for (const name of ['*/read', '*read', '**', '*.', 'a*b', 'a**', '', '/a', 'a b', 'a'.repeat(129), 'shell\n'])
      t.false(isTaken(member, name), `${member}: ${name}`)
  }
})
