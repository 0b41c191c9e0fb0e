import { resolveBind } from '@lenserfight/daemon'
import {
  type Check,
  checkKeychain,
  judgeBus,
  judgeClock,
  judgeConfig,
  judgeDaemon,
  judgeIdentity,
  judgeSync,
  judgeTransport,
  reachGateway,
  syncReportOf,
  type Verdict,
} from '@lenserfight/daemon/checks'
import type { Context } from '../context.ts'
import { findProjectSecrets } from '../project/config.ts'
import { type Facts, gatherFacts } from './facts.ts'
import { askGateway, type Heard } from './gateway.ts'
import { checkPolicy } from './policy.ts'

/** The share of a deadline after which a check goes on without what would be good to know. */
const patience = 0.6

/** What it resolves with, or undefined where it fails or is late. */
const ifInTime = async <T>(promise: Promise<T>, ms: number): Promise<T | undefined> => {
  const late = new Promise<undefined>((resolve) => setTimeout(resolve, ms, undefined).unref())
  return Promise.race([promise.catch(() => undefined), late])
}

const checkTransport = async (
  context: Context,
  facts: Facts,
  { signal, deadlineMs }: { signal: AbortSignal; deadlineMs: number },
): Promise<Verdict> => {
  const { descriptor } = facts
  // Signing in makes one known. That is said here, where nothing else is known of what somebody wants.
  if (descriptor === undefined) {
    const fix = 'Run `lf login`: with --gateway FILE, its descriptor, or --dev at a local stack.'
    return { ok: false, code: 'descriptor_missing', detail: 'this machine knows no gateway yet', fix }
  }
  // What no daemon listens on yet is judged by what one would listen on.
  await resolveBind(context.edge.bind)
  const [connectMs, status] = await Promise.all([
    reachGateway(descriptor.url, signal),
    // A daemon that hangs says nothing of the gateway.
    ifInTime(facts.daemon(), deadlineMs * patience),
  ])
  const bound = Array.isArray(status?.binds) ? status.binds.map(String) : undefined
  return judgeTransport({ url: descriptor.url, connectMs, bound })
}

/** The daemon says itself that nothing came back, before this check would be late. */
const checkBus = async ({ askDaemon }: Facts, deadlineMs: number): Promise<Verdict> =>
  judgeBus(await askDaemon((daemon) => daemon.request('canary', { timeout_ms: Math.round(deadlineMs * 0.9) })))

/** The sync as the daemon tells it (DG-4); without one, as the daemon's own check. */
const checkSync = async ({ askDaemon, daemon }: Facts): Promise<Verdict> => {
  const [status, report] = await Promise.all([daemon(), askDaemon((each) => each.request('sync.status', {}))])
  return judgeSync(syncReportOf(report), { now: Date.now(), since: Number(status.since) })
}

/** All that the doctor asks, each question by itself; what several of them rest on is found out once. */
export const checksOf = (context: Context, deadlineMs: number): readonly Check[] => {
  let known: Facts | undefined
  const facts = (): Facts => {
    known ??= gatherFacts(context)
    return known
  }
  let heard: Promise<Heard> | undefined
  const hear = (): Promise<Heard> => {
    heard ??= askGateway(context, facts(), deadlineMs)
    return heard
  }
  return [
    {
      name: 'clock',
      late: 'answer_timeout',
      ask: async () => {
        const { clock, by } = await hear()
        return judgeClock(clock, by)
      },
    },
    {
      name: 'keychain',
      late: 'keychain_unavailable',
      ask: () => checkKeychain(context.keychain, facts().identity),
    },
    {
      name: 'identity',
      late: 'answer_timeout',
      ask: async () => {
        const { begun, identity, descriptor } = facts()
        const told = identity !== undefined ? await ifInTime(hear(), deadlineMs * patience) : undefined
        return judgeIdentity({ identity: begun, descriptor, standing: told?.standing, now: Date.now() })
      },
    },
    { name: 'daemon', late: 'daemon_unreachable', ask: async () => judgeDaemon(await facts().daemon()) },
    { name: 'sync', late: 'daemon_unreachable', ask: () => checkSync(facts()) },
    { name: 'policy', late: 'answer_timeout', ask: () => checkPolicy(context, hear) },
    {
      name: 'transport',
      late: 'gateway_unreachable',
      ask: (signal) => checkTransport(context, facts(), { signal, deadlineMs }),
    },
    { name: 'bus', late: 'answer_timeout', ask: () => checkBus(facts(), deadlineMs) },
    {
      name: 'config',
      late: 'config_invalid',
      ask: () => {
        const verdict = judgeConfig({
          projectSecrets: findProjectSecrets(context.config),
          environmentSecrets: context.config.environmentSecrets,
        })
        // A file without a secret may still be one that `lf run` refuses.
        if (verdict.ok) context.project()
        return verdict
      },
    },
  ]
}
