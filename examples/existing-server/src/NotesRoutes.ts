/**
 * Serves the application's routes that are no part of an API: a page of text, and a WebSocket.
 */
import { CurrentSession, SessionCredentialService } from "@sallyport/core"
import { Authentication } from "@sallyport/http"
import { Effect, Layer, Stream } from "effect"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "effect/http"
import { Notes } from "./Notes.ts"

const asText = HttpRouter.add(
  "GET",
  "/notes.txt",
  Effect.gen(function*() {
    const { subject } = yield* CurrentSession.CurrentSession
    const notes = yield* (yield* Notes).byAuthor(subject)
    return HttpServerResponse.text(notes.map(({ text }) => `${text}\n`).join(""))
  }).pipe(
    Effect.catchTag("NotesError", (error) => Effect.succeed(HttpServerResponse.text(error.message, { status: 503 })))
  )
)

// #region socket
/** Sends each new note of the session's subject as a message. The socket closes when the session ends. */
const live = HttpRouter.add(
  "GET",
  "/notes/live",
  Effect.gen(function*() {
    const session = yield* CurrentSession.CurrentSession
    const sessions = yield* SessionCredentialService.SessionCredentialService
    const added = yield* (yield* Notes).changes
    yield* added.pipe(
      Stream.filter(({ author }) => author === session.subject),
      Stream.map((note) => JSON.stringify(note)),
      Stream.pipeThroughChannel(HttpServerRequest.upgradeChannel()),
      // Around the channel, not before it, so that the connection ends, not only its input.
      sessions.whileValid(session),
      Stream.runDrain
    )
    return HttpServerResponse.empty()
  })
)
// #endregion socket

// #region guard
/** Adds the routes, each behind the same check as the API's endpoints. */
export const layer = Layer.merge(asText, live).pipe(Layer.provide(Authentication.guard("notes:read").layer))
// #endregion guard
