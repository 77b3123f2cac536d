/**
 * When subscriptions are looked at: after appends of this process, when a lease or a retry is due, and all of them now and
 * then.
 */
import { ownerKey } from "@sallyport/core/runs/Run"
import type * as Outage from "@sallyport/core/Outage"
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { DurableStreams } from "../DurableStreams.ts"
import { nameOf, StreamSubscriptionRepository, type SubscriptionRow } from "../StreamSubscriptionRepository.ts"
import * as Glob from "./glob.ts"
import { storage, type StreamSubscriptionsError } from "./subscriptionErrors.ts"
import { logFailure } from "./subscriptionWakes.ts"

/** Has subscriptions attended to until the scope closes. */
export const start = Effect.fnUntraced(function*({ attend, interval, outage, reconcileInterval }: {
  readonly attend: (row: SubscriptionRow) => Effect.Effect<void, StreamSubscriptionsError>
  readonly interval: Duration.Input
  readonly outage: Outage.Witness
  readonly reconcileInterval: Duration.Input
}) {
  const streams = yield* DurableStreams
  const repository = yield* StreamSubscriptionRepository
  const clock = yield* Clock.Clock

  let dirty = new Map<string, Set<string>>()
  let wakeUp: (() => void) | undefined
  yield* streams.onAppend(({ owner, path }) => {
    const key = ownerKey(owner)
    const known = dirty.get(key)
    if (known !== undefined) known.add(path)
    else dirty.set(key, new Set([path]))
    wakeUp?.()
  })
  const someAppend = Effect.callback<void>((resume) => {
    if (dirty.size > 0) return resume(Effect.void)
    wakeUp = () => {
      wakeUp = undefined
      resume(Effect.void)
    }
  })
  const isConcerned = Effect.fnUntraced(function*(row: SubscriptionRow, paths: ReadonlySet<string>) {
    if (row.pattern !== null) {
      const matches = Glob.matcher(row.pattern)
      for (const path of paths) if (path !== row.wakeStream && matches(path)) return true
    }
    const links = yield* storage(repository.links(row))
    return links.some(({ explicit, path }) => explicit && paths.has(path))
  })
  const attendDirty = Effect.suspend(() => {
    const taken = dirty
    dirty = new Map()
    return Effect.forEach(
      taken,
      ([key, paths]) =>
        Effect.flatMap(storage(repository.ofOwner(key)), (rows) =>
          Effect.forEach(
            rows,
            (row) => Effect.flatMap(isConcerned(row, paths), (concerned) => concerned ? attend(row) : Effect.void),
            { discard: true }
          )),
      { discard: true }
    )
  })
  // Under load appends come by the thousand; a look at the subscriptions then serves many.
  yield* someAppend.pipe(
    Effect.andThen(Effect.sleep("5 millis")),
    Effect.andThen(logFailure(outage)(attendDirty)),
    Effect.forever,
    Effect.withTracerEnabled(false),
    Effect.forkScoped
  )
  const attendDue = Effect.flatMap(
    Effect.suspend(() => storage(repository.due({ nowMillis: clock.currentTimeMillisUnsafe(), limit: 100 }))),
    (rows) => Effect.forEach(rows, attend, { discard: true })
  )
  yield* logFailure(outage)(attendDue).pipe(
    Effect.andThen(Effect.sleep(interval)),
    Effect.forever,
    Effect.withTracerEnabled(false),
    Effect.forkScoped
  )
  const attendAll = Effect.gen(function*() {
    let after = { ownerKey: "", subscriptionId: "" }
    while (true) {
      const rows = yield* storage(repository.page({ after, limit: 100 }))
      for (const row of rows) {
        yield* attend(row)
        after = nameOf(row)
      }
      if (rows.length < 100) return
    }
  })
  yield* logFailure(outage)(attendAll).pipe(
    Effect.andThen(Effect.sleep(reconcileInterval)),
    Effect.forever,
    Effect.withTracerEnabled(false),
    Effect.forkScoped
  )
})
