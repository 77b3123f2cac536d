/**
 * The readers of one process that wait for runs to go on.
 *
 * A wake-up is a hint to look at the store, never data. It is given after a commit in this process, and by one slow poll
 * for all readers, which finds what other processes wrote.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { RunHead } from "../RunEventRepository.ts"

/** Describes one reader of one run. */
export interface Follower {
  /** The number of the last event that the reader took. */
  cursor: number
  /** True when there may be something new since the flag was last cleared. */
  signalled: boolean
  wake: (() => void) | undefined
}

/** Keeps the readers by run. */
export interface Followers {
  /** Adds a reader for as long as the scope is open. */
  readonly follow: (runId: string, cursor: number) => Effect.Effect<Follower, never, Scope.Scope>
  /** Waits until the reader is signalled, and clears the signal. */
  readonly wait: (follower: Follower) => Effect.Effect<void>
  /** Signals the readers of a run. */
  readonly notify: (runId: string) => void
  /** Lists the runs that have readers. */
  readonly runIds: () => ReadonlyArray<string>
  /** Signals the readers that a look at the store shows to be behind, those of ended runs and those of runs not found. */
  readonly compare: (asked: ReadonlyArray<string>, heads: ReadonlyArray<RunHead>) => void
}

const signal = (follower: Follower): void => {
  follower.signalled = true
  follower.wake?.()
}

/** Makes an empty registry. */
export const make = (): Followers => {
  const byRun = new Map<string, Set<Follower>>()

  const remove = (runId: string, follower: Follower): void => {
    const followers = byRun.get(runId)
    if (followers === undefined) return
    followers.delete(follower)
    if (followers.size === 0) byRun.delete(runId)
  }

  const notify = (runId: string): void => {
    const followers = byRun.get(runId)
    if (followers !== undefined) { for (const follower of followers) signal(follower) }
  }

  return {
    follow: (runId, cursor) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          const follower: Follower = { cursor, signalled: false, wake: undefined }
          const followers = byRun.get(runId)
          if (followers === undefined) byRun.set(runId, new Set([follower]))
          else followers.add(follower)
          return follower
        }),
        (follower) => Effect.sync(() => remove(runId, follower))
      ),
    wait: (follower) =>
      Effect.callback<void>((resume) => {
        const proceed = () => {
          follower.wake = undefined
          follower.signalled = false
          resume(Effect.void)
        }
        if (follower.signalled) return proceed()
        follower.wake = proceed
        return Effect.sync(() => {
          follower.wake = undefined
        })
      }),
    notify,
    runIds: () => Array.from(byRun.keys()),
    compare: (asked, heads) => {
      const known = new Map(heads.map((head) => [head.runId, head]))
      for (const runId of asked) {
        const head = known.get(runId)
        if (head === undefined || head.status !== "running") notify(runId)
        else for (const follower of byRun.get(runId) ?? []) if (head.lastSeq > follower.cursor) signal(follower)
      }
    }
  }
}
