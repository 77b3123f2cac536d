/**
 * Keeps what the hooks show: the session, and who has access. All hooks of a page share one store, and so one
 * connection for access and one for runs.
 */
import * as Access from "@sallyport/client/Access"
import * as AccessFeed from "@sallyport/client/AccessFeed"
import type * as Approval from "@sallyport/client/Approval"
import type { ClientError } from "@sallyport/client/ClientError"
import type * as Connection from "@sallyport/client/Connection"
import type * as Runs from "@sallyport/client/Runs"
import type { SessionState } from "@sallyport/contract/SessionGroup"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as ManagedRuntime from "effect/ManagedRuntime"
import * as Option from "effect/Option"
import type * as Result from "effect/Result"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as RunFeed from "./internal/runFeed.ts"

/**
 * Names the services that the hooks use: those of `SallyportClient.layer`.
 *
 * @category models
 * @since 0.1.0
 */
export type Services =
  | Access.Access
  | AccessFeed.AccessFeed
  | Approval.Approval
  | Connection.Connection
  | Runs.Runs

/**
 * Describes what is known at a moment.
 *
 * @category models
 * @since 0.1.0
 */
export interface Snapshot {
  /** Whether this device is signed in, and as whom; none until the server has answered. */
  readonly session: Option.Option<typeof SessionState.Type>
  /** Who has access; none until the server has told, and if this session may not read it. */
  readonly access: Option.Option<AccessFeed.AccessView>
  /** Since when the connection that tells of access is lost; none while it is open. */
  readonly lostAt: Option.Option<DateTime.Utc>
  /** Why the server is not followed, or was not reached last. */
  readonly fault: Option.Option<ClientError>
  /** Whether this device was signed in since the page was opened, and is not any more. */
  readonly ended: boolean
}

/**
 * Holds the snapshot and runs the requests of a page.
 *
 * @category models
 * @since 0.1.0
 */
export interface Store {
  /** Calls a listener after each change. The server is followed as long as there is a listener. */
  readonly subscribe: (listener: () => void) => () => void
  /** Returns the present snapshot: the same object until something changes. */
  readonly snapshot: () => Snapshot
  /** Runs a request, and returns its answer or its typed error. */
  readonly run: <A, E>(effect: Effect.Effect<A, E, Services>) => Promise<Result.Result<A, E>>
  /** Runs an effect until the returned function is called. */
  readonly watch: (effect: Effect.Effect<void, never, Services>) => () => void
  /** Follows a run to its end. All runs of the page share one connection. */
  readonly followRun: ReturnType<typeof RunFeed.make>["followRun"]
  /** Gives what happens to all runs of this subject, by the same connection, until that fails. */
  readonly followRuns: ReturnType<typeof RunFeed.make>["followAll"]
}

/**
 * Holds the snapshot of a page that has asked nothing yet, such as one that a server renders.
 *
 * @category constants
 * @since 0.1.0
 */
export const initial: Snapshot = {
  session: Option.none(),
  access: Option.none(),
  lostAt: Option.none(),
  fault: Option.none(),
  ended: false
}

/** The waits between requests to a server that does not answer: at random, so that its pages do not ask together. */
const patience = Schedule.min([Schedule.exponential("500 millis"), Schedule.spaced("8 seconds")]).pipe(
  Schedule.modifyDelay(({ duration }) => Effect.map(Random.next, (random) => Duration.times(duration, random)))
)

/** How long to wait before a session that the server refused is looked at again. */
const settle = Duration.millis(200)

/**
 * Creates a store over the services of a runtime. Nothing is requested before the first listener.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (runtime: ManagedRuntime.ManagedRuntime<Services, unknown>): Store => {
  const listeners = new Set<() => void>()
  let snapshot = initial
  let stop: (() => void) | undefined

  const update = (change: Partial<Snapshot>) =>
    Effect.sync(() => {
      snapshot = { ...snapshot, ...change }
      for (const listener of listeners) listener()
    })

  const watch: Store["watch"] = (effect) => {
    const fiber = runtime.runFork(effect)
    return () => void runtime.runFork(Fiber.interrupt(fiber))
  }

  /** Asks for the session until the server answers. */
  const ask = Effect.gen(function*() {
    const access = yield* Access.Access
    yield* access.refresh.pipe(
      Effect.tapErrorTag("ClientError", (fault) => update({ fault: Option.some(fault) })),
      Effect.retry({ schedule: patience, while: (error) => error.isRetryable }),
      Effect.ignore
    )
  })

  /** Shows a session, and follows who has access as long as it lasts. */
  const show = Effect.fnUntraced(function*(session: typeof SessionState.Type) {
    const before = snapshot.session
    yield* update({
      session: Option.some(session),
      fault: Option.none(),
      ended: !session.authenticated &&
        (snapshot.ended || (Option.isSome(before) && before.value.authenticated)),
      ...(session.authenticated ? {} : { access: Option.none(), lostAt: Option.none() })
    })
    if (!session.authenticated || !session.session.scopes.includes("access:read")) return
    const feed = yield* AccessFeed.AccessFeed
    yield* feed.follow.pipe(
      Stream.runForEach((access) =>
        Effect.flatMap(DateTime.now, (now) =>
          update({
            access: Option.some(access),
            lostAt: access.connected ? Option.none() : Option.orElse(snapshot.lostAt, () => Option.some(now))
          }))
      ),
      Effect.catch((fault) =>
        fault.reason._tag === "Unauthorized"
          ? Effect.andThen(Effect.sleep(settle), ask)
          : update({ fault: Option.some(fault) })
      )
    )
  })

  const follow = Effect.gen(function*() {
    const access = yield* Access.Access
    yield* access.changes.pipe(
      Stream.switchMap((known) => Stream.fromEffect(Option.match(known, { onNone: () => ask, onSome: show }))),
      Stream.runDrain
    )
  })

  const feed = RunFeed.make(watch)

  return {
    subscribe: (listener) => {
      listeners.add(listener)
      stop ??= watch(follow)
      return () => {
        listeners.delete(listener)
        // A page that changes what it shows drops the last listener and adds another one in the same turn.
        queueMicrotask(() => {
          if (listeners.size > 0) return
          stop?.()
          stop = undefined
        })
      }
    },
    snapshot: () => snapshot,
    run: (effect) => runtime.runPromise(Effect.result(effect)),
    watch,
    followRun: feed.followRun,
    followRuns: feed.followAll
  }
}
