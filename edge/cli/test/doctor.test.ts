import type { CheckResult } from '@lenserfight/daemon/checks'
import test from 'ava'
import { toldBy } from '../src/commands/doctor.ts'

const failed = (check: CheckResult['check'], code: CheckResult['code'], detail: string, fix = 'fix'): CheckResult => ({
  ...{ check, ok: false, code, detail, fix, warning: null, ms: 1 },
})
const passed = (check: CheckResult['check']): CheckResult => ({
  ...{ check, ok: true, code: null, detail: 'fix', fix: null, warning: null, ms: 1 },
})

test('each thing is told once: where it was told before, or where more is said of it', (t) => {
  const tellers = (...checks: CheckResult[]) => checks.map((each) => toldBy(checks, each))
  const bare = (check: CheckResult['check']) => failed(check, 'device_revoked', 'fix')
  t.deepEqual(tellers(passed('clock'), failed('identity', 'device_revoked', 'by its owner'), bare('bus')), [
    ...[undefined, undefined, 'identity'],
  ])
  t.deepEqual(tellers(bare('identity'), failed('policy', 'device_revoked', 'in more words')), ['policy', undefined])
  t.deepEqual(tellers(bare('identity'), bare('bus')), [undefined, 'identity'], 'never each by the other')
  const here = (check: CheckResult['check']) => failed(check, 'insecure_permissions', 'folder is mode 0755')
  t.deepEqual(tellers(here('clock'), here('identity'), failed('daemon', 'insecure_permissions', 'file is')), [
    ...[undefined, 'clock', undefined],
  ])
  t.deepEqual(tellers(bare('identity'), failed('bus', 'answer_timeout', 'fix')), [undefined, undefined])
})
