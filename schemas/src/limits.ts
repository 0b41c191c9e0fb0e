/**
 * Every size, depth, window and count that processes agree on (protocol.md, Limits).
 * Bytes are UTF-8 bytes, times are named by their unit. SQL's copies are held to these by a test.
 */
export const limits = {
  /** Largest envelope on the wire. */
  envelopeBytes: 256 * 1024,
  /** Deepest nesting of an envelope; the envelope itself is depth 1. */
  envelopeDepth: 32,
  /** Largest `connect` envelope: the broker's CONNECT line ends at 4,096 bytes. */
  connectBytes: 2 * 1024,
  /** Largest message a device may send: the envelope and some room for the broker's own framing. */
  userPayloadBytes: 264 * 1024,
  /** RP-1: |iat − store time| at most, in seconds. */
  iatWindowSeconds: 300,
  /** A message stored longer ago than this is refused: its claim may be gone. */
  storeLagSeconds: 15 * 60,
  /** A store time further ahead of the database than this is a broken clock: hold, not ready. */
  storeLeadSeconds: 5,
  /** A claim is kept until iat + window + lag + this margin, which is past RP-2's 600 s. */
  claimMarginSeconds: 60,
  /** Messages of one subject that the ingress stream holds before the broker refuses more. */
  ingressPerSubject: 256,
  ingressBytes: 1024 * 1024 * 1024,
  verifiedBytes: 1024 * 1024 * 1024,
  deadletterBytes: 256 * 1024 * 1024,
  streamAgeSeconds: 15 * 60,
  deadletterAgeSeconds: 90 * 24 * 3600,
  /** One verified batch, framing included; an envelope larger than this travels alone. */
  verifiedBatchBytes: 512 * 1024,
  /** The broker's own message limit: a verified batch of one largest envelope fits. */
  brokerPayloadBytes: 1024 * 1024,
  /** Envelopes that an edge has sent and has no receipt for; halves on back-pressure. */
  inFlight: 256,
  ackWaitSeconds: 5,
  heartbeatSeconds: 30,
  /** RH-4: a heartbeat stored within this long before an attestation counts as fresh. */
  heartbeatFreshSeconds: 300,
  /** A failure on the heartbeat alone is judged once more after this long. */
  reevaluateSeconds: 60,
  /** PE-2: a permit holds this long from when the edge asked for it, unless it is renewed; the edge asks again after a third. */
  permitSeconds: 60,
  permitRenewSeconds: 20,
  /** By so much a claimed time, brought to the gateway's clock by the edge, may differ from it. */
  claimedTimeSlackSeconds: 5,
  /** A run awaits a person this long, where the policy says nothing else; and at most. */
  approvalSeconds: 600,
  approvalMaxSeconds: 24 * 3600,
  /** Runs that one device may have under way, and how many of them one request renews. */
  openRuns: 256,
  renewalsPerRequest: 64,
  /**
   * How often one run is renewed: its attestation is judged by each. At one each 20 s that is over 11 days, on a device that
   * starts runs all the time half of that; a day's wait for a person takes a third of it.
   */
  renewalsPerRun: 50_000,
  /** Runs that one answer lists. */
  runsPerAnswer: 500,
  /** What a device calls a run, where a person is asked. */
  runLabelChars: 120,
  /** Tools that an account's policy denies, and all of them as JSON: it travels with each run of a renewal. */
  deniedTools: 256,
  deniedToolsBytes: 2 * 1024,
  /** Runners that one heartbeat reports (RH-2). */
  runnersPerHeartbeat: 64,
  /** Heartbeats of one device and second that are kept: each of its attestations is judged by five minutes of them. */
  heartbeatsPerSecond: 8,
  /** Entries of one run's tool log. */
  toolInvocationsPerRun: 10_000,
  /** An XP job that failed so often is dead-lettered; the first retry comes after the floor, doubling to the ceiling. */
  xpAttempts: 8,
  xpRetryFloorSeconds: 5,
  xpRetryCeilingSeconds: 3600,
  /** An outbox holds at most this many operations that have no result yet. */
  outboxEntries: 10_000,
  resendFloorSeconds: 10,
  resendCeilingSeconds: 300,
  /** Operation results are kept this long; an op_id older than one day less is `op_expired`. */
  operationKeepDays: 90,
  operationMaxAgeDays: 89,
  /** An op_id dated further than this after its envelope's iat is `malformed_body`. */
  operationLeadSeconds: 300,
  /** A user JWT from the auth callout lives between these, with jitter. */
  userJwtMinSeconds: 30 * 60,
  userJwtMaxSeconds: 60 * 60,
  /** The connection of a session key that nobody vouched for yet: long enough to log in, too short to be hoarded. */
  loginConnectionSeconds: 120,
  /** Connections of one key, ended ones of the last hour included; the oldest is cut. A session's commands each have one. */
  connectionsPerDevice: 8,
  connectionsPerSession: 64,
  sessionSeconds: 30 * 24 * 3600,
  challengeSeconds: 24 * 3600,
  /** API keys of one account, and how long one may live. */
  apiKeysPerLenser: 50,
  apiKeyMaxDays: 365,
  /** A device's key is to be rotated by then; a device whose key is older may do what an unhealthy one may. */
  keyMaxAgeDays: 90,
  /** From so long before on, a daemon rotates by itself and people are told. */
  keyWarnDays: 14,
  /** Envelopes that the former key signed are good if the broker stored them at most so long after the rotation. */
  keyOverlapSeconds: 30,
  /**
   * A device rotates its key, and its owner vouches for another, each so often at most while what the keys before signed may still
   * be under way: a claim's life and the overlap.
   */
  keyChangesPerWindow: 8,
  /** Changes of one account, and by its owner of one device, within an hour; what restricts is not refused for it. */
  accountChangesPerHour: 600,
  /** What of it API keys may use up: the rest is for those who signed in. */
  apiKeyChangesPerHour: 500,
  deviceChangesPerHour: 30,
  /** Furthest away that an owner may put the end of a device's key. */
  rotationRequireSeconds: 30 * 24 * 3600,
  /** No envelope arrives later than this after another that was signed after it (twice RP-1's window, and a margin). */
  counterSettleSeconds: 660,
  /** Envelopes are kept this long as evidence against a clone. */
  counterKeepSeconds: 30 * 60,
  /** Trusted: heartbeats on so many days, and a verified attestation, of the last so many. */
  trustedHeartbeatDays: 7,
  trustedWindowDays: 30,
  /** DH-3. */
  offlineSeconds: 24 * 3600,
  devicesPerLenser: 100,
  /** Lenses of one account, as many workflows, and versions that one lens may have. */
  lensesPerLenser: 200,
  versionsPerLens: 1000,
  agentsPerLenser: 100,
  /** Contenders of one account in a battle, and what each may submit. */
  contendersPerBattle: 16,
  submissionsPerContender: 100,
  /** Named input and output files that one run may carry. */
  runFiles: 100,
  /** An object as it reads, and all that is stored of it: clocks, tombstones and writes beside each other included. */
  objectBytes: 64 * 1024,
  objectStateBytes: 208 * 1024,
  /** Paths of one object, and how deep the value at one may nest. */
  objectPaths: 500,
  objectDepth: 16,
  /** Writers that one object's clock may name, the gateway's own not counted; and writes beside each other at one path. */
  clockActors: 64,
  /** Of these, incarnations of one device: none keeps the others of its account out of an object. */
  incarnationsPerObject: 16,
  writesPerPath: 32,
  /** Objects of one account, dead ones included until they are purged. */
  objectsPerLenser: 20_000,
  /** A push closes at so many entries or bytes of them. */
  entriesPerPush: 100,
  pushBytes: 192 * 1024,
  /** Stored objects that one push has merged into, in bytes of them, one object at least; the rest waits for the next. */
  pushStateBytes: 4 * 1024 * 1024,
  /** An answer to a pull ends at so many rows or bytes of them, one row at least. */
  pullRows: 1000,
  pullBytes: 192 * 1024,
  /** Edits that one machine keeps and that have no result yet. */
  syncEntries: 50_000,
  /** Edits are gathered this long before they are flushed; and pulls come at least so often. */
  syncFlushSeconds: 5,
  syncPullSeconds: 10,
  /** A class that differs although all was pulled is read anew at most so often. */
  resyncSeconds: 3600,
  /** The server's log of edits is archived after so long; a device that pulled nothing for so long holds up no purge. */
  syncOutboxKeepDays: 30,
  tombstoneKeepDays: 90,
  /** Longest that one machine leads without asking again. */
  leaderSeconds: 30,
  /** Conflicts that one answer lists. */
  conflictsPerAnswer: 50,
  tokenBytes: 8 * 1024,
  /** By so much an issuer's clock and ours may differ. */
  tokenSkewSeconds: 60,
  /** Longest after its issue that a sign-in token counts, whatever its own end: where its issuer says nothing, and at most. */
  tokenLifeSeconds: 3600,
  tokenLifeMaxSeconds: 24 * 3600,
  /** A secret shared with an issuer; RFC 7518 §3.2. */
  tokenSecretBytes: 32,
  deviceNameChars: 64,
  /** Connections that the broker takes, and how many of them edges can never take from the workers. */
  brokerConnections: 65_536,
  workerConnections: 1024,
  /** First connects by unproven keys and receipts before a signature is proven: a second, each process. */
  unprovenPerSecond: 50,
} as const
