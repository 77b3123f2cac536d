/**
 * Runs as streams that clients of the protocol read: `GET` and `HEAD` of `runs/<id>` below the root of streams.
 *
 * A run is a stream of JSON with one message for each event, `{ seq, kind, data }`, whose offset counts events; it is closed
 * after the terminal event. Only its program writes to it: everything but reading is answered 405. Reading asks for the
 * scope `runs:read`, and another owner's run is not found.
 */
import type { AuthPolicy } from "@sallyport/core/access/AuthPolicy"
import { CurrentSession } from "@sallyport/core/access/CurrentSession"
import { isEnded, type Run, type RunEventEncoded, type RunOwner } from "@sallyport/core/runs/Run"
import { RunEventLog, type RunEventLogError } from "@sallyport/core/runs/RunEventLog"
import type { SessionCredentialService } from "@sallyport/core/access/SessionCredentialService"
import * as Authentication from "@sallyport/http/Authentication"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { StreamInfo, StreamOffset, StreamPage } from "./DurableStream.ts"
import { BeyondTail, DurableStreamsError, StorageFailure, StreamGone, StreamNotFound } from "./DurableStreams.ts"
import type { CommonOptions } from "./DurableStreamsRoutes.ts"
import * as Live from "./internal/live.ts"
import * as Reader from "./internal/reader.ts"
import * as Request from "./internal/request.ts"
import * as Wire from "./internal/wire.ts"

export { InvalidStreamsRoutesOptions } from "./internal/live.ts"

/**
 * Lists the settings of the routes.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options extends CommonOptions, Live.Options {}

const pageEvents = 256
const encoder = new TextEncoder()

const toError = (path: string) => ({ reason }: RunEventLogError): Effect.Effect<never, DurableStreamsError> => {
  switch (reason._tag) {
    case "RunNotFound":
      return Effect.fail(new DurableStreamsError({ reason: new StreamNotFound({ path }) }))
    case "CursorExpired":
      return Effect.fail(new DurableStreamsError({ reason: new StreamGone({ path }) }))
    case "CursorBeyondEnd":
      return Effect.fail(new DurableStreamsError({ reason: new BeyondTail({ path }) }))
    case "StorageFailure":
      return Effect.fail(new DurableStreamsError({ reason: new StorageFailure({ cause: reason.cause }) }))
    default:
      return Effect.die(reason)
  }
}

// The data is JSON text already.
const message = (event: RunEventEncoded): Uint8Array =>
  encoder.encode(`{"seq":${Option.getOrNull(event.seq)},"kind":"${event.kind}","data":${event.data}}`)

const describe = (path: string, run: Run): StreamInfo => ({
  id: 0,
  path,
  contentType: "application/json",
  tail: run.lastSeq,
  closed: isEnded(run.status),
  ttlMillis: null,
  expiresAtMillis: null
})

/** Reads a run in pages. */
const sourceOf = (log: RunEventLog["Service"], owner: RunOwner, runId: string) => {
  const path = `runs/${runId}`
  const events = (after: number) => log.eventsEncoded({ runId, owner, after })
  const get = Effect.gen(function*() {
    const run = yield* log.get({ runId, owner })
    if (run.expired) return yield* Effect.fail(new DurableStreamsError({ reason: new StreamGone({ path }) }))
    return run
  }).pipe(Effect.catchTag("RunEventLogError", toError(path)))

  const read = Effect.fnUntraced(
    function*(asked: StreamOffset | 0 | "tail"): Effect.fn.Return<StreamPage, DurableStreamsError | RunEventLogError> {
      const run = yield* get
      const stream = describe(path, run)
      const from = asked === "tail" ? run.lastSeq : asked === 0 ? 0 : asked.position
      const nothing = { stream, from, next: from, pieces: [], upToDate: true }
      // A terminal event that was made up has the number after the last, and no event comes after it.
      if (stream.closed && from === run.lastSeq + 1) return { ...nothing, ended: true }
      if (!stream.closed && from === run.lastSeq) return { ...nothing, ended: false }
      // A running run's stream of events goes on after the last one, so that it has to be counted.
      const limit = stream.closed ? pageEvents : Math.min(pageEvents, Math.max(1, run.lastSeq - from))
      const page = yield* Stream.runCollect(Stream.take(yield* events(from), limit))
      const last = page[page.length - 1]
      const next = from + page.length
      const ended = last === undefined ? stream.closed : last.kind === "end"
      return {
        stream: { ...stream, tail: Math.max(stream.tail, next) },
        from,
        next,
        pieces: page.map(message),
        upToDate: ended || next === run.lastSeq,
        ended
      }
    },
    Effect.catchTag("RunEventLogError", toError(path))
  )

  const readNext: Reader.Source["readNext"] = (page) => {
    const next = read({ streamId: 0, position: page.next })
    if (!page.upToDate) return next
    return events(page.next).pipe(
      Effect.flatMap((following) => Stream.runHead(following)),
      Effect.catchTag("RunEventLogError", toError(path)),
      Effect.andThen(next),
      Effect.withTracerEnabled(false)
    )
  }
  const push: Reader.Source["push"] = (after) => (writer) =>
    Effect.gen(function*() {
      let last = after
      while (!last.ended) {
        last = yield* readNext(last)
        if (!writer.write(last)) yield* writer.drained
      }
    })
  const source: Reader.Source = { tag: () => runId, read, readNext, push }
  return { source, get, path }
}

const notAllowed = Wire.error(
  405,
  "METHOD_NOT_ALLOWED",
  "Only the program of a run writes to it; start a run instead",
  {
    headers: { allow: "GET, HEAD" }
  }
)

/**
 * Adds the streams of runs to the router, beside the routes of `DurableStreamsRoutes`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<
  never,
  Live.InvalidStreamsRoutesOptions,
  RunEventLog | SessionCredentialService | AuthPolicy | HttpRouter.HttpRouter
> => {
  const path = `${options?.prefix ?? "/streams"}/runs/:runId` as const
  const ownerOf = options?.owner ?? Request.ownerOfSubject

  const reading = Layer.effectDiscard(Effect.gen(function*() {
    const router = yield* HttpRouter.HttpRouter
    const log = yield* RunEventLog
    const live = yield* Live.make(options)

    const get = Effect.gen(function*() {
      const request = yield* HttpServerRequest.HttpServerRequest
      const session = yield* CurrentSession
      const { runId = "" } = yield* HttpRouter.params
      const run = sourceOf(log, ownerOf(session), runId)
      if (request.method === "HEAD") {
        const stream = describe(run.path, yield* run.get)
        return HttpServerResponse.empty({
          status: 200,
          headers: { ...Reader.describe(stream), "content-type": stream.contentType }
        })
      }
      return yield* Reader.respond({
        request,
        params: yield* HttpServerRequest.ParsedSearchParams,
        source: run.source,
        live: live(session)
      })
    })
    yield* router.add("GET", path, Request.answer(get))
  })).pipe(Layer.provide(Authentication.guard("runs:read").layer))

  return Layer.mergeAll(
    reading,
    HttpRouter.add("PUT", path, notAllowed),
    HttpRouter.add("POST", path, notAllowed),
    HttpRouter.add("DELETE", path, notAllowed)
  )
}
