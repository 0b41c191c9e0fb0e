import { policyReasons, policyVerdicts } from '@lenserfight/schemas'
import test from 'ava'
import { deniedBy, readWord, refusalOf } from './verdict.ts'

const said = { verdict: 'allow', reason: 'approval_default_allow', covered_until: 5, denied_tools: ['rm'] }

test('the gateway’s word on a run is a verdict, a code, or nothing', (t) => {
  t.deepEqual(readWord(said), {
    ...{ verdict: 'allow', reason: 'approval_default_allow', deniedTools: ['rm'] },
    ...{ coveredUntil: 5, approvalExpiresAt: null },
  })
  t.deepEqual(readWord({ code: 'run_not_owned' }), { code: 'run_not_owned' })
  for (const none of [{}, { verdict: 'yes' }, { code: 'nope' }, { verdict: true }]) t.is(readWord(none), undefined)
})

test('a tool is denied by its name, or by the beginning that a pattern names', (t) => {
  const patterns = ['rm', 'mcp/*', 'net.']
  t.deepEqual(
    ['rm', 'rmdir', 'mcp/x', 'mcp/', 'mcp', 'a/mcp/x', 'net.get', 'net.'].map((tool) => deniedBy(tool, patterns)),
    ['rm', undefined, 'mcp/*', 'mcp/*', undefined, undefined, undefined, 'net.'],
  )
  t.is(deniedBy('anything', ['*']), '*')
})

test('only the verdict allow lets a run begin, whatever its reason', (t) => {
  for (const verdict of policyVerdicts) {
    for (const reason of policyReasons) {
      const code = refusalOf({ verdict, reason, deniedTools: [], coveredUntil: null, approvalExpiresAt: null })
      t.is(code === undefined, verdict === 'allow', `${verdict} ${reason}`)
    }
  }
  const paused = { verdict: 'pause', deniedTools: [], coveredUntil: null, approvalExpiresAt: null } as const
  t.is(refusalOf({ ...paused, reason: 'runner_paused' }), 'workspace_paused')
  t.is(refusalOf({ ...paused, reason: 'parallel_limit' }), 'policy_denied', 'no pause of anybody’s is to be lifted')
})
