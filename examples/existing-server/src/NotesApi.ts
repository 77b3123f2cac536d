/**
 * Describes the application's own API. Each endpoint states the scope that it requires with the contract's `requires`.
 */
import { requires } from "@sallyport/contract/Authentication"
import { Schema } from "effect"
import { HttpApi, HttpApiEndpoint, HttpApiGroup, HttpApiSchema } from "effect/http-api"
import { NewNote, Note } from "./Notes.ts"

/** Answers 503: the database did not answer. */
export class NotesUnavailable extends Schema.TaggedError<NotesUnavailable>()("NotesUnavailable", {
  message: Schema.String
}, { httpApiStatus: 503 }) {}

// #region api
/** Groups the endpoints of notes. */
export class NotesGroup extends HttpApiGroup.make("notes").add(
  HttpApiEndpoint.get("list", "/notes", {
    success: Schema.Array(Note),
    error: NotesUnavailable
  }).pipe(requires("notes:read")),
  HttpApiEndpoint.post("add", "/notes", {
    payload: NewNote,
    success: Note.pipe(HttpApiSchema.status(201)),
    error: NotesUnavailable
  }).pipe(requires("notes:write"))
) {}
// #endregion api

/** Describes the application's API. */
export class NotesApi extends HttpApi.make("notes-app").add(NotesGroup) {}
