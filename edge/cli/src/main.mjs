// Plain JavaScript: Node would load its TypeScript compiler, 12 MB and a third of the time of a short command, for this file alone.
import { keepCompiled } from '@lenserfight/daemon/compile-cache'

keepCompiled()
// Loaded after, not before: what is imported above is compiled by then.
const { main } = await import('./program.ts')
process.exit(await main(process.argv.slice(2)))
