/**
 * What append-only logs have in common, whatever they hold: appends that share commits, and readers that wait for more.
 *
 * `RunEventLog` and the streams of `@sallyport/durable-streams` stand on it. Neither knows of the other: rows, ids and the
 * rules of an append are the log's own.
 */
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

// -----------------------------------------------------------------------------
// Appending
// -----------------------------------------------------------------------------

/** Appends one item, and resolves once it has been committed or refused. */
export type Append<Item, Outcome, E> = (item: Item) => Effect.Effect<Outcome, E>

interface Pending<Item, Outcome, E> {
  readonly item: Item
  readonly resume: (effect: Effect.Effect<Outcome, E>) => void
  cancelled: boolean
}

/** Describes how items share commits. */
export interface GroupCommitOptions<Item, Outcome, E> {
  /** Commits a batch as one transaction; answers one outcome for each item, in order. */
  readonly commit: (items: ReadonlyArray<Item>) => Effect.Effect<ReadonlyArray<Outcome>, E>
  /** Returns what an item adds to a batch: its events, or its bytes. */
  readonly weight: (item: Item) => number
  /** Bounds the weight of a batch; an item that is heavier by itself is a batch of its own. */
  readonly maxWeight: number
  /** How items that still wait fail when the scope closes, and those that come later. */
  readonly closed: Effect.Effect<never, E>
}

/**
 * Makes appends share commits: one fiber takes whatever was appended while the previous commit ran, and commits it as one
 * batch. Under load the batches grow by themselves; a lone append is not delayed.
 *
 * Items keep the order in which they were handed over. An interrupted caller's item is dropped if it has not been taken
 * for a commit yet. When the scope closes, a commit that has begun is finished, and what still waits fails with `closed`.
 */
export const groupCommit = Effect.fnUntraced(function*<Item, Outcome, E>(
  options: GroupCommitOptions<Item, Outcome, E>
): Effect.fn.Return<Append<Item, Outcome, E>, never, Scope.Scope> {
  let pending: Array<Pending<Item, Outcome, E>> = []
  let wake: (() => void) | undefined
  let closed = false

  const take = (): Array<Pending<Item, Outcome, E>> => {
    let count = 0
    let weight = 0
    for (; count < pending.length; count++) {
      const next = pending[count]
      if (next === undefined) break
      weight += options.weight(next.item)
      if (count > 0 && weight > options.maxWeight) break
    }
    const batch = pending.slice(0, count).filter((one) => !one.cancelled)
    // Moving the rest is paid once per commit, and there is only a rest under load, when a commit carries many items.
    pending = pending.slice(count)
    return batch
  }

  const someone = Effect.callback<void>((resume) => {
    if (pending.length > 0) return resume(Effect.void)
    wake = () => {
      wake = undefined
      resume(Effect.void)
    }
  })

  const commitNext = Effect.suspend(() => {
    const batch = take()
    if (batch.length === 0) return Effect.void
    return Effect.matchCause(options.commit(batch.map((one) => one.item)), {
      onFailure: (cause) => {
        for (const one of batch) one.resume(Effect.failCause(cause))
      },
      onSuccess: (outcomes) => {
        for (let i = 0; i < batch.length; i++) {
          const outcome = outcomes[i]
          batch[i]?.resume(
            outcome === undefined
              ? Effect.die(new Error("The store of the log answered too few outcomes"))
              : Effect.succeed(outcome)
          )
        }
      }
    })
  })

  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      closed = true
      for (const one of pending) one.resume(options.closed)
      pending = []
    })
  )
  // A commit that has begun is finished, so that its callers learn what became of it.
  yield* Effect.forkScoped(
    Effect.forever(
      someone.pipe(
        // A commit in this process never suspends. Without giving way before it, the first one to append would be
        // committed alone, and run on to its next append, before anybody else had the chance to join.
        Effect.andThen(Effect.yieldNow),
        Effect.andThen(Effect.uninterruptible(commitNext))
      ),
      { disableYield: true }
    ),
    { startImmediately: true }
  )

  return (item) =>
    Effect.callback((resume) => {
      if (closed) return resume(options.closed)
      const one: Pending<Item, Outcome, E> = { item, resume, cancelled: false }
      pending.push(one)
      wake?.()
      return Effect.sync(() => {
        one.cancelled = true
      })
    })
}, Effect.withTracerEnabled(false))

/**
 * Makes several appenders for a store that can commit at the same time, and returns which of them is a key's: the same one
 * each time, so that what is appended under a key keeps its order.
 */
export const spread = <Item, Outcome, E, R>(
  count: number,
  make: Effect.Effect<Append<Item, Outcome, E>, never, R>
): Effect.Effect<(key: string) => Append<Item, Outcome, E>, never, R> =>
  Effect.map(Effect.all(Arr.makeBy(count, () => make)), (appenders) => (key) => {
    // The end of an id differs where its beginning is a time.
    let hash = 0
    for (let i = Math.max(0, key.length - 4); i < key.length; i++) hash = hash * 31 + key.charCodeAt(i)
    return appenders[hash % appenders.length] ?? appenders[0]
  })

// -----------------------------------------------------------------------------
// Following
// -----------------------------------------------------------------------------

/** Describes one reader of one log. */
export interface Follower {
  /** The position after what the reader took. */
  cursor: number
  /** True when there may be something new since the flag was last cleared. */
  signalled: boolean
  wake: (() => void) | undefined
}

/** Describes where a log stands. */
export interface Head {
  readonly key: string
  readonly position: number
  /** Whether nothing more will come. */
  readonly ended: boolean
}

/** Keeps the readers of one process that wait for logs to go on, by the key of their log. */
export interface Followers {
  /** Adds a reader for as long as the scope is open. */
  readonly follow: (key: string, cursor: number) => Effect.Effect<Follower, never, Scope.Scope>
  /** Waits until the reader is signalled, and clears the signal. */
  readonly wait: (follower: Follower) => Effect.Effect<void>
  /** Waits for one signal, as a reader that is there for no longer than that; not at all where it is behind already. */
  readonly waitOnce: (key: string, cursor: number, isBehind: () => boolean) => Effect.Effect<void>
  /** Signals the readers of a log. */
  readonly notify: (key: string) => void
  /** Signals the readers that a hint shows to be behind; all of them where it is about anything. */
  readonly wake: (wakeUp: "anything" | ReadonlyMap<string, number>) => void
  /** Lists the logs that have readers. */
  readonly keys: () => ReadonlyArray<string>
  /** Signals the readers that a look at the store shows to be behind, those of ended logs and those of logs not found. */
  readonly compare: (asked: ReadonlyArray<string>, heads: ReadonlyArray<Head>) => void
}

const signal = (follower: Follower): void => {
  follower.signalled = true
  follower.wake?.()
}

/**
 * Makes an empty registry of readers. A signal is a hint to look at the store, never data: it is given after a commit in
 * this process, and when the store hints at what others wrote.
 */
export const makeFollowers = (): Followers => {
  const byKey = new Map<string, Set<Follower>>()

  const add = (key: string, cursor: number): Follower => {
    const follower: Follower = { cursor, signalled: false, wake: undefined }
    const followers = byKey.get(key)
    if (followers === undefined) byKey.set(key, new Set([follower]))
    else followers.add(follower)
    return follower
  }

  const remove = (key: string, follower: Follower): void => {
    const followers = byKey.get(key)
    if (followers === undefined) return
    followers.delete(follower)
    if (followers.size === 0) byKey.delete(key)
  }

  // One that is woken may come back at once, to wait for what is next; it is not to be woken again for this.
  const of = (key: string): ReadonlyArray<Follower> => Array.from(byKey.get(key) ?? [])

  const notify = (key: string): void => {
    for (const follower of of(key)) signal(follower)
  }

  const signalBehind = (key: string, position: number): void => {
    for (const follower of of(key)) if (position > follower.cursor) signal(follower)
  }

  return {
    follow: (key, cursor) =>
      Effect.acquireRelease(
        Effect.sync(() => add(key, cursor)),
        (follower) => Effect.sync(() => remove(key, follower))
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
    waitOnce: (key, cursor, isBehind) =>
      Effect.callback<void>((resume) => {
        if (isBehind()) return resume(Effect.void)
        const follower = add(key, cursor)
        follower.wake = () => {
          follower.wake = undefined
          remove(key, follower)
          resume(Effect.void)
        }
        return Effect.sync(() => remove(key, follower))
      }),
    notify,
    wake: (wakeUp) => {
      if (wakeUp === "anything") { for (const key of byKey.keys()) notify(key) }
      else for (const [key, position] of wakeUp) signalBehind(key, position)
    },
    keys: () => Array.from(byKey.keys()),
    compare: (asked, heads) => {
      const known = new Map(heads.map((head) => [head.key, head]))
      for (const key of asked) {
        const head = known.get(key)
        if (head === undefined || head.ended) notify(key)
        else signalBehind(key, head.position)
      }
    }
  }
}
