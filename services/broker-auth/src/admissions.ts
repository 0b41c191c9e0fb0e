import { call, type Pool } from '@lenserfight/db'

/** A connection that is to be cut. */
export interface DueCut {
  readonly id: string
  readonly server_id: string
  readonly client_id: string
  readonly kid: string
  readonly cause: 'level' | 'key' | 'session' | 'surplus'
  readonly kicks_left: number
}

/** What came of a kick: whether a server with that id answered. */
export interface Kicked {
  readonly due: DueCut
  readonly answered: boolean
}

/** What the database knows of who was let in. All of it throws InfrastructureError when it is gone. */
export interface Admissions {
  readonly toCut: (limit: number) => Promise<readonly DueCut[]>
  readonly noteKicked: (kicked: readonly Kicked[]) => Promise<void>
  /** Forgets connections that have ended by themselves; says how many. */
  readonly prune: (limit: number) => Promise<number>
}

export const createAdmissions = (pool: Pool): Admissions => ({
  toCut: (limit) => call<DueCut & Record<string, unknown>>(pool, 'devices.fn_admissions_to_cut', [limit]),
  noteKicked: async (kicked) => {
    await call(pool, 'devices.fn_admissions_kicked', [
      kicked.map(({ due }) => due.id),
      kicked.map(({ due }) => due.kicks_left),
      kicked.map(({ answered }) => answered),
    ])
  },
  prune: async (limit) => {
    const [row] = await call<{ fn_admissions_prune: number }>(pool, 'devices.fn_admissions_prune', [limit])
    return row?.fn_admissions_prune ?? 0
  },
})
