/** `npm run bench [-- --json] [-- --rounds N]`: how fast the verifier is, as a ratio to bare signature checks in the same run. */
import { parseArgs } from 'node:util'
import { loadSodium, type SodiumBuild } from '@lenserfight/envelope'
import { describeFigures } from './report.ts'
import { benchVerifier, type VerifierFigures } from './verifier.ts'

const { values } = parseArgs({
  options: { json: { type: 'boolean', default: false }, rounds: { type: 'string', default: '5' } },
})
const rounds = Number(values.rounds)
const say = (sentence: string): void => {
  if (!values.json) console.error(sentence)
}

const builds: SodiumBuild[] = []
for (const build of ['native', 'wasm'] as const) {
  const loads = await loadSodium(build).then(
    () => true,
    () => false,
  )
  if (loads) builds.push(build)
}
if (!builds.includes('native')) throw new Error('sodium-native does not load here, and every ratio is to it')

const figures: VerifierFigures[] = []
for (const build of builds) figures.push(await benchVerifier({ build, rounds, say }))
const rounded = (_: string, value: unknown): unknown =>
  typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(4)) : value
const [native] = figures
const result = {
  verifier_ratio: native?.verifier_ratio,
  cpu_us_per_envelope: native?.cpu_us_per_envelope,
  where_time_goes: native?.where_time_goes,
  builds: Object.fromEntries(figures.map((one) => [one.build, one])),
}
if (values.json) console.log(JSON.stringify(result, rounded))
else for (const one of figures) console.log(describeFigures(one))
