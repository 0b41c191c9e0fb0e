import { type KindName, kindNames, kinds, kindsOf } from './kinds.ts'
import { limits } from './limits.ts'
import { okSubject } from './subjects.ts'

export interface StreamSpec {
  readonly name: string
  readonly subjects: readonly string[]
  readonly retention: 'workqueue' | 'limits'
  readonly storage: 'file'
  readonly maxAgeSeconds: number
  readonly maxBytes: number
  /** What happens when it is full. */
  readonly discard: 'new' | 'old'
  readonly maxMessagesPerSubject?: number
  readonly discardNewPerSubject?: boolean
  /** Without acknowledgement to the publisher: a device's reply subject is never answered. */
  readonly noAck: boolean
}

export interface ConsumerSpec {
  readonly stream: string
  readonly name: string
  readonly service: ServiceName
  readonly filters: readonly string[]
  readonly ackWaitSeconds: number
  readonly maxAckPending: number
}

/** The workers that exist, in the order in which a stack starts them. */
export const serviceNames = [
  'provisioner',
  'broker-auth',
  'registrar',
  'verifier',
  'trust-evaluator',
  'sync-applier',
  'audit-chain',
] as const
export type ServiceName = (typeof serviceNames)[number]

export const streams = [
  {
    name: 'LTG_INGRESS',
    subjects: ['ltg.v1.in.>'],
    retention: 'workqueue',
    storage: 'file',
    maxAgeSeconds: limits.streamAgeSeconds,
    maxBytes: limits.ingressBytes,
    discard: 'new',
    maxMessagesPerSubject: limits.ingressPerSubject,
    discardNewPerSubject: true,
    noAck: true,
  },
  {
    name: 'LTG_VERIFIED',
    subjects: ['ltg.v1.ok.>'],
    retention: 'limits',
    storage: 'file',
    maxAgeSeconds: limits.streamAgeSeconds,
    maxBytes: limits.verifiedBytes,
    discard: 'old',
    noAck: false,
  },
  {
    name: 'LTG_DEADLETTER',
    subjects: ['ltg.v1.dead.>'],
    retention: 'limits',
    storage: 'file',
    maxAgeSeconds: limits.deadletterAgeSeconds,
    maxBytes: limits.deadletterBytes,
    discard: 'new',
    noAck: false,
  },
] as const satisfies readonly StreamSpec[]

const okOf = (service: ServiceName): readonly string[] =>
  kindsOf('in')
    .filter((kind) => kinds[kind].applier === service)
    .map(okSubject)

const consumer = (stream: string, service: ServiceName, filters: readonly string[]): ConsumerSpec => ({
  stream,
  name: service,
  service,
  filters,
  ackWaitSeconds: limits.ackWaitSeconds,
  maxAckPending: 8192,
})

/** Durable pull consumers, one a service and stream; replicas of a service share theirs. */
export const consumers: readonly ConsumerSpec[] = [
  consumer('LTG_INGRESS', 'verifier', ['ltg.v1.in.>']),
  consumer('LTG_VERIFIED', 'registrar', okOf('registrar')),
  consumer('LTG_VERIFIED', 'trust-evaluator', okOf('trust-evaluator')),
  consumer('LTG_VERIFIED', 'sync-applier', okOf('sync-applier')),
]

export interface Permissions {
  readonly publish: readonly string[]
  readonly subscribe: readonly string[]
}

/** Where a service's own replies (pull answers, PubAcks) come in; no other service may listen there. */
export const inboxPrefix = (service: ServiceName): string => `_INBOX_${service.replaceAll('-', '_')}`

interface ServiceFlow {
  /** Plain subjects published, besides what its consumers need. */
  readonly publishes: readonly string[]
  readonly subscribes: readonly string[]
  /** The broker's own API, for the one service that makes streams. */
  readonly api?: readonly string[]
}

const askKinds = (service: ServiceName): readonly string[] =>
  kindsOf('ask')
    .filter((kind) => kinds[kind].applier === service)
    .map((kind) => `ltg.v1.ask.*.*.${kind}`)

/** Who publishes and who hears what: the one table from which permissions and the flow diagram are made. */
export const flows: Readonly<Record<ServiceName, ServiceFlow>> = {
  provisioner: {
    publishes: [],
    subscribes: [],
    api: [
      '$JS.API.INFO',
      ...streams.flatMap(({ name }) => [
        `$JS.API.STREAM.INFO.${name}`,
        `$JS.API.STREAM.CREATE.${name}`,
        `$JS.API.STREAM.UPDATE.${name}`,
      ]),
      ...consumers.flatMap(({ stream, name }) => [
        `$JS.API.CONSUMER.INFO.${stream}.${name}`,
        `$JS.API.CONSUMER.CREATE.${stream}.${name}`,
        `$JS.API.CONSUMER.CREATE.${stream}.${name}.>`,
        `$JS.API.CONSUMER.DURABLE.CREATE.${stream}.${name}`,
      ]),
    ],
  },
  'broker-auth': { publishes: ['$SYS._INBOX.*.*'], subscribes: ['$SYS.REQ.USER.AUTH'] },
  registrar: {
    publishes: ['ltg.v1.out.*.*.answer', 'ltg.v1.out.*.*.receipt', 'ltg.v1.dead.registrar'],
    subscribes: askKinds('registrar'),
  },
  verifier: {
    publishes: [...kindsOf('in').map(okSubject), 'ltg.v1.out.*.*.receipt', 'ltg.v1.dead.verifier'],
    subscribes: [],
  },
  'trust-evaluator': { publishes: ['ltg.v1.out.*.*.receipt', 'ltg.v1.dead.trust-evaluator'], subscribes: [] },
  'sync-applier': {
    publishes: ['ltg.v1.out.*.*.receipt', 'ltg.v1.out.*.*.change', 'ltg.v1.dead.sync-applier'],
    subscribes: [],
  },
  'audit-chain': { publishes: [], subscribes: [] },
}

/** The broker permissions of a worker: its flow, its own inbox and the API of its own consumers. */
export const servicePermissions = (service: ServiceName): Permissions => {
  const flow = flows[service]
  const own = consumers.filter((spec) => spec.service === service)
  return {
    publish: [
      ...flow.publishes,
      ...(flow.api ?? []),
      ...own.flatMap(({ stream, name }) => [
        `$JS.API.CONSUMER.INFO.${stream}.${name}`,
        `$JS.API.CONSUMER.MSG.NEXT.${stream}.${name}`,
        `$JS.ACK.${stream}.${name}.>`,
      ]),
    ],
    subscribe: [`${inboxPrefix(service)}.>`, ...flow.subscribes],
  }
}

/** Kinds whose applier listens on the verified stream. */
export const verifiedKinds: readonly KindName[] = kindNames.filter((name) => kinds[name].door === 'in')

/** What crosses between the broker's accounts, as stream exports; nothing else does. */
export const accountExports = {
  edgeToCore: ['ltg.v1.in.>', 'ltg.v1.ask.>'],
  coreToEdge: ['ltg.v1.out.>', 'ltg.v1.ctl.>'],
} as const
