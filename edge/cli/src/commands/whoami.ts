import type { Context } from '../context.ts'
import { asOwner } from '../owner/connect.ts'

/** `lf whoami`: whose session this machine holds, by the gateway's word. */
export const whoami = (context: Context): Promise<void> =>
  asOwner(context, async ({ session, descriptor, request }) => {
    const { lenser_id, expires_at, devices } = await request('status', {})
    context.output.result(
      { ok: true, lenser_id, session: session.kid, gateway_id: descriptor.gateway_id, expires_at, devices },
      [
        `Lenser   ${lenser_id}`,
        `Gateway  ${descriptor.gateway_id} at ${descriptor.url}`,
        `Session  until ${new Date(Number(expires_at) * 1000).toISOString()}`,
        `Devices  ${devices}`,
      ],
    )
  })
