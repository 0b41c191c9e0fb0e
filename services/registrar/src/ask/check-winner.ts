import type { Message } from '@lenserfight/envelope'
import { checkPath, type SyncResolveBody } from '@lenserfight/schemas'
import type { RegistrarStore } from '../store.ts'

/**
 * Why a value of their own that a person decided on may not stand where the conflict is (its class's form for that path), or null.
 * Of other requests and decisions there is nothing to check; nor where the conflict is not found, which is refused as it is applied.
 * @throws InfrastructureError where the database is gone
 */
export const checkWinner = async (
  { kind, envelope, text }: Message,
  { conflictPlace }: Pick<RegistrarStore, 'conflictPlace'>,
): Promise<string | null> => {
  if (kind !== 'sync_resolve') return null
  const { winner } = envelope.body as unknown as SyncResolveBody
  if (!('value' in winner)) return null
  const place = await conflictPlace(text)
  if (!place.ok) return null
  return checkPath(String(place.result.class), String(place.result.path), winner.value)
}
