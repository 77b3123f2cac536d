/**
 * Serves `POST /approvals/:runId` with `{ "approved": true }`: a person's decision on one of their own runs.
 */
import { CurrentSession, RunEventLog } from "@sallyport/core"
import { Authentication } from "@sallyport/http"
import { Effect, Layer, Schema } from "effect"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "effect/http"
import { Approvals } from "./Approvals.ts"

const Params = Schema.Struct({ runId: Schema.String })
const Decision = Schema.Struct({ approved: Schema.Boolean })

const decide = HttpRouter.add(
  "POST",
  "/approvals/:runId",
  Effect.gen(function*() {
    const { subject } = yield* CurrentSession.CurrentSession
    const { runId } = yield* HttpRouter.schemaPathParams(Params)
    const { approved } = yield* HttpServerRequest.schemaBodyJson(Decision)
    const log = yield* RunEventLog.RunEventLog
    // A run of another user is not found.
    yield* log.get({ runId, owner: { subject } })
    const counts = yield* (yield* Approvals).decide(runId, approved)
    return HttpServerResponse.empty({ status: counts ? 204 : 409 })
  }).pipe(
    Effect.catchReasons("RunEventLogError", {
      RunNotFound: ({ message }) => Effect.succeed(HttpServerResponse.text(message, { status: 404 }))
    }, ({ message }) => Effect.succeed(HttpServerResponse.text(message, { status: 503 }))),
    Effect.catchTag("SchemaError", ({ message }) => Effect.succeed(HttpServerResponse.text(message, { status: 400 }))),
    Effect.catchTag(
      "HttpServerError",
      ({ message }) => Effect.succeed(HttpServerResponse.text(message, { status: 400 }))
    )
  )
)

export const layer = decide.pipe(Layer.provide(Authentication.guard("runs:operate").layer))
