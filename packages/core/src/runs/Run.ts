/**
 * The vocabulary of runs: a run, its events, its owner, and the cursor with which a reader continues.
 *
 * A run is one execution of a host's program on behalf of a thread. Its events are numbered from 1 without gaps; the last
 * one is the terminal event, of kind `end`.
 */
import * as Equal from "effect/Equal"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Input from "../Input.ts"
import * as Text from "../Text.ts"

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

/**
 * Decodes the id of a run, a lowercase UUIDv7.
 *
 * @category models
 * @since 0.1.0
 */
export const RunId = Schema.String.check(Schema.isPattern(uuid)).pipe(Schema.brand("RunId"))
/**
 * @see {@link RunId}
 *
 * @category models
 * @since 0.1.0
 */
export type RunId = typeof RunId.Type

/**
 * Tells whether text has the form of a run's id; what has not is no run, and needs no look-up.
 *
 * @category guards
 * @since 0.1.0
 */
export const isRunId = (text: string): text is RunId => uuid.test(text)

const key = Text.key()

/**
 * Decodes the id of a thread: 1 to 255 characters of the host's choice, of 512 bytes at most, without control
 * characters.
 *
 * @category models
 * @since 0.1.0
 */
export const ThreadId = key
/**
 * Decodes an idempotency key: 1 to 255 characters of the caller's choice, of 512 bytes at most, without control
 * characters.
 *
 * @category models
 * @since 0.1.0
 */
export const IdempotencyKey = key

/**
 * Describes to whom a run belongs: a subject, acting for itself or within an organisation.
 *
 * @category models
 * @since 0.1.0
 */
export const RunOwner = Schema.Struct({
  subject: key,
  org: Schema.optionalKey(Schema.UndefinedOr(key))
})
/**
 * @see {@link RunOwner}
 *
 * @category models
 * @since 0.1.0
 */
export type RunOwner = typeof RunOwner.Type

/**
 * Returns one text for an owner that no other owner has; runs, threads and idempotency keys are kept apart by it.
 *
 * @category converting
 * @since 0.1.0
 */
export const ownerKey = (owner: RunOwner): string =>
  JSON.stringify(owner.org === undefined ? [owner.subject] : [owner.subject, owner.org])

/**
 * Lists the states of a run. A `queued` run waits for its thread, a `waiting` one for the answer to a question; both go on as
 * `running`. The others never change.
 *
 * @category models
 * @since 0.1.0
 */
export const RunStatus = Schema.Literals(["queued", "running", "waiting", "succeeded", "failed", "aborted"])
/**
 * @see {@link RunStatus}
 *
 * @category models
 * @since 0.1.0
 */
export type RunStatus = typeof RunStatus.Type

/**
 * Lists the states in which a run has ended.
 *
 * @category models
 * @since 0.1.0
 */
export const RunEndStatus = Schema.Literals(["succeeded", "failed", "aborted"])
/**
 * @see {@link RunEndStatus}
 *
 * @category models
 * @since 0.1.0
 */
export type RunEndStatus = typeof RunEndStatus.Type

/**
 * Tells whether a state is one in which a run has ended.
 *
 * @category guards
 * @since 0.1.0
 */
export const isEnded: (status: RunStatus) => status is RunEndStatus = Schema.is(RunEndStatus)

/**
 * Names what a run does whose thread is busy: it is refused, it waits for its turn, or it ends the run that is running.
 *
 * @category models
 * @since 0.1.0
 */
export const WhenBusy = Schema.Literals(["reject", "enqueue", "interrupt"])
/**
 * @see {@link WhenBusy}
 *
 * @category models
 * @since 0.1.0
 */
export type WhenBusy = typeof WhenBusy.Type

/**
 * Describes a run as hosts and clients see it. Times are by the database's clock.
 *
 * @category models
 * @since 0.1.0
 */
export class Run extends Schema.Class<Run>("@sallyport/core/runs/Run")({
  runId: RunId,
  threadId: Schema.String,
  owner: RunOwner,
  idempotencyKey: Schema.String,
  status: RunStatus,
  /** Why the run ended, if there is more to say than the status: `stale_run`, `server_shutdown`, the host's own. */
  endReason: Schema.NullOr(Schema.String),
  /** Counts the writers that the run has had. A writer with an older epoch is refused. */
  epoch: Schema.Natural,
  /** The number of the newest event, 0 while there is none. */
  lastSeq: Schema.Natural,
  startedAt: Schema.DateTimeUtcFromMillis,
  heartbeatAt: Schema.NullOr(Schema.DateTimeUtcFromMillis),
  completedAt: Schema.NullOr(Schema.DateTimeUtcFromMillis),
  /** True once the events have been deleted; every cursor of the run has then expired. */
  expired: Schema.Boolean,
  /** What the host noted about the run, such as the runs that it continues. */
  metadata: Schema.Json
}) {}

/**
 * Describes what a run continues: the runs that were attempted for the same work before it, the oldest first, and why the
 * last of them was not the end of it, such as `stale_run`. A host keeps it in a run's metadata as `continuation`.
 *
 * @category models
 * @since 0.1.0
 */
export const RunContinuation = Schema.Struct({
  attemptedRunIds: Schema.NonEmptyArray(RunId).check(Schema.isMaxLength(32)),
  reason: key
})
/**
 * @see {@link RunContinuation}
 *
 * @category models
 * @since 0.1.0
 */
export type RunContinuation = typeof RunContinuation.Type

const decodeContinued = Schema.decodeUnknownOption(Schema.Struct({ continuation: RunContinuation }))

/**
 * Reads what a run continues from its metadata; none if the host noted nothing of that form.
 *
 * @category converting
 * @since 0.1.0
 */
export const continuationOf = (metadata: Schema.Json): Option.Option<RunContinuation> =>
  Option.map(decodeContinued(metadata), ({ continuation }) => continuation)

/**
 * Describes how far a run has come, if it knows: `done` of `total` steps. A program says so with an event whose data has
 * it as `progress`, beside whatever else it tells.
 *
 * @category models
 * @since 0.1.0
 */
export const RunProgress = Schema.Struct({
  done: Schema.Natural,
  total: Schema.Natural
}).check(Schema.makeFilter(({ done, total }) => done <= total, { expected: "no more done than there is in total" }))
/**
 * @see {@link RunProgress}
 *
 * @category models
 * @since 0.1.0
 */
export type RunProgress = typeof RunProgress.Type

const decodeProgress = Schema.decodeUnknownOption(Schema.Struct({ progress: RunProgress }))

/**
 * Reads from the data of an event how far its run has come; none if it doesn't say.
 *
 * @category converting
 * @since 0.1.0
 */
export const progressOf = (data: Schema.Json): Option.Option<RunProgress> =>
  Option.map(decodeProgress(data), ({ progress }) => progress)

/**
 * Describes a question of a run, as the data of an event: its name, which no other question of the run has, and what is
 * asked, for the page that shows it.
 *
 * @category models
 * @since 0.1.0
 */
export const RunQuestion = Schema.Struct({ name: key, ask: Input.json })
/**
 * @see {@link RunQuestion}
 *
 * @category models
 * @since 0.1.0
 */
export type RunQuestion = typeof RunQuestion.Type

/**
 * Describes the answer to a question of a run, as the data of an event.
 *
 * @category models
 * @since 0.1.0
 */
export const RunAnswer = Schema.Struct({ name: key, value: Input.json })
/**
 * @see {@link RunAnswer}
 *
 * @category models
 * @since 0.1.0
 */
export type RunAnswer = typeof RunAnswer.Type

/**
 * Describes what a page or a terminal can show of a question: its text, and the answers to choose from. Without choices any
 * text is an answer.
 *
 * @category models
 * @since 0.1.0
 */
export const RunPrompt = Schema.Struct({
  text: Schema.optionalKey(Schema.String),
  /** Each is an answer as it stands. */
  choices: Schema.optionalKey(Schema.NonEmptyArray(Schema.Json))
})
/**
 * @see {@link RunPrompt}
 *
 * @category models
 * @since 0.1.0
 */
export type RunPrompt = typeof RunPrompt.Type

const decodePrompt = Schema.decodeUnknownOption(RunPrompt)

/**
 * Reads what a question asks. A text is asked as it stands, an object by the fields of {@link RunPrompt}; what has another
 * form is asked as JSON, and `null` by the question's name.
 *
 * @category converting
 * @since 0.1.0
 */
export const promptOf = ({ ask, name }: RunQuestion): Required<Pick<RunPrompt, "text">> & RunPrompt => {
  if (ask === null) return { text: name }
  if (typeof ask === "string") return { text: ask }
  const prompt = Option.filter(decodePrompt(ask), ({ choices, text }) => choices !== undefined || text !== undefined)
  return Option.match(prompt, {
    onNone: () => ({ text: JSON.stringify(ask) }),
    onSome: (prompt) => ({ ...prompt, text: prompt.text ?? name })
  })
}

const decodeQuestion = Schema.decodeUnknownOption(Schema.Struct({ question: RunQuestion }))
const decodeAnswer = Schema.decodeUnknownOption(Schema.Struct({ answer: RunAnswer }))

/**
 * Reads the question that an event asks; none if it asks none.
 *
 * @category converting
 * @since 0.1.0
 */
export const questionOf = (data: Schema.Json): Option.Option<RunQuestion> =>
  Option.map(decodeQuestion(data), ({ question }) => question)

/**
 * Reads the answer that an event tells of; none if it tells of none.
 *
 * @category converting
 * @since 0.1.0
 */
export const answerOf = (data: Schema.Json): Option.Option<RunAnswer> =>
  Option.map(decodeAnswer(data), ({ answer }) => answer)

/**
 * Describes the data of a terminal event.
 *
 * @category models
 * @since 0.1.0
 */
export const RunEnd = Schema.Struct({
  status: RunEndStatus,
  reason: Schema.optionalKey(Schema.String),
  /** What the program returned. Only if it succeeded and returned something. */
  result: Schema.optionalKey(Input.json),
  /** A sentence for people, without internals. Only if it failed. */
  error: Schema.optionalKey(Schema.Struct({ message: Schema.String }))
})
/**
 * @see {@link RunEnd}
 *
 * @category models
 * @since 0.1.0
 */
export type RunEnd = typeof RunEnd.Type

/**
 * Lists the kinds of events. A terminal event is told by its kind, never by its data.
 *
 * @category models
 * @since 0.1.0
 */
export const RunEventKind = Schema.Literals(["data", "end"])
/**
 * @see {@link RunEventKind}
 *
 * @category models
 * @since 0.1.0
 */
export type RunEventKind = typeof RunEventKind.Type

/**
 * Describes one event of a run.
 *
 * @category models
 * @since 0.1.0
 */
export interface RunEvent {
  readonly runId: RunId
  /**
   * The number of the event, which is also the cursor to continue after it. None if the terminal event is made up from
   * the run's row because the log holds none: no reader can continue after that.
   */
  readonly seq: Option.Option<number>
  /** The number of the first event that it stands for, if it stands for several since the run was compacted. */
  readonly firstSeq?: number | undefined
  readonly kind: RunEventKind
  readonly data: Schema.Json
  /** When the event was stored, in milliseconds since the epoch by the database's clock. */
  readonly atMillis: number
}

/**
 * Describes an event whose data is still the JSON text that was stored, to be passed on without parsing it.
 *
 * @category models
 * @since 0.1.0
 */
export interface RunEventEncoded extends Omit<RunEvent, "data"> {
  readonly data: string
}

const Delta = Schema.StructWithRest(Schema.Struct({ delta: Schema.String }), [
  Schema.Record(Schema.String, Schema.Json)
])
const decodeDelta = Schema.decodeUnknownOption(Delta)

/**
 * Joins two deltas of one text: objects that are equal but for the text in their field `delta`, as those of AI SDK and AG-UI
 * are. None if they are anything else.
 *
 * @category combinators
 * @since 0.1.0
 */
export const joinDeltas = (before: Schema.Json, after: Schema.Json): Option.Option<Schema.Json> =>
  Option.flatMap(
    decodeDelta(before),
    (first) =>
      Option.flatMap(decodeDelta(after), (second) =>
        Equal.equals({ ...first, delta: "" }, { ...second, delta: "" })
          ? Option.some({ ...first, delta: first.delta + second.delta })
          : Option.none())
  )

/**
 * Writes the id of an event: its number, or `3-5` if it stands for those from 3 to 5.
 *
 * @category converting
 * @since 0.1.0
 */
export const eventId = (seq: number, firstSeq: number | undefined): string =>
  firstSeq === undefined ? String(seq) : `${firstSeq}-${seq}`

/**
 * Reads a cursor: the decimal number of the last event seen, or its id, or 0 to read from the beginning. Anything else, such
 * as a sign, an exponent, a leading zero or a number above 2^53 - 1, is none.
 *
 * @category converting
 * @since 0.1.0
 */
export const parseCursor = (text: string): Option.Option<number> =>
  /^(?:0|(?:[1-9][0-9]{0,15}-)?[1-9][0-9]{0,15})$/.test(text)
    ? Option.liftPredicate(Number(text.slice(text.indexOf("-") + 1)), Number.isSafeInteger)
    : Option.none()

/**
 * Stands for the cursor of a reader that begins with what comes next.
 *
 * @category constants
 * @since 0.1.0
 */
export const latest = "latest"
