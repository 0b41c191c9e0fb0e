import test from 'ava'
import { createWorld, type World } from './_world.ts'

let world: World
test.before(async () => {
  world = await createWorld()
})
test.after.always(() => world?.close())

const agent = (object: string) => ({ class: 'agent_config', object })

test('entries are merged in order, each with its sequence and the digest of the merged state', async (t) => {
  const machine = await world.addMachine()
  const [a, b] = [agent('a'), agent('b')]
  const entries = [machine.set(a, { name: 'one' }), machine.set(b, { name: 'x' }), machine.set(a, { notes: 'two' })]
  const said = await world.push(machine, entries)
  t.deepEqual(
    said.map(({ status }) => status),
    ['applied', 'applied', 'applied'],
  )
  t.deepEqual(await world.stored(machine.device.lenser, a), machine.state(a) as never)
  t.log(said)
})
