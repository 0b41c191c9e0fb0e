// Files that mostly wait begin first, so that the run does not end by waiting for them alone; then the other long ones.
const waiting = ['verifiers-away', 'kill-workers', 'database-away', 'broker-lost', 'malformed', 'stack.int']
const long = [
  'tests/anticheat',
  'tests/sessions',
  'tests/enrolment',
  'tests/e2e',
  'tests/sync',
  'tests/load',
  'deploy/local',
  'broker-auth/test',
]
const first = [...waiting, ...long]
const rank = (file) => {
  const place = first.findIndex((name) => file.includes(name))
  return place < 0 ? first.length : place
}

export default {
  files: ['schemas', 'packages', 'services', 'edge', 'deploy', 'tests'].map((folder) => `${folder}/**/*.test.ts`),
  extensions: ['ts'],
  workerThreads: false,
  timeout: '120s',
  concurrency: 3,
  sortTestFiles: (a, b) => rank(a) - rank(b) || (a < b ? -1 : 1),
}
