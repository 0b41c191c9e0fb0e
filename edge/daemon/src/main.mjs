// Plain JavaScript: Node would load its TypeScript compiler, which a daemon then keeps in memory, for this file alone.
import { keepCompiled } from './compile-cache.mjs'

keepCompiled()
// Loaded after, not before: what is imported above is compiled by then.
const { main } = await import('./program.ts')
await main()
