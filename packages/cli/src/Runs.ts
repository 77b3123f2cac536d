/**
 * Implements `sallyport runs`: lists the runs, follows one, answers what one asks, starts one on a server, aborts one, and
 * sweeps what is past its retention.
 */
import { type RunView, runView } from "@sallyport/contract/RunGroup"
import { defaultSubject } from "@sallyport/core/access/BootstrapCredentialService"
import { parseCursor, promptOf, questionOf, type Run, RunStatus } from "@sallyport/core/runs/Run"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as Text from "@sallyport/core/Text"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { CommandFailed } from "./ExitCode.ts"
import * as Lists from "./internal/lists.ts"
import * as ServerSentEvents from "./internal/serverSentEvents.ts"
import * as StoreCommands from "./internal/storeCommands.ts"
import * as Terminal from "./internal/terminal.ts"
import * as Output from "./Output.ts"

const parent = Command.make("runs").pipe(
  Command.withSharedFlags(StoreCommands.flags),
  Command.withDescription("List, follow, answer, start and abort runs")
)

const runArgument = Argument.String("run").pipe(
  Argument.withSchema(Schema.NonEmptyString),
  Argument.withDescription("The run's id, or its beginning as \"runs list\" shows it")
)

const print = (run: RunView) =>
  Effect.flatMap(
    parent,
    ({ json }) =>
      Terminal.print(json, Output.Run, { run }, () =>
        `${run.runId}  ${run.status}${run.endReason === null ? "" : ` (${Text.shown(run.endReason)})`}  ` +
        `${Terminal.count(run.lastSeq, "event")}  thread ${Text.shown(run.threadId)}`)
  )

const tableWith = (shown: (id: string) => string) =>
  Terminal.table<RunView>([
    { name: "RUN", of: ({ runId }) => shown(runId), whole: true },
    { name: "THREAD", of: ({ threadId }) => threadId },
    {
      name: "STATUS",
      of: ({ endReason, status }) => endReason === null ? status : `${status} (${endReason})`,
      paint: ({ status }, { bad, doubtful, good }) =>
        status === "succeeded" ? good : status === "failed" || status === "aborted" ? bad : doubtful
    },
    { name: "EVENTS", of: ({ lastSeq }) => String(lastSeq), whole: true },
    { name: "STARTED", of: ({ startedAt }, { time }) => time(startedAt), whole: true }
  ])

const every = (options: Omit<Parameters<RunEventLog.RunEventLog["Service"]["list"]>[0], "after" | "limit">) =>
  RunEventLog.RunEventLog.use((log) =>
    Lists.pages((after: Run | undefined) => log.list({ ...options, after, limit: Lists.pageSize }))
  )

const everyOf = (
  { api }: StoreCommands.Server,
  options: { readonly threadId?: string; readonly status?: RunStatus } = {}
) =>
  Lists.serverPages((query) =>
    Effect.map(api.runs.list({ query: { ...query, ...options } }), ({ next, runs }) => [runs, next] as const)
  )

const idsOf = Effect.map((runs: ReadonlyArray<{ readonly runId: string }>) => runs.map(({ runId }) => runId))

/** Returns the id of the run that a name begins: in a store of the owner's runs, on a server of the token's. */
const idIn = {
  store: (name: string) => StoreCommands.idOf(name, "runs", idsOf(every({ owner: { subject: defaultSubject } }))),
  server: (name: string, server: StoreCommands.Server) => StoreCommands.idOf(name, "runs", idsOf(everyOf(server)))
}

const list = Command.make(
  "list",
  {
    subject: Flag.String("subject").pipe(
      Flag.withDescription("Whose runs are listed, if not the owner's of the server; with --url the token's subject"),
      Flag.optional
    ),
    thread: Flag.String("thread").pipe(Flag.withDescription("Show only the runs of this thread"), Flag.optional),
    status: Flag.Literals("status", RunStatus.literals).pipe(
      Flag.withDescription("Show only the runs in this state"),
      Flag.optional
    )
  },
  Effect.fnUntraced(function*({ status, subject, thread }) {
    const flags = yield* parent
    const threadId = Option.getOrUndefined(thread)
    const wanted = Option.getOrUndefined(status)
    const runs = yield* StoreCommands.ask(flags, {
      store: Effect.map(
        every({ owner: { subject: Option.getOrElse(subject, () => defaultSubject) }, threadId, status: wanted }),
        (found) => found.map(runView)
      ),
      server: Effect.fnUntraced(function*(server) {
        if (Option.isSome(subject)) {
          return yield* StoreCommands.onlyOnStore("--subject", "leave it out: the token says whose")
        }
        return yield* everyOf(server, {
          ...(threadId === undefined ? {} : { threadId }),
          ...(wanted === undefined ? {} : { status: wanted })
        })
      })
    })
    // The beginning of an id is looked for among the owner's runs; those of others are named whole.
    const table = tableWith(Option.isNone(subject) ? Text.shortId : identity)
    yield* Terminal.print(
      flags.json,
      Output.Runs,
      { runs },
      (screen) => runs.length === 0 ? "There is no such run whose events are still kept" : table(runs, screen)
    )
  })
).pipe(Command.withDescription("List the runs whose events are still kept, the newest first"))

const decodeJson = Schema.decodeUnknownEffect(Schema.fromJsonString(Schema.Json))

/** Says an event for a person: a question with what it can be answered with, as `runs answer` takes it. */
const toText = ({ data, kind }: typeof Output.RunEvent.Type): string => {
  const question = Option.filter(questionOf(data), () => kind === "data")
  if (Option.isNone(question)) return `${kind.padEnd(4)}  ${Terminal.jsonLine(data)}`
  const { choices, text } = promptOf(question.value)
  const answers = choices === undefined ? "--text …" : choices.map((choice) => `--value ${Terminal.jsonLine(choice)}`)
  return `asks  ${Text.shown(question.value.name)}: ${Text.shown(text)}  (${[answers].flat().join(", ")})`
}

const tail = Command.make(
  "tail",
  {
    run: runArgument,
    after: StoreCommands.afterFlag("Begin after the event with this number").pipe(Flag.withDefault(0))
  },
  Effect.fnUntraced(function*({ after, run: name }) {
    const flags = yield* parent
    const show = (event: typeof Output.RunEvent.Type) =>
      Terminal.print(
        flags.json,
        Output.RunEvent,
        event,
        () => `${String(event.seq ?? "").padStart(6)}  ${toText(event)}`
      )
    yield* StoreCommands.ask(flags, {
      store: Effect.gen(function*() {
        const runs = yield* RunEventLog.RunEventLog
        const events = yield* runs.events({ runId: yield* idIn.store(name), after: String(after) })
        yield* Stream.runForEach(events, ({ data, kind, seq }) => show({ seq: Option.getOrNull(seq), kind, data }))
      }),
      server: Effect.fnUntraced(function*(server) {
        const run = yield* idIn.server(name, server)
        yield* ServerSentEvents.forEach(
          server.api.runs.events({
            params: { id: run },
            headers: {},
            query: { after: String(after) },
            responseMode: "response-only"
          }),
          ({ data, event, id }) =>
            event !== "data" && event !== "end"
              ? Effect.void
              : Effect.flatMap(
                decodeJson(data),
                (data) => show({ seq: Option.getOrNull(parseCursor(id ?? "")), kind: event, data })
              ),
          "end"
        )
      })
    })
  })
).pipe(Command.withDescription("Show a run's events, the stored ones and then the new ones, to its end"))

const abort = Command.make(
  "abort",
  { run: runArgument },
  Effect.fnUntraced(function*({ run: name }) {
    const flags = yield* parent
    const aborted = yield* StoreCommands.ask(flags, {
      store: Effect.gen(function*() {
        const runs = yield* RunEventLog.RunEventLog
        const run = yield* idIn.store(name)
        const result = yield* runs.abort({ runId: run })
        return runView(result._tag === "Registered" ? yield* runs.get({ runId: run }) : result.run)
      }),
      server: (server) => Effect.flatMap(idIn.server(name, server), (id) => server.api.runs.abort({ params: { id } }))
    })
    yield* print(aborted)
  })
).pipe(Command.withDescription("Abort a run; one that has ended stays as it is"))

const answer = Command.make(
  "answer",
  {
    run: runArgument,
    question: Argument.String("question").pipe(
      Argument.withDescription("The name of the question, which \"runs tail\" shows")
    ),
    text: Flag.String("text").pipe(Flag.withDescription("The answer, as text"), Flag.optional),
    value: Flag.String("value").pipe(
      StoreCommands.readAs(Schema.fromJsonString(Schema.Json), "JSON, such as 'true'"),
      Flag.withDescription("The answer, as JSON"),
      Flag.optional
    )
  },
  Effect.fnUntraced(function*({ question: name, run, text, value }) {
    const flags = yield* parent
    if (Option.isSome(text) === Option.isSome(value)) {
      return yield* new CommandFailed({
        code: "Usage",
        message: "Give the answer with --text, or with --value as JSON"
      })
    }
    const answer = { name, value: Option.getOrElse(value, () => Option.getOrElse(text, () => "")) }
    const answered = yield* StoreCommands.ask(flags, {
      store: Effect.gen(function*() {
        const runs = yield* RunEventLog.RunEventLog
        return runView(yield* runs.answer({ runId: yield* idIn.store(run), ...answer }))
      }),
      server: (server) =>
        Effect.flatMap(
          idIn.server(run, server),
          (id) => server.api.runs.answer({ params: { id }, payload: answer })
        )
    })
    yield* print(answered)
  })
).pipe(
  Command.withDescription("Answer a question of a run; the first answer counts"),
  Command.withExamples([
    { command: "sallyport runs answer 0199c2f0-1a2b deploy --value true", description: "Say yes" }
  ])
)

const start = Command.make(
  "start",
  {
    thread: Argument.String("thread").pipe(Argument.withDescription("The id of the thread")),
    input: Flag.String("input").pipe(
      StoreCommands.readAs(Schema.fromJsonString(Schema.Json), `JSON, such as '{"to":5}'`),
      Flag.withDescription("The input, as JSON"),
      Flag.withDefault({})
    ),
    key: Flag.String("key").pipe(
      Flag.withDescription("The idempotency key: the same key starts no second run; by default a new one"),
      Flag.optional
    )
  },
  Effect.fnUntraced(function*({ input, key, thread }) {
    const flags = yield* parent
    const { run } = yield* StoreCommands.ask(flags, {
      store: new CommandFailed({
        code: "Usage",
        message: "A run is executed by a server; name one that runs with --url"
      }),
      server: Effect.fnUntraced(function*({ api }) {
        const idempotencyKey = Option.isSome(key)
          ? key.value
          : yield* SecureRandom.SecureRandom.use((random) => random.uuidV7())
        return yield* api.runs.start({
          headers: { "idempotency-key": idempotencyKey },
          payload: { threadId: thread, input }
        })
      }, Effect.provide(StoreCommands.layerCrypto))
    })
    yield* print(run)
  })
).pipe(
  Command.withDescription("Start a run on a server"),
  Command.withExamples([
    {
      command: `sallyport runs start demonstration --input '{"to":5}' --url http://127.0.0.1:4590`,
      description: "Start the demonstration run"
    }
  ])
)

/** How many rows of a kind a step handles. */
const sweepBatch = 500

const sweep = Command.make(
  "sweep",
  Terminal.yesFlag,
  Effect.fnUntraced(function*({ yes }) {
    const flags = yield* parent
    if (Option.isSome(flags.url)) {
      return yield* StoreCommands.onlyOnStore(`"runs sweep"`, "a server sweeps by itself")
    }
    yield* Terminal.confirm(yes, "End the runs whose process has died, and delete what is past its retention?")
    const swept = yield* Effect.gen(function*() {
      const runs = yield* RunEventLog.RunEventLog
      let ended = 0
      while (true) {
        const reaped = yield* runs.reap({ limit: sweepBatch })
        ended += reaped.length
        if (reaped.length < sweepBatch) break
      }
      const total = { expired: 0, events: 0, removed: 0, aborts: 0 }
      while (true) {
        const counts = yield* runs.sweep({ limit: sweepBatch })
        for (const kind of ["expired", "events", "removed", "aborts"] as const) total[kind] += counts[kind]
        if (Math.max(...Object.values(counts)) < sweepBatch) break
        yield* Terminal.progress(`${Terminal.count(total.events, "event")} deleted`)
      }
      return { ended, ...total }
    }).pipe(Effect.provide(StoreCommands.layer(flags)))
    yield* Terminal.print(
      flags.json,
      Output.Swept,
      swept,
      () =>
        `Ended ${Terminal.count(swept.ended, "run")} whose process had died, and deleted ` +
        `${Terminal.count(swept.events, "event")} of ${Terminal.count(swept.expired, "run")}`
    )
  })
).pipe(Command.withDescription("End the runs whose process has died, and delete what is past its retention"))

/**
 * Lists, follows, answers, starts, aborts and sweeps runs.
 *
 * @category commands
 * @since 0.1.0
 */
export const runs = parent.pipe(Command.withSubcommands([list, tail, answer, start, abort, sweep]))
