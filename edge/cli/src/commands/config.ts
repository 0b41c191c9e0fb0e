import { join } from 'node:path'
import { CodedError } from '@lenserfight/schemas'
import { Check } from '@lenserfight/schemas/typebox'
import { type Context, secretWarning } from '../context.ts'
import { plain } from '../output.ts'
import { runnerNamed } from '../owner/runner-named.ts'
import { ProjectConfig, saveProjectConfig } from '../project/config.ts'
import { parseProjectFile, projectFileName, projectFolders, readProjectText } from '../project/file.ts'
import type { ProjectMember } from '../project/members.ts'
import { holdsSecret } from '../project/secrets.ts'

/** `lf config list`. */
export const listConfig = (context: Context): void => {
  const { file, config, secrets } = context.project()
  const lines = Object.entries(config).map(([name, value]) => plain(`${name}=${value}`))
  const where = file === undefined ? `No ${projectFileName} here or above.` : plain(file)
  context.output.result({ ok: true, file: file ?? null, config, secrets }, [where, ...lines])
}

/** `lf config get NAME`. */
export const getConfig = (context: Context, name: ProjectMember): void => {
  const value = context.project().config[name]
  context.output.result({ ok: true, name, value: value ?? null }, value === undefined ? [] : [plain(value)])
}

/**
 * `lf config set NAME VALUE` and `unset NAME`: in the nearest file, else in a new one at the project's root. A runner may be named
 * as `lf run --runner` has it; its id is kept.
 * @throws CodedError `secret_in_config` where the value is like a secret, `config_invalid`, `state_unwritable`
 */
export const setConfig = async (context: Context, name: ProjectMember, given: string | undefined): Promise<void> => {
  const found = context.project().file
  if (found === undefined && given === undefined) {
    context.output.result({ ok: true, file: null, name, value: null, stripped: [] }, [`${name} was not set.`])
    return
  }
  const file = found ?? join(projectFolders(context.config).at(-1) as string, projectFileName)
  // Before anybody is asked: a secret goes nowhere.
  if (given !== undefined && holdsSecret(given)) throw new CodedError('secret_in_config', `${name} is not set`)
  const value = name === 'runner' && given !== undefined ? await runnerNamed(context, given) : given
  const { [name]: _, ...others } = found === undefined ? {} : parseProjectFile(file, readProjectText(file))
  const config = value === undefined ? others : { ...others, [name]: value }
  if (value !== undefined && !Check(ProjectConfig, { [name]: value })) {
    throw new CodedError('config_invalid', 'gateway is a file’s path, runner an id')
  }
  const stripped = saveProjectConfig(file, config)
  for (const member of stripped) context.output.note(`${secretWarning(file, member)} It was taken out.`)
  context.output.result({ ok: true, file, name, value: value ?? null, stripped }, [
    `${value === undefined ? 'Taken out of' : 'Kept in'} ${plain(file)}.`,
  ])
}
