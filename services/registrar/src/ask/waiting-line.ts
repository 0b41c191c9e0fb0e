/** Who asks for what, as far as its place rests on it. */
export interface Placed {
  readonly subject: { readonly kid: string; readonly kind: string }
}

export interface LineBounds {
  /** Requests worked on at once. */
  readonly at_once: number
  /** Requests that wait; more are turned away. */
  readonly waiting: number
  /** Requests of one key id that wait or are worked on: one asker cannot take the whole desk. */
  readonly per_kid: number
}

/** Requests that wait and those that are worked on, within bounds. */
export interface WaitingLine<Request extends Placed> {
  /** @returns whether there was a place; without one it is turned away */
  readonly enter: (request: Request) => boolean
  /** The next that may be worked on now; it is until it leaves. */
  readonly take: () => Request | undefined
  /** It is worked on no more. */
  readonly leave: (request: Request) => void
  readonly waiting: () => number
  /** Nothing waits and nothing is worked on. */
  readonly isEmpty: () => boolean
}

/** Kinds whose answer may take as long as a statement may: an account's whole chain is read. */
const slowKinds: ReadonlySet<string> = new Set(['audit_verify'])
const isSlow = ({ subject }: Placed): boolean => slowKinds.has(subject.kind)
/** So much of the desk and of its queue may be theirs: the rest, and its connections, are left to what is answered at once. */
const slowShare = 1 / 8
const slowOf = (bound: number): number => Math.max(1, Math.floor(bound * slowShare))

/** In the order in which they came, but for slow ones, which others pass by. */
export const createWaitingLine = <Request extends Placed>(bounds: LineBounds): WaitingLine<Request> => {
  const queue: Request[] = []
  const load = new Map<string, number>()
  let working = 0
  let slowWorking = 0
  let slowWaiting = 0

  return {
    enter: (request) => {
      const { kid } = request.subject
      const ofKid = load.get(kid) ?? 0
      const isSlowOver = isSlow(request) && slowWaiting >= slowOf(bounds.waiting)
      if (queue.length >= bounds.waiting || ofKid >= bounds.per_kid || isSlowOver) return false
      load.set(kid, ofKid + 1)
      if (isSlow(request)) slowWaiting += 1
      queue.push(request)
      return true
    },
    take: () => {
      if (working >= bounds.at_once) return undefined
      const index = queue.findIndex((request) => !isSlow(request) || slowWorking < slowOf(bounds.at_once))
      const [request] = index === -1 ? [] : queue.splice(index, 1)
      if (request === undefined) return undefined
      working += 1
      if (isSlow(request)) {
        slowWaiting -= 1
        slowWorking += 1
      }
      return request
    },
    leave: (request) => {
      const { kid } = request.subject
      working -= 1
      if (isSlow(request)) slowWorking -= 1
      const left = (load.get(kid) ?? 1) - 1
      if (left === 0) load.delete(kid)
      else load.set(kid, left)
    },
    waiting: () => queue.length,
    isEmpty: () => working === 0 && queue.length === 0,
  }
}
