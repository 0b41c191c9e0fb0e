import { type DeviceLevel, deviceLevels, deviceTransitions, transitionActors } from '@lenserfight/schemas'
import { makeAccount, makeDevice, type Signatory, setLevel } from '@lenserfight/testkit'
import test from 'ava'
import { refuses, useWorld, type World } from '../_world.ts'
import { type Deed, deeds, type Standing, standAt, standings } from './_ladder.ts'

const world = useWorld(test)

interface Entry {
  readonly event_kind: string
  readonly payload: Record<string, unknown>
}
const entriesOf = (of: World, { kid }: Signatory): Promise<Entry[]> =>
  of.rows<Entry>(`SELECT event_kind, payload FROM audit.hash_chains WHERE device_id = $1 ORDER BY seq`, [kid])
const levelOf = async (of: World, { kid }: Signatory): Promise<DeviceLevel> =>
  (await of.levelOf(kid)).trust_level as DeviceLevel

/** Does a deed in one transaction as the role that may; rolled back where it is not to last. */
const perform = async (deed: Deed, device: Signatory, { lasting = true } = {}): Promise<void> => {
  const { role, text, values } = await deed.prepare(world(), device)
  const client = await world().owner.connect()
  try {
    await client.query('BEGIN')
    await client.query(`SET LOCAL ROLE ${role}`)
    await client.query(text, values)
    await client.query(lasting ? 'COMMIT' : 'ROLLBACK')
  } catch (error) {
    await client.query('ROLLBACK')
    throw error
  } finally {
    client.release()
  }
}
const nameOf = ({ name }: Deed, { way, isSilent }: Standing): string =>
  `${name} at ${way.join(' ')}${isSilent ? ' (silent)' : ''}`

// One after the other: promotion and silence look at every device that there is.
test.serial(
  'AU-1: every deed at every level makes a transition of the contract with one chain entry, or changes nothing',
  async (t) => {
    const seen = new Set<string>()
    for (const deed of deeds) {
      for (const standing of standings) {
        const title = nameOf(deed, standing)
        const device = await standAt(world(), standing)
        const from = await levelOf(world(), device)
        const before = await entriesOf(world(), device)
        await perform(deed, device)
        const to = await levelOf(world(), device)
        const added = (await entriesOf(world(), device)).slice(before.length)
        if (to === from) {
          t.deepEqual(added, [], title)
          continue
        }
        const { actor } = deed
        t.true(
          deviceTransitions.some((one) => one.from === from && one.to === to && one.actor === actor),
          `${title}: ${from} → ${to} by ${actor} is none of the contract`,
        )
        t.is(added.length, 1, title)
        t.like(added[0], { event_kind: 'trust_transition', payload: { from, to, actor } }, title)
        t.is(typeof added[0]?.payload.reason, 'string', title)
        seen.add(`${from} ${to} ${actor}`)
      }
    }
    const contract = deviceTransitions.map(({ from, to, actor }) => `${from} ${to} ${actor}`)
    t.deepEqual([...seen].sort(), contract.sort())
  },
)

test.serial('AU-1: a transition that is rolled back leaves neither its level nor its entry', async (t) => {
  for (const deed of deeds) {
    for (const standing of standings) {
      const device = await standAt(world(), standing)
      const before = [await levelOf(world(), device), await entriesOf(world(), device)]
      await perform(deed, device, { lasting: false })
      t.deepEqual([await levelOf(world(), device), await entriesOf(world(), device)], before, nameOf(deed, standing))
    }
  }
})

/** A way on which a device comes to a level from which it may go on to another, where there is one. */
const wayTo = (from: DeviceLevel, to: DeviceLevel): readonly DeviceLevel[] =>
  (
    standings.find(({ way }) => way.at(-1) === from && (from !== 'blocked' || (way.at(-2) ?? 'pending') === to)) ??
    standings.find(({ way }) => way.at(-1) === from && way.includes(to)) ??
    standings.find(({ way }) => way.at(-1) === from)
  )?.way ?? []

test.serial(
  'no statement brings a device to another level but by whom the contract names, the owner role’s neither',
  async (t) => {
    const { lenser } = await makeAccount(world().owner)
    for (const from of deviceLevels) {
      for (const to of deviceLevels) {
        if (from === to) continue
        for (const actor of [...transitionActors, 'somebody', null]) {
          const way =
            ['offline', 'unhealthy'].includes(from) && to === 'trusted'
              ? ['approved', 'trusted', from]
              : wayTo(from, to)
          const device = await makeDevice(world().owner, { lenser, level: 'pending' })
          await world().owner.query(
            'UPDATE devices.registered_devices SET public_key = submitted_public_key WHERE id = $1',
            [device.kid],
          )
          for (const level of way.filter((one) => one !== 'pending')) {
            await setLevel(world().owner, device.kid, level as DeviceLevel)
          }
          const client = await world().owner.connect()
          const update = async () => {
            try {
              await client.query('BEGIN')
              await client.query('SET LOCAL ROLE ltg_owner')
              await client.query(
                'UPDATE devices.registered_devices SET trust_level = $2, trust_actor = $3 WHERE id = $1',
                [device.kid, to, actor],
              )
              await client.query('COMMIT')
            } catch (error) {
              await client.query('ROLLBACK')
              throw error
            } finally {
              client.release()
            }
          }
          const isOfContract = deviceTransitions.some(
            (one) => one.from === from && one.to === to && one.actor === actor,
          )
          const title = `${from} → ${to} by ${actor}`
          if (isOfContract) await t.notThrowsAsync(update, title)
          else await refuses(t, update, 'LT002', title)
          t.is(await levelOf(world(), device), isOfContract ? to : from, title)
        }
      }
    }
  },
)

test.serial('who caused a transition is named with it, and is not changed afterwards', async (t) => {
  const device = await standAt(world(), { way: ['approved', 'trusted'] })
  const set = (assignment: string) => () =>
    world().rows(`UPDATE devices.registered_devices SET ${assignment} WHERE id = $1`, [device.kid])
  await refuses(t, set(`trust_actor = 'owner'`), 'LT002')
  await refuses(t, set('trust_actor = NULL'), 'LT002')
  await refuses(t, set(`earlier_reason = 'another'`), 'LT002')
  const functions = await world().rows<{ name: string; source: string }>(
    `SELECT p.proname AS name, p.prosrc AS source FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
      WHERE n.nspname = 'devices' AND p.prosrc ~ 'UPDATE devices.registered_devices.*SET .*trust_level = '`,
  )
  t.true(functions.length >= 8)
  for (const { name, source } of functions) {
    for (const statement of source
      .split(/;\n/)
      .filter((one) => /UPDATE devices\.registered_devices[\s\S]*SET [\s\S]*trust_level = /.test(one))) {
      t.regex(statement, /trust_actor = /, `${name} does not say who`)
    }
  }
})
