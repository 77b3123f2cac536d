/**
 * What append-only logs have in common, whatever they hold: appends that share commits.
 *
 * `RunEventLog` and the streams of `@sallyport/durable-streams` stand on it. Neither knows of the other: rows, ids and the
 * rules of an append are the log's own.
 */
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/**
 * Appends one item, and resolves once it has been committed or refused.
 *
 * @category models
 * @since 0.1.0
 */
export type Append<Item, Outcome, E> = (item: Item) => Effect.Effect<Outcome, E>

interface Pending<Item, Outcome, E> {
  readonly item: Item
  readonly resume: (effect: Effect.Effect<Outcome, E>) => void
  cancelled: boolean
}

/**
 * Describes how items share commits.
 *
 * @category options
 * @since 0.1.0
 */
export interface GroupCommitOptions<Item, Outcome, E> {
  /** Commits a batch as one transaction; answers one outcome for each item, in order. */
  readonly commit: (items: ReadonlyArray<Item>) => Effect.Effect<ReadonlyArray<Outcome>, E>
  /** Returns how many entries of the log an item adds to a batch. */
  readonly count: (item: Item) => number
  /** Bounds the entries of a batch; an item that has more by itself is a batch of its own. */
  readonly maxCount: number
  /** Returns the size of an item. A batch has 16 MiB at most, unless it is one item that is larger by itself. */
  readonly bytes: (item: Item) => number
  /** How items that still wait fail when the scope closes, and those that come later. */
  readonly closed: Effect.Effect<never, E>
}

/** Stores hold all of a batch at once, PostgreSQL's as one text, which has a greatest length. */
const maxBytes = 16 * 1024 * 1024

/**
 * Makes appends share commits: one fiber takes whatever was appended while the previous commit ran, and commits it as one
 * batch. Under load the batches grow by themselves; a lone append is not delayed.
 *
 * Items keep the order in which they were handed over. An interrupted caller's item is dropped if it has not been taken
 * for a commit yet. When the scope closes, a commit that has begun is finished, and what still waits fails with `closed`.
 *
 * @category combinators
 * @since 0.1.0
 */
export const groupCommit = Effect.fnUntraced(function*<Item, Outcome, E>(
  options: GroupCommitOptions<Item, Outcome, E>
): Effect.fn.Return<Append<Item, Outcome, E>, never, Scope.Scope> {
  let pending: Array<Pending<Item, Outcome, E>> = []
  let wake: (() => void) | undefined
  let closed = false

  const take = (): Array<Pending<Item, Outcome, E>> => {
    let items = 0
    let count = 0
    let bytes = 0
    for (; items < pending.length; items++) {
      const next = pending[items]
      if (next === undefined) break
      count += options.count(next.item)
      bytes += options.bytes(next.item)
      if (items > 0 && (count > options.maxCount || bytes > maxBytes)) break
    }
    const batch = pending.slice(0, items).filter((one) => !one.cancelled)
    // Moving the rest is paid once per commit, and there is only a rest under load, when a commit carries many items.
    pending = pending.slice(items)
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
        // committed alone, and run on to its next append, before any other caller had the chance to join.
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
 *
 * @category combinators
 * @since 0.1.0
 */
export const spread = <Item, Outcome, E, R>(
  count: number,
  make: Effect.Effect<Append<Item, Outcome, E>, never, R>
): Effect.Effect<(key: string) => Append<Item, Outcome, E>, never, R> =>
  Effect.map(Effect.all(Arr.makeBy(count, () => make)), (appenders) => (key) => {
    // The end of an id differs also if its beginning is a time.
    let hash = 0
    for (let i = Math.max(0, key.length - 4); i < key.length; i++) hash = hash * 31 + key.charCodeAt(i)
    return appenders[hash % appenders.length] ?? appenders[0]
  })
