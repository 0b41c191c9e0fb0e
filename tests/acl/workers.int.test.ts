import type { Stack } from '@lenserfight/local/stack'
import { inboxPrefix, kindsOf, okSubject, type ServiceName, serviceNames } from '@lenserfight/schemas'
import test from 'ava'
import { allowedOf, connectWithSeed, connectWorker, startDoor } from './_acl.ts'

const lenser = '0193a6b0-0000-7000-8000-00000000000a'
const kid = '0193a6b0-0000-7000-8000-00000000000b'
const out = (name: string) => `ltg.v1.out.${lenser}.${kid}.${name}`
const oks = kindsOf('in').map(okSubject)
const api = (name: string) => `$JS.API.${name}`
const pull = (stream: string, name: string) => api(`CONSUMER.MSG.NEXT.${stream}.${name}`)

/** Everything worth trying to say, whoever one is. */
const publish = [
  ...kindsOf('in').map((kind) => `ltg.v1.in.${lenser}.${kid}.${kind}`),
  ...kindsOf('ask').map((kind) => `ltg.v1.ask.${lenser}.${kid}.${kind}`),
  ...oks,
  'ltg.v1.ok.invented',
  ...['receipt', 'answer', 'lease', 'change'].map(out),
  ...['global', `workspace.${lenser}`, `device.${kid}`, 'keys'].map((name) => `ltg.v1.ctl.${name}`),
  ...serviceNames.map((name) => `ltg.v1.dead.${name}`),
  ...['LTG_INGRESS', 'LTG_VERIFIED', 'LTG_DEADLETTER', 'OTHER'].flatMap((stream) => [
    ...['CREATE', 'UPDATE', 'INFO', 'DELETE', 'PURGE', 'SNAPSHOT', 'RESTORE', 'MSG.GET', 'MSG.DELETE'].map((verb) =>
      api(`STREAM.${verb}.${stream}`),
    ),
    api(`DIRECT.GET.${stream}`),
    api(`CONSUMER.NAMES.${stream}`),
    ...serviceNames.flatMap((name) => [
      pull(stream, name),
      api(`CONSUMER.INFO.${stream}.${name}`),
      api(`CONSUMER.CREATE.${stream}.${name}`),
      api(`CONSUMER.DELETE.${stream}.${name}`),
      `$JS.ACK.${stream}.${name}.1.1.1.1.0`,
    ]),
  ]),
  ...['INFO', 'STREAM.NAMES', 'STREAM.LIST', 'ACCOUNT.PURGE.CORE', 'META.LEADER.STEPDOWN'].map(api),
  ...serviceNames.map((name) => `${inboxPrefix(name)}.x`),
  ...['_INBOX.x', '$SYS._INBOX.abc.def', '$SYS.REQ.USER.AUTH', '$SYS.REQ.SERVER.PING', '$SYS.REQ.SERVER.x.KICK'],
  ...['$KV.x.y', '$O.x', '$SRV.PING', 'anything'],
]
/** And everything worth trying to hear. */
const subscribe = [
  ...['>', '*', 'ltg.>', 'ltg.v1.>', 'ltg.v1.in.>', 'ltg.v1.ask.>', 'ltg.v1.ok.>', 'ltg.v1.out.>', 'ltg.v1.ctl.>'],
  ...['ltg.v1.dead.>', '$JS.>', '$JS.API.>', '$JS.ACK.>', '$JS.EVENT.ADVISORY.>', '$SYS.>', '$SYS.REQ.USER.AUTH'],
  ...['_INBOX.>', '$SYS._INBOX.>', '$KV.>', '$SRV.>'],
  ...kindsOf('ask').map((kind) => `ltg.v1.ask.*.*.${kind}`),
  ...serviceNames.map((name) => `${inboxPrefix(name)}.>`),
]

const own = (stream: string, name: ServiceName) => [
  pull(stream, name),
  api(`CONSUMER.INFO.${stream}.${name}`),
  `$JS.ACK.${stream}.${name}.1.1.1.1.0`,
]
const streams = ['LTG_INGRESS', 'LTG_VERIFIED', 'LTG_DEADLETTER']
const consumers = [
  ['LTG_INGRESS', 'verifier'],
  ['LTG_VERIFIED', 'registrar'],
  ['LTG_VERIFIED', 'trust-evaluator'],
  ['LTG_VERIFIED', 'sync-applier'],
] as const

/** What of all that each worker may say, and hear besides its own inbox; written by hand, beside the topology. */
const expected: Record<ServiceName, { publish: string[]; subscribe: string[] }> = {
  provisioner: {
    publish: [
      ...streams.flatMap((stream) => ['CREATE', 'UPDATE', 'INFO'].map((verb) => api(`STREAM.${verb}.${stream}`))),
      ...consumers.flatMap(([stream, name]) =>
        ['INFO', 'CREATE'].map((verb) => api(`CONSUMER.${verb}.${stream}.${name}`)),
      ),
      api('INFO'),
    ],
    subscribe: [],
  },
  'broker-auth': { publish: ['$SYS._INBOX.abc.def'], subscribe: ['$SYS.REQ.USER.AUTH'] },
  registrar: {
    publish: [out('receipt'), out('answer'), 'ltg.v1.dead.registrar', ...own('LTG_VERIFIED', 'registrar')],
    subscribe: kindsOf('ask').map((kind) => `ltg.v1.ask.*.*.${kind}`),
  },
  verifier: {
    publish: [...oks, out('receipt'), 'ltg.v1.dead.verifier', ...own('LTG_INGRESS', 'verifier')],
    subscribe: [],
  },
  'trust-evaluator': {
    publish: [out('receipt'), 'ltg.v1.dead.trust-evaluator', ...own('LTG_VERIFIED', 'trust-evaluator')],
    subscribe: [],
  },
  'sync-applier': {
    publish: [out('receipt'), out('change'), 'ltg.v1.dead.sync-applier', ...own('LTG_VERIFIED', 'sync-applier')],
    subscribe: [],
  },
  'audit-chain': { publish: [], subscribe: [] },
}

for (const want of ['oldest', 'newest'] as const) {
  let stack: Stack
  test.before(async () => {
    stack = await startDoor(want)
  })
  test.after.always(() => stack?.stop())

  for (const service of serviceNames) {
    test(`${service} may say and hear what is its own, and nothing else [${want} server]`, async (t) => {
      const nc = await connectWorker(stack, service)
      t.teardown(() => nc.close())
      const allowed = await allowedOf(nc, { publish, subscribe })
      t.deepEqual(allowed.publish.toSorted(), expected[service].publish.toSorted())
      t.deepEqual(
        allowed.subscribe.toSorted(),
        [`${inboxPrefix(service)}.>`, ...expected[service].subscribe].toSorted(),
      )
    })
  }

  test(`the system user may kick, and say and hear nothing else [${want} server]`, async (t) => {
    const nc = await connectWithSeed(stack, stack.systemUser.seed, '_INBOX_system')
    t.teardown(() => nc.close())
    const server = nc.info?.server_id ?? ''
    const others = [
      'PING',
      'RELOAD',
      'LDM',
      'STATSZ',
      'CONNZ',
      'VARZ',
      'SUBSZ',
      'ACCOUNTZ',
      'JSZ',
      'PROFILEZ',
      'KICK.x',
    ]
    const tried = [
      ...publish.filter((subject) => !subject.endsWith('.KICK')),
      ...others.flatMap((verb) => [`$SYS.REQ.SERVER.${server}.${verb}`, `$SYS.REQ.SERVER.PING.${verb}`]),
      ...['CONNZ', 'JSZ', 'SUBSZ', 'INFO', 'STATZ', 'CLAIMS.UPDATE'].map((verb) => `$SYS.REQ.ACCOUNT.CORE.${verb}`),
      ...['$SYS.REQ.CLAIMS.UPDATE', '$SYS.REQ.CLAIMS.DELETE', '$SYS.REQ.ACCOUNT.PING.CONNZ', '$SYS.REQ.USER.INFO'],
      `$SYS.ACCOUNT.EDGE.CONNECT`,
    ]
    const events = ['$SYS.ACCOUNT.>', '$SYS.ACCOUNT.EDGE.CONNECT', '$SYS.ACCOUNT.EDGE.DISCONNECT', '$SYS.SERVER.>']
    const heard = [...subscribe, ...events, '_INBOX_system.>']
    t.deepEqual(await allowedOf(nc, { publish: tried, subscribe: heard }), {
      publish: [],
      subscribe: ['_INBOX_system.>'],
    })
    const { publish: kicks } = await allowedOf(nc, { publish: [`$SYS.REQ.SERVER.${server}.KICK`], subscribe: [] })
    t.is(kicks.length, 1)
  })

  test(`a key that the broker does not know is refused [${want} server]`, async (t) => {
    await t.throwsAsync(connectWithSeed(stack, stack.edgeUser.seed), { name: 'AuthorizationError' })
  })
}
