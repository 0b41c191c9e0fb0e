/** Ed25519 as libsodium does it. Both builds give the same answer to everything; they differ in speed alone. */
export type Sodium = {
  readonly build: SodiumBuild
  /** Whether the signature verifies. Lengths must be right: 64, any, 32 bytes. */
  verify(signature: Uint8Array, message: Uint8Array, publicKey: Uint8Array): boolean
  /** Signs with libsodium's 64-byte secret key (seed and public key). */
  sign(message: Uint8Array, secretKey: Uint8Array): Uint8Array
  /** Derives the public key and the 64-byte secret key from a 32-byte seed. */
  expand(seed: Uint8Array): { publicKey: Uint8Array; secretKey: Uint8Array }
}

/** `native` is sodium-native, compiled, an optional dependency; `wasm` is libsodium-wrappers, which runs everywhere. */
export type SodiumBuild = 'native' | 'wasm'

/**
 * Loads one build of libsodium. Each call gives a new value, over the same library.
 *
 * @throws Error where the native build does not load on this platform; `cause` says why
 */
export async function loadSodium(build: SodiumBuild): Promise<Sodium> {
  return build === 'native' ? await loadNative() : await loadWasm()
}

async function loadNative(): Promise<Sodium> {
  const { default: native } = await import('sodium-native').catch((cause: unknown) => {
    throw new Error('sodium-native does not load here; use the wasm build', { cause })
  })
  return {
    build: 'native',
    verify: (signature, message, publicKey) => native.crypto_sign_verify_detached(signature, message, publicKey),
    sign(message, secretKey) {
      const signature = Buffer.alloc(64)
      native.crypto_sign_detached(signature, message, secretKey)
      return signature
    },
    expand(seed) {
      const pair = { publicKey: Buffer.alloc(32), secretKey: Buffer.alloc(64) }
      native.crypto_sign_seed_keypair(pair.publicKey, pair.secretKey, seed)
      return pair
    },
  }
}

async function loadWasm(): Promise<Sodium> {
  // Imported here, since compiling it costs time and memory that a process with the native build need not spend.
  const { default: wasm } = await import('libsodium-wrappers')
  await wasm.ready
  return {
    build: 'wasm',
    verify: (signature, message, publicKey) => wasm.crypto_sign_verify_detached(signature, message, publicKey),
    sign: (message, secretKey) => wasm.crypto_sign_detached(message, secretKey),
    expand(seed) {
      const { publicKey, privateKey } = wasm.crypto_sign_seed_keypair(seed)
      return { publicKey, secretKey: privateKey }
    },
  }
}

/** The build that is used where none is named: native where it loads. (The one top-level await of the code base.) */
export const sodium: Sodium = await loadSodium('native').catch(() => loadSodium('wasm'))
