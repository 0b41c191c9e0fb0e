import { limits, type ServiceName, serviceNames } from '@lenserfight/schemas'
import test from 'ava'
import { brokerConfig } from '../src/index.ts'

const config = brokerConfig({
  workers: Object.fromEntries(serviceNames.map((name) => [name, `U${name}`])) as Record<ServiceName, string>,
  system: 'USYSTEM',
  calloutIssuer: 'ACALLOUT',
  callout: true,
})

test('edges, a revoked device’s a thousand times over among them, never take the workers’ connections', (t) => {
  const [, all = ''] = /^max_connections: (\d+)$/m.exec(config) ?? []
  const [, edges = ''] = /^ {2}EDGE: \{\n(?: {4}#.*\n)* {4}limits: \{.*\bmax_connections: (\d+) \}/m.exec(config) ?? []
  t.is(Number(all), limits.brokerConnections)
  t.is(Number(all) - Number(edges), limits.workerConnections)
})

test('what the broker logs has an end, however often it is made to', (t) => {
  const [, bytes = ''] = /^logfile_size_limit: (\d+)$/m.exec(config) ?? []
  const [, files = ''] = /^logfile_max_num: (\d+)$/m.exec(config) ?? []
  t.is(Number(bytes) * Number(files), 256 * 1024 * 1024)
})
