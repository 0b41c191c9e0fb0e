import { Uuid } from '@lenserfight/schemas'
import { Check } from '@lenserfight/schemas/typebox'
import type { Store } from '../store.ts'

/**
 * The run that this machine asked for last, whatever the policy said of it; undefined where it asked for none of late.
 * @throws CodedError `state_unwritable`
 */
export const newestRun = (store: Store): string | undefined => {
  const row = store.get<{ run_id: unknown }>(
    `SELECT json_extract(outcome, '$.result.run_id') AS run_id FROM operations
      WHERE state IN ('done', 'failed') AND kind = 'run_start' AND json_extract(outcome, '$.result.run_id') IS NOT NULL
      ORDER BY ended_at DESC, op_id DESC LIMIT 1`,
  )
  return row !== undefined && Check(Uuid, row.run_id) ? row.run_id : undefined
}
