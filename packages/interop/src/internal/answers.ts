/**
 * What the answers to the libraries' clients have in common: their statuses, their form as Server-Sent Events, and when an
 * open one has to end.
 */
import { boundedRequest } from "@sallyport/core/BoundedHttp"
import * as ConnectionEnd from "@sallyport/core/access/ConnectionEnd"
import { CurrentSession } from "@sallyport/core/access/CurrentSession"
import { SessionCredentialService } from "@sallyport/core/access/SessionCredentialService"
import { maxJson } from "@sallyport/core/Input"
import { Stopping } from "@sallyport/core/Stopping"
import * as ByteSize from "effect/ByteSize"
import * as Effect from "effect/Effect"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

const statuses: Readonly<Record<string, number>> = {
  malformed_cursor: 400,
  invalid_input: 400,
  run_not_found: 404,
  thread_busy: 409,
  too_many_runs: 409,
  cursor_beyond_end: 409,
  cursor_expired: 410,
  limit_exceeded: 413,
  idempotency_conflict: 422,
  too_many_connections: 429
}

/** Names the lists of a chat or an agent's input, and those of a message: a schema takes long for each of their entries. */
const lists = ["messages", "tools", "context", "resume"]
const messageLists = ["parts", "content", "toolCalls"]
/** How many entries they may have together, in a body of the usual size. */
const maxEntries = 1_024

const countEntries = (value: unknown, names: ReadonlyArray<string>, most: number): number => {
  let count = 0
  for (const name of names) {
    const list = Predicate.hasProperty(value, name) ? value[name] : undefined
    if (!Array.isArray(list)) continue
    count += list.length
    if (names === messageLists) continue
    for (const entry of list) {
      if (count > most) return count
      count += countEntries(entry, messageLists, most)
    }
  }
  return count
}

/**
 * Reads the JSON of the current request's body, and fails with the code of what is wrong with it. A body may have as many
 * bytes as the contract's own endpoint takes for the input of a run, and 1,024 messages, parts of them, tools and the like,
 * unless the host provides another bound: one of as many times the bytes is one of as many times the rest.
 */
export const body = Effect.gen(function*() {
  const request = boundedRequest(yield* HttpServerRequest.HttpServerRequest)
  const maxBodySize = (yield* HttpIncomingMessage.MaxBodySize) ?? ByteSize.kibibytes(256)
  const json = yield* Effect.provideService(request.json, HttpIncomingMessage.MaxBodySize, maxBodySize).pipe(
    Effect.mapError(({ reason }) =>
      reason._tag === "RequestParseError" && reason.reason === "BodyTooLarge" ? "limit_exceeded" : "invalid_input"
    )
  )
  const most = maxEntries * Math.max(1, ByteSize.toNumberUnsafe(maxBodySize) / maxJson.bytes)
  return countEntries(json, lists, most) > most ? yield* Effect.fail("limit_exceeded") : json
})

/** Answers with the status of an error, and its code and sentence as JSON. */
export const problem = (
  { code, message }: { readonly code: string; readonly message: string }
): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.jsonUnsafe({ code, message }, {
    status: statuses[code] ?? 503,
    headers: code === "too_many_connections" ? { "retry-after": "1" } : {}
  })

/** Answers with what a handler answers, or with its error. */
export const orProblem = <R>(
  handler: Effect.Effect<HttpServerResponse.HttpServerResponse, { readonly code: string; readonly message: string }, R>
): Effect.Effect<HttpServerResponse.HttpServerResponse, never, R> =>
  handler.pipe(Effect.catch((error) => Effect.succeed(problem(error))))

const encoder = new TextEncoder()
const heartbeat = encoder.encode(":\n\n")

/**
 * Answers with the text of Server-Sent Events, with a comment at once and at least every 15 seconds. If the stream fails,
 * the connection is cut.
 */
export const eventStream = <E>(
  texts: Stream.Stream<string, E>,
  headers: Readonly<Record<string, string>> = {}
): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.stream(
    texts.pipe(
      Stream.map((text) => encoder.encode(text)),
      Stream.merge(Stream.fromSchedule(Schedule.spaced("15 seconds")).pipe(Stream.map(() => heartbeat)), {
        haltStrategy: "left"
      }),
      // A run may be quiet for long, and the head of the answer goes out with its first bytes.
      Stream.prepend([heartbeat])
    ),
    {
      contentType: "text/event-stream",
      headers: { "cache-control": "no-cache, no-transform", "x-accel-buffering": "no", ...headers }
    }
  )

/** Says that a session has as many answers open as it may. */
export const tooManyConnections = {
  code: "too_many_connections",
  message: "This session has as many connections open as it may at once; close one of them first"
} as const

const ends = {
  SessionEnded: "session_ended",
  SessionUnknown: "unavailable",
  ServerStopping: "stopping",
  HostEnded: "stopping"
} as const

const makeConnections = Effect.all({ awaitEnd: ConnectionEnd.make, open: ConnectionEnd.makeOpen })

// The handlers stand in no layer that could make it once. All answers to a session share one watch of it.
const known = new WeakMap<SessionCredentialService["Service"], Effect.Success<typeof makeConnections>>()

/**
 * Counts the answer to the current request as an open connection of the session that let it in, and returns how to wait
 * until it has to end, and why: the server begins to stop, or the session has ended, or it cannot be told whether it has.
 * Without a session, only the server ends it. Fails if the session has as many connections open as it may.
 */
export const open: Effect.Effect<
  Effect.Effect<(typeof ends)[keyof typeof ends]>,
  typeof tooManyConnections,
  Scope.Scope
> = Effect.gen(function*() {
  const session = yield* Effect.serviceOption(CurrentSession)
  const sessions = yield* Effect.serviceOption(SessionCredentialService)
  if (Option.isNone(session) || Option.isNone(sessions)) return Effect.as(yield* Stopping, "stopping" as const)
  let connections = known.get(sessions.value)
  if (connections === undefined) {
    connections = yield* Effect.provideService(makeConnections, SessionCredentialService, sessions.value)
    known.set(sessions.value, connections)
  }
  if (!(yield* connections.open(session.value))) return yield* Effect.fail(tooManyConnections)
  return Effect.map(connections.awaitEnd(session.value), ({ _tag }) => ends[_tag])
})
