/**
 * Who waits for the owner's decision, in one process: each is woken by the access feed, and looks at the row.
 */
import type { AccessRepository } from "../../access/AccessRepository.ts"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { AccessEvent } from "../../access/AccessEvent.ts"
import type { DecisionStatus } from "../../access/ConnectClient.ts"
import { type ConnectClientRepository, type ConnectClientRow, isWaiting } from "../../access/ConnectClientRepository.ts"
import * as AccessFollower from "../../access/internal/accessFollower.ts"
import { type ConnectClientError, fail, TooManyWaiting, unavailable } from "./connectErrors.ts"
import type { Settings } from "./connectOptions.ts"

/**
 * Describes a request whose decision is waited for, and for how long.
 *
 * @category models
 * @since 0.1.0
 */
export interface Waiter {
  readonly proofKeyThumbprint: string
  readonly account: string
  readonly requestedAtMillis: number
  readonly timeout: Duration.Input
}

/** Says what the row of a request that was made at some time tells who waits for it. */
const statusOf = (row: ConnectClientRow | undefined, waiter: Waiter, nowMillis: number): DecisionStatus => {
  if (row === undefined || row.account !== waiter.account || row.requestedAtMillis !== waiter.requestedAtMillis) {
    return row?.status === "blocked" ? "blocked" : "expired"
  }
  const { status } = row
  if (status === "pending") return isWaiting(row, nowMillis) ? "pending" : "expired"
  return status === "observed" ? "expired" : status
}

/** Makes `ConnectClientStore.awaitDecision`, which follows the access feed until the scope closes. */
export const make = Effect.fnUntraced(function*(
  repository: ConnectClientRepository,
  settings: Pick<Settings, "maxWaiting" | "recheckMillis">
): Effect.fn.Return<
  (waiter: Waiter) => Effect.Effect<DecisionStatus, ConnectClientError>,
  never,
  AccessRepository | Scope.Scope
> {
  // Who waits, by the thumbprint of the client; each is woken once, and looks at the row.
  const waiting = new Map<string, Set<Deferred.Deferred<void>>>()
  let waitingCount = 0
  const wake = (key: string) => {
    for (const woken of waiting.get(key) ?? []) Deferred.doneUnsafe(woken, Effect.void)
  }
  yield* AccessFollower.make({
    trustMillis: settings.recheckMillis,
    onEvents: (events: ReadonlyArray<AccessEvent>) => {
      for (const { change } of events) {
        if (change._tag === "connectClientUpserted") wake(change.client.proofKeyThumbprint)
        else if (change._tag === "connectClientRemoved") wake(change.proofKeyThumbprint)
      }
    },
    onGap: () => {
      for (const key of waiting.keys()) wake(key)
    }
  })

  return Effect.fn("ConnectClientStore.awaitDecision")(function*(waiter: Waiter) {
    const key = waiter.proofKeyThumbprint
    const deadline = (yield* Clock.currentTimeMillis) + Duration.toMillis(waiter.timeout)
    if (waitingCount >= settings.maxWaiting) {
      return yield* fail(new TooManyWaiting({ maximum: settings.maxWaiting }))
    }
    // Made before each look, so that a decision in between is not missed.
    const look = Effect.acquireUseRelease(
      Effect.sync(() => {
        const woken = Deferred.makeUnsafe<void>()
        waiting.set(key, (waiting.get(key) ?? new Set()).add(woken))
        waitingCount++
        return woken
      }),
      Effect.fnUntraced(function*(woken) {
        const row = Option.getOrUndefined(yield* Effect.mapError(repository.find(key), unavailable))
        const nowMillis = yield* Clock.currentTimeMillis
        const status = statusOf(row, waiter, nowMillis)
        if (status !== "pending" || nowMillis >= deadline) return status
        const untilMillis = Math.min(deadline, row?.pendingUntilMillis ?? deadline, nowMillis + settings.recheckMillis)
        yield* Effect.timeoutOption(Deferred.await(woken), untilMillis - nowMillis)
        return undefined
      }),
      (woken) =>
        Effect.sync(() => {
          waitingCount--
          const set = waiting.get(key)
          set?.delete(woken)
          if (set?.size === 0) waiting.delete(key)
        })
    )
    while (true) {
      const status = yield* look
      if (status !== undefined) return status
    }
  })
})
