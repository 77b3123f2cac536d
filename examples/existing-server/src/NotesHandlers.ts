/**
 * Answers the endpoints of notes. `CurrentSession` is available because the endpoints require a scope.
 */
import { CurrentSession } from "@sallyport/core"
import { Authentication } from "@sallyport/http"
import { Effect, Layer } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { Notes } from "./Notes.ts"
import { NotesApi, NotesUnavailable } from "./NotesApi.ts"

const unavailable = Effect.mapError((error: Error) => new NotesUnavailable({ message: error.message }))

const handlers = HttpApiBuilder.group(
  NotesApi,
  "notes",
  Effect.fn(function*(handlers) {
    const notes = yield* Notes
    return handlers.handleAll({
      list: Effect.fn(function*() {
        const { subject } = yield* CurrentSession.CurrentSession
        return yield* notes.byAuthor(subject)
      }, unavailable),
      add: Effect.fn(function*({ payload }) {
        const { subject } = yield* CurrentSession.CurrentSession
        return yield* notes.add({ author: subject, text: payload.text })
      }, unavailable)
    })
  })
)

// #region mount
/** Adds the application's API to the router, behind Sallyport's middleware. */
export const layer = HttpApiBuilder.layer(NotesApi).pipe(
  Layer.provide(handlers),
  Layer.provide(Authentication.layer)
)
// #endregion mount
