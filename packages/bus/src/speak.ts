import { createSigner, type SigningKey } from '@lenserfight/envelope'
import { type AnswerBody, type ChangeBody, outSubject, type ReceiptBody, type ReceiptItem } from '@lenserfight/schemas'
import type { Bus } from './connect-service.ts'

/** Who speaks, in which gateway's name. */
export interface Voice {
  readonly bus: Pick<Bus, 'tell'>
  readonly gatewayId: string
  readonly signer: SigningKey
  /** Unix milliseconds. */
  readonly now: () => number
}

/** Whom an answer is for: the names in the subject of the door that was knocked at, never others. */
export interface Addressee {
  readonly lenser: string
  readonly kid: string
}
export interface AddressedReceipt extends Addressee {
  readonly item: ReceiptItem
}

/** Bytes of items in one message; the envelope around them is under 1 KiB, and an edge's limit is 256 KiB. */
const messageBytes = 192 * 1024

/** The items of one addressee, cut so that no message exceeds the limit; one item alone may. */
const portions = (items: readonly ReceiptItem[]): ReceiptItem[][] => {
  const cut: ReceiptItem[][] = []
  let room = 0
  for (const item of items) {
    const size = Buffer.byteLength(JSON.stringify(item)) + 1
    if (size > room) {
      cut.push([])
      room = messageBytes
    }
    cut.at(-1)?.push(item)
    room -= size
  }
  return cut
}

/**
 * Sends receipts: one signed message a device and call, in the order given. Nothing rests on their arrival: an edge that
 * misses one sends again and gets the same result (law 2).
 */
export const createReceipts = ({ bus, gatewayId, signer, now }: Voice) => {
  const { sign } = createSigner(signer)
  const sendTo = ({ lenser, kid }: Addressee, items: readonly ReceiptItem[]): void => {
    for (const portion of portions(items)) {
      const time = Math.floor(now() / 1000)
      const body: ReceiptBody = { kind: 'receipt', aud: gatewayId, to: kid, time, items: portion }
      bus.tell(outSubject(lenser, kid, 'receipt'), sign({ body, iat: time }).bytes)
    }
  }
  return (receipts: readonly AddressedReceipt[]): void => {
    const groups = Map.groupBy(receipts, ({ lenser, kid }) => `${lenser}.${kid}`)
    for (const group of groups.values()) {
      sendTo(
        group[0] as AddressedReceipt,
        group.map(({ item }) => item),
      )
    }
  }
}
export type SendReceipts = ReturnType<typeof createReceipts>

/** What an answer says of one request at the `ask` door; the rest of its body is made here. */
export type Answer = Omit<AnswerBody, 'kind' | 'aud' | 'to' | 'time'>

/** Sends answers to requests at the `ask` door, each signed, to the subject that belongs to the door. */
export const createAnswers = ({ bus, gatewayId, signer, now }: Voice) => {
  const { sign } = createSigner(signer)
  return ({ lenser, kid }: Addressee, answer: Answer): void => {
    const time = Math.floor(now() / 1000)
    const body: AnswerBody = { kind: 'answer', aud: gatewayId, to: kid, time, ...answer }
    bus.tell(outSubject(lenser, kid, 'answer'), sign({ body, iat: time }).bytes)
  }
}
export type SendAnswer = ReturnType<typeof createAnswers>

/** What there is to pull, and whom that is told. */
export interface Change {
  readonly lenser: string
  readonly epoch: number
  readonly seq: number
  /** Devices. */
  readonly to: readonly string[]
}

/** Tells devices that there is something to pull. Nothing rests on its arrival: they look by themselves every few seconds. */
export const createNotices = ({ bus, gatewayId, signer, now }: Voice) => {
  const { sign } = createSigner(signer)
  return ({ lenser, epoch, seq, to: devices }: Change): void => {
    const time = Math.floor(now() / 1000)
    for (const to of devices) {
      const body: ChangeBody = { kind: 'change', aud: gatewayId, to, time, epoch, seq }
      bus.tell(outSubject(lenser, to, 'change'), sign({ body, iat: time }).bytes)
    }
  }
}
export type SendNotice = ReturnType<typeof createNotices>
