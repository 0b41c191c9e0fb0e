import { createPool, type Pool } from '@lenserfight/db'
import { generateKeyPair, type KeyPair, newUuidV7, signEnvelope } from '@lenserfight/envelope'
import { createLogger } from '@lenserfight/runtime'
import { limits, loginPermissions } from '@lenserfight/schemas'
import { makeAccount, makeDevice, type Signatory, type TestDatabase, testPostgres } from '@lenserfight/testkit'
import { createServer, createUser } from '@nats-io/nkeys'
import test from 'ava'
import { admit, type CalloutRequest, createJudge, createJwtSigner, createRateBound, type Store } from '../src/index.ts'
import { createStore } from '../src/store.ts'
import { makeStranger } from './_door.ts'

const gatewayId = newUuidV7()
const nonce = 'serverNonce12'
const serverId = createServer().getPublicKey()
const logger = createLogger({ service: 'broker-auth', level: 'silent' })
let database: TestDatabase
let owner: Pool
let pool: Pool
let store: Store

test.before(async () => {
  database = await testPostgres()
  owner = createPool({ ...database.owner, max: 4, logger })
  pool = createPool({ ...database.as('ltg_broker_auth'), max: 4, logger })
  store = createStore(pool)
})
test.after.always(async () => {
  await Promise.all([owner?.end(), pool?.end()])
  await database?.drop()
})

const newDevice = async (): Promise<Signatory> => makeDevice(owner, await makeAccount(owner))
const judgeOver = (over: Store, perSecond = 100) =>
  createJudge({ gatewayId, store: over, mayBeUnproven: createRateBound(perSecond) })

let connections = 0
/** What the broker asks about somebody who connects; a stranger brings its key. */
const request = ({ kid, keys, lenser }: Omit<Signatory, 'lenser'> & { lenser?: string }): CalloutRequest => {
  const public_key = Buffer.from(keys.publicKey).toString('base64url')
  const named = lenser === undefined ? { public_key } : {}
  const body = { kind: 'connect', aud: gatewayId, server_nonce: nonce, ...named }
  connections += 1
  return {
    serverId,
    clientId: connections,
    userNkey: createUser().getPublicKey(),
    serverNonce: nonce,
    token: Buffer.from(signEnvelope({ kid, key: keys.privateKey, body }).bytes).toString(),
  }
}
const unknown = ({ kid, keys }: Signatory) => ({ kid, keys })
const claimsOf = async (kid: string): Promise<number> =>
  (await owner.query('SELECT count(*)::int AS n FROM devices.envelope_claims WHERE kid = $1', [kid])).rows[0].n

test('a forged signature never reaches the claim', async (t) => {
  const device = await newDevice()
  const judge = judgeOver(store)
  t.like(await judge(request({ ...device, keys: generateKeyPair() })), { code: 'signature_mismatch' })
  t.is(await claimsOf(device.kid), 0)
  t.true('grant' in (await judge(request(device))))
  t.is(await claimsOf(device.kid), 1)
})

/** As an owner does who vouches for another key: the former one is dead at once. */
const replaceKey = async (kid: string, { publicKey }: KeyPair): Promise<void> => {
  await owner.query(
    `UPDATE devices.registered_devices SET key_number = key_number + 1, public_key = $2,
       former_public_key = NULL, former_key_until = NULL WHERE id = $1`,
    [kid, publicKey],
  )
}

test('a key that was replaced meanwhile is judged once more by the new one', async (t) => {
  const device = await newDevice()
  let read = 0
  const signerOf: Store['signerOf'] = async (kid) => {
    const found = await store.signerOf(kid)
    read += 1
    // Between its reading and the claim. No key comes back, so the next reading decides.
    if (read === 1) await replaceKey(kid, generateKeyPair())
    return found
  }
  t.like(await judgeOver({ ...store, signerOf })(request(device)), { code: 'signature_mismatch' })
  t.deepEqual([read, await claimsOf(device.kid)], [2, 0])
})

test('rate_limited: strangers beyond the bound, who would cost a claim each', async (t) => {
  const judge = judgeOver(store, 1)
  const [first, second] = [makeStranger(), makeStranger()]
  const admitted = await judge(request(unknown(first)))
  const { publish } = loginPermissions(first.kid)
  t.deepEqual('grant' in admitted && admitted.grant.permissions.publish, publish)
  t.is(publish.length, 1)
  t.like(await judgeOver(store, 0)(request(unknown(second))), { code: 'rate_limited' })
  t.deepEqual([await claimsOf(first.kid), await claimsOf(second.kid)], [1, 0])
})

test('a key that anybody can make gets a connection for a login and no longer', async (t) => {
  const asked = request(unknown(makeStranger()))
  const judged = await judgeOver(store)(asked)
  if (!('grant' in judged)) return t.fail()
  const payloadOf = (jwt: string): Record<string, unknown> =>
    JSON.parse(Buffer.from(jwt.split('.')[1] as string, 'base64url').toString())
  const { jwt } = payloadOf(admit(createJwtSigner(new Uint8Array(32).fill(7)), asked, judged.grant)).nats as {
    jwt: string
  }
  const { exp, iat } = payloadOf(jwt) as { exp: number; iat: number }
  t.true(exp - iat <= limits.loginConnectionSeconds)
  t.true(exp - iat >= limits.loginConnectionSeconds - 2)
})

test('unknown_device: a key whose hash is not the kid that it comes with', async (t) => {
  const liar = { ...unknown(makeStranger()), kid: newUuidV7() }
  t.like(await judgeOver(store)(request(liar)), { code: 'unknown_device' })
  t.is(await claimsOf(liar.kid), 0)
})
