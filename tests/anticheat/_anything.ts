import { randomBytes } from 'node:crypto'
import type { OwnerDatabase } from '@lenserfight/testkit'
import fc from 'fast-check'

/** What an insider has at hand when it calls a function with anything. */
export interface AtHand {
  /** Ids of everything that a victim has, and of nothing. */
  readonly ids: readonly string[]
  /** Envelopes that a victim signed and nobody claimed, claimed as something else, or forged. */
  readonly envelopes: readonly string[]
  readonly digests: readonly Buffer[]
}

const numbers = ['-1', '0', '1', '7', '1000', '2147483647']
const texts = ['', 'x', 'ok', 'allow', 'fully_trusted', 'LTG_INGRESS', 'approve', '%', "'; DROP TABLE x; --"]

/** Values of an SQL type: of what is at hand, and of what makes no sense. */
const valuesOf = (type: string, { ids, envelopes, digests }: AtHand): fc.Arbitrary<unknown> => {
  const rare = <T>(one: fc.Arbitrary<T>) => fc.option(one, { freq: 8 })
  const uuid = fc.constantFrom(...ids)
  const bytes = fc.constantFrom(...digests, randomBytes(32), Buffer.alloc(0))
  // No ids: a name that somebody gives to what is theirs is nobody else's.
  const text = fc.constantFrom(...envelopes, ...texts)
  const number = fc.constantFrom(...numbers)
  const claim = fc.record({
    ...{
      kid: uuid,
      kind: fc.constantFrom('status', 'approve', 'connect', 'login'),
      nonce: fc.constant(randomBytes(16).toString('base64url')),
    },
    ...{ iat: fc.constant(Math.floor(Date.now() / 1000)), digest: bytes.map((one) => one.toString('base64url')) },
    public_key: bytes.map((one) => one.toString('base64url')),
  })
  const known: Record<string, fc.Arbitrary<unknown>> = {
    uuid: rare(uuid),
    'uuid[]': rare(fc.array(uuid, { maxLength: 4 })),
    integer: rare(number),
    'integer[]': rare(fc.array(number, { maxLength: 3 })),
    bigint: rare(number),
    'bigint[]': rare(fc.array(number, { maxLength: 2 })),
    boolean: rare(fc.boolean()),
    'boolean[]': rare(fc.array(fc.boolean(), { maxLength: 3 })),
    text: rare(text),
    'text[]': rare(fc.array(text, { maxLength: 3 })),
    bytea: rare(bytes),
    'bytea[]': rare(fc.array(bytes, { maxLength: 2 })),
    jsonb: rare(claim.map((one) => JSON.stringify(one))),
    interval: rare(fc.constantFrom('0', '1 day', '-1 day')),
    'timestamp with time zone': rare(fc.constantFrom('now', '-infinity', 'infinity')),
  }
  const found = known[type]
  if (found === undefined) throw new Error(`nothing is made up for ${type}`)
  return found
}

/** A function that a role may execute. */
export interface Callable {
  readonly name: string
  readonly types: readonly string[]
}

/** What a role may execute, as the catalog has it. */
export const callablesOf = async (db: OwnerDatabase, role: string): Promise<Callable[]> => {
  const { rows } = await db.query(
    `SELECT format('%I.%I', n.nspname, p.proname) AS name,
            ARRAY(SELECT format_type(a, NULL) FROM unnest(p.proargtypes) a)::text[] AS types
       FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
      WHERE n.nspname IN ('agents', 'audit', 'battles', 'devices', 'execution', 'lensers', 'lenses', 'reputation', 'xp')
        AND has_function_privilege($1, p.oid, 'EXECUTE') AND p.prorettype <> 'trigger'::regtype
      ORDER BY 1`,
    [role],
  )
  return rows as Callable[]
}

/** Calls of a function with anything at hand. */
export const argumentsOf = ({ types }: Callable, atHand: AtHand): fc.Arbitrary<unknown[]> =>
  fc.tuple(...types.map((type) => valuesOf(type, atHand)))
