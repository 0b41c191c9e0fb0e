/** The members of a project's file that `lf` reads. Apart from their schema, which help has no need to load. */
export const projectMembers = ['gateway', 'runner'] as const
export type ProjectMember = (typeof projectMembers)[number]
