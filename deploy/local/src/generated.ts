import { join } from 'node:path'
import { brokerConfig } from '@lenserfight/bus'
import {
  accountExports,
  consumers,
  Descriptor,
  flows,
  GatewayKey,
  kindNames,
  kinds,
  kindsOf,
  ReceiptItem,
  reasonCodes,
  reasonOf,
  type ServiceName,
  type StreamSpec,
  serviceNames,
  streams,
  VerifiedItem,
} from '@lenserfight/schemas'
import { buildSync } from 'esbuild'

/** A file that is made from the contract: its path in the repository, and what it says. */
export interface GeneratedFile {
  readonly path: string
  readonly content: string
}

const variableOf = (name: string): string => `$LTG_NKEY_${name.toUpperCase().replaceAll('-', '_')}`

/** A broker's configuration for operators: public keys and the log's path come from the environment, port and store from the command line. */
const sampleConfig = (): GeneratedFile => {
  const workers = Object.fromEntries(serviceNames.map((name) => [name, variableOf(name)])) as Record<
    ServiceName,
    string
  >
  const keys = { workers, system: variableOf('system'), calloutIssuer: variableOf('callout_issuer') }
  const content = brokerConfig({ ...keys, callout: true, logFile: '$LTG_NATS_LOG_FILE' })
  const note = `# Public NKeys come from the environment: ${Object.values(workers).join(', ')}, ${keys.system} (users), ${keys.calloutIssuer} (account); so does the log's path, $LTG_NATS_LOG_FILE.\n`
  return { path: 'deploy/nats/nats-server.conf', content: note + content }
}

const schemaFile = (name: string, schema: object): GeneratedFile => ({
  path: `schemas/json/${name}.json`,
  content: `${JSON.stringify(
    { $schema: 'https://json-schema.org/draft/2020-12/schema', $id: `urn:lenserfight:ltg:v1:${name}`, ...schema },
    null,
    2,
  )}\n`,
})

const schemaFiles = (): GeneratedFile[] => [
  ...kindNames.map((kind) => schemaFile(kind, kinds[kind].body)),
  schemaFile('descriptor', Descriptor),
  schemaFile('gateway-key', GatewayKey),
  schemaFile('receipt-item', ReceiptItem),
  schemaFile('verified-item', VerifiedItem),
]

/** Whether a subject, wildcards included, falls into a stream. */
const isIn = (subject: string, { subjects }: StreamSpec): boolean =>
  subjects.some((pattern) => subject.startsWith(pattern.slice(0, -1)))
const lastOf = (subject: string): string => subject.slice(subject.lastIndexOf('.') + 1)
const listOf = (subjects: readonly string[]): string => subjects.map(lastOf).join(', ')

/** The arrows of the diagram: from, to, what goes there. */
const arrows = (): [from: string, to: string, what: string][] => {
  const [ingress] = streams
  const said = serviceNames.flatMap((service) =>
    streams.flatMap((stream): [string, string, string][] => {
      const subjects = flows[service].publishes.filter((subject) => isIn(subject, stream))
      return subjects.length === 0 ? [] : [[service, stream.name, `${subjects[0]?.split('.')[2]}: ${listOf(subjects)}`]]
    }),
  )
  const heard = serviceNames.flatMap((service): [string, string, string][] => {
    const asks = flows[service].subscribes.filter((subject) => subject.startsWith('ltg.v1.ask.'))
    return asks.length === 0 ? [] : [['edge', service, `ask: ${listOf(asks)}`]]
  })
  const answered = serviceNames.flatMap((service): [string, string, string][] => {
    const outs = flows[service].publishes.filter((subject) => subject.startsWith('ltg.v1.out.'))
    return outs.length === 0 ? [] : [[service, 'edge', `out: ${listOf(outs)}`]]
  })
  return [
    ['edge', 'broker-auth', 'connect (auth callout)'],
    ['edge', ingress.name, `in: ${kindsOf('in').join(', ')}`],
    ...heard,
    ...consumers.map(({ stream, service, filters }): [string, string, string] => [
      stream,
      service,
      filters[0]?.startsWith('ltg.v1.in') ? 'all' : listOf(filters),
    ]),
    ...said,
    ...answered,
  ]
}

/** A hyphen in an id reads as the beginning of an arrow. */
const idOf = (name: string): string => name.replaceAll('-', '_')

const mermaid = (): string => {
  const nodes = [
    '  edge["edge: lf, lf-gatewayd"]',
    ...streams.map(({ name, subjects }) => `  ${name}[("${name}<br/>${subjects.join(' ')}")]`),
    ...serviceNames.map((name) => `  ${idOf(name)}["${name}"]`),
  ]
  const lines = arrows().map(([from, to, what]) => `  ${idOf(from)} -- "${what}" --> ${idOf(to)}`)
  return ['```mermaid', 'flowchart LR', ...nodes, ...lines, '```'].join('\n')
}

const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n')

const code = (words: readonly string[]): string => words.map((word) => `\`${word}\``).join(' ')

const minutes = (seconds: number): string => (seconds >= 86_400 ? `${seconds / 86_400} days` : `${seconds / 60} min`)

const streamTable = (): string =>
  table(
    ['stream', 'subjects', 'kept', 'made by', 'read by'],
    (streams as readonly StreamSpec[]).map((stream) => [
      `\`${stream.name}\``,
      code(stream.subjects),
      `${stream.retention === 'workqueue' ? 'until done, ' : ''}${minutes(stream.maxAgeSeconds)}${stream.noAck ? ', never acknowledged to the publisher' : ''}`,
      serviceNames.filter((name) => flows[name].publishes.some((subject) => isIn(subject, stream))).join(', ') ||
        'edges',
      consumers
        .filter((consumer) => consumer.stream === stream.name)
        .map(({ service }) => service)
        .join(', ') || 'operators',
    ]),
  )

const kindTable = (): string =>
  table(
    ['kind', 'door', 'signed by', 'applied by', 'operation'],
    kindNames.map((name) => {
      const { door, signers, applier, operation } = kinds[name]
      return [`\`${name}\``, door, signers.join(', '), applier, operation ? 'yes' : '']
    }),
  )

/** The section of ARCHITECTURE.md between its markers. */
export const flowSection = (): string =>
  [
    mermaid(),
    streamTable(),
    `Between the broker's accounts cross, as streams: ${code(accountExports.edgeToCore)} from EDGE to CORE, ${code(accountExports.coreToEdge)} from CORE to EDGE. Nothing else does.`,
    kindTable(),
  ].join('\n\n')

const markers = ['<!-- flow:begin -->', '<!-- flow:end -->'] as const

/**
 * A document with the generated section between its markers.
 * @throws TypeError where it has no such markers
 */
export const withFlowSection = (document: string): string => {
  const [begin, end] = markers.map((marker) => document.indexOf(marker)) as [number, number]
  if (begin < 0 || end < begin) throw new TypeError(`the document has no ${markers.join(' … ')}`)
  return `${document.slice(0, begin)}${markers[0]}\n${flowSection()}\n${document.slice(end)}`
}

/** Every reason code with what the edge does next, the exit status of `lf`, and the sentence for people. */
const reasonFile = (): GeneratedFile => {
  const rows = reasonCodes.map((name) => {
    const { next, exit = 1, message } = reasonOf(name)
    return [`\`${name}\``, next, String(exit), message.replaceAll('|', '\\|')]
  })
  const intro = [
    '# Reason codes',
    'Made from `schemas/src/codes.ts` by `npm run generate`. Codes are API: none is ever renamed.',
    '`stop` ends an operation; `resign` has the edge sign and send it again; `wait` does so when the state may have changed.',
  ]
  return {
    path: 'schemas/REASONS.md',
    content: `${[...intro, table(['code', 'next', 'exit', 'sentence'], rows)].join('\n\n')}\n`,
  }
}

/** TypeBox as one module, from the packages installed here. */
const typeboxBundle = (entry: string): GeneratedFile => {
  const folder = join(import.meta.dirname, '../../..')
  const { outputFiles } = buildSync({
    absWorkingDir: folder,
    stdin: { contents: entry, loader: 'ts', resolveDir: folder },
    bundle: true,
    format: 'esm',
    platform: 'node',
    legalComments: 'inline',
    banner: { js: '// TypeBox, MIT licence, Copyright (c) 2017-2026 Haydn Paterson. Made by `npm run generate`.' },
    write: false,
  })
  return { path: 'schemas/typebox/index.mjs', content: outputFiles[0]?.text ?? '' }
}

/** Every generated file; `read` gives those that are generated in part as they are now. */
export const generatedFiles = (read: (path: string) => string): GeneratedFile[] => [
  sampleConfig(),
  ...schemaFiles(),
  reasonFile(),
  typeboxBundle(read('schemas/typebox/index.d.mts')),
  { path: 'ARCHITECTURE.md', content: withFlowSection(read('ARCHITECTURE.md')) },
]
