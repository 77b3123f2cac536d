/** The runs of this application: each reads the session's notes, slowly, and reports each summary at once. */
import { RunProgram } from "@sallyport/http"
import { Effect, Schema } from "effect"
import { Notes } from "./Notes.ts"

/** Describes the input of a run. */
export const Input = Schema.Struct({
  /** How long to work on each note, in milliseconds. */
  ponderMillis: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 60_000 })).pipe(
    Schema.withDecodingDefaultKey(Effect.succeed(1_000))
  )
})

const firstSentence = (text: string): string => /^[^.!?\n]*[.!?]?/.exec(text)?.[0] ?? text

// #region program
/** Provides the program that `POST /api/runs` executes. It continues after its client has disconnected. */
export const layer = RunProgram.layer(Effect.fnUntraced(function*({ input, run, session }) {
  const { ponderMillis } = yield* Schema.decodeUnknownEffect(Input)(input)
  const notes = yield* (yield* Notes).byAuthor(session.subject)
  for (const note of notes) {
    yield* Effect.sleep(ponderMillis)
    yield* run.append({ note: note.id, summary: firstSentence(note.text) })
  }
  return { notes: notes.length }
}))
// #endregion program
