import { spawnSync } from 'node:child_process'
import test from 'ava'

const output = new URL('../src/output.ts', import.meta.url).href
/** What `lf` would print of a text that a gateway, or another device, wrote. */
const say = (text: string, options: { json: boolean; colours: boolean }): string => {
  const program = `import { createOutput } from ${JSON.stringify(output)}
    const { good, result } = createOutput({ ...${JSON.stringify(options)}, results: 1 })
    const text = ${JSON.stringify(text)}
    result({ text }, [good(text) + ': ' + text])`
  return spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' }).stdout
}

/** Ends a window's title, moves the cursor, ends the line, turns the direction: in every way that there is. */
const hostile = 'a\u001b]0;x\u0007\u001b[2J\u009b2J\r\nb\u007f\u0085\u2028\u202e\u2066\u200f\u061cc'
const acted = /(?!\n$)[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/u

test('nothing that a gateway or another device wrote acts upon a terminal', (t) => {
  t.notRegex(say(hostile, { json: false, colours: false }), acted)
  const coloured = say(hostile, { json: false, colours: true })
  t.true(coloured.startsWith('\u001b[32ma') && coloured.includes('\u001b[39m: a'), 'its own colours are there')
  t.notRegex(coloured.replace('\u001b[32m', '').replace('\u001b[39m', ''), acted)
})

test('programs are told the very text, in a form that acts upon no terminal either', (t) => {
  const told = say(hostile, { json: true, colours: false })
  t.notRegex(told, acted)
  t.deepEqual(JSON.parse(told), { text: hostile })
})
