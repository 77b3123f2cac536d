/**
 * When subscriptions are looked at: after appends of this process, when a lease or a retry is due, and all of them now and
 * then.
 */
import { ownerKey } from "@sallyport/core/runs/Run"
import type * as Outage from "@sallyport/core/Outage"
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { identity } from "effect/Function"
import { DurableStreams } from "../DurableStreams.ts"
import {
  nameOf,
  StreamSubscriptionRepository,
  type SubscriptionName,
  type SubscriptionRow
} from "../StreamSubscriptionRepository.ts"
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
  const note = (key: string, paths: Iterable<string>) => {
    const known = dirty.get(key)
    if (known === undefined) dirty.set(key, new Set(paths))
    else for (const path of paths) known.add(path)
  }
  yield* streams.onAppend(({ owner, path }) => {
    note(ownerKey(owner), [path])
    wakeUp?.()
  })
  const someAppend = Effect.callback<void>((resume) => {
    if (dirty.size > 0) return resume(Effect.void)
    wakeUp = () => {
      wakeUp = undefined
      resume(Effect.void)
    }
  })

  const every = (rest: Duration.Input, effect: Effect.Effect<void, StreamSubscriptionsError>) =>
    logFailure(outage)(effect).pipe(
      Effect.andThen(Effect.sleep(rest)),
      Effect.forever,
      Effect.withTracerEnabled(false),
      Effect.forkScoped
    )
  /** Does the same for each, also if it fails for one, and then fails as the first did. */
  const forEach = <A>(
    all: Iterable<A>,
    attendTo: (one: A) => Effect.Effect<void, StreamSubscriptionsError>
  ): Effect.Effect<void, StreamSubscriptionsError> =>
    Effect.flatMap(
      Effect.forEach(all, (one) => Effect.exit(attendTo(one))),
      (exits) => exits.find(Exit.isFailure) ?? Effect.void
    )

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
    return forEach(taken, ([key, paths]) =>
      storage(repository.ofOwner(key)).pipe(
        Effect.tapError(() => Effect.sync(() => note(key, paths))),
        Effect.flatMap((rows) =>
          forEach(rows, (row) =>
            Effect.flatMap(isConcerned(row, paths), (concerned) => concerned ? attend(row) : Effect.void))
        )
      ))
  })
  // Under load appends come by the thousand; a look at the subscriptions then serves many. What has failed waits longer.
  yield* every(
    "5 millis",
    Effect.andThen(someAppend, Effect.tapCause(attendDirty, () => Effect.sleep(interval)))
  )

  yield* every(
    interval,
    Effect.flatMap(
      Effect.suspend(() => storage(repository.due({ nowMillis: clock.currentTimeMillisUnsafe(), limit: 100 }))),
      (rows) => forEach(rows, attend)
    )
  )

  const attendAll = (after: SubscriptionName): Effect.Effect<void, StreamSubscriptionsError> =>
    Effect.flatMap(storage(repository.page({ after, limit: 100 })), (rows) => {
      const last = rows[99]
      const attended = forEach(rows, attend)
      return last === undefined
        ? attended
        : forEach([attended, Effect.suspend(() => attendAll(nameOf(last)))], identity)
    })
  yield* every(reconcileInterval, attendAll({ ownerKey: "", subscriptionId: "" }))
})
