/** What an edge does after a refusal (protocol.md, Receipts and operations). */
export const nextSteps = ['stop', 'resign', 'wait'] as const
export type NextStep = (typeof nextSteps)[number]

/** Exit codes of `lf` (spec: CLI). */
export const exitCodes = { done: 0, failure: 1, signIn: 2, doctor: 3, daemon: 4, trust: 5 } as const

interface Reason {
  /** `stop` ends an operation, `resign` signs and sends it again, `wait` does so when the state may have changed. */
  readonly next: NextStep
  /** A sentence for people, ending with what to do. */
  readonly message: string
  /** The exit code of `lf`; 1 where absent. */
  readonly exit?: 1 | 2 | 3 | 4 | 5
}

/**
 * Every reason that anything here gives for a refusal. Codes are API: they are never renamed.
 * `stop` only where the code follows from the bytes alone, or where the envelope was claimed.
 */
export const reasons = {
  malformed_envelope: {
    next: 'stop',
    message: 'The message is not a signed envelope. Update the program that sent it.',
  },
  not_canonical: {
    next: 'stop',
    message: 'The envelope is not in canonical form (RFC 8785). Update the program that sent it.',
  },
  unsupported_version: {
    next: 'stop',
    message: 'The envelope has a version that this gateway does not know. Update this machine’s gateway programs.',
  },
  unsupported_algorithm: { next: 'stop', message: 'The envelope names a signature algorithm other than ed25519.' },
  kid_mismatch: {
    next: 'resign',
    message:
      'The envelope’s key id is not the one this connection was admitted for. Restart the daemon so that it connects anew.',
  },
  kind_mismatch: { next: 'resign', message: 'The envelope’s kind is not the subject’s kind.' },
  audience_mismatch: {
    next: 'stop',
    message: 'The envelope was signed for another gateway. Check which gateway this machine is enrolled with.',
  },
  unsupported_kind: { next: 'stop', message: 'This gateway has no use for that kind of message.' },
  malformed_body: {
    next: 'stop',
    message:
      'The envelope’s body does not have the form that its kind requires. Correct what is named, or update the program.',
  },
  unknown_device: {
    next: 'wait',
    message: 'The gateway does not know this key id. Enrol the machine with `lf gateway identity init`.',
    exit: 5,
  },
  signature_mismatch: {
    next: 'resign',
    message:
      'The signature does not verify against the registered key. If this persists: `lf gateway identity reprove` there.',
    exit: 5,
  },
  iat_window: {
    next: 'resign',
    message: 'The envelope’s time is over 300 s from the gateway’s. Set this machine’s clock.',
  },
  nonce_replay: {
    next: 'resign',
    message: 'An envelope with this nonce was accepted before. It is signed anew with a fresh nonce.',
  },
  device_pending: {
    next: 'wait',
    message:
      'The device awaits its owner’s approval: `lf gateway approve-device NAME`; `lf gateway devices --pending` names it.',
    exit: 5,
  },
  device_unhealthy: {
    next: 'wait',
    message:
      'The device is suspended or unhealthy. Its owner sees why with `lf gateway devices`, and ends it with `lf gateway reinstate-device`.',
    exit: 5,
  },
  device_revoked: {
    next: 'stop',
    message:
      'The device was revoked by its owner, for ever. Enrol the machine under a new identity: `lf gateway identity init`.',
    exit: 5,
  },
  device_blocked: { next: 'wait', message: 'The device was blocked by the platform. Contact its operators.', exit: 5 },
  key_expired: {
    next: 'wait',
    message: 'The device’s key is past its end. Its daemon rotates it, or `lf gateway identity rotate` there.',
    exit: 5,
  },
  key_reused: { next: 'stop', message: 'The new key was this device’s before. Rotate again: a fresh one is made.' },
  device_key_changed: {
    next: 'stop',
    message: 'The device’s key was replaced since you were shown it. Look at it again with `lf gateway devices`.',
  },
  proof_mismatch: {
    next: 'stop',
    message: 'The new key did not prove itself over the change. Update this machine’s gateway programs.',
  },
  identity_forked: {
    next: 'wait',
    message: 'Two machines sign with this device’s key. On the rightful one: `lf gateway identity reprove`.',
    exit: 5,
  },
  claim_expired: {
    next: 'resign',
    message: 'The verification of this envelope is no longer on record. It is signed anew.',
  },
  op_id_conflict: { next: 'stop', message: 'Another operation with this id and other content was committed before.' },
  op_expired: { next: 'stop', message: 'The operation is older than 89 days and cannot be told from a repeated one.' },
  rate_limited: { next: 'wait', message: 'Too many requests. Wait a moment and try again.' },
  internal_error: {
    next: 'wait',
    message: 'The gateway failed on this message and put it aside. Give the incident id to its operators.',
  },
  unavailable: {
    next: 'wait',
    message: 'The gateway cannot reach its database just now. Nothing is lost; it is tried again.',
  },

  unknown_run: { next: 'stop', message: 'There is no such run.' },
  run_not_owned: { next: 'stop', message: 'The run belongs to another account or another device.' },
  already_attested: { next: 'stop', message: 'The run has an attestation with other content already.' },
  policy_denied: {
    next: 'stop',
    message:
      'The account’s policy does not allow this run. `lf gateway policy test` says why, and what its owner can do.',
    exit: 5,
  },
  approval_required: {
    next: 'wait',
    message:
      'The run needs its owner’s approval, and nothing has run. Start it anew and have it approved, with `lf gateway approvals`, while it waits.',
    exit: 5,
  },
  approval_denied: {
    next: 'stop',
    message:
      'The owner did not approve the run. Nothing has run. `lf gateway approvals` shows why; start it anew if that changes.',
    exit: 5,
  },
  approval_expired: {
    next: 'stop',
    message: 'Nobody approved the run in time. Nothing has run. Start it anew and have it approved.',
    exit: 5,
  },
  approval_not_pending: {
    next: 'stop',
    message:
      'No approval of that run is awaited: it was decided, its time is over, or it never awaited one. `lf gateway approvals` lists those that are.',
  },
  run_withdrawn: {
    next: 'stop',
    message: 'Whoever asked for the run took it back before it began. Nothing of it runs any more; start it anew.',
    exit: 5,
  },
  permit_expired: {
    next: 'stop',
    message: 'The run’s permit ended and was not renewed in time. Start it anew.',
    exit: 5,
  },
  permit_withdrawn: {
    next: 'stop',
    message: 'The policy no longer allows the run. It is to be ended; `lf gateway explain` says why.',
    exit: 5,
  },
  run_ended: { next: 'stop', message: 'The run has ended: it was attested. Start another.' },
  renewal_limit: {
    next: 'stop',
    message:
      'The run’s permit was renewed as often as one run’s may be. The run is to be ended, and attested; start another.',
    exit: 5,
  },
  run_limit: { next: 'wait', message: 'This device has as many runs under way as it may. Wait until one ends.' },
  tool_denied: {
    next: 'stop',
    message:
      'The account’s policy does not allow that tool. It must not be used: `lf gateway policy show` lists those that are denied.',
    exit: 5,
  },
  tool_out_of_order: {
    next: 'stop',
    message: 'That place in the run’s tool log is taken by another invocation. Entries count from 1, each once.',
  },
  runner_device_unfit: {
    next: 'stop',
    message:
      'The runner’s device is revoked, blocked or unhealthy. Bind it to another with `lf gateway runners bind`, and start anew.',
    exit: 5,
  },
  nothing_to_explain: {
    next: 'stop',
    message:
      'This account has no run, submission or device with that id. `lf gateway runs` lists its runs, `lf gateway devices` its devices.',
  },
  unknown_operation: {
    next: 'stop',
    message: 'This machine has no such operation, or forgot it. `lf run` says the id of one that is still on its way.',
  },
  unknown_runner: {
    next: 'stop',
    message: 'This account has no such runner. `lf gateway runners` lists yours, with their ids.',
  },
  unknown_contender: {
    next: 'stop',
    message: 'This account has no such contender. Its id is the platform’s: look there under your battles.',
  },
  unknown_submission: {
    next: 'stop',
    message: 'This account has no such submission. Its id is the platform’s: look there under your battles.',
  },
  unknown_version: {
    next: 'stop',
    message: 'This account has no such lens version. Its id is the platform’s: look there under your lenses.',
  },
  submission_taken: { next: 'stop', message: 'The submission is linked to another run already.' },

  unknown_class: {
    next: 'stop',
    message: 'There is no such class of object. `lf gateway objects list` names those that there are.',
  },
  cloud_authoritative: {
    next: 'stop',
    message: 'The gateway alone decides objects of that class: machines read them. Nothing was changed.',
  },
  local_only_class: {
    next: 'stop',
    message: 'Objects of that class never leave the machine that made them: none of them is kept here or sent.',
  },
  object_too_large: {
    next: 'stop',
    message: 'The object would be larger than one may be. Shorten it, or make two of it.',
  },
  invalid_object: {
    next: 'stop',
    message: 'The object does not have the form that its class requires. Correct what is named here.',
  },
  object_limit: {
    next: 'stop',
    message: 'This account has as many objects as it may. Delete some that are not needed.',
  },
  object_not_found: { next: 'stop', message: 'There is no such object here. `lf gateway objects list` lists them.' },
  clock_reused: {
    next: 'stop',
    message:
      'Another edit came before under this one’s number: this machine was restored from a copy. It is edited again as a new writer.',
  },
  clock_ahead: {
    next: 'stop',
    message:
      'The edit rests on edits that the gateway does not have. The machine reads everything anew and edits it again.',
  },
  out_of_order: { next: 'wait', message: 'An earlier edit of that object has not arrived yet. This one waits for it.' },
  not_leader: {
    next: 'wait',
    message: 'Another machine of this account writes objects of that class just now. This one waits for its turn.',
  },
  cursor_ahead: {
    next: 'stop',
    message: 'The machine asked for changes after some that it was never given. It reads everything anew.',
  },
  resync_required: {
    next: 'stop',
    message: 'What this machine missed is no longer kept as single changes. It reads everything anew.',
  },
  sync_diverged: {
    next: 'wait',
    message:
      'Objects here differ from the gateway’s although all was pulled. The machine reads them anew within the hour; if this persists, give `lf gateway sync status --json` to its operators.',
  },
  unknown_conflict: {
    next: 'stop',
    message: 'This account has no such conflict. `lf gateway sync status --conflicts` lists those that are open.',
  },
  conflict_changed: {
    next: 'stop',
    message:
      'A side of the conflict was edited since you saw it. Look again with `lf gateway sync status --conflicts`, then resolve it.',
  },
  conflict_closed: {
    next: 'stop',
    message: 'The conflict is resolved already, or went away by an edit of both sides.',
  },
  unknown_resolution: {
    next: 'stop',
    message:
      'This account has no such resolution to take back. `lf gateway sync resolve` said its id when it was made.',
  },

  device_name_taken: {
    next: 'stop',
    message: 'Another device of this account has that name. Choose another with --name.',
  },
  device_limit: { next: 'stop', message: 'This account has as many devices as it may. Revoke one first.' },
  change_limit: {
    next: 'wait',
    message: 'That account or device was changed too often of late. Try again after the time that it says.',
  },
  device_not_found: { next: 'stop', message: 'There is no such device. `lf gateway devices` lists yours.' },
  awaiting_device_challenge: {
    next: 'wait',
    message: 'The device has not answered its challenge yet. Run `lf gateway serve` there, then approve again.',
    exit: 5,
  },
  challenge_mismatch: { next: 'stop', message: 'The challenge answered is not the one that this device was given.' },
  challenge_expired: {
    next: 'stop',
    message: 'The challenge expired. Register the device again: `lf gateway identity init`.',
  },
  not_owner: {
    next: 'stop',
    message: 'That belongs to another account. Sign in as its owner with `lf login`.',
    exit: 5,
  },
  invalid_transition: {
    next: 'stop',
    message: 'A device in that state cannot be brought into the one asked for.',
    exit: 5,
  },
  reprove_needed: {
    next: 'stop',
    message: 'Its key is known to two machines. On the rightful one: `lf gateway identity reprove`.',
    exit: 5,
  },
  not_permitted: { next: 'stop', message: 'An API key may not do this. Sign in with `lf login`.', exit: 2 },
  session_not_found: { next: 'stop', message: 'This account has no such session. `lf sessions` lists them.' },
  api_key_name_taken: { next: 'stop', message: 'Another API key of this account has that name. Choose another.' },
  api_key_limit: { next: 'stop', message: 'This account has as many API keys as it may. Revoke one first.' },
  unknown_session: {
    next: 'stop',
    message: 'The gateway does not know this session. Sign in with `lf login`.',
    exit: 2,
  },
  session_expired: {
    next: 'stop',
    message: 'The session has ended or was revoked. Sign in again with `lf login`.',
    exit: 2,
  },
  token_invalid: {
    next: 'stop',
    message: 'The sign-in token was not accepted. Sign in again with `lf login`.',
    exit: 2,
  },
  token_not_bound: {
    next: 'stop',
    message: 'The sign-in token is another session key’s. Get one of your own, and sign in again with `lf login`.',
    exit: 2,
  },

  not_signed_in: { next: 'stop', message: 'Nobody is signed in on this machine. Run `lf login`.', exit: 2 },
  profile_busy: {
    next: 'wait',
    message: 'Another lf on this machine is signing in or out. Wait until it has ended, and try again.',
  },
  not_enrolled: { next: 'stop', message: 'This machine is not enrolled. Run `lf gateway identity init`.', exit: 5 },
  already_enrolled: { next: 'stop', message: 'This machine is enrolled already. `lf gateway status` shows it.' },
  daemon_unreachable: {
    next: 'wait',
    message: 'The gateway daemon does not answer. Start it with `lf gateway serve`.',
    exit: 4,
  },
  daemon_running: { next: 'stop', message: 'Another gateway daemon uses this state folder. Stop it first.' },
  gateway_unreachable: {
    next: 'wait',
    message: 'The gateway does not answer. Check the network and the address in its descriptor.',
  },
  connection_refused: {
    next: 'wait',
    message: 'The broker did not admit this key. Enrol this machine or sign in again.',
    exit: 5,
  },
  descriptor_missing: { next: 'stop', message: 'No gateway is configured. Give its descriptor with --gateway FILE.' },
  descriptor_invalid: {
    next: 'stop',
    message: 'The gateway’s descriptor is not one: it needs url, gateway_id and root_key.',
  },
  descriptor_changed: {
    next: 'stop',
    message: 'The descriptor names another gateway or root key than the one this machine pinned.',
  },
  signer_untrusted: {
    next: 'wait',
    message: 'A message in the gateway’s name was not signed by a key of the gateway for that use. It was ignored.',
  },
  answer_timeout: {
    next: 'wait',
    message: 'The gateway did not answer in time. The request may be sent again; it takes effect once.',
  },
  keychain_unavailable: {
    next: 'stop',
    message: 'No OS keychain is usable here. For CI alone, LF_GATEWAY_KEY_FILE_FALLBACK=1 keeps keys in a file.',
  },
  keychain_locked: {
    next: 'stop',
    message:
      'The OS keychain is locked. Unlock it (sign in to the desktop, or unlock its login keyring) and try again.',
  },
  keychain_refused: {
    next: 'stop',
    message: 'The OS keychain refused the key. Allow this program to use it when you are asked, and try again.',
  },
  key_missing: {
    next: 'stop',
    message:
      'The private key of this identity is not in the keychain. As its owner, make it another: `lf gateway identity reprove`.',
  },
  insecure_permissions: {
    next: 'stop',
    message: 'A state file or folder is readable by others. Set folders to 0700 and files to 0600.',
  },
  service_role_in_daemon: {
    next: 'stop',
    message:
      'A service_role credential was found in the environment or configuration. Remove it: it must never be on this machine.',
  },
  secret_in_config: {
    next: 'stop',
    message:
      'A project file holds a secret. Remove it there and replace it where it came from: others may have read it.',
  },
  secret_in_object: {
    next: 'stop',
    message:
      'That is like a secret, and every machine of the account reads it: nothing was changed. Keep it where programs look for secrets; a hash is told from a key by sha256: before it.',
  },
  secret_in_environment: {
    next: 'stop',
    message: 'The environment holds a private key. Remove it: keys belong in the OS keychain.',
  },
  api_key_invalid: {
    next: 'stop',
    message: 'LENSERFIGHT_API_KEY is no API key. Make one with `lf api-keys create NAME`.',
    exit: 2,
  },
  clock_skew: {
    next: 'wait',
    message: 'This machine’s clock is over 300 s from the gateway’s. Set it (timedatectl set-ntp true), and try again.',
  },
  public_bind_forbidden: {
    next: 'stop',
    message: 'The daemon listens on loopback addresses alone. Give --bind 127.0.0.1 or --bind ::1.',
  },
  port_in_use: { next: 'stop', message: 'Another program listens on that port. Choose another with --port.' },
  workspace_paused: {
    next: 'wait',
    message:
      'The account’s runners are paused (runner_paused). Its owner lifts that with `lf gateway policy set --lenser-paused off`.',
    exit: 5,
  },
  outbox_full: {
    next: 'wait',
    message: 'The outbox holds as many operations as it may. Wait until the gateway can be reached again.',
  },
  state_unwritable: {
    next: 'stop',
    message: 'The state folder cannot be written. Check the disk’s space and permissions.',
  },
  input_unreadable: { next: 'stop', message: 'A named input file cannot be read. Check its name and permissions.' },
  command_not_found: { next: 'stop', message: 'The command was not found. Check its name and PATH.' },
  command_not_executable: { next: 'stop', message: 'The command is not an executable file. Check its permissions.' },
  config_invalid: {
    next: 'stop',
    message: 'The configuration is not valid. Correct what is named here, and try again.',
  },
  usage: { next: 'stop', message: 'The command cannot be run as it was given. See --help.' },
} as const satisfies Record<string, Reason>

export type ReasonCode = keyof typeof reasons
export const reasonCodes = Object.keys(reasons) as readonly ReasonCode[]

/** Whether a value is a registered reason code. */
export const isReasonCode = (value: unknown): value is ReasonCode =>
  typeof value === 'string' && Object.hasOwn(reasons, value)

/** What is known of a code: what the edge does next, the sentence for people, the exit code. */
export const reasonOf = (code: ReasonCode): Reason => reasons[code]

/** An error that carries a registered reason code. Everything thrown on purpose here is one. */
export class CodedError extends Error {
  override readonly name: string = 'CodedError'
  readonly code: ReasonCode
  /** What was wrong in this case, without secrets and without bodies. */
  readonly detail: string | undefined
  constructor(code: ReasonCode, detail?: string, options?: ErrorOptions) {
    super(detail === undefined ? reasons[code].message : `${reasons[code].message} (${detail})`, options)
    this.code = code
    this.detail = detail
  }
}
