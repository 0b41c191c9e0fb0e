import { type Read, readEnvelope } from '../read-envelope.ts'

/** Is it an envelope at all (`malformed_envelope`), and in its one form (`not_canonical`)? */
export function parseReceived(received: Uint8Array | string): Read {
  return readEnvelope(received)
}
