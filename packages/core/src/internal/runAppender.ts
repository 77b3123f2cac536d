/**
 * Group commit: one fiber per process takes whatever was appended while the previous commit ran, and commits it as one
 * transaction. Under load the batches grow by themselves; a lone append is not delayed.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { AppendItem, AppendOutcome } from "../RunEventRepository.ts"

/** Commits a batch; answers one outcome for each item, in order. */
export type Commit<E> = (items: ReadonlyArray<AppendItem>) => Effect.Effect<ReadonlyArray<AppendOutcome>, E>

interface Pending<E> {
  readonly item: AppendItem
  readonly resume: (effect: Effect.Effect<AppendOutcome, E>) => void
  cancelled: boolean
}

/**
 * Makes an `append` that resolves once the item has been committed or refused. Items keep the order in which they were
 * handed over. An interrupted caller's item is dropped if it has not been taken for a commit yet.
 *
 * When the scope closes, what is still waiting fails with `closed`.
 */
export const make = Effect.fnUntraced(function*<E>(options: {
  readonly commit: Commit<E>
  readonly maxEvents: number
  readonly closed: Effect.Effect<never, E>
}): Effect.fn.Return<(item: AppendItem) => Effect.Effect<AppendOutcome, E>, never, Scope.Scope> {
  let pending: Array<Pending<E>> = []
  let wake: (() => void) | undefined
  let closed = false

  const take = (): Array<Pending<E>> => {
    let count = 0
    let events = 0
    for (; count < pending.length; count++) {
      const next = pending[count]
      if (next === undefined || (count > 0 && events + next.item.events.length > options.maxEvents)) break
      events += next.item.events.length
    }
    const batch = pending.slice(0, count).filter((one) => !one.cancelled)
    // Moving the rest is paid once per commit, and there is only a rest under load, when a commit carries many events.
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
              ? Effect.die(new Error("The run store answered too few outcomes"))
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
      const one: Pending<E> = { item, resume, cancelled: false }
      pending.push(one)
      wake?.()
      return Effect.sync(() => {
        one.cancelled = true
      })
    })
}, Effect.withTracerEnabled(false))
