const namePattern = /^[a-z0-9][a-z0-9-]{0,127}$/

/** @throws TypeError where it could leave the folder, or is no name that every backend takes */
export const checkKeyName = (name: string): void => {
  if (!namePattern.test(name)) throw new TypeError('a key’s name is lower-case letters, digits and hyphens')
}
