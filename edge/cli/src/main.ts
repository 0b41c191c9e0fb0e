#!/usr/bin/env node
import { keepCompiled } from './compile-cache.ts'

keepCompiled()
// Loaded after, not before: what is imported above is compiled by then.
const { main } = await import('./program.ts')
process.exit(await main(process.argv.slice(2)))
