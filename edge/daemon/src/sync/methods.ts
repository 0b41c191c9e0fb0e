import type { Methods } from '../socket/server.ts'
import type { Objects } from './objects.ts'

type ObjectMethod = Extract<keyof Methods, `objects.${string}`>

/** What the socket's methods about objects do: none of them needs the gateway. */
export const createObjectMethods = (objects: Objects): Pick<Methods, ObjectMethod> => ({
  'objects.set': async ({ paths, ...name }) => objects.set(name, paths),
  'objects.delete': async (name) => objects.delete(name),
  'objects.undelete': async (name) => objects.undelete(name),
  'objects.discard': async (name) => objects.discard(name),
  'objects.get': async (name) => objects.get(name),
  'objects.list': async (which) => objects.list(which),
})
