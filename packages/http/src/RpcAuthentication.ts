/**
 * Lets calls in, for a host that speaks `effect/rpc`: with the same principal and the same scopes as its HTTP endpoints.
 *
 * {@link guard} stands before the route of the RPC server, over HTTP or WebSocket, and takes whatever proves a session to any
 * other route: a token, a bound token with its proof, a cookie of a page of this server, a ticket. {@link layer} is the
 * middleware behind each RPC: it asks for the scope that the RPC declares, and provides `CurrentSession`.
 *
 * A call may also bring a bearer token of its own among the headers of its message, as `RpcClient` middleware sets them. It
 * then counts alone. Nothing else in such a header is believed: a page elsewhere can write them, and they say nothing of
 * where the request comes from.
 *
 * A request, and a frame of a socket, has 256 KiB at most and no more JSON than any other body of a request. A host lets in
 * larger requests by `HttpIncomingMessage.MaxBodySize`.
 *
 * What a call has begun ends with its session: streams do, and so does the socket. When the server stops, streams and the
 * calls of sockets end at once, and others when it waits for them no longer. Each is told by `Unavailable`, which says that
 * it can be made again.
 */
import { RequiredScopes } from "@sallyport/contract/Authentication"
import { layerRpcAuthentication, type RpcAuthentication } from "@sallyport/contract/RpcAuthentication"
import type { Forbidden, Unauthorized, Unavailable } from "@sallyport/contract/WireError"
import { boundedRequest } from "@sallyport/core/BoundedHttp"
import * as AccessScope from "@sallyport/core/access/AccessScope"
import type { AuthPolicy } from "@sallyport/core/access/AuthPolicy"
import * as ConnectionEnd from "@sallyport/core/access/ConnectionEnd"
import { CurrentSession } from "@sallyport/core/access/CurrentSession"
import type { Session } from "@sallyport/core/access/Session"
import { SessionCredentialService } from "@sallyport/core/access/SessionCredentialService"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import * as Headers from "effect/http/Headers"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerError from "effect/http/HttpServerError"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as RpcSchema from "effect/rpc/RpcSchema"
import * as RpcSerialization from "effect/rpc/RpcSerialization"
import * as Scope from "effect/Scope"
import { defaultMaxBodySize, requireSession } from "./Authentication.ts"
import * as Edge from "./Edge.ts"
import * as EventStream from "./EventStream.ts"
import * as ClosableUpgrade from "./internal/closableUpgrade.ts"
import { isUpgrade } from "./internal/origin.ts"
import * as RpcMessages from "./internal/rpcMessages.ts"
import * as RpcRefusal from "./internal/rpcRefusal.ts"
import * as Wire from "./internal/wire.ts"

/** Names the header by which a transport tells its calls whose they are. Its value is random. */
const transportHeader = "sallyport-rpc-principal"

/** Counts calls. Its latch is open while there are none. */
interface Calls {
  count: number
  readonly idle: Latch.Latch
}

interface TransportSession {
  readonly session: Session
  /** What the transport itself was sent. */
  readonly authorization: string | undefined
  /** The calls of a socket, which ends after them. */
  readonly calls: Calls | undefined
}

/** Holds the sessions of the requests and sockets that are open, by the value of {@link transportHeader}. */
class TransportSessions extends Context.Service<TransportSessions, Map<string, TransportSession>>()(
  "@sallyport/http/RpcAuthentication/TransportSessions"
) {
  static readonly layer = Layer.sync(TransportSessions, () => new Map())
}

/**
 * Guards the route of an RPC server. A request or upgrade without a live session is turned away before it can call
 * anything: its calls fail with the typed error of the middleware, and an upgrade is answered with the same typed JSON as on
 * any other route. Needs {@link layer} beside it.
 *
 * **Example** (Serving RPCs on a WebSocket)
 *
 * ```ts
 * import { requires } from "@sallyport/contract/RpcAuthentication"
 * import { CurrentSession } from "@sallyport/core"
 * import { RpcAuthentication } from "@sallyport/http"
 * import { Layer, Schema } from "effect"
 * import { Rpc, RpcGroup, RpcSerialization, RpcServer } from "effect/rpc"
 *
 * class Names extends RpcGroup.make(
 *   Rpc.make("MyName", { success: Schema.String }).pipe(requires(null))
 * ) {}
 *
 * export const Rpcs = RpcServer.layerHttp({ group: Names, path: "/rpc", protocol: "websocket" }).pipe(
 *   Layer.provide(Names.toLayer({ MyName: () => CurrentSession.CurrentSession.useSync(({ subject }) => subject) })),
 *   Layer.provide(RpcAuthentication.guard.layer),
 *   Layer.provide([RpcAuthentication.layer, RpcSerialization.layerNdjson])
 * )
 * ```
 *
 * @category middleware
 * @since 0.1.0
 */
export const guard = HttpRouter.middleware(
  Effect.gen(function*() {
    const context = yield* Effect.context<SessionCredentialService | AuthPolicy>()
    const awaitEnd = yield* ConnectionEnd.make
    const countConnection = yield* EventStream.makeAdmission
    const transports = yield* TransportSessions
    const random = yield* SecureRandom.SecureRandom
    const serialization = yield* RpcSerialization.RpcSerialization
    return (httpEffect) =>
      Effect.tap(
        Effect.provideContext(requireSession([]), context),
        (session) =>
          Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
            isUpgrade(request) ? countConnection(session) : Effect.void)
      ).pipe(
        Effect.matchEffect({
          onFailure: (error) =>
            RpcRefusal.respond(error, serialization),
          onSuccess: Effect.fnUntraced(function*(session) {
            const request = yield* HttpServerRequest.HttpServerRequest
            const scope = yield* Scope.Scope
            const key = Base64Url.encode(yield* random.randomBytes(16))
            const calls = isUpgrade(request) ? { count: 0, idle: Latch.makeUnsafe(true) } : undefined
            transports.set(key, { session, authorization: request.headers.authorization, calls })
            yield* Scope.addFinalizer(scope, Effect.sync(() => transports.delete(key)))
            const named = request.modify({ headers: Headers.set(request.headers, transportHeader, key) })
            const maxBodySize = (yield* HttpIncomingMessage.MaxBodySize) ?? defaultMaxBodySize
            const serve = (request: HttpServerRequest.HttpServerRequest) =>
              httpEffect.pipe(
                Effect.provideService(HttpServerRequest.HttpServerRequest, request),
                Effect.provideService(HttpIncomingMessage.MaxBodySize, maxBodySize)
              )
            if (calls === undefined) {
              const stopped = Effect.flatMap(
                Effect.flip(Wire.ending({ message: "The server has stopped; call again" })),
                (error) => RpcRefusal.respond(error, serialization)
              )
              return yield* serve(boundedRequest(named)).pipe(
                Effect.catchDefect((defect) =>
                  HttpServerError.isHttpServerError(defect) && defect.reason._tag === "RequestParseError" &&
                    defect.reason.reason === "BodyTooLarge"
                    ? Effect.map(
                      Effect.flip(Wire.bodyTooLarge({ message: "Send fewer calls, or less with them, at once" })),
                      Wire.toResponse
                    )
                    : Effect.die(defect)
                ),
                Edge.whenStopped(Effect.provideService(stopped, HttpServerRequest.HttpServerRequest, named))
              )
            }
            const { close, request: upgrade } = yield* ClosableUpgrade.make(
              named,
              (socket, close) => RpcMessages.limit(socket, serialization, close(1009))
            )
            // No call of the socket is let in from then on, and the socket ends when those that it has are told.
            const told = Effect.timeoutOption(calls.idle.await, "1 second")
            const ended = Effect.flatMap(awaitEnd(session), (end) => {
              transports.delete(key)
              return Effect.andThen(told, close(EventStream.closeCodeOf(end)))
            })
            // The defect of a call is told to its client. What ends all of them is a message that the RPC server cannot read.
            const served = Effect.catchCauseIf(
              serve(upgrade),
              (cause) => Cause.hasDies(cause) && !ClosableUpgrade.isClientClose(cause),
              (cause) =>
                Effect.logDebug("Closed a socket at a message that is none of RPC", cause).pipe(
                  Effect.andThen(close(1007)),
                  Effect.as(HttpServerResponse.empty())
                )
            )
            return yield* Effect.raceFirst(served, Effect.as(ended, HttpServerResponse.empty()))
          })
        })
      )
  })
)

const bearerForm = /^Bearer +([A-Za-z0-9._-]+) *$/i

/**
 * Provides the middleware behind every RPC that declares a scope with the contract's `requires`, and what {@link guard} needs.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<
  RpcAuthentication | Layer.Success<typeof TransportSessions.layer>,
  never,
  SessionCredentialService | AuthPolicy
> = layerRpcAuthentication(
  Effect.gen(function*() {
    const sessions = yield* SessionCredentialService
    const awaitEnd = yield* ConnectionEnd.make
    const open = yield* ConnectionEnd.makeOpen
    const transports = yield* TransportSessions

    /** Fails when what a session has begun has to end, and says why. */
    const untilEnd = (session: Session) =>
      Effect.flatMap(
        awaitEnd(session),
        ({ _tag }): Effect.Effect<never, Unauthorized | Unavailable> =>
          _tag === "SessionEnded"
            ? Wire.unauthorized({ message: "The session has ended; sign in again" })
            : Wire.ending({ message: "The server ends this call; call again" })
      )

    /** Returns the session that a call is made with. */
    const sessionOf = (headers: Headers.Headers): Effect.Effect<Session, Unauthorized | Unavailable> => {
      const transport = transports.get(headers[transportHeader] ?? "")
      const { authorization } = headers
      if (transport !== undefined && transport.authorization === authorization) return Effect.succeed(transport.session)
      const text = bearerForm.exec(authorization ?? "")?.[1]
      if (text === undefined) {
        return Wire.unauthorized({
          message: authorization === undefined ? "Sign in first" : "A call takes a bearer token"
        })
      }
      return Effect.catchReasons(
        sessions.verify(Redacted.make(text, { label: "session-token" })),
        "SessionCredentialError",
        {
          SessionRefused: (reason) => Wire.unauthorized(reason),
          SessionStoreUnavailable: (reason) => Wire.unavailable(reason)
        },
        (reason) => Effect.die(reason)
      )
    }

    const checkScopes = (
      session: Session,
      scopes: ReadonlyArray<AccessScope.AccessScope>
    ): Effect.Effect<void, Forbidden> => {
      const missing = AccessScope.missing(session.scopes, scopes)
      return missing.length === 0 ? Effect.void : Wire.scopeRequired(missing)
    }

    return Effect.fnUntraced(function*(effect, { headers, rpc }) {
      const scopes = Context.getOption(rpc.annotations, RequiredScopes)
      if (Option.isNone(scopes)) {
        return yield* Effect.die(
          new Error(`The RPC ${rpc._tag} is authenticated but declares no scope; use requires(scope)`)
        )
      }
      const calls = transports.get(headers[transportHeader] ?? "")?.calls
      if (calls !== undefined) {
        const scope = yield* Effect.serviceOption(Scope.Scope)
        if (Option.isSome(scope)) {
          calls.count++
          calls.idle.closeUnsafe()
          // Closed when the call has been answered.
          const ended = Effect.sync(() => --calls.count === 0 && calls.idle.openUnsafe())
          yield* Scope.addFinalizer(scope.value, ended)
        }
      }
      const session = yield* sessionOf(headers)
      yield* checkScopes(session, scopes.value)
      const call = Effect.provideService(effect, CurrentSession, session)
      const streamed = Effect.raceFirst(call, untilEnd(session))
      if (!RpcSchema.isStreamSchema(rpc.successSchema)) {
        return yield* calls === undefined ? call : streamed
      }
      // A socket may carry any number of streams, and each is held open as a connection is.
      return yield* Effect.scoped(Effect.flatMap(open(session), (opened) =>
        opened
          ? streamed
          : Wire.ending({
            message: "This session has as many streams open as it may at once; close one of them first"
          })))
    })
  })
).pipe(Layer.provideMerge(TransportSessions.layer))
