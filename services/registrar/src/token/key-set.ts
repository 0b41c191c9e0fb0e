import { createRemoteJWKSet, customFetch, type FetchImplementation, type RemoteJWKSet } from 'jose'

/** Milliseconds and bytes within which an issuer's keys are fetched. */
export interface KeySetOptions {
  /** A fetch that takes longer has failed. */
  readonly deadlineMs?: number
  /** No second fetch for an unknown key this soon after a good one, nor any this soon after a bad one. */
  readonly coolDownMs?: number
  /** Keys older than this are fetched again before they are used. */
  readonly maxAgeMs?: number
  readonly maxBytes?: number
  readonly now?: () => number
}

/** The issuer's keys could not be had: nothing is known of the token. */
export class KeySetUnavailable extends Error {
  override readonly name = 'KeySetUnavailable'
}

/** Reads a response no further than it may be long: a hostile or broken issuer must not fill our memory. */
const readBounded = async (response: Response, maxBytes: number): Promise<Uint8Array<ArrayBuffer>> => {
  const chunks: Uint8Array[] = []
  let length = 0
  for await (const chunk of response.body ?? []) {
    length += chunk.byteLength
    if (length > maxBytes) throw new KeySetUnavailable('the key set is too large')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

/**
 * An issuer's public keys: fetched when first needed, kept, fetched again when a token names one that is not there.
 * What it throws where a fetch fails is `KeySetUnavailable`; jose's own errors are about the token.
 */
export const createKeySet = (url: URL, options: KeySetOptions = {}): RemoteJWKSet => {
  const { deadlineMs = 3000, coolDownMs = 30_000, maxAgeMs = 600_000, maxBytes = 64 * 1024, now = Date.now } = options
  const failureCoolDownMs = Math.min(coolDownMs, 2000)
  let failedAt = Number.NEGATIVE_INFINITY

  const fetchOnce: FetchImplementation = async (address, init) => {
    if (now() - failedAt < failureCoolDownMs) throw new KeySetUnavailable('the issuer failed a moment ago')
    try {
      const response = await fetch(address, init)
      if (response.status !== 200) throw new KeySetUnavailable(`the issuer answered ${response.status}`)
      const bytes = await readBounded(response, maxBytes)
      JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
      return new Response(bytes, { status: 200 })
    } catch (cause) {
      failedAt = now()
      throw cause instanceof KeySetUnavailable ? cause : new KeySetUnavailable('no answer from the issuer', { cause })
    }
  }
  return createRemoteJWKSet(url, {
    timeoutDuration: deadlineMs,
    cooldownDuration: coolDownMs,
    cacheMaxAge: maxAgeMs,
    [customFetch]: fetchOnce,
  })
}
