/**
 * The policy of runs: who may see one, how long leases and windows are, and which steps of the repository answer a call.
 */
import * as Digest from "effect/crypto/Digest"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Activations from "./runActivation.ts"
import * as AppendLog from "../../AppendLog.ts"
import * as Metrics from "../../Metrics.ts"
import {
  answerOf,
  isRunId,
  latest,
  ownerKey,
  parseCursor,
  type RunEnd,
  type RunEvent,
  type RunEventEncoded,
  RunId,
  type WhenBusy
} from "../Run.ts"
import {
  type AppendItem,
  type AppendOutcome,
  type AskOutcome,
  type FollowedRuns,
  RunEventRepository,
  type RunRow,
  type StartOptions,
  toRun
} from "../RunEventRepository.ts"
import { checkInput, writerProblem } from "./runInput.ts"
import type {
  AbortOptions,
  AbortResult,
  AnswerOptions,
  AppendedEvents,
  CompactOptions,
  EngineRuns,
  EventsOptions,
  ExecutedRunRequest,
  Followed,
  FollowedRuns as FollowedRunsOf,
  FollowOptions,
  KeyedRun,
  ListOptions,
  NamedRun,
  OwnedThread,
  ResumedRun,
  RunRequest,
  RunWriter,
  TakeOverOptions,
  WrittenRun
} from "./runCalls.ts"
import { abortedBeforeStartData, endData, interruptedByRun, interruptedData, staleData, staleRun } from "./runEnds.ts"
import {
  CursorBeyondEnd,
  CursorExpired,
  fail,
  IdempotencyConflict,
  InvalidCursor,
  InvalidInput,
  LimitExceeded,
  QuestionAnswered,
  QuestionNotFound,
  refusal,
  RunCompacted,
  RunEnded,
  type RunEventLogError,
  RunNotEnded,
  RunNotFound,
  ShuttingDown,
  storage,
  ThreadBusy,
  ThreadNotFound,
  TooManyRuns
} from "./runErrors.ts"
import * as Executions from "./runExecution.ts"
import * as Feed from "./runFeed.ts"
import * as FeedCursor from "./runFeedCursor.ts"
import * as Following from "./runFollowing.ts"
import * as Joining from "./runJoining.ts"
import { canonical, encode, utf8Length } from "./runJson.ts"
import * as LeaseClock from "./runLeases.ts"
import type { Settings } from "./runOptions.ts"

const parsed = (event: RunEventEncoded): RunEvent => ({ ...event, data: JSON.parse(event.data) })

const toCanonical = Option.liftThrowable(canonical)

/** Makes the service. When its scope closes, programs are interrupted and their ends stored. */
export const make = Effect.fnUntraced(function*(settings: Settings) {
  const repository = yield* RunEventRepository
  const digest = yield* Digest.Digest
  const random = yield* SecureRandom.SecureRandom
  const encoder = new TextEncoder()
  const shuttingDown = fail(new ShuttingDown())
  // A lease outlives its last heartbeat by this much at least, and so a smaller jump of the clock too.
  const toleranceMillis = (settings.lease - settings.heartbeatInterval) / 2
  const leaseClock = yield* LeaseClock.make({ leaseMillis: settings.lease, toleranceMillis })

  const find = Effect.fnUntraced(function*(
    { owner, runId }: NamedRun
  ): Effect.fn.Return<RunRow, RunEventLogError> {
    const row = isRunId(runId) ? Option.getOrUndefined(yield* storage(repository.get(runId))) : undefined
    if (row === undefined || (owner !== undefined && row.ownerKey !== ownerKey(owner))) {
      return yield* fail(new RunNotFound({ runId }))
    }
    return row
  })

  const following = yield* Following.make({ repository, settings, find: (runId) => find({ runId }) })

  const eventLimits = { maxEvents: settings.maxEvents, maxBytes: settings.maxRunBytes }
  const lane = AppendLog.groupCommit({
    count: ({ events }: AppendItem) => events.length,
    maxCount: settings.maxBatchEvents,
    bytes: ({ byteCount }) => byteCount,
    closed: shuttingDown,
    commit: (items) =>
      Effect.flatMap(
        storage(repository.append({ items, ...eventLimits })),
        (outcomes) => {
          let appended = 0
          // In the order of the commit, before any reader is told of it.
          for (let i = 0; i < items.length; i++) {
            const item = items[i]
            const outcome = outcomes[i]
            if (item === undefined || outcome?._tag !== "Appended" || outcome.repeated === true) continue
            following.committed(item.runId, outcome.firstSeq, item.events, outcome.atMillis)
            appended += item.events.length
          }
          return Effect.as(Metrics.runEvents(appended, {}), outcomes)
        }
      )
  })
  // All of a run's appends go the same way, so that they keep their order.
  const lanes = yield* AppendLog.spread(repository.parallelAppends ?? 1, lane)
  const appendBatched = (item: AppendItem) => lanes(item.runId)(item)

  const heartbeat = ({ epoch, runId }: WrittenRun, forward?: true) =>
    leaseClock.watch(
      storage(repository.heartbeat({ runId, epoch, leaseMillis: settings.lease, forward })),
      (outcome) => outcome._tag === "Extended" ? outcome.leaseExpiresAtMillis - settings.lease : undefined
    )

  const finishRow = (runId: string, epoch: number, end: RunEnd, data: string) =>
    Effect.tap(
      storage(repository.finish({ runId, epoch, status: end.status, reason: end.reason ?? null, data })),
      ({ _tag }) => _tag === "Finished" ? Metrics.runsEnded(1, { end: end.status }) : Effect.void
    )

  /** Tells whether a lease that the database takes for expired is: not if its clock has jumped just now. */
  const canExpire = Effect.map(
    leaseClock.watch(storage(repository.now), (now) => now),
    () => leaseClock.canExpire()
  )
  const maxEpoch = settings.maxTakeOvers + 1
  const stale = { reason: staleRun, data: staleData, maxEpoch, patienceMillis: settings.takeOverWindow }

  /** Waits until a queued run has its thread; none if it is no longer this writer's. */
  const turn = Effect.fnUntraced(function*(
    { epoch, runId }: RunRow
  ): Effect.fn.Return<Option.Option<RunRow>, RunEventLogError> {
    const taken = Effect.flatMap(canExpire, (expires) =>
      storage(
        repository.takeTurn({ runId, epoch, leaseMillis: settings.lease, stale: expires ? stale : undefined })
      )).pipe(
        Effect.catchIf(({ isRetryable }) => isRetryable, () => Effect.undefined)
      )
    const ended = (behind: string) =>
      Effect.flatMap(find({ runId: behind }), (row) => Stream.runDrain(following.follow(row, row.lastSeq)))
    while (true) {
      const outcome = yield* taken
      if (outcome?._tag === "Running") return Option.some(outcome.run)
      if (outcome !== undefined && outcome._tag !== "Behind") return Option.none()
      // If nothing can be heard of the run before this one, or of the store, it is asked again after a while.
      const hint = outcome === undefined
        ? Effect.never
        : Effect.matchCauseEffect(ended(outcome.runId), { onFailure: () => Effect.never, onSuccess: Effect.succeed })
      yield* Effect.timeoutOption(hint, Duration.millis(settings.heartbeatInterval))
    }
  }, Effect.withTracerEnabled(false))

  // Programs end before the appender does, so that what they append while they are interrupted is still stored.
  const executions = yield* Executions.make({
    settings,
    heartbeat: (row) => heartbeat(row),
    turn,
    finish: ({ epoch, runId }, end, data) => finishRow(runId, epoch, end, data),
    release: ({ epoch, runId }) => storage(repository.heartbeat({ runId, epoch, leaseMillis: 0 }))
  })

  const interrupters = new Set<(runId: string) => Effect.Effect<void>>()
  const interrupt = (runId: string) =>
    Effect.andThen(
      executions.interrupt(runId),
      Effect.forEach(interrupters, (interrupter) => interrupter(runId), { discard: true })
    )

  const newRunId = Effect.map(random.uuidV7(), (id) => RunId.make(id))
  const startRow = Effect.fnUntraced(function*(
    runId: RunId,
    request: ExecutedRunRequest,
    byEngine = false
  ): Effect.fn.Return<{ readonly row: RunRow; readonly created: boolean }, RunEventLogError> {
    if (executions.isClosing()) return yield* shuttingDown
    const { idempotencyKey, owner, threadId, whenBusy = "reject" } = request
    yield* checkInput({ owner, threadId, idempotencyKey, whenBusy })
    const text = toCanonical(request.request)
    if (Option.isNone(text)) return yield* fail(new InvalidInput({ field: "request", expected: "JSON" }))
    const metadata = encode(request.metadata ?? {})
    if (metadata === undefined) return yield* fail(new InvalidInput({ field: "metadata", expected: "JSON" }))
    const requestDigest = yield* digest.digestHex(Digest.sha256, encoder.encode(text.value))
    const busy: Record<WhenBusy, StartOptions["whenBusy"]> = {
      reject: undefined,
      enqueue: { _tag: "Enqueue", max: settings.maxQueued },
      interrupt: { _tag: "Interrupt", end: { reason: interruptedByRun, data: interruptedData } }
    }
    const attempt = (stale: StartOptions["stale"]) =>
      leaseClock.watch(
        storage(repository.start({
          runId,
          threadId: request.threadId,
          ownerKey: ownerKey(request.owner),
          ownerSubject: request.owner.subject,
          ownerOrg: request.owner.org ?? null,
          idempotencyKey: request.idempotencyKey,
          requestDigest,
          metadata,
          resume: request.resumable === true && !byEngine ? text.value : undefined,
          workflow: byEngine ? text.value : undefined,
          leaseMillis: settings.lease,
          maxRunning: settings.maxRunning,
          abortedData: abortedBeforeStartData,
          stale,
          whenBusy: busy[whenBusy]
        })),
        // A run may start a little later than it is stored.
        (outcome) =>
          outcome._tag === "Created" && outcome.run.leaseExpiresAtMillis !== null
            ? outcome.run.leaseExpiresAtMillis - settings.lease
            : undefined
      )
    // One that interrupts ends the holder in its first attempt, which therefore has to know how the holder ends.
    let outcome = yield* attempt(whenBusy === "interrupt" && (yield* canExpire) ? stale : undefined)
    if (outcome._tag === "ThreadBusy" && outcome.leaseExpired && !executions.has(outcome.runId) && (yield* canExpire)) {
      outcome = yield* attempt(stale)
    }
    switch (outcome._tag) {
      case "Created":
        yield* Metrics.runsStarted(1, {})
        for (const [end, ended] of [["aborted", outcome.interrupted], ["stale", outcome.stale]] as const) {
          if (ended === undefined) continue
          yield* Metrics.runsEnded(1, { end })
          yield* interrupt(ended)
        }
        if (outcome.run.status === "aborted") yield* Metrics.runsEnded(1, { end: "aborted" })
        return { row: outcome.run, created: true }
      case "Existing":
        return { row: outcome.run, created: false }
      case "Conflict":
        return yield* fail(
          new IdempotencyConflict({ idempotencyKey: request.idempotencyKey, runId: outcome.run.runId })
        )
      case "TooMany":
        return yield* fail(new TooManyRuns({ limit: outcome.limit, max: settings[outcome.limit] }))
      case "ThreadBusy":
        return yield* fail(new ThreadBusy({ threadId: request.threadId, runId: outcome.runId }))
    }
  })

  const tooLarge = (runId: string, limit: "maxEvents" | "maxBytes") =>
    fail(
      limit === "maxEvents"
        ? new LimitExceeded({ runId, limit: "maxEvents", max: settings.maxEvents })
        : new LimitExceeded({ runId, limit: "maxRunBytes", max: settings.maxRunBytes })
    )
  const encodeEvent = (
    runId: string,
    field: string,
    value: Schema.Json,
    event: (value: Schema.Json) => Schema.Json
  ): Effect.Effect<{ readonly data: string; readonly byteCount: number }, RunEventLogError> => {
    const data = encode(value) === undefined ? undefined : encode(event(value))
    if (data === undefined) return fail(new InvalidInput({ field, expected: "JSON" }))
    const byteCount = utf8Length(data)
    return byteCount > settings.maxEventBytes
      ? fail(new LimitExceeded({ runId, limit: "maxEventBytes", max: settings.maxEventBytes }))
      : Effect.succeed({ data, byteCount })
  }

  const askOnce = Effect.fnUntraced(function*(
    { epoch, runId }: RunRow,
    name: string,
    question: Schema.Json
  ): Effect.fn.Return<Extract<AskOutcome, { readonly _tag: "Open" | "Answered" }>, RunEventLogError> {
    yield* checkInput({ name })
    const event = yield* encodeEvent(runId, "ask", question, (ask) => ({ question: { name, ask } }))
    const outcome = yield* storage(repository.ask({ runId, epoch, name, ...event, ...eventLimits }))
    switch (outcome._tag) {
      case "Answered":
      case "Open":
        return outcome
      case "LimitExceeded":
        return yield* tooLarge(runId, outcome.limit)
      default:
        return yield* fail(refusal(runId, epoch, outcome))
    }
  })

  const ask = Effect.fn("RunEventLog.ask")(function*(
    row: RunRow,
    name: string,
    question: Schema.Json
  ): Effect.fn.Return<Schema.Json, RunEventLogError> {
    let seen = 0
    while (true) {
      const outcome = yield* askOnce(row, name, question)
      if (outcome._tag === "Answered") return JSON.parse(outcome.value)
      // An event of this form may be the program's own: the row tells, and what follows is awaited if it was.
      seen = Math.max(seen, outcome.seq)
      yield* following.follow(row, seen).pipe(
        Stream.tap(({ seq }) => Effect.sync(() => seen = Option.getOrElse(seq, () => seen))),
        Stream.takeUntil(({ data }) => Option.exists(answerOf(JSON.parse(data)), (answer) => answer.name === name)),
        Stream.runDrain
      )
    }
  })

  const appendOnce = (
    options: WrittenRun & { readonly events: ReadonlyArray<Schema.Json> },
    key?: string
  ): Effect.Effect<Extract<AppendOutcome, { readonly _tag: "Appended" }>, RunEventLogError> =>
    Effect.suspend(() => {
      const { epoch, runId } = options
      const problem = writerProblem(options)
      if (problem !== undefined) return fail(problem)
      if (options.events.length === 0) {
        return fail(new InvalidInput({ field: "events", expected: "at least one event" }))
      }
      const events: Array<string> = []
      let byteCount = 0
      for (const event of options.events) {
        const text = encode(event)
        if (text === undefined) return fail(new InvalidInput({ field: "events", expected: "JSON" }))
        const bytes = utf8Length(text)
        if (bytes > settings.maxEventBytes) {
          return fail(new LimitExceeded({ runId, limit: "maxEventBytes", max: settings.maxEventBytes }))
        }
        byteCount += bytes
        events.push(text)
      }
      return Effect.flatMap(appendBatched({ runId, epoch, events, byteCount, key }), (outcome) => {
        switch (outcome._tag) {
          case "Appended":
            return Effect.succeed(outcome)
          case "LimitExceeded":
            return tooLarge(runId, outcome.limit)
          default:
            return fail(refusal(runId, epoch, outcome))
        }
      })
    })

  const append = (
    options: WrittenRun & { readonly events: ReadonlyArray<Schema.Json> }
  ): Effect.Effect<AppendedEvents, RunEventLogError> =>
    Effect.map(appendOnce(options), ({ firstSeq, lastSeq }) => ({ firstSeq, lastSeq }))

  const engine: EngineRuns = {
    start: Effect.fn("RunEventLog.engine.start")(function*(request: ExecutedRunRequest) {
      const { created, row } = yield* startRow(yield* newRunId, request, true)
      return { run: toRun(row), created }
    }),
    activate: Activations.make({
      settings,
      leases: Executions.leases,
      begin: (runId) => storage(repository.activate({ runId, leaseMillis: settings.lease })),
      heartbeat: (row) => heartbeat(row),
      rest: ({ epoch, runId }, answers) =>
        storage(repository.heartbeat({ runId, epoch, leaseMillis: settings.takeOverWindow, answers, forward: true })),
      comeForward: (row) => heartbeat(row, true),
      turn,
      append: ({ epoch, runId }, key, events) =>
        Effect.map(appendOnce({ runId, epoch, events }, key), ({ repeated }) => repeated === true),
      ask: (row, name, question) =>
        Effect.map(
          askOnce(row, name, question),
          (outcome): Option.Option<Schema.Json> =>
            outcome._tag === "Answered" ? Option.some(JSON.parse(outcome.value)) : Option.none()
        ),
      finish: ({ epoch, runId }, end, data) => finishRow(runId, epoch, end, data)
    }),
    wake: ({ limit }) => storage(repository.wake({ limit, leaseMillis: settings.lease })),
    onAbort: (interrupter) =>
      Effect.acquireRelease(
        Effect.sync(() => interrupters.add(interrupter)),
        () => Effect.sync(() => interrupters.delete(interrupter))
      )
  }

  const writerOf = (row: RunRow): RunWriter => {
    const { epoch, runId } = row
    return {
      run: toRun(row),
      history: row.lastSeq === 0 ? Stream.empty : following.follow(row, 0).pipe(
        Stream.take(row.lastSeq),
        Stream.map(parsed)
      ),
      append: (data) => Effect.map(append({ runId, epoch, events: [data] }), ({ firstSeq }) => firstSeq),
      appendDelta: (delta) => Effect.asVoid(append({ runId, epoch, events: [delta] })),
      appendAll: (events) => append({ runId, epoch, events }),
      ask: (name, question) => ask(row, name, question)
    }
  }

  /** Executes a program with a writer that joins deltas, if it is to. */
  const written = <A, E, R>(
    row: RunRow,
    window: Option.Option<Duration.Duration>,
    program: (run: RunWriter) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | RunEventLogError, R | Scope.Scope> => {
    const writer = writerOf(row)
    if (Option.isNone(window)) return program(writer)
    return Effect.flatMap(
      Joining.make({
        writer,
        window: window.value,
        maxEventBytes: settings.maxEventBytes,
        check: (delta) =>
          Effect.map(encodeEvent(row.runId, "delta", delta, (delta) => delta), (event) => event.byteCount)
      }),
      ({ flush, writer }) =>
        Effect.onExit(program(writer), (exit) => Exit.isSuccess(exit) ? flush : Effect.ignore(flush))
    )
  }
  const windowOf = Effect.fnUntraced(function*({ joinDeltas }: Pick<ExecutedRunRequest, "joinDeltas">) {
    if (joinDeltas === undefined) return Option.none()
    const window = Option.filter(Duration.fromInput(joinDeltas), Duration.isFinite)
    return Option.isSome(window)
      ? window
      : yield* fail(new InvalidInput({ field: "joinDeltas", expected: "a duration, such as 5 millis" }))
  })

  const checked = Effect.fn("RunEventLog.events")(function*(options: EventsOptions) {
    const { after = 0, runId } = options
    const cursor = after === latest ? Infinity : Option.getOrUndefined(parseCursor(String(after)))
    if (cursor === undefined) return yield* fail(new InvalidCursor({ cursor: String(after) }))
    const row = yield* find(options)
    if (row.expiredAtMillis !== null) return yield* fail(new CursorExpired({ runId }))
    if (cursor > row.lastSeq && after !== latest) {
      return yield* fail(new CursorBeyondEnd({ runId, cursor, lastSeq: row.lastSeq }))
    }
    const place = Math.min(cursor, row.lastSeq)
    // One that has been compacted has fewer events than numbers.
    if (row.endSeq !== null && row.eventCount < row.endSeq - 1 && place > 0) {
      const [next] = yield* storage(repository.read({ runId, after: place, limit: 1 }))
      if (Following.isWithin(next, place)) return yield* fail(new CursorExpired({ runId, compacted: true }))
    }
    return { row, place }
  })
  const eventsEncoded = (options: EventsOptions) =>
    Effect.map(checked(options), ({ place, row }) => following.follow(row, place))

  /** Says where a reader of many runs begins. */
  const placeOf = Effect.fnUntraced(function*(
    kind: FeedCursor.RunFeedKind,
    { after = "0", owner, threadId }: FollowOptions
  ) {
    if (after === "0") return { startedAtMillis: 0, open: [] }
    const key = ownerKey(owner)
    const listed = (which: FollowedRuns) => storage(repository.listFollowed({ ownerKey: key, threadId, which }))
    const newest = (yield* storage(repository.newestStarts([key]))).get(key) ?? 0
    if (after === latest) {
      const alive = yield* listed({ _tag: "Alive" })
      const known = alive.filter((row) => row.startedAtMillis <= newest)
      const open = known.slice(0, FeedCursor.maxOpen).map((row) => ({ row, seq: row.lastSeq }))
      // What started after the last one that can be followed is read once there is room.
      const last = known.length > open.length ? open.at(-1)?.row.startedAtMillis : undefined
      return { startedAtMillis: last ?? newest, open }
    }
    const cursor = Option.getOrUndefined(FeedCursor.parse(kind, after))
    if (cursor === undefined) return yield* fail(new InvalidCursor({ cursor: after }))
    const { open, startedAtMillis } = cursor
    if (startedAtMillis > newest && startedAtMillis > (yield* storage(repository.now))) {
      return yield* fail(new CursorBeyondEnd({ cursor: startedAtMillis, lastSeq: newest }))
    }
    const rows = open.length === 0
      ? []
      : yield* listed({ _tag: "At", startedAtMillis: open.map((place) => place.startedAtMillis) })
    const places = yield* Effect.forEach(open, ({ seq, startedAtMillis }) => {
      const row = rows.find((row) => row.startedAtMillis === startedAtMillis)
      if (row === undefined) return fail(new CursorExpired({}))
      return seq > row.lastSeq
        ? fail(new CursorBeyondEnd({ runId: row.runId, cursor: seq, lastSeq: row.lastSeq }))
        : Effect.succeed({ row, seq })
    })
    return { startedAtMillis, open: places }
  })
  const followEncoded = Effect.fn("RunEventLog.follow")(function*(
    options: FollowOptions
  ): Effect.fn.Return<FollowedRunsOf<RunEventEncoded>, RunEventLogError> {
    const { owner, threadId } = options
    yield* checkInput({ owner, threadId })
    const key = ownerKey(owner)
    if (threadId !== undefined) {
      const any = { ownerKey: key, threadId, windowMillis: Number.MAX_SAFE_INTEGER }
      const run = yield* storage(repository.activeForThread(any))
      if (Option.isNone(run)) return yield* fail(new ThreadNotFound({ threadId }))
    }
    const kind = threadId === undefined ? "owner" : "thread"
    const { open, startedAtMillis } = yield* placeOf(kind, options)
    return {
      cursor: FeedCursor.render(kind, {
        startedAtMillis,
        open: open.map(({ row, seq }) => ({ startedAtMillis: row.startedAtMillis, seq }))
      }),
      events: Feed.follow({ following, repository, ownerKey: key, threadId, startedAtMillis, open })
    }
  })

  return {
    start: Effect.fn("RunEventLog.start")(function*(request: RunRequest) {
      const { created, row } = yield* startRow(yield* newRunId, request)
      return { run: toRun(row), created }
    }),
    execute: Effect.fn("RunEventLog.execute")(function*<E, R>(
      request: ExecutedRunRequest,
      program: (run: RunWriter) => Effect.Effect<Schema.Json | void, E, R>
    ) {
      const runId = yield* newRunId
      const window = yield* windowOf(request)
      const { created, row } = yield* executions.execute(
        runId,
        startRow(runId, request),
        (row) => written(row, window, program),
        request.resumable === true
      )
      return { run: toRun(row), created }
    }, Effect.uninterruptible),
    takeOver: Effect.fn("RunEventLog.takeOver")(function*<E, R>(
      { joinDeltas, limit }: TakeOverOptions,
      program: (resumed: ResumedRun) => Effect.Effect<Schema.Json | void, E, R>
    ) {
      yield* checkInput({ limit })
      const window = yield* windowOf({ joinDeltas })
      if (executions.isClosing() || !(yield* canExpire)) return []
      const taken = yield* storage(repository.takeOver({ limit, leaseMillis: settings.lease, maxEpoch }))
      yield* Effect.forEach(taken, ({ resume, run }) =>
        // One that this process still executes has lost the run.
        Effect.andThen(
          executions.interrupt(run.runId),
          executions.execute(
            run.runId,
            Effect.succeed({ row: run, created: true }),
            (row) => written(row, window, (run) => program({ request: JSON.parse(resume), run })),
            true
          )
        ), { discard: true })
      return taken.map(({ run }) => toRun(run))
    }, Effect.uninterruptible),
    append,
    engine,
    answer: Effect.fn("RunEventLog.answer")(function*({ name, owner, runId, value }: AnswerOptions) {
      yield* checkInput({ name, owner })
      const event = yield* encodeEvent(runId, "value", value, (value) => ({ answer: { name, value } }))
      const outcome = isRunId(runId)
        ? yield* storage(repository.answer({
          runId,
          ownerKey: owner === undefined ? undefined : ownerKey(owner),
          name,
          value: JSON.stringify(value),
          ...event
        }))
        : { _tag: "Unknown" as const }
      switch (outcome._tag) {
        case "Accepted":
          return toRun(outcome.run)
        case "AlreadyAnswered":
          return yield* fail(new QuestionAnswered({ runId, name }))
        case "NoQuestion":
          return yield* fail(new QuestionNotFound({ runId, name }))
        case "Ended":
          return yield* fail(new RunEnded({ runId, status: outcome.status }))
        case "Unknown":
          return yield* fail(new RunNotFound({ runId }))
      }
    }),
    compact: Effect.fn("RunEventLog.compact")(function*({ events, owner, runId }: CompactOptions) {
      yield* checkInput({ owner })
      const encoded = yield* Effect.forEach(
        events,
        ({ data, seq }) =>
          Effect.map(encodeEvent(runId, "events", data, (data) => data), (event) => ({ seq, ...event }))
      )
      const outcome = isRunId(runId)
        ? yield* storage(
          repository.compact({ runId, ownerKey: owner === undefined ? undefined : ownerKey(owner), events: encoded })
        )
        : { _tag: "Unknown" as const }
      switch (outcome._tag) {
        case "Compacted":
          return toRun(outcome.run)
        case "NotEnded":
          return yield* fail(new RunNotEnded({ runId }))
        case "AlreadyCompacted":
          return yield* fail(new RunCompacted({ runId }))
        case "Expired":
          return yield* fail(new CursorExpired({ runId }))
        case "Misnumbered":
          return yield* fail(
            new InvalidInput({
              field: "events",
              expected: "fewer than the run has, with ascending numbers up to that of the last event before the end"
            })
          )
        case "Unknown":
          return yield* fail(new RunNotFound({ runId }))
      }
    }),
    heartbeat: Effect.fn("RunEventLog.heartbeat")(function*({ epoch, runId }: WrittenRun) {
      const problem = writerProblem({ epoch, runId })
      if (problem !== undefined) return yield* fail(problem)
      const outcome = yield* heartbeat({ runId, epoch })
      if (outcome._tag !== "Extended") return yield* fail(refusal(runId, epoch, outcome))
    }),
    finish: Effect.fn("RunEventLog.finish")(function*({ end, epoch, runId }: WrittenRun & { readonly end: RunEnd }) {
      const problem = writerProblem({ epoch, runId })
      if (problem !== undefined) return yield* fail(problem)
      yield* checkInput({ end, reason: end.reason })
      const data = encode(end)
      if (data === undefined) return yield* fail(new InvalidInput({ field: "end", expected: "JSON" }))
      if (utf8Length(data) > settings.maxEventBytes) {
        return yield* fail(new LimitExceeded({ runId, limit: "maxEventBytes", max: settings.maxEventBytes }))
      }
      const outcome = yield* finishRow(runId, epoch, end, data)
      return outcome._tag === "Finished" ? toRun(outcome.run) : yield* fail(refusal(runId, epoch, outcome))
    }),
    abort: Effect.fn("RunEventLog.abort")(
      function*(options: AbortOptions): Effect.fn.Return<AbortResult, RunEventLogError> {
        yield* checkInput({ reason: options.reason })
        const reason = options.reason ?? null
        const data = endData({ status: "aborted", ...(reason === null ? {} : { reason }) })
        if ("runId" in options) {
          const { owner, runId } = options
          const outcome = isRunId(runId)
            ? yield* storage(
              repository.abort({ runId, ownerKey: owner === undefined ? undefined : ownerKey(owner), reason, data })
            )
            : undefined
          if (outcome === undefined || outcome._tag === "Unknown") return yield* fail(new RunNotFound({ runId }))
          if (outcome._tag === "Aborted") yield* Metrics.runsEnded(1, { end: "aborted" })
          yield* interrupt(runId)
          return { _tag: outcome._tag, run: toRun(outcome.run) }
        }
        const { idempotencyKey, owner, threadId } = options
        yield* checkInput({ idempotencyKey, owner, threadId })
        const outcome = yield* storage(
          repository.abortByKey({
            ownerKey: ownerKey(owner),
            threadId,
            idempotencyKey,
            reason,
            data,
            maxAborts: settings.maxAborts
          })
        )
        if (outcome._tag === "TooMany") {
          return yield* fail(new TooManyRuns({ limit: outcome.limit, max: settings.maxAborts }))
        }
        if (outcome._tag === "Registered") return { _tag: "Registered" }
        if (outcome._tag === "Conflict") {
          return yield* fail(new IdempotencyConflict({ idempotencyKey, runId: outcome.run.runId }))
        }
        if (outcome._tag === "Aborted") yield* Metrics.runsEnded(1, { end: "aborted" })
        yield* interrupt(outcome.run.runId)
        return { _tag: outcome._tag, run: toRun(outcome.run) }
      }
    ),
    get: Effect.fn("RunEventLog.get")(function*(options: NamedRun) {
      return toRun(yield* find(options))
    }),
    getByKey: Effect.fn("RunEventLog.getByKey")(function*(options: KeyedRun) {
      const { idempotencyKey, owner } = options
      yield* checkInput({ idempotencyKey, owner })
      const row = yield* storage(repository.getByKey({ ownerKey: ownerKey(owner), idempotencyKey }))
      return Option.map(row, toRun)
    }),
    activeForThread: Effect.fn("RunEventLog.activeForThread")(function*(options: OwnedThread) {
      yield* checkInput({ owner: options.owner, threadId: options.threadId })
      const row = yield* storage(repository.activeForThread({
        ownerKey: ownerKey(options.owner),
        threadId: options.threadId,
        windowMillis: settings.reconnectWindow
      }))
      return Option.map(row, toRun)
    }),
    list: Effect.fn("RunEventLog.list")(function*({ after, limit, owner, status, threadId }: ListOptions) {
      yield* checkInput({ owner, threadId, limit, status, after: after?.runId })
      const rows = yield* storage(repository.list({
        ownerKey: ownerKey(owner),
        threadId,
        status,
        after: after === undefined
          ? undefined
          : { startedAtMillis: after.startedAt.epochMilliseconds, runId: after.runId },
        limit: limit ?? 200
      }))
      return rows.map(toRun)
    }),
    events: (options: EventsOptions) => Effect.map(eventsEncoded(options), Stream.map(parsed)),
    eventsEncoded,
    eventsPushed: (options: EventsOptions) =>
      Effect.map(checked(options), ({ place, row }) => following.push(row, place)),
    follow: (options: FollowOptions) =>
      Effect.map(followEncoded(options), ({ cursor, events }) => ({
        cursor,
        events: Stream.map(events, (given): Followed =>
          given._tag === "Event" ? { ...given, event: parsed(given.event) } : given)
      })),
    followEncoded,
    reap: Effect.fn("RunEventLog.reap")(function*({ limit }: { readonly limit: number }) {
      yield* checkInput({ limit })
      if (!(yield* canExpire)) return []
      const rows = yield* storage(repository.reap({ limit, ...stale }))
      yield* Metrics.runsEnded(rows.length, { end: "stale" })
      return rows.map(toRun)
    }),
    sweep: Effect.fn("RunEventLog.sweep")(({ limit }: { readonly limit: number }) =>
      Effect.andThen(
        checkInput({ limit }),
        storage(repository.sweep({
          limit,
          retentionMillis: settings.retention,
          tombstoneMillis: settings.tombstoneRetention
        }))
      )
    )
  }
})
