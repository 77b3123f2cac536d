/**
 * Answers the endpoints of runs: starting one, following it as Server-Sent Events, finding it again, ending it.
 */
import { endTold, runView } from "@sallyport/contract/RunGroup"
import type { TooManyRequests } from "@sallyport/contract/WireError"
import { SallyportApi } from "@sallyport/contract/SallyportApi"
import { CurrentSession } from "@sallyport/core/access/CurrentSession"
import { isEnded, isRunId, latest, type RunOwner } from "@sallyport/core/runs/Run"
import { type ExecutedRunRequest, RunEventLog, type RunEventLogError } from "@sallyport/core/runs/RunEventLog"
import type { Session } from "@sallyport/core/access/Session"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as EventStream from "./EventStream.ts"
import * as RunEventStream from "./internal/runEventStream.ts"
import * as Wire from "./internal/wire.ts"
import { RunProgram } from "./RunProgram.ts"

const ownerOf = (session: Session): RunOwner => ({ subject: session.subject })

const owner = Effect.map(CurrentSession, ownerOf)

/**
 * Provides the handlers of the group `runs`; the host provides what a run does as `RunProgram`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = HttpApiBuilder.group(
  SallyportApi,
  "runs",
  Effect.fn(function*(handlers) {
    const log = yield* RunEventLog
    const program = yield* RunProgram
    const endOf = yield* EventStream.makeEnding
    const countConnection = yield* EventStream.makeAdmission
    const heartbeatInterval = yield* EventStream.HeartbeatInterval

    const follow = Effect.fn(
      function*(
        after: string | undefined,
        threadId?: string
      ): Effect.fn.Return<
        HttpServerResponse.HttpServerResponse,
        RunEventLogError | TooManyRequests,
        CurrentSession | HttpServerRequest | Scope.Scope
      > {
        const session = yield* CurrentSession
        const { cursor, events } = yield* log.followEncoded({ owner: ownerOf(session), threadId, after })
        yield* countConnection(session)
        return RunEventStream.respondFollowed(events, {
          until: endOf(session),
          heartbeatInterval,
          first: after === latest ? RunEventStream.cursorEvent(cursor) : undefined
        })
      }
    )

    return handlers.handleAll({
      start: Effect.fn(
        function*({ headers, payload }) {
          const session = yield* CurrentSession
          const request: ExecutedRunRequest = {
            threadId: payload.threadId,
            idempotencyKey: headers["idempotency-key"],
            request: payload.input,
            owner: ownerOf(session),
            whenBusy: payload.whenBusy,
            resumable: program.resumable,
            joinDeltas: program.joinDeltas,
            metadata: payload.continuation === undefined ? undefined : { continuation: payload.continuation }
          }
          const { created, run } = yield* Option.match(program.byEngine, {
            onNone: () => log.execute(request, (run) => program.execute({ input: payload.input, run, session })),
            onSome: (start) => start(request)
          })
          return created ? { created: true as const, run: runView(run) } : {
            created: false as const,
            run: runView(run)
          }
        },
        Effect.catchReasons("RunEventLogError", {
          ThreadBusy: (reason) => Wire.threadBusy(reason),
          TooManyRuns: (reason) => Wire.tooManyRuns(reason),
          IdempotencyConflict: (reason) => Wire.idempotencyConflict(reason),
          InvalidInput: (reason) => Wire.invalidRequest(reason),
          ShuttingDown: (reason) => Wire.unavailable(reason),
          StorageFailure: (reason) => Wire.unavailable(reason)
        }, (reason) => Effect.die(reason))
      ),
      list: Effect.fn(
        function*({ query }) {
          const place = yield* Wire.readPlace(query.after, isRunId)
          const runs = yield* log.list({
            owner: yield* owner,
            threadId: query.threadId,
            status: query.status,
            after: place === undefined ? undefined : { startedAt: place.time, runId: place.id },
            limit: Wire.pageSize
          })
          return {
            runs: runs.map(runView),
            next: Wire.nextPage(runs, (last) => Wire.placeAt(last.startedAt, last.runId))
          }
        },
        Effect.catchReasons("RunEventLogError", {
          InvalidInput: (reason) => Wire.invalidRequest(reason),
          StorageFailure: (reason) => Wire.unavailable(reason)
        }, (reason) => Effect.die(reason))
      ),
      follow: Effect.fn(
        function*({ headers, query }) {
          return yield* follow(headers["last-event-id"] ?? query.after)
        },
        Effect.catchReasons("RunEventLogError", {
          InvalidCursor: (reason) => Wire.malformedCursor(reason),
          CursorBeyondEnd: (reason) => Wire.cursorBeyondEnd(reason),
          CursorExpired: (reason) => Wire.cursorExpired(reason),
          StorageFailure: (reason) => Wire.unavailable(reason)
        }, (reason) => Effect.die(reason))
      ),
      followThread: Effect.fn(
        function*({ headers, params, query }) {
          return yield* follow(headers["last-event-id"] ?? query.after, params.id)
        },
        Effect.catchReasons("RunEventLogError", {
          InvalidCursor: (reason) => Wire.malformedCursor(reason),
          ThreadNotFound: (reason) => Wire.threadNotFound(reason),
          CursorBeyondEnd: (reason) => Wire.cursorBeyondEnd(reason),
          CursorExpired: (reason) => Wire.cursorExpired(reason),
          InvalidInput: (reason) => Wire.invalidRequest(reason),
          StorageFailure: (reason) => Wire.unavailable(reason)
        }, (reason) => Effect.die(reason))
      ),
      get: Effect.fn(
        function*({ params }) {
          return runView(yield* log.get({ runId: params.id, owner: yield* owner }))
        },
        Effect.catchReasons("RunEventLogError", {
          RunNotFound: (reason) => Wire.runNotFound(reason),
          StorageFailure: (reason) => Wire.unavailable(reason)
        }, (reason) => Effect.die(reason))
      ),
      events: Effect.fn(
        function*({ headers, params, query }) {
          const session = yield* CurrentSession
          const named = { runId: params.id, owner: ownerOf(session) }
          const run = yield* log.get(named)
          // A reconnecting EventSource sends the header, beside the query that its URL was made with.
          const asked = headers["last-event-id"] ?? query.after
          const reader = { ...named, after: asked === latest ? String(run.lastSeq) : asked }
          if (isEnded(run.status) && reader.after === endTold) return HttpServerResponse.empty({ status: 204 })
          yield* countConnection(session)
          if (isEnded(run.status) && reader.after === String(run.lastSeq)) {
            // At the end of an ended run: unless its log lacks the terminal event, there is nothing to say, ever.
            const next = yield* Stream.runHead(yield* log.eventsEncoded(reader))
            if (Option.isNone(next)) return HttpServerResponse.empty({ status: 204 })
          }
          const events = yield* log.eventsPushed(reader)
          return RunEventStream.respond(events, {
            until: endOf(session),
            heartbeatInterval,
            first: asked === latest ? RunEventStream.cursorEvent(String(run.lastSeq)) : undefined
          })
        },
        Effect.catchReasons("RunEventLogError", {
          InvalidCursor: (reason) => Wire.malformedCursor(reason),
          RunNotFound: (reason) => Wire.runNotFound(reason),
          CursorBeyondEnd: (reason) => Wire.cursorBeyondEnd(reason),
          CursorExpired: (reason) => Wire.cursorExpired(reason),
          ShuttingDown: (reason) => Wire.unavailable(reason),
          StorageFailure: (reason) => Wire.unavailable(reason)
        }, (reason) => Effect.die(reason))
      ),
      active: Effect.fn(
        function*({ headers, params }) {
          const idempotencyKey = headers["idempotency-key"]
          const run = idempotencyKey === undefined
            ? yield* log.activeForThread({ threadId: params.id, owner: yield* owner })
            // A key that was used in another thread stands for nothing in this one.
            : Option.filter(
              yield* log.getByKey({ idempotencyKey, owner: yield* owner }),
              ({ threadId }) => threadId === params.id
            )
          return { run: Option.match(run, { onNone: () => null, onSome: runView }) }
        },
        Effect.catchReasons("RunEventLogError", {
          InvalidInput: (reason) => Wire.invalidRequest(reason),
          StorageFailure: (reason) => Wire.unavailable(reason)
        }, (reason) => Effect.die(reason))
      ),
      answer: Effect.fn(
        function*({ params, payload }) {
          return runView(yield* log.answer({ ...payload, runId: params.id, owner: yield* owner }))
        },
        Effect.catchReasons("RunEventLogError", {
          InvalidInput: (reason) => Wire.invalidRequest(reason),
          RunNotFound: (reason) => Wire.runNotFound(reason),
          RunEnded: (reason) => Wire.runEnded(reason),
          QuestionNotFound: (reason) => Wire.questionNotFound(reason),
          QuestionAnswered: (reason) => Wire.questionAnswered(reason),
          LimitExceeded: (reason) => Wire.limitExceeded(reason),
          StorageFailure: (reason) => Wire.unavailable(reason)
        }, (reason) => Effect.die(reason))
      ),
      abort: Effect.fn(
        function*({ params }) {
          const result = yield* log.abort({ runId: params.id, owner: yield* owner })
          // A run that is named by its id exists.
          return result._tag === "Registered" ? yield* Effect.die(result) : runView(result.run)
        },
        Effect.catchReasons("RunEventLogError", {
          RunNotFound: (reason) => Wire.runNotFound(reason),
          StorageFailure: (reason) => Wire.unavailable(reason)
        }, (reason) => Effect.die(reason))
      ),
      abortThread: Effect.fn(
        function*({ params, payload }) {
          const result = yield* log.abort({
            threadId: params.id,
            idempotencyKey: payload.idempotencyKey,
            owner: yield* owner
          })
          switch (result._tag) {
            case "Aborted":
              return { outcome: "aborted" as const, run: runView(result.run) }
            case "AlreadyEnded":
              return { outcome: "already-ended" as const, run: runView(result.run) }
            case "Registered":
              return { outcome: "registered" as const, run: null }
          }
        },
        Effect.catchReasons("RunEventLogError", {
          InvalidInput: (reason) => Wire.invalidRequest(reason),
          TooManyRuns: (reason) => Wire.tooManyRuns(reason),
          IdempotencyConflict: (reason) => Wire.idempotencyConflict(reason),
          StorageFailure: (reason) => Wire.unavailable(reason)
        }, (reason) => Effect.die(reason))
      )
    })
  })
)
