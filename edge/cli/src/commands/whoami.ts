import type { Context } from '../context.ts'
import { plain, timeOf } from '../output.ts'
import { asOwner } from '../owner/connect.ts'

const credentialOf = ({ kind, name, scope }: Readonly<Record<string, unknown>>): string => {
  if (kind !== 'api_key') return 'signed in'
  return `API key ${plain(String(name))} (LENSERFIGHT_API_KEY), which may ${scope === 'api' ? 'not ' : ''}approve devices`
}

/** `lf whoami`: in whose name this machine speaks, by the gateway's word, and by what. */
export const whoami = (context: Context): Promise<void> =>
  asOwner(context, async ({ session, descriptor, request }) => {
    const status = await request('status', {})
    const { lenser_id, expires_at, devices, kind, name, scope } = status
    const { gateway_id, url } = descriptor
    context.output.result(
      { ok: true, lenser_id, kind, name, scope, session: session.kid, gateway_id, expires_at, devices },
      [
        `Lenser   ${lenser_id}`,
        `Gateway  ${gateway_id} at ${url}`,
        `By       ${credentialOf(status)}`,
        `Session  ${session.kid} until ${timeOf(Number(expires_at))}`,
        `Devices  ${devices}`,
      ],
    )
  })
