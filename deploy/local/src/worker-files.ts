import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { encodeKey } from '@lenserfight/envelope'
import type { ServiceName } from '@lenserfight/schemas'
import { createUser } from '@nats-io/nkeys'
import type { GatewayKeys } from './gateway-keys.ts'
import { type PgConnection, rolePassword } from './postgres-connection.ts'

/** The login role of each service that has one; the provisioner needs no database. */
export const roleOf: Partial<Record<ServiceName, string>> = {
  'broker-auth': 'ltg_broker_auth',
  registrar: 'ltg_registrar',
  verifier: 'ltg_verifier',
  'trust-evaluator': 'ltg_trust_evaluator',
  'sync-applier': 'ltg_sync_applier',
  'audit-chain': 'ltg_audit_chain',
}

/** Services that hear and say nothing on the bus. */
const offBus: readonly ServiceName[] = ['audit-chain']

/** What a worker's configuration is made of. */
export interface WorkerWorld {
  /** 0700; configurations, secrets and health files go below it. */
  readonly dir: string
  readonly gatewayId: string
  readonly natsUrl: string
  /** As superuser of the gateway's database. */
  readonly owner: PgConnection
  readonly keys: GatewayKeys
  readonly keysFile: string
  readonly issuer: { readonly url: string }
  readonly logLevel: string
  /** Further members of one service's configuration. */
  readonly extra: Partial<Record<ServiceName, Record<string, unknown>>>
}

/** An NKey for a worker's connection: the broker's configuration names the public half. */
export interface BusUser {
  readonly publicKey: string
  readonly seed: string
}

export const makeBusUser = (): BusUser => {
  const pair = createUser()
  return { publicKey: pair.getPublicKey(), seed: new TextDecoder().decode(pair.getSeed()) }
}

/** Writes a secret that one process reads, 0600, and returns its path. */
export const writeSecret = (dir: string, name: string, secret: string): string => {
  const folder = join(dir, 'secrets')
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const file = join(folder, name)
  writeFileSync(file, `${secret}\n`, { mode: 0o600 })
  return file
}

/** Where a replica says on which port its health is served. */
export const healthFileOf = (dir: string, name: string): string => join(dir, 'health', `${name}.json`)

/**
 * Writes the configuration of one replica and the secrets that it names.
 * @returns the configuration's path
 */
export function writeWorkerConfig(world: WorkerWorld, service: ServiceName, name: string, user: BusUser): string {
  const { dir, owner, keys } = world
  const role = roleOf[service]
  const signing = keys.services.get(service)
  const seedFile = writeSecret(dir, `${service}.nkey`, user.seed)
  const config = {
    service,
    replica: name,
    gateway_id: world.gatewayId,
    log_level: world.logLevel,
    health: { port: 0, file: healthFileOf(dir, name) },
    ...(offBus.includes(service) ? {} : { nats: { servers: [world.natsUrl], seed_file: seedFile } }),
    ...(role === undefined
      ? {}
      : {
          pg: {
            host: owner.host,
            port: owner.port,
            database: owner.database,
            user: role,
            password_file: writeSecret(dir, `${service}.password`, rolePassword(owner, role)),
            max: 4,
          },
        }),
    ...(signing === undefined
      ? {}
      : {
          signing: {
            seed_file: writeSecret(dir, `${service}.seed`, encodeKey(signing.key)),
            kid: signing.kid,
            uses: signing.uses,
          },
        }),
    ...(service === 'registrar'
      ? {
          keys_file: world.keysFile,
          issuers: [
            {
              issuer: world.issuer.url,
              jwks_url: `${world.issuer.url}/.well-known/jwks.json`,
              audience: world.gatewayId,
              binding: 'nonce',
            },
          ],
        }
      : {}),
    ...world.extra[service],
  }
  const folder = join(dir, 'config')
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  mkdirSync(join(dir, 'health'), { recursive: true, mode: 0o700 })
  const file = join(folder, `${name}.json`)
  writeFileSync(file, `${JSON.stringify(config, null, 2)}\n`, { mode: 0o600 })
  return file
}
