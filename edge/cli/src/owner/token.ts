import { readFileSync } from 'node:fs'
import { CodedError } from '@lenserfight/schemas'
import type { StackFile } from '../descriptor.ts'

const form = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/
const issuerMs = 10_000

const checkForm = (token: string): string => {
  if (!form.test(token)) throw new CodedError('token_invalid', 'it is not a JWT')
  return token
}

/**
 * A token that was got elsewhere; `-` is standard input.
 * @throws CodedError `input_unreadable`, `token_invalid`
 */
export const readToken = (file: string): string => {
  let text: string
  try {
    text = readFileSync(file === '-' ? 0 : file, 'utf8')
  } catch (cause) {
    throw new CodedError('input_unreadable', file, { cause })
  }
  return checkForm(text.trim())
}

/**
 * Asks the development issuer of a local stack, which believes whoever knows the stack's secret.
 * @param nonce the session's kid, which binds the token to its key
 * @throws CodedError `gateway_unreachable`, `token_invalid`
 */
export const askIssuer = async (
  { issuer }: StackFile,
  request: { subject: string; nonce: string; audience: string },
): Promise<string> => {
  let answer: { id_token?: unknown }
  try {
    const response = await fetch(`${issuer.url}/token`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ client_secret: issuer.client_secret, ...request }),
      signal: AbortSignal.timeout(issuerMs),
    })
    if (!response.ok) throw new CodedError('token_invalid', `the issuer answered ${response.status}`)
    answer = (await response.json()) as { id_token?: unknown }
  } catch (cause) {
    if (cause instanceof CodedError) throw cause
    throw new CodedError('gateway_unreachable', 'the development issuer does not answer: is the stack up?', { cause })
  }
  return checkForm(String(answer.id_token))
}
