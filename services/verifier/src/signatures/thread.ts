// A thread that does nothing but check signatures: packs come in, flags go back, in order.
import { parentPort, workerData } from 'node:worker_threads'
import { loadSodium, type SodiumBuild } from '@lenserfight/envelope'
import { checkPacked } from './check.ts'

if (parentPort === null) throw new Error('this is run as a thread')
const port = parentPort
const sodium = await loadSodium((workerData as { build: SodiumBuild }).build)

port.on('message', (packed: ArrayBuffer) => {
  const flags = checkPacked(new Uint8Array(packed), sodium)
  port.postMessage(flags, [flags.buffer as ArrayBuffer])
})
