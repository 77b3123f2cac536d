/**
 * Provides the application's own service: notes, in its own table of its own database.
 */
import { Context, Effect, Layer, PubSub, Schema, type Scope, Stream } from "effect"
import { Migrator, SqlClient, type SqlError, SqlSchema } from "effect/sql"

/** Describes what a client sends. */
export const NewNote = Schema.Struct({
  text: Schema.Trim.check(Schema.isNonEmpty(), Schema.isMaxLength(10_000))
})

/** Describes a note as it is stored. */
export class Note extends Schema.Class<Note>("notes/Note")({
  id: Schema.Int,
  author: Schema.String,
  text: Schema.String
}) {}

/** Reports that the notes' database did not answer. */
export class NotesError extends Schema.TaggedError<NotesError>()("NotesError", { cause: Schema.Defect() }) {
  override get message() {
    return "The notes cannot be reached at the moment; try again shortly"
  }
}

/** Provides the notes of all authors. */
export class Notes extends Context.Service<Notes, {
  /** Stores a note, then emits it to the subscribers of {@link changes}. */
  readonly add: (note: { readonly author: string; readonly text: string }) => Effect.Effect<Note, NotesError>
  /** Returns an author's notes, the oldest first. */
  readonly byAuthor: (author: string) => Effect.Effect<ReadonlyArray<Note>, NotesError>
  /** Subscribes to new notes: the stream has every note that is added after this effect, until its scope closes. */
  readonly changes: Effect.Effect<Stream.Stream<Note>, never, Scope.Scope>
}>()("notes/Notes") {}

const runMigrations = Migrator.make({})({
  loader: Migrator.fromRecord({
    "0001_create_notes": Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`CREATE TABLE notes (id INTEGER PRIMARY KEY, author TEXT NOT NULL, text TEXT NOT NULL)`
      yield* sql`CREATE INDEX notes_author ON notes (author, id)`
    })
  }),
  table: "notes_migrations"
})

const make = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* runMigrations
  const added = yield* PubSub.sliding<Note>(256)

  const insert = SqlSchema.findOne({
    Request: Schema.Struct({ author: Schema.String, text: Schema.String }),
    Result: Note,
    execute: (note) => sql`INSERT INTO notes ${sql.insert(note)} RETURNING id, author, text`
  })
  const select = SqlSchema.findAll({
    Request: Schema.String,
    Result: Note,
    execute: (author) => sql`SELECT id, author, text FROM notes WHERE author = ${author} ORDER BY id`
  })
  const refail = Effect.mapError((cause: unknown) => new NotesError({ cause }))

  return Notes.of({
    add: Effect.fn("Notes.add")(function*(note) {
      const stored = yield* insert(note)
      yield* PubSub.publish(added, stored)
      return stored
    }, refail),
    byAuthor: Effect.fn("Notes.byAuthor")((author) => select(author), refail),
    changes: Effect.map(PubSub.subscribe(added), Stream.fromSubscription)
  })
})

/** Provides the notes on the ambient database, after bringing their table up to date. */
export const layer: Layer.Layer<Notes, Migrator.MigrationError | SqlError.SqlError, SqlClient.SqlClient> = Layer.effect(
  Notes,
  make
)
