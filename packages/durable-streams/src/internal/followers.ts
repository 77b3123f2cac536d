/**
 * The readers of one process that wait for streams to go on, by the id of their stream.
 *
 * A signal is a hint to look at the store, never data: it is given after a commit in this process, and when the store hints
 * at what others wrote.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { StreamHead } from "../DurableStreamRepository.ts"

/** Describes one reader. */
export interface Follower {
  /** The mark of its stream (see `markOf`) as of what the reader took. */
  seen: number
  /** Whether there may be something new. */
  signalled: boolean
  wake: (() => void) | undefined
}

/** Keeps the readers. */
export interface Followers {
  /** Adds a reader for as long as the scope is open. */
  readonly follow: (id: number, seen: number) => Effect.Effect<Follower, never, Scope.Scope>
  /**
   * Waits until the reader is signalled, and forgets the signal. `handle` is called for each; it tells whether it has done
   * what there was to do, and if so the reader goes on to wait.
   */
  readonly wait: (follower: Follower, handle?: () => boolean) => Effect.Effect<void>
  /** Waits for one signal, as a reader that is there for no longer than that; not at all if it is behind already. */
  readonly waitOnce: (id: number, seen: number, isBehind: () => boolean) => Effect.Effect<void>
  /** Signals the readers of a stream. */
  readonly notify: (id: number) => void
  /** Signals the readers of a stream that its mark shows to be behind. */
  readonly notifyBehind: (id: number, mark: number) => void
  /** Lists the streams that have readers. */
  readonly ids: () => ReadonlyArray<number>
  /** Signals the readers that a look at the store shows to be behind, and those of streams that were not found. */
  readonly compare: (asked: ReadonlyArray<number>, heads: ReadonlyArray<StreamHead>) => void
}

const signal = (follower: Follower): void => {
  follower.signalled = true
  follower.wake?.()
}

/** Makes an empty registry. */
export const make = (): Followers => {
  const byId = new Map<number, Set<Follower>>()

  const add = (id: number, seen: number): Follower => {
    const follower: Follower = { seen, signalled: false, wake: undefined }
    const followers = byId.get(id)
    if (followers === undefined) byId.set(id, new Set([follower]))
    else followers.add(follower)
    return follower
  }

  const remove = (id: number, follower: Follower): void => {
    const followers = byId.get(id)
    if (followers === undefined) return
    followers.delete(follower)
    if (followers.size === 0) byId.delete(id)
  }

  // One that is woken may come back at once, to wait for what is next; it is not to be woken again for this.
  const of = (id: number): ReadonlyArray<Follower> => Array.from(byId.get(id) ?? [])

  const notify = (id: number): void => {
    for (const follower of of(id)) signal(follower)
  }

  const notifyBehind = (id: number, mark: number): void => {
    for (const follower of of(id)) if (mark > follower.seen) signal(follower)
  }

  return {
    follow: (id, seen) =>
      Effect.acquireRelease(
        Effect.sync(() => add(id, seen)),
        (follower) => Effect.sync(() => remove(id, follower))
      ),
    wait: (follower, handle = () => false) =>
      Effect.callback<void>((resume) => {
        const wake = () => {
          follower.signalled = false
          follower.wake = undefined
          if (handle()) follower.wake = wake
          else resume(Effect.void)
        }
        if (follower.signalled) return wake()
        follower.wake = wake
        return Effect.sync(() => {
          follower.wake = undefined
        })
      }),
    waitOnce: (id, seen, isBehind) =>
      Effect.callback<void>((resume) => {
        if (isBehind()) return resume(Effect.void)
        const follower = add(id, seen)
        follower.wake = () => {
          follower.wake = undefined
          remove(id, follower)
          resume(Effect.void)
        }
        return Effect.sync(() => remove(id, follower))
      }),
    notify,
    notifyBehind,
    ids: () => Array.from(byId.keys()),
    compare: (asked, heads) => {
      const marks = new Map(heads.map(({ id, mark }) => [id, mark]))
      for (const id of asked) {
        const mark = marks.get(id)
        if (mark === undefined) notify(id)
        else notifyBehind(id, mark)
      }
    }
  }
}
