import { generateKeyPair, kidOfKey } from '@lenserfight/envelope'
import { withClient } from '@lenserfight/local'
import type { Stack } from '@lenserfight/local/stack'
import {
  type DeviceLevel,
  deviceLevels,
  inboxPrefix,
  kindNames,
  limits,
  nilUuid,
  type SessionScope,
  serviceNames,
  sessionScopes,
} from '@lenserfight/schemas'
import { makeAccount, makeDevice, makeSession, type Signatory } from '@lenserfight/testkit'
import test from 'ava'
import { allowedOf, connectAs, startDoor, type Tried } from './_acl.ts'

/** Which `in` kinds each state may send, by hand, beside the kinds table. */
const working = [
  ...['challenge', 'heartbeat', 'run_start', 'run_renew', 'run_withdraw', 'tool_invocation', 'attestation'],
  ...['rotate', 'lifecycle', 'sync_push', 'sync_pull', 'canary'],
]
const ingressOf: Record<DeviceLevel, string[]> = {
  pending: ['challenge', 'canary'],
  approved: working,
  trusted: working,
  offline: working,
  unhealthy: ['challenge', 'heartbeat', 'run_withdraw', 'rotate', 'lifecycle', 'canary'],
  revoked: [],
  blocked: [],
}
/** Which requests a session of each scope may make, by hand too. */
const anyKey = [
  ...[
    'register',
    'list',
    'runners',
    'runner_bind',
    'runner_unbind',
    'policy_show',
    'policy_test',
    'approvals',
    'runs',
    'explain',
  ],
  ...['status', 'audit_verify', 'sync_status', 'sync_conflicts', 'sync_resolve', 'sync_undo'],
]
const approver = [
  ...anyKey,
  ...['approve', 'revoke', 'suspend', 'reinstate', 'rotation_require', 'reprove', 'approval_decide'],
]
const requestsOf: Record<SessionScope, string[]> = {
  api: anyKey,
  api_approver: approver,
  owner: [...approver, 'policy_set', 'sessions', 'session_revoke', 'api_key_create'],
}

interface Names {
  readonly lenser: string
  readonly kid: string
}

/** Everything worth trying, in one's own name, in that of a neighbour of the account, and in that of a foreigner. */
const tries = (all: readonly Names[]): Tried => {
  // The neighbour shares some names of the account.
  const perName = (make: (names: Names) => string[]): Set<string> => new Set(all.flatMap(make))
  return {
    publish: [
      ...perName(({ lenser, kid }) =>
        ['in', 'ask'].flatMap((door) =>
          [...kindNames, 'invented', 'a.b'].map((kind) => `ltg.v1.${door}.${lenser}.${kid}.${kind}`),
        ),
      ),
      ...perName(({ lenser, kid }) =>
        ['receipt', 'answer', 'lease', 'change'].map((name) => `ltg.v1.out.${lenser}.${kid}.${name}`),
      ),
      ...perName(({ lenser, kid }) => [`ltg.v1.ctl.workspace.${lenser}`, `ltg.v1.ctl.device.${kid}`]),
      ...[
        'ltg.v1.ctl.global',
        'ltg.v1.ctl.keys',
        'ltg.v1.ok.attestation',
        'ltg.v1.ok.heartbeat',
        'ltg.v1.dead.verifier',
      ],
      ...[
        '$JS.API.INFO',
        '$JS.API.STREAM.PURGE.LTG_INGRESS',
        '$JS.API.STREAM.DELETE.LTG_INGRESS',
        '$JS.API.STREAM.CREATE.X',
      ],
      ...[
        '$JS.API.CONSUMER.MSG.NEXT.LTG_INGRESS.verifier',
        '$JS.ACK.LTG_INGRESS.verifier.1.1.1.1.0',
        '$KV.x.y',
        '$O.x',
      ],
      ...['$SYS.REQ.USER.AUTH', '$SYS.REQ.SERVER.PING', '$SYS._INBOX.abc.def', '_INBOX.x', 'anything'],
      ...serviceNames.map((name) => `${inboxPrefix(name)}.x`),
    ],
    subscribe: [
      ...['>', '*', 'ltg.>', 'ltg.v1.>', 'ltg.v1.in.>', 'ltg.v1.ask.>', 'ltg.v1.out.>', 'ltg.v1.ok.>', 'ltg.v1.ctl.>'],
      ...['ltg.v1.dead.>', 'ltg.v1.ctl.*', 'ltg.v1.ctl.workspace.*', 'ltg.v1.ctl.device.*'],
      ...['$JS.>', '$SYS.>', '$KV.>', '_INBOX.>', '_INBOX.x', '$SYS.REQ.USER.AUTH', '$JS.EVENT.ADVISORY.>'],
      ...['ltg.v1.ctl.global', 'ltg.v1.ctl.keys'],
      ...perName(({ lenser, kid }) => [
        `ltg.v1.out.${lenser}.${kid}.*`,
        `ltg.v1.out.${lenser}.*.*`,
        `ltg.v1.out.${lenser}.>`,
        `ltg.v1.in.${lenser}.${kid}.>`,
        `ltg.v1.ctl.workspace.${lenser}`,
        `ltg.v1.ctl.device.${kid}`,
      ]),
      ...serviceNames.map((name) => `${inboxPrefix(name)}.>`),
    ],
  }
}

for (const want of ['oldest', 'newest'] as const) {
  let stack: Stack
  let lenser: string
  let neighbour: Signatory
  let foreigner: Signatory
  const asOwner = <T>(use: Parameters<typeof withClient<T>>[1]): Promise<T> => withClient(stack.owner, use)

  test.before(async () => {
    stack = await startDoor(want)
    await asOwner(async (client) => {
      lenser = (await makeAccount(client)).lenser
      neighbour = await makeDevice(client, { lenser })
      foreigner = await makeDevice(client, { lenser: (await makeAccount(client)).lenser })
    })
  })
  test.after.always(() => stack?.stop())

  for (const level of deviceLevels) {
    test(`a device that is ${level} reaches its own subjects, and nothing else [${want} server]`, async (t) => {
      const device = await asOwner((client) => makeDevice(client, { lenser, level }))
      const nc = await connectAs(stack, device)
      t.teardown(() => nc.close())
      const { kid } = device
      const allowed = await allowedOf(nc, tries([device, neighbour, foreigner]))
      const doors = [
        ...ingressOf[level].map((kind) => `in.${lenser}.${kid}.${kind}`),
        ...(ingressOf[level].includes('sync_push') ? ['status', 'leader'] : ['status']).map(
          (kind) => `ask.${lenser}.${kid}.${kind}`,
        ),
      ]
      t.deepEqual(allowed.publish.toSorted(), doors.map((door) => `ltg.v1.${door}`).toSorted())
      t.deepEqual(
        allowed.subscribe.toSorted(),
        [`out.${lenser}.${kid}.*`, 'ctl.global', 'ctl.keys', `ctl.workspace.${lenser}`, `ctl.device.${kid}`]
          .map((subject) => `ltg.v1.${subject}`)
          .toSorted(),
      )
    })
  }

  for (const scope of sessionScopes) {
    test(`a session of scope ${scope} makes its requests and hears their answers, and nothing else [${want} server]`, async (t) => {
      const session = await asOwner((client) => makeSession(client, lenser, scope))
      const nc = await connectAs(stack, session)
      t.teardown(() => nc.close())
      const nobody = { lenser: nilUuid, kid: session.kid }
      const allowed = await allowedOf(nc, tries([session, neighbour, foreigner, nobody]))
      // A sign-in that was cut off before its answer is asked again; an API key signs nobody in.
      const again = scope === 'owner' ? [nobody] : []
      const doors = [
        ...requestsOf[scope].map((kind) => `${lenser}.${session.kid}.${kind}`),
        ...again.map((name) => `${name.lenser}.${name.kid}.login`),
      ]
      t.deepEqual(allowed.publish.toSorted(), doors.map((door) => `ltg.v1.ask.${door}`).toSorted())
      t.deepEqual(
        allowed.subscribe.toSorted(),
        [session, ...again].map((name) => `ltg.v1.out.${name.lenser}.${name.kid}.*`).toSorted(),
      )
    })
  }

  test(`a stranger may ask to log in, and nothing else [${want} server]`, async (t) => {
    const keys = generateKeyPair()
    const stranger = { kid: kidOfKey(keys.publicKey), lenser: nilUuid, keys }
    const nc = await connectAs(stack, stranger, true)
    t.teardown(() => nc.close())
    const allowed = await allowedOf(nc, tries([stranger, neighbour, foreigner]))
    t.deepEqual(allowed.publish, [`ltg.v1.ask.${nilUuid}.${stranger.kid}.login`])
    t.deepEqual(allowed.subscribe, [`ltg.v1.out.${nilUuid}.${stranger.kid}.*`])
  })

  test(`a larger message than an envelope may be cuts the connection [${want} server]`, async (t) => {
    const device = await asOwner((client) => makeDevice(client, { lenser }))
    const nc = await connectAs(stack, device)
    t.is(nc.info?.max_payload, limits.userPayloadBytes)
    // The client would refuse by itself what the server told it.
    Object.assign(nc.info as object, { max_payload: 1024 * 1024 })
    nc.publish(`ltg.v1.in.${lenser}.${device.kid}.heartbeat`, new Uint8Array(limits.userPayloadBytes + 1))
    await nc.closed()
    t.true(nc.isClosed())
  })

  test(`a connection has 16 subscriptions, whatever others have [${want} server]`, async (t) => {
    const makeOne = () => asOwner((client) => makeDevice(client, { lenser }))
    const [first, second] = [await makeOne(), await makeOne()]
    t.is(await complaintAt(stack, first, 16), '')
    t.is(await complaintAt(stack, second, 16), '')
    t.regex(await complaintAt(stack, second, 17), /maximum subscriptions/i)
  })
}

/** What the broker says against so many subscriptions; the connection stays open. */
const complaintAt = async (stack: Stack, device: Signatory, count: number): Promise<string> => {
  const nc = await connectAs(stack, device)
  const heard: string[] = []
  void (async () => {
    for await (const status of nc.status()) if (status.type === 'error') heard.push(status.error.message)
  })()
  for (let n = 0; n < count; n++) nc.subscribe('ltg.v1.ctl.global', { callback: () => {} })
  await nc.flush()
  await new Promise((resolve) => setTimeout(resolve, 50))
  return heard.join()
}
