/**
 * When an open connection has to end, and why: event streams, long-polls, WebSockets, RPC calls and relay waits alike.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { Stopping } from "../Stopping.ts"
import type { Session, SessionId } from "./Session.ts"
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
      Effect.tap(join(session), (watch) => Effect.sync(() => watch.connections++)),
      ({ fiber }) => sessions.connected(session)(Fiber.join(fiber)),
      (watch) =>
        Effect.sync(() => {
          if (--watch.connections > 0) return
          if (watches.get(session.id) === watch) watches.delete(session.id)
          watch.fiber.interruptUnsafe()
        })
    )
    return host === undefined ? end : Effect.raceFirst(end, Effect.as(host, { _tag: "HostEnded" as const }))
  }
})
