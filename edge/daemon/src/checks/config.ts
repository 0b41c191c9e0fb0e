import type { Verdict } from './types.ts'

/** Where something lies that must not lie there. Names alone, never values. */
export interface ConfigFacts {
  /** Members of project files that hold secrets (CO-1). */
  readonly projectSecrets: readonly { readonly file: string; readonly member: string }[]
  /** Variables that hold private keys (CO-5). */
  readonly environmentSecrets: readonly string[]
}

/** The configuration, once `readEdgeConfig` took it (SH-4): that no secret lies where others read. Pure. */
export const judgeConfig = ({ projectSecrets, environmentSecrets }: ConfigFacts): Verdict => {
  const data = { project: projectSecrets, environment: environmentSecrets }
  const [first] = projectSecrets
  if (first !== undefined) {
    const places = projectSecrets.map(({ file, member }) => `${member} in ${file}`)
    return { ok: false, code: 'secret_in_config', detail: places.join(', '), data }
  }
  if (environmentSecrets.length > 0) {
    return { ok: false, code: 'secret_in_environment', detail: environmentSecrets.join(', '), data }
  }
  return { ok: true, detail: 'no secret in the project’s file or the environment', data }
}
