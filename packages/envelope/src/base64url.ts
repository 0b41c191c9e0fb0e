/**
 * Decodes base64url without padding (RFC 4648 §5), strictly.
 *
 * @returns the bytes, or null where the text is not the one encoding of exactly `length` bytes
 */
export function decodeBase64Url(text: string, length: number): Uint8Array | null {
  // Buffer takes '+', '/', '=' and loose bits too; encoding again is what tells the one right spelling from the others.
  const bytes = Buffer.from(text, 'base64url')
  return bytes.length === length && bytes.toString('base64url') === text ? bytes : null
}

/** Encodes bytes as base64url without padding (RFC 4648 §5). */
export function encodeBase64Url(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64url')
}
