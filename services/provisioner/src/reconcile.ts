import type { Logger } from '@lenserfight/runtime'
import { type ConsumerSpec, consumers, type StreamSpec, streams } from '@lenserfight/schemas'
import { JetStreamApiError, type JetStreamManager } from '@nats-io/jetstream'
import { consumerConfig, differences, foreignSettings, streamConfig } from './desired.ts'

/** What was found after a look: `wrong` names each setting that could not be made right. */
export interface Finding {
  readonly wrong: readonly string[]
  /** Share of its size limit that each stream fills, 0 to 1. */
  readonly filled: Readonly<Record<string, number>>
}

interface Tools {
  readonly manager: JetStreamManager
  readonly logger: Logger
}

const notFound = [404]

/** The answer, or undefined where the broker knows no such thing. */
const orAbsent = async <T>(asked: Promise<T>): Promise<T | undefined> => {
  try {
    return await asked
  } catch (error) {
    if (error instanceof JetStreamApiError && notFound.includes(error.status)) return undefined
    throw error
  }
}

/** Tries a change; what the broker refuses shows in the reading back. */
const change = async ({ logger }: Tools, what: object, work: () => Promise<unknown>): Promise<void> => {
  try {
    await work()
    logger.info({ event: 'changed', ...what }, 'changed the broker')
  } catch (error) {
    if (!(error instanceof JetStreamApiError)) throw error
    logger.error({ event: 'change_refused', ...what, apiCode: error.code }, 'the broker refused a change')
  }
}

const reconcileStream = async (tools: Tools, spec: StreamSpec): Promise<{ wrong: string[]; filled: number }> => {
  const { manager } = tools
  const wanted = streamConfig(spec)
  const found = await orAbsent(manager.streams.info(spec.name))
  if (found === undefined) {
    await change(tools, { stream: spec.name, made: true }, () => manager.streams.add(wanted))
  } else {
    const settings = differences(wanted, found.config)
    if (settings.length > 0) {
      await change(tools, { stream: spec.name, settings }, () => manager.streams.update(spec.name, wanted))
    } else return { wrong: foreignSettings(found.config), filled: found.state.bytes / spec.maxBytes }
  }
  const now = await manager.streams.info(spec.name)
  return {
    wrong: [...differences(wanted, now.config), ...foreignSettings(now.config)],
    filled: now.state.bytes / spec.maxBytes,
  }
}

const reconcileConsumer = async (tools: Tools, spec: ConsumerSpec): Promise<string[]> => {
  const { manager } = tools
  const { stream, name: consumer } = spec
  const wanted = consumerConfig(spec)
  const found = await orAbsent(manager.consumers.info(stream, consumer))
  if (found === undefined) {
    await change(tools, { stream, consumer, made: true }, () => manager.consumers.add(stream, wanted))
  } else {
    const settings = differences(wanted, found.config)
    if (settings.length === 0) return []
    await change(tools, { stream, consumer, settings }, () => manager.consumers.update(stream, consumer, wanted))
  }
  const now = await manager.consumers.info(stream, consumer)
  return differences(wanted, now.config)
}

/**
 * Makes the broker what the topology says, and reads back whether it is. Making what is there already changes nothing;
 * nothing is ever deleted.
 * @throws the client's error when the broker does not answer
 */
export const reconcile = async (tools: Tools): Promise<Finding> => {
  const wrong: string[] = []
  const filled: Record<string, number> = {}
  for (const spec of streams) {
    const found = await reconcileStream(tools, spec)
    wrong.push(...found.wrong.map((setting) => `${spec.name}.${setting}`))
    filled[spec.name] = found.filled
  }
  // Nobody is given a way to the ingress while its guards are not up.
  if (wrong.length > 0) return { wrong, filled }
  for (const spec of consumers) {
    const settings = await reconcileConsumer(tools, spec)
    wrong.push(...settings.map((setting) => `${spec.stream}.${spec.name}.${setting}`))
  }
  return { wrong, filled }
}
