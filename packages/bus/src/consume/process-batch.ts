import { InfrastructureError } from '@lenserfight/runtime'
import { bury } from './bury.ts'
import type { Held, Ledger } from './ledger.ts'
import type { ConsumeOptions, Disposition } from './types.ts'

/** Runs work again and again while infrastructure fails; rejects with anything else, or when the worker stops. */
export type Persist = <T>(work: () => Promise<T>) => Promise<T>

interface Unit<Item> {
  readonly item: Item
  readonly message: Message
}

/** A message and how many of its items still wait for their end. */
interface Message {
  readonly held: Held
  left: number
  dead: boolean
}

export interface BatchContext<Item> {
  readonly options: ConsumeOptions<Item>
  readonly ledger: Ledger
  readonly persist: Persist
  readonly signal: AbortSignal
  readonly onDead: () => void
}

type Attempt = { dispositions: readonly Disposition[] } | { failed: unknown }

/** One call of the service's handler; failures of infrastructure are waited out, others come back as values. */
const attempt = async <Item>(context: BatchContext<Item>, units: readonly Unit<Item>[]): Promise<Attempt> => {
  const { options, persist, signal } = context
  const items = units.map(({ item }) => item)
  return persist(async () => {
    try {
      const dispositions = await options.handle(items, { signal })
      if (dispositions.length !== items.length) throw new TypeError('the handler did not answer for every item')
      return { dispositions }
    } catch (error) {
      if (error instanceof InfrastructureError) throw error
      return { failed: error }
    }
  })
}

const finish = <Item>({ ledger }: BatchContext<Item>, message: Message): void => {
  message.left -= 1
  if (message.left > 0) return
  ledger.settle(message.held, message.dead ? '+TERM' : '+ACK')
}

const buryUnit = async <Item>(
  context: BatchContext<Item>,
  message: Message,
  { item, cause }: { item: Item | undefined; cause: unknown },
): Promise<void> => {
  await context.persist(() => bury(context.options, { item, delivery: message.held.delivery, cause }))
  context.onDead()
  message.dead = true
  finish(context, message)
}

/** Handles units; what fails is halved until the one that fails stands alone, and fails once more (style.md, habit 2). */
const processUnits = async <Item>(context: BatchContext<Item>, units: readonly Unit<Item>[]): Promise<void> => {
  const [only] = units
  if (only === undefined) return
  let result = await attempt(context, units)
  if ('failed' in result && units.length === 1) result = await attempt(context, units)
  if ('failed' in result) {
    if (units.length === 1) return buryUnit(context, only.message, { item: only.item, cause: result.failed })
    const middle = units.length >> 1
    await processUnits(context, units.slice(0, middle))
    return processUnits(context, units.slice(middle))
  }
  for (const [index, unit] of units.entries()) {
    const disposition = result.dispositions[index] as Disposition
    if ('dead' in disposition) await buryUnit(context, unit.message, { item: unit.item, cause: disposition.dead })
    else finish(context, unit.message)
  }
}

/** Takes a batch of messages to their end: each acknowledged once all its items are done. */
export const processBatch = async <Item>(context: BatchContext<Item>, batch: readonly Held[]): Promise<void> => {
  const units: Unit<Item>[] = []
  for (const held of batch) {
    let items: readonly Item[]
    try {
      items = context.options.decode(held.delivery)
    } catch (cause) {
      await buryUnit(context, { held, left: 1, dead: true }, { item: undefined, cause })
      continue
    }
    const message: Message = { held, left: items.length, dead: false }
    if (items.length === 0) context.ledger.settle(held, '+ACK')
    for (const item of items) units.push({ item, message })
  }
  await processUnits(context, units)
}
