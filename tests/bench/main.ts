/**
 * `npm run bench [-- --json] [-- --rounds N] [-- --only verifier|path|flatness|sync|pull|latency]`: how fast the gateway is, as ratios measured in
 * one run. `--attestations N` and `--changes N` set how full the full databases are. Rounds of what is compared alternate, so that whatever else the machine does falls on both.
 */
import { parseArgs } from 'node:util'
import { loadSodium, type SodiumBuild } from '@lenserfight/envelope'
import { benchFlatness } from './flatness.ts'
import { benchPath } from './path.ts'
import { benchPull } from './pull-flatness.ts'
import {
  describeFigures,
  describeFlatness,
  describeLatency,
  describePath,
  describePull,
  describeSync,
} from './report.ts'
import { benchSync } from './sync-entries.ts'
import { benchLatency } from './sync-latency.ts'
import { benchVerifier, type VerifierFigures } from './verifier.ts'

const parts = ['verifier', 'path', 'flatness', 'sync', 'pull', 'latency'] as const
const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    rounds: { type: 'string', default: '5' },
    attestations: { type: 'string', default: '1000000' },
    changes: { type: 'string', default: '5000000' },
    only: { type: 'string', multiple: true, default: [...parts] },
  },
})
const rounds = Number(values.rounds)
const wanted = values.only
const unknown = wanted.find((name) => !parts.some((part) => part === name))
if (unknown !== undefined) throw new TypeError(`--only takes ${parts.join(', ')}`)
const say = (sentence: string): void => {
  if (!values.json) console.error(sentence)
}
const tell = (text: string): void => {
  if (!values.json) console.log(text)
}

const loadedBuilds = async (): Promise<SodiumBuild[]> => {
  const builds: SodiumBuild[] = []
  for (const build of ['native', 'wasm'] as const) {
    const loads = await loadSodium(build).then(
      () => true,
      () => false,
    )
    if (loads) builds.push(build)
  }
  if (!builds.includes('native')) throw new Error('sodium-native does not load here, and every ratio is to it')
  return builds
}

const runVerifier = async () => {
  const figures: VerifierFigures[] = []
  for (const build of await loadedBuilds()) figures.push(await benchVerifier({ build, rounds, say }))
  for (const one of figures) tell(describeFigures(one))
  const [native] = figures
  return {
    verifier_ratio: native?.verifier_ratio,
    cpu_us_per_envelope: native?.cpu_us_per_envelope,
    where_time_goes: native?.where_time_goes,
    builds: Object.fromEntries(figures.map((one) => [one.build, one])),
  }
}

const runPath = async () => {
  const figures = await benchPath({ rounds, say })
  tell(describePath(figures))
  return { path_ratio: figures.path_ratio, path: figures }
}

const runFlatness = async () => {
  const figures = await benchFlatness({ rounds, attestations: Number(values.attestations), say })
  tell(describeFlatness(figures))
  return { evaluation_flatness: figures.evaluation_flatness, flatness: figures }
}

const runSync = async () => {
  const figures = await benchSync({ rounds, say })
  tell(describeSync(figures))
  return { sync_entries_per_s: figures.sync_entries_per_s, sync: figures }
}

const runPull = async () => {
  const figures = await benchPull({ rounds, changes: Number(values.changes), say })
  tell(describePull(figures))
  return { pull_flatness: figures.pull_flatness, pull: figures }
}

const runLatency = async () => {
  const figures = await benchLatency({ edits: rounds * 40, say })
  tell(describeLatency(figures))
  return { sync_latency_ms: figures.sync_latency_ms, latency: figures }
}

const rounded = (_: string, value: unknown): unknown =>
  typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(4)) : value
const result = {
  ...(wanted.includes('verifier') ? await runVerifier() : {}),
  ...(wanted.includes('path') ? await runPath() : {}),
  ...(wanted.includes('flatness') ? await runFlatness() : {}),
  ...(wanted.includes('sync') ? await runSync() : {}),
  ...(wanted.includes('pull') ? await runPull() : {}),
  ...(wanted.includes('latency') ? await runLatency() : {}),
}
if (values.json) console.log(JSON.stringify(result, rounded))
