/** A requirement of the specification, by its id. */
export interface Requirement {
  readonly id: string
  readonly section: string
  readonly requirement: string
  readonly acceptance: string
}

export interface TitledTest {
  readonly file: string
  readonly title: string
}

export interface RequirementState {
  readonly id: string
  readonly requirement: string
  readonly state: 'tested' | 'open'
  readonly tests: readonly TitledTest[]
}

const titlePattern = /\btest(?:\.[a-z]+)*\(\s*(['"`])((?:\\.|(?!\1).)*)\1/g
const idsPattern = /^((?:[A-Z]{2}-\d+(?:,? |, |: ?))+)/

/** The titles of the tests in a source text; a skipped test counts for nothing. */
export const titlesOf = (source: string): string[] =>
  [...source.matchAll(titlePattern)]
    .filter(([call]) => !/^test\.(?:skip|todo|failing)/.test(call))
    .map(([, , title]) => (title as string).replaceAll(/\\(['"`])/g, '$1'))

/** The requirement ids that a title begins with: `RP-1: …`, `DA-1 DA-2: …`. */
export const idsOf = (title: string): string[] => idsPattern.exec(title)?.[1]?.match(/[A-Z]{2}-\d+/g) ?? []

/**
 * Which requirement has which tests.
 * @throws Error if a title names an id that is none.
 */
export const requirementStates = (
  requirements: readonly Requirement[],
  sources: readonly { file: string; text: string }[],
): RequirementState[] => {
  const byId = new Map<string, TitledTest[]>(requirements.map(({ id }) => [id, []]))
  for (const { file, text } of sources) {
    for (const title of titlesOf(text)) {
      for (const id of idsOf(title)) {
        const tests = byId.get(id)
        if (tests === undefined) throw new Error(`${file}: "${title}" names ${id}, which is no requirement`)
        tests.push({ file, title })
      }
    }
  }
  return requirements.map(({ id, requirement }) => {
    const tests = byId.get(id) ?? []
    return { id, requirement, state: tests.length > 0 ? 'tested' : 'open', tests }
  })
}
