import { hashOf, nobodys, type Permit } from './_scene.ts'

type Members = Readonly<Record<string, unknown>>

const inputOf = (n: number): Members => ({ name: `file ${n}`, sha256: hashOf(2), bytes: 3 })
const deep = (depth: number): unknown => (depth === 0 ? 1 : [deep(depth - 1)])

/** Members that no body of its kind has, or not so; by kind, under a permit. Each is refused for its form alone. */
export const oddMembers = {
  run_start: {
    'more files than a run may have': { inputs: Array.from({ length: 101 }, (_, n) => inputOf(n)) },
    'a name that a terminal obeys': { label: '\u001b[2J' },
    'a name of right-to-left': { label: 'a\u202eb' },
    'a verdict of its own': { verdict: 'allow' },
    'a cover of its own': { covered_until: 9e15 },
    'a binding of its own': { binding_id: nobodys() },
    'an account of its own': { lenser_id: nobodys() },
    'an id that is none': { runner_id: 'runner' },
    'an id in capitals': { runner_id: nobodys().toUpperCase() },
    'no id, said aloud': { version_id: null },
    'a hash too short': { command_hash: 'AAAA' },
    'a hash with bits to spare': { command_hash: `${'A'.repeat(42)}B` },
  },
  attestation: {
    'a flag that is a word': { policy_passed: 'true' },
    'a flag that is a number': { device_trusted: 1 },
    'a level of its own': { trust_level: 'fully_trusted' },
    'facts of its own': { facts: { policy_passed: true } },
    'a store time of its own': { stored_at: 1 },
    'an end in the depth of time': { ended_at: 253402300800000 },
    'an end before all time': { ended_at: -1 },
    'half a millisecond': { started_at: 1.5 },
    'an exit that no process has': { exit_code: 256 },
    'a signal that is none': { signal: 'KILL' },
    'tools below none': { tool_invocations: -1 },
    'more tools than a run may use': { tool_invocations: 10_001 },
    'a file inside out': { outputs: [{ ...inputOf(1), content: 'LTG-CANARY' }] },
  },
  tool_invocation: {
    'the place before the first': { seq: 0 },
    'the place after the last': { seq: 10_001 },
    'half a place': { seq: 1.5 },
    'a tool of nothing': { tool: '' },
    'a tool with a line break': { tool: 'a\nb' },
    'a tool that is hidden': { tool: '.hidden' },
    'a verdict of its own': { verdict: 'allow' },
  },
  run_renew: {
    'no run': { runs: [] },
    'more runs than one may name': { runs: Array.from({ length: 65 }, () => nobodys()) },
    'runs within runs': { runs: deep(20) },
    'a verdict of its own': { verdict: 'allow' },
  },
  heartbeat: {
    'more runners than one may report': {
      runners: Array.from({ length: 65 }, () => ({ runner_id: nobodys(), open_runs: 0 })),
    },
    'a runner with fewer than no runs': { runners: [{ runner_id: nobodys(), open_runs: -1 }] },
    'a time of its own': { stored_at: 1 },
    'a level of its own': { trust_level: 'trusted' },
  },
} as const satisfies Partial<Record<string, Readonly<Record<string, Members>>>>
export type OddKind = keyof typeof oddMembers

/** What is well formed and is said of an open run, to be made odd. */
export const plainMembers = ({ run_id }: Permit): Record<OddKind, Members> => ({
  run_start: { kind: 'run_start', command_hash: hashOf(1), inputs: [] },
  attestation: {
    ...{
      kind: 'attestation',
      run_id,
      command_hash: hashOf(1),
      stdin_hash: null,
      stdout_hash: null,
      inputs: [],
      outputs: [],
    },
    ...{ lens_hash: null, workflow_hash: null, started_at: 1, ended_at: 2, exit_code: 0, signal: null },
  },
  tool_invocation: { kind: 'tool_invocation', run_id, seq: 1, tool: 'shell', arguments_hash: hashOf(5) },
  run_renew: { kind: 'run_renew', runs: [run_id] },
  heartbeat: { kind: 'heartbeat', daemon_version: '0.1.0', gateway_status: 'connected' },
})
