/**
 * Tells a client the decision about its request as Server-Sent Events.
 */
import { decisionData } from "@sallyport/contract/ConnectProtocol"
import type { DecisionStatus } from "@sallyport/core/access/ConnectClient"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"

/** How long an environment is asked to wait at a time, and how often for one stream: five minutes in all. */
export const waitSeconds = 30
const rounds = 10
/** An environment that answers sooner than this is not asked again at once. */
const shortestRoundMillis = 1_000
/** Proxies cut a connection that is idle, often after 30 seconds. */
const heartbeatInterval = "15 seconds"

/** Tells a client why its stream stops. */
export type Failure = typeof decisionData.failure.Type

const encoder = new TextEncoder()
const encodeDecision = Schema.encodeSync(Schema.fromJsonString(decisionData.decision))
const encodeFailure = Schema.encodeSync(Schema.fromJsonString(decisionData.failure))
const write = (event: keyof typeof decisionData, data: string) => encoder.encode(`event: ${event}\ndata: ${data}\n\n`)
// The head is sent with the first chunk, so one is sent at once.
const opening = encoder.encode("retry: 1000\n\n")
const heartbeat = encoder.encode(": heartbeat\n\n")

/**
 * Answers with what `ask` says, which is asked again, one at a time, until something is decided. Ends with a failure of
 * `until`, and without a word if it succeeds.
 */
export const respond = (options: {
  /** Waits for {@link waitSeconds}. */
  readonly ask: Effect.Effect<DecisionStatus, Failure>
  readonly until: Effect.Effect<void, Failure>
}): HttpServerResponse.HttpServerResponse => {
  const round = Effect.fnUntraced(function*(resting: number) {
    if (resting > 0) yield* Effect.sleep(resting)
    const startedAt = yield* Clock.currentTimeMillis
    const status = yield* options.ask
    const took = (yield* Clock.currentTimeMillis) - startedAt
    return [status, Math.max(0, shortestRoundMillis - took)] as const
  })
  const decisions = Stream.unfold(0, round).pipe(
    Stream.takeUntil((status) => status !== "pending"),
    Stream.take(rounds),
    Stream.map((approvalStatus) => write("decision", encodeDecision({ approvalStatus })))
  )
  const heartbeats = Stream.map(Stream.drop(Stream.tick(heartbeatInterval), 1), () => heartbeat)
  const events = Stream.succeed(opening).pipe(
    Stream.concat(Stream.merge(decisions, heartbeats, { haltStrategy: "left" })),
    Stream.interruptWhen(options.until),
    Stream.catch((failure) => Stream.succeed(write("failure", encodeFailure(failure))))
  )
  return HttpServerResponse.stream(events, {
    contentType: "text/event-stream",
    // `x-accel-buffering` turns off the buffering of nginx and of what follows it.
    headers: { "cache-control": "no-cache, no-transform", "x-accel-buffering": "no" }
  })
}
