import test from 'ava'
import { readDuration, readPastTime, relativeTo, timeOf } from '../src/times.ts'

const now = Date.parse('2026-11-21T10:00:00Z')
const at = (iso: string): number => Date.parse(iso) / 1000

test('a length of time is a number and a unit, and nothing else', (t) => {
  for (const [text, seconds] of [
    ['0s', 0],
    ['90s', 90],
    ['15m', 900],
    [' 2 h ', 7200],
    ['3d', 259_200],
    ['1w', 604_800],
  ] as const) {
    t.is(readDuration(text), seconds, text)
  }
  for (const text of ['', '15', 'm', '-1m', '1.5h', '2 hours', '1h30m', '9999999s']) {
    t.throws(() => readDuration(text), { instanceOf: RangeError }, text)
  }
})

test('a time that has passed is ISO 8601, UTC where it names no zone, or how long ago', (t) => {
  for (const [text, iso] of [
    ['2026-11-20', '2026-11-20T00:00:00Z'],
    ['2026-11-20T08:30', '2026-11-20T08:30:00Z'],
    ['2026-11-20 08:30:15', '2026-11-20T08:30:15Z'],
    ['2026-11-20T08:30Z', '2026-11-20T08:30:00Z'],
    ['2026-11-20T08:30+02:00', '2026-11-20T06:30:00Z'],
    ['2h', '2026-11-21T08:00:00Z'],
    ['3d ago', '2026-11-18T10:00:00Z'],
    ['0s', '2026-11-21T10:00:00Z'],
  ] as const) {
    t.is(readPastTime(text, now), at(iso), text)
  }
})

test('a time that is none, or has not come yet, is refused', (t) => {
  const wrong = [
    '',
    'yesterday',
    '2026-13-01',
    '2026-11-20T25:00',
    '2026-11-21T10:01',
    '2027-01-01',
    '1e9',
    '1700000000',
    'ago',
  ]
  for (const text of [...wrong, '999999w']) t.throws(() => readPastTime(text, now), { instanceOf: RangeError }, text)
})

test('times are told so that people see how far they are', (t) => {
  t.is(timeOf(now / 1000), '2026-11-21 10:00 UTC')
  t.is(relativeTo(now / 1000 - 60, now), '60 s ago')
  t.is(relativeTo(now / 1000 - 3600, now), '60 min ago')
  t.is(relativeTo(now / 1000 + 3 * 3600, now), 'in 3 h')
  t.is(relativeTo(now / 1000 + 13 * 86_400, now), 'in 13 days')
})
