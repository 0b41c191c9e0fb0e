import manifest from '../package.json' with { type: 'json' }

/** What heartbeats and `status` say (DH-2). */
export const daemonVersion: string = manifest.version
