/**
 * When an open connection has to end, and why: event streams, long-polls, WebSockets, RPC calls and relay waits alike.
 *
 * @since 0.1.0
 */
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Metrics from "../Metrics.ts"
import * as ServiceOptions from "../ServiceOptions.ts"
import { Stopping } from "../Stopping.ts"
import { endlessSessionId, type Session, type SessionId } from "./Session.ts"
import { type SessionCredentialError, SessionCredentialService } from "./SessionCredentialService.ts"

/**
 * Says why a connection has to end: its session has ended; whether it has cannot be told, so that it must not live on; the
 * server begins to stop; or the host says so.
 *
 * @category models
 * @since 0.1.0
 */
export type ConnectionEnd =
  | { readonly _tag: "SessionEnded"; readonly how: "revoked" | "expired" }
  | { readonly _tag: "SessionUnknown"; readonly error: SessionCredentialError }
  | { readonly _tag: "ServerStopping" }
  | { readonly _tag: "HostEnded" }

/**
 * Waits until a connection that was opened with a session has to end. `host` completes when the host wants it to end for a
 * reason of its own.
 *
 * @category models
 * @since 0.1.0
 */
export type AwaitEnd = (session: Session, host?: Effect.Effect<void>) => Effect.Effect<ConnectionEnd>

interface Watch {
  readonly fiber: Fiber.Fiber<ConnectionEnd>
  connections: number
}

/**
 * Makes what waits for the ends of connections. All connections of a session share one watch of it. A session under
 * `unsafe-no-auth` has no end, so that its connections end with the server alone.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: Effect.Effect<AwaitEnd, never, SessionCredentialService> = Effect.gen(function*() {
  const sessions = yield* SessionCredentialService
  const stopping = Effect.as(yield* Stopping, { _tag: "ServerStopping" } satisfies ConnectionEnd)
  const watches = new Map<SessionId, Watch>()
  const watch = (session: Session) =>
    Effect.map(
      Effect.forkDetach(
        sessions.awaitEnd(session).pipe(
          Effect.map((how): ConnectionEnd => ({ _tag: "SessionEnded", how })),
          Effect.catch((error) => Effect.succeed<ConnectionEnd>({ _tag: "SessionUnknown", error })),
          Effect.raceFirst(stopping)
        )
      ),
      (fiber): Watch => {
        const watch = { fiber, connections: 0 }
        watches.set(session.id, watch)
        // A later connection looks again: the row may be readable by then.
        fiber.addObserver(() => watches.get(session.id) === watch && watches.delete(session.id))
        return watch
      }
    )
  const join = (session: Session) =>
    Effect.suspend(() => {
      const known = watches.get(session.id)
      return known === undefined ? watch(session) : Effect.succeed(known)
    })
  return (session, host) => {
    const end = Effect.acquireUseRelease(
      Effect.tap(join(session), (watch) =>
        Effect.sync(() => {
          watch.connections++
        })),
      ({ fiber }) => Fiber.join(fiber),
      (watch) =>
        Effect.sync(() => {
          if (--watch.connections > 0) return
          if (watches.get(session.id) === watch) watches.delete(session.id)
          watch.fiber.interruptUnsafe()
        })
    )
    return Effect.tap(
      host === undefined ? end : Effect.raceFirst(end, Effect.as(host, { _tag: "HostEnded" as const })),
      ({ _tag }) => Metrics.connectionEnds(1, { reason: _tag })
    )
  }
})

/**
 * Says how many connections a session may have open at once in one process: event streams, long-polls and WebSockets
 * together. Default 256. Read when the layer of the routes is built.
 *
 * @category services
 * @since 0.1.0
 */
export const PerSession: Context.Reference<number> = Context.Reference(
  "@sallyport/core/access/ConnectionEnd/PerSession",
  {
    defaultValue: () => 256
  }
)

/**
 * Lists the options of open connections; each has a default.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** See {@link PerSession}. */
  readonly perSession?: number | undefined
}

/**
 * Reports options of open connections that cannot work, while the layer is built.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidConnectionOptions
  extends Schema.TaggedError<InvalidConnectionOptions>()("InvalidConnectionOptions", {
    problem: Schema.String
  })
{
  override get message() {
    return `The options of open connections cannot work: ${this.problem}`
  }
}

/**
 * Bounds the open connections of a session by the option of the configuration, `SALLYPORT_CONNECTIONS_PER_SESSION`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig: Layer.Layer<never, Config.ConfigError | InvalidConnectionOptions> = Layer.effect(
  PerSession,
  ServiceOptions.make<Options, number, InvalidConnectionOptions>({
    prefix: "SALLYPORT_CONNECTIONS",
    invalid: (problem) => new InvalidConnectionOptions({ problem }),
    decode: (read) => read.count("perSession", 256)
  }).fromConfig
)

/**
 * Makes what counts a connection of a session until the scope closes, and answers false, without counting it, if the session
 * has as many open as it may. The session under `unsafe-no-auth`, which is everyone's, may have any number.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeOpen: Effect.Effect<
  (session: Session) => Effect.Effect<boolean, never, Scope.Scope>,
  never,
  SessionCredentialService
> = Effect.gen(function*() {
  const sessions = yield* SessionCredentialService
  const perSession = yield* PerSession
  return (session) => sessions.connect(session, session.id === endlessSessionId ? Infinity : perSession)
})
