import { type ConsumerSpec, limits, type StreamSpec } from '@lenserfight/schemas'
import type { ConsumerConfig, StreamConfig } from '@nats-io/jetstream'

const ns = (seconds: number): number => seconds * 1_000_000_000

/**
 * A stream's settings, those that guard it said outright: an edge may write any header and any reply subject, so nothing
 * here acts on either (protocol.md, Accounts).
 */
export const streamConfig = (spec: StreamSpec): Partial<StreamConfig> & { name: string } => ({
  name: spec.name,
  subjects: [...spec.subjects],
  retention: spec.retention,
  storage: spec.storage,
  max_age: ns(spec.maxAgeSeconds),
  max_bytes: spec.maxBytes,
  max_msgs: -1,
  max_msg_size: spec.noAck ? limits.userPayloadBytes : -1,
  max_msgs_per_subject: spec.maxMessagesPerSubject ?? -1,
  max_consumers: -1,
  discard: spec.discard,
  discard_new_per_subject: spec.discardNewPerSubject ?? false,
  no_ack: spec.noAck,
  num_replicas: 1,
  // Edges write no message ids; those that one writes all the same are remembered as short as can be.
  duplicate_window: spec.noAck ? 1_000_000_000 : ns(120),
  allow_rollup_hdrs: false,
  allow_direct: false,
  deny_delete: true,
  deny_purge: true,
  sealed: false,
})

/** A durable pull consumer's settings. Deliveries are unlimited: a limit leaves messages stuck in a work queue. */
export const consumerConfig = (spec: ConsumerSpec): Partial<ConsumerConfig> & { durable_name: string } => ({
  durable_name: spec.name,
  name: spec.name,
  ack_policy: 'explicit',
  deliver_policy: 'all',
  replay_policy: 'instant',
  ack_wait: ns(spec.ackWaitSeconds),
  max_ack_pending: spec.maxAckPending,
  max_deliver: -1,
  ...(spec.filters.length === 1
    ? { filter_subject: spec.filters[0] as string }
    : { filter_subjects: [...spec.filters] }),
})

/** What the broker leaves out of its answer where it is the default. */
const isUnset = (value: unknown): boolean =>
  value === undefined || value === false || value === 0 || (Array.isArray(value) && value.length === 0)

/** The names of the settings in which what is there differs from what is wanted. */
export const differences = (wanted: object, actual: object): string[] =>
  Object.entries(wanted)
    .filter(([key, value]) => {
      const found = (actual as Record<string, unknown>)[key]
      return !(isUnset(value) && isUnset(found)) && JSON.stringify(found) !== JSON.stringify(value)
    })
    .map(([key]) => key)

/** Settings that make a stream something else altogether; one of ours never has any. */
const foreign = ['mirror', 'sources', 'republish', 'subject_transform'] as const
export const foreignSettings = (actual: Partial<StreamConfig>): string[] =>
  foreign.filter((key) => !isUnset(actual[key as keyof StreamConfig]))
