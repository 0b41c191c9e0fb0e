import { readFileSync } from 'node:fs'
import { readSigner } from '@lenserfight/bus'
import { readEnvelope, type SigningKey } from '@lenserfight/envelope'
import { CodedError, checkBody, type KeysBody, type KeyUse } from '@lenserfight/schemas'
import type { RegistrarConfig } from './config.ts'

/** What the registrar speaks with, and what edges know it by. */
export interface KeyMaterial {
  readonly signer: SigningKey
  /** The root-signed key list as canonical text; edges check it against the root key, which is not here. */
  readonly keyList: { readonly text: string; readonly number: number }
}

const neededUses: readonly KeyUse[] = ['receipt', 'answer']
const invalid = (detail: string): CodedError => new CodedError('config_invalid', detail)

const readKeyList = (file: string, gatewayId: string): { text: string; body: KeysBody } => {
  let text: string
  try {
    text = readFileSync(file, 'utf8').trim()
  } catch (cause) {
    throw new CodedError('config_invalid', `cannot read ${file}`, { cause })
  }
  const read = readEnvelope(text)
  if (!read.ok) throw invalid(`${file}: ${read.detail}`)
  const body = read.envelope.body as unknown as KeysBody
  if (checkBody('keys', body) !== null || body.aud !== gatewayId)
    throw invalid(`${file} is not this gateway's key list`)
  return { text, body }
}

/**
 * Reads the signing key and the key list, and that they agree: an answer signed by a key that no edge trusts would be
 * silence.
 * @throws CodedError `config_invalid`
 */
export const readKeyMaterial = ({ signing, keys_file, gateway_id }: RegistrarConfig): KeyMaterial => {
  const signer = readSigner(signing, neededUses)
  const { text, body } = readKeyList(keys_file, gateway_id)
  const listed = body.keys.find(({ kid }) => kid === signing.kid)
  if (listed === undefined) throw invalid('the key list does not name the signing key')
  if (!neededUses.every((use) => listed.uses.includes(use))) throw invalid('the signing key lacks a use')
  return { signer, keyList: { text, number: body.number } }
}
