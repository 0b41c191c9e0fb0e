import { setTimeout as sleep } from 'node:timers/promises'
import { CodedError } from '@lenserfight/schemas'
import test from 'ava'
import { persist } from './connection.ts'

const away = (): never => {
  throw new CodedError('daemon_unreachable')
}

test('a daemon that restarts after a long wait is asked again, as one that restarts at once', async (t) => {
  let asked = 0
  const ask = async () => {
    asked += 1
    if (asked === 1) await sleep(600)
    return asked < 3 ? away() : 'approved'
  }
  t.is(await persist(ask, { awayMs: 500, thereMs: 500 }), 'approved')
  t.is(asked, 3)
})

test('one that stays away, or does not answer, is not asked for ever', async (t) => {
  const [began, silent] = [performance.now(), () => sleep(100).then(away)]
  await t.throwsAsync(persist(silent, { awayMs: 500, thereMs: 5_000 }), { code: 'daemon_unreachable' })
  t.true(performance.now() - began < 5_000)
})
