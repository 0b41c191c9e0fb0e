import { dirname, resolve } from 'node:path'
import { CodedError, Uuid } from '@lenserfight/schemas'
import Type, { Check, type Static } from '@lenserfight/schemas/typebox'
import { type Place, parseProjectFile, projectFiles, readProjectText, writeProjectFile } from './file.ts'
import { holdsSecretSomewhere, sift } from './secrets.ts'

/** The members that `lf` reads. Others are somebody else's and stay as they are, secrets apart. */
export const ProjectConfig = Type.Object({
  /** The gateway's descriptor (a file, from the folder of this one) where the machine has none and none is named. */
  gateway: Type.Optional(Type.String({ minLength: 1, maxLength: 4096 })),
  /** The runner that `lf run` runs as where it is told of none. */
  runner: Type.Optional(Uuid),
})
export type ProjectConfig = Static<typeof ProjectConfig>

/** A project's configuration as it was found. */
export interface Project {
  /** The nearest file; undefined where there is none. */
  readonly file: string | undefined
  readonly config: ProjectConfig
  /** Members that hold a secret (CO-1): names, never values. */
  readonly secrets: readonly string[]
}

/**
 * The nearest project's configuration. What is secret in it is never taken up.
 * @throws CodedError `config_invalid`, `insecure_permissions`
 */
export const readProject = (place: Place): Project => {
  const [file] = projectFiles(place)
  if (file === undefined) return { file, config: {}, secrets: [] }
  const { value, secrets } = sift(parseProjectFile(file, readProjectText(file)))
  if (!Check(ProjectConfig, value)) {
    throw new CodedError('config_invalid', `${file}: gateway is a file’s path, runner an id`)
  }
  const { gateway, runner } = value
  const config = {
    ...(gateway === undefined ? {} : { gateway: resolve(dirname(file), gateway) }),
    ...(runner === undefined ? {} : { runner }),
  }
  return { file, config, secrets }
}

/**
 * Keeps a project's configuration, without whatever in it is like a secret (CO-1, SH-2).
 * @returns the names of the members that were left out
 * @throws CodedError `state_unwritable`
 */
export const saveProjectConfig = (file: string, config: Readonly<Record<string, unknown>>): readonly string[] => {
  const { value, secrets } = sift(config)
  writeProjectFile(file, value as object)
  return secrets
}

/** A secret in a project's file. */
export interface ProjectSecret {
  readonly file: string
  /** The member's name; the value is nobody's to tell. */
  readonly member: string
}

const secretsOf = (file: string): readonly string[] => {
  const text = readProjectText(file)
  let content: unknown
  try {
    content = parseProjectFile(file, text)
  } catch {
    // A comma too many hides nothing.
    return holdsSecretSomewhere(text) ? ['(not JSON)'] : []
  }
  return sift(content).secrets
}

/**
 * Every secret in the project's files from a folder upwards, for the doctor.
 * @throws CodedError `insecure_permissions`, `config_invalid` where one cannot be looked into
 */
export const findProjectSecrets = (place: Place): ProjectSecret[] =>
  projectFiles(place).flatMap((file) => secretsOf(file).map((member) => ({ file, member })))
