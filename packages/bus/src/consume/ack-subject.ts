import type { Msg } from '@nats-io/transport-node'
import type { Delivery } from './types.ts'

/**
 * Reads what the broker says of a message in its acknowledgement subject:
 * `$JS.ACK.<stream>.<consumer>.<deliveries>.<seq>.<consumer seq>.<stored>.<pending>`, and on newer servers the same with
 * domain and account before the stream and a token at the end.
 * @throws TypeError when the message has none: it did not come from a stream
 */
export const readDelivery = (message: Msg): Delivery => {
  const tokens = message.reply?.split('.') ?? []
  const at = tokens.length === 9 ? 2 : 4
  if (tokens[0] !== '$JS' || tokens[1] !== 'ACK' || tokens.length < 9) throw new TypeError('not a message of a stream')
  return {
    subject: message.subject,
    data: message.data,
    stream: tokens[at] as string,
    deliveries: Number(tokens[at + 2]),
    seq: Number(tokens[at + 3]),
    stored: tokens[at + 5] as string,
  }
}
