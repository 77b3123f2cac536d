/**
 * What every `RunEventRepository` must do, as one suite.
 */
import { assert, describe } from "@effect/vitest"
import {
  type AppendItem,
  type AppendOutcome,
  type FollowedRuns,
  RunEventRepository,
  type RunRow,
  type StartOptions,
  type StartOutcome
} from "@sallyport/core/runs/RunEventRepository"
import { RunId, type RunStatus } from "@sallyport/core/runs/Run"
import type { WakeUp } from "@sallyport/core/WakeUps"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import { testOn, times } from "./internal/newStore.ts"

// Durations of the contract are arguments, so that a lease or a retention that lies in the past needs no waiting.
const past = -60_000
const long = 60_000
/** Ends what has had three writers, or has been without a lease for a minute. */
const staleEnd = { reason: "stale_run", data: `{"status":"failed"}`, maxEpoch: 3, patienceMillis: 90_000 }
const roomy = { maxEvents: 1_000_000, maxBytes: 1_000_000_000 }

let counter = 0
const unique = () => RunId.make(`01970000-0000-7000-8000-${(++counter).toString(16).padStart(12, "0")}`)

const request = (overrides?: Partial<StartOptions>): StartOptions => ({
  runId: unique(),
  threadId: "thread",
  ownerKey: "owner",
  ownerSubject: "subject",
  ownerOrg: null,
  idempotencyKey: unique(),
  requestDigest: "digest",
  metadata: "{}",
  leaseMillis: long,
  abortedData: `{"status":"aborted"}`,
  ...overrides
})

const expectRun = (outcome: StartOutcome): RunRow => {
  if (outcome._tag === "ThreadBusy" || outcome._tag === "TooMany") {
    throw new Error(`no run was started: ${outcome._tag}`)
  }
  return outcome.run
}

/** Makes one call to the repository under test. */
const use = <A, E>(f: (repository: RunEventRepository["Service"]) => Effect.Effect<A, E>) =>
  Effect.flatMap(RunEventRepository, f)

const started = (overrides?: Partial<StartOptions>) =>
  Effect.map(use((repository) => repository.start(request(overrides))), expectRun)

const item = (run: RunRow, ...events: ReadonlyArray<string>) => ({
  runId: run.runId,
  epoch: run.epoch,
  events,
  byteCount: events.join("").length
})

const append = (...items: ReadonlyArray<AppendItem>) => use((repository) => repository.append({ items, ...roomy }))

const finish = (run: RunRow, epoch = run.epoch) =>
  use((repository) =>
    repository.finish({
      runId: run.runId,
      epoch,
      status: "succeeded",
      reason: null,
      data: `{"status":"succeeded"}`
    })
  )

const abort = (run: RunRow, ownerKey?: string) =>
  use((repository) => repository.abort({ runId: run.runId, ownerKey, reason: "asked", data: `{"status":"aborted"}` }))

const reap = (limit = 100) => use((repository) => repository.reap({ limit, ...staleEnd }))

const get = (run: RunRow) =>
  Effect.flatMap(
    use((repository) => repository.get(run.runId)),
    Option.match({ onNone: () => Effect.die(new Error("the run is gone")), onSome: Effect.succeed })
  )

const readAll = (run: Pick<RunRow, "runId">) =>
  use((repository) => repository.read({ runId: run.runId, after: 0, limit: 100_000 }))

const count = (outcomes: ReadonlyArray<{ readonly _tag: string }>, tag: string) =>
  outcomes.filter((outcome) => outcome._tag === tag).length

/**
 * Declares the suite for a repository. Each test builds `layer` again and expects it to be empty.
 *
 * @category suites
 * @since 0.1.0
 */
export const suite = <E>(name: string, layer: Layer.Layer<RunEventRepository, E>): void => {
  const test = testOn(layer)

  describe(`RunEventRepository (${name})`, () => {
    test(
      "RUN-19: list gives an owner's runs by thread and status, the newest first, page by page, without tombstones",
      Effect.gen(function*() {
        const runs: Array<RunRow> = []
        for (let index = 0; index < 7; index++) {
          const run = yield* started({ threadId: index % 2 === 0 ? "even" : "odd" })
          if (index < 5) yield* finish(run)
          runs.push(yield* get(run))
        }
        yield* started({ ownerKey: "another", threadId: "even" })
        const newest = runs.toSorted((a, b) => b.startedAtMillis - a.startedAtMillis || (a.runId < b.runId ? 1 : -1))
        const list = (options: { readonly threadId?: string; readonly status?: RunStatus } = {}, limit = 3) =>
          Effect.gen(function*() {
            const found: Array<RunRow> = []
            while (true) {
              const page = yield* use((repository) =>
                repository.list({ ownerKey: "owner", ...options, after: found.at(-1), limit })
              )
              found.push(...page)
              if (page.length < limit) return found
            }
          })
        assert.deepStrictEqual(yield* list(), newest)
        for (const limit of [1, 7, 100]) assert.deepStrictEqual(yield* list({}, limit), newest)
        for (const threadId of ["even", "odd", "none"]) {
          const ofThread = newest.filter((run) => run.threadId === threadId)
          assert.deepStrictEqual(yield* list({ threadId }), ofThread)
          for (const status of ["running", "succeeded", "failed"] as const) {
            assert.deepStrictEqual(yield* list({ threadId, status }), ofThread.filter((run) => run.status === status))
            assert.deepStrictEqual(yield* list({ status }), newest.filter((run) => run.status === status))
          }
        }
        yield* use((repository) => repository.sweep({ limit: 100, retentionMillis: past, tombstoneMillis: long }))
        assert.deepStrictEqual(yield* list(), newest.filter((run) => run.status === "running"))
      })
    )

    test(
      "RUN-01: a key answers with its run, whatever state that is in, and conflicts for another request or thread",
      Effect.gen(function*() {
        const first = request()
        const created = yield* use((repository) => repository.start(first))
        assert.strictEqual(created._tag, "Created")
        const run = expectRun(created)
        assert.strictEqual(run.runId, first.runId)
        assert.strictEqual(run.status, "running")
        assert.strictEqual(run.epoch, 1)
        assert.isAbove(run.leaseExpiresAtMillis ?? 0, run.startedAtMillis)
        const again = yield* use((repository) => repository.start({ ...first, runId: unique() }))
        assert.strictEqual(again._tag, "Existing")
        assert.strictEqual(expectRun(again).runId, first.runId)
        for (const other of [{ requestDigest: "other" }, { threadId: "other" }]) {
          const conflict = yield* use((repository) => repository.start({ ...first, ...other, runId: unique() }))
          assert.strictEqual(conflict._tag, "Conflict")
          assert.strictEqual(expectRun(conflict).runId, first.runId)
        }
        yield* finish(run)
        const ended = yield* use((repository) => repository.start({ ...first, runId: unique() }))
        assert.strictEqual(ended._tag, "Existing")
        assert.strictEqual(expectRun(ended).status, "succeeded")
        const stranger = yield* use((repository) => repository.start({ ...first, runId: unique(), ownerKey: "else" }))
        assert.strictEqual(stranger._tag, "Created")
      })
    )

    test(
      "RUN-01 L-70: of 16 starts with one key exactly one creates the run",
      Effect.gen(function*() {
        const first = request()
        const outcomes = yield* times(16, () => use((repository) => repository.start({ ...first, runId: unique() })))
        assert.strictEqual(count(outcomes, "Created"), 1)
        assert.strictEqual(count(outcomes, "Existing"), 15)
        assert.strictEqual(new Set(outcomes.map((outcome) => expectRun(outcome).runId)).size, 1)
      })
    )

    test(
      "RUN-02 L-77: of 16 starts on one thread exactly one gets the slot, and the slot is free once the run has ended",
      Effect.gen(function*() {
        const outcomes = yield* times(16, () => use((repository) => repository.start(request())))
        assert.strictEqual(count(outcomes, "Created"), 1)
        assert.strictEqual(count(outcomes, "ThreadBusy"), 15)
        const winner = outcomes.find((outcome) => outcome._tag === "Created")
        if (winner === undefined) return
        const run = expectRun(winner)
        for (const outcome of outcomes) {
          if (outcome._tag === "ThreadBusy") assert.strictEqual(outcome.runId, run.runId)
        }
        yield* started({ threadId: "another" })
        yield* started({ ownerKey: "another" })
        yield* finish(run)
        assert.strictEqual((yield* started()).status, "running")
      })
    )

    test(
      "RUN-02 RUN-07 L-84: a start ends an expired run of its thread in the same step, and never a live one",
      Effect.gen(function*() {
        const stale = staleEnd
        const start = (overrides: Partial<StartOptions>) => use((repository) => repository.start(request(overrides)))
        const live = yield* started()
        assert.deepStrictEqual(yield* start({ stale }), {
          _tag: "ThreadBusy",
          runId: live.runId,
          leaseExpired: false
        })
        yield* finish(live)

        const dead = yield* started({ leaseMillis: past })
        yield* append(item(dead, `"kept"`))
        assert.deepStrictEqual(yield* start({}), { _tag: "ThreadBusy", runId: dead.runId, leaseExpired: true })
        const outcomes = yield* times(8, () => start({ stale }))
        assert.strictEqual(count(outcomes, "Created"), 1)
        assert.strictEqual(count(outcomes, "ThreadBusy"), 7)
        const row = yield* get(dead)
        assert.deepInclude(row, {
          status: "failed",
          endReason: "stale_run",
          lastSeq: 2,
          endSeq: 2,
          epoch: dead.epoch + 1
        })
        assert.deepStrictEqual((yield* readAll(dead)).map(({ data, kind }) => [kind, data]), [
          ["data", `"kept"`],
          ["end", stale.data]
        ])
        assert.deepStrictEqual(yield* append(item(dead, `"zombie"`)), [{ _tag: "Ended", status: "failed" }])

        // A thread that runs for another subject, or another one, is not concerned.
        const other = yield* started({ ownerKey: "else", leaseMillis: past })
        yield* start({ threadId: "another", stale })
        assert.strictEqual((yield* get(other)).status, "running")
      })
    )

    test(
      "RUN-02: a start that races with the heartbeat of an expired run either waits for it or takes its place",
      Effect.gen(function*() {
        for (let round = 0; round < 10; round++) {
          const dead = yield* started({ threadId: `race ${round}`, leaseMillis: past })
          const [beat, outcome] = yield* Effect.all([
            use((repository) => repository.heartbeat({ runId: dead.runId, epoch: dead.epoch, leaseMillis: long })),
            use((repository) => repository.start(request({ threadId: `race ${round}`, stale: staleEnd })))
          ], { concurrency: "unbounded" })
          const row = yield* get(dead)
          const alive = beat._tag === "Extended" && outcome._tag === "ThreadBusy" && row.status === "running"
          const ended = outcome._tag === "Created" && row.status === "failed"
          assert.isTrue(alive || ended, `${beat._tag} ${outcome._tag} ${row.status}`)
        }
      })
    )

    const enqueue = (overrides?: Partial<StartOptions>, max = 3) =>
      use((repository) => repository.start(request({ ...overrides, whenBusy: { _tag: "Enqueue", max } })))
    const turn = (run: RunRow, overrides?: { readonly epoch?: number; readonly stale?: StartOptions["stale"] }) =>
      use((repository) => repository.takeTurn({ runId: run.runId, epoch: run.epoch, leaseMillis: long, ...overrides }))
    const interrupting = {
      _tag: "Interrupt",
      end: { reason: "interrupted_by_run", data: `{"status":"aborted"}` }
    } as const

    test(
      "RUN-22: runs of a busy thread queue up, as many as are let, and take their turns in the order of their coming",
      Effect.gen(function*() {
        const first = expectRun(yield* enqueue())
        assert.strictEqual(first.status, "running")
        const queued: Array<RunRow> = []
        for (let index = 0; index < 3; index++) queued.push(expectRun(yield* enqueue()))
        for (const run of queued) {
          assert.deepInclude(run, { status: "queued", epoch: 1, lastSeq: 0, completedAtMillis: null, endSeq: null })
          assert.isAbove(run.leaseExpiresAtMillis ?? 0, run.startedAtMillis)
          assert.deepStrictEqual(yield* turn(run), { _tag: "Behind", runId: first.runId })
        }
        assert.deepStrictEqual(yield* enqueue(), { _tag: "ThreadBusy", runId: first.runId, leaseExpired: false })
        // Threads and owners do not wait for each other.
        assert.strictEqual(expectRun(yield* enqueue({ threadId: "another" })).status, "running")
        assert.strictEqual(expectRun(yield* enqueue({ ownerKey: "another" })).status, "running")
        const again = yield* use((repository) =>
          repository.start({ ...request(), idempotencyKey: queued[1]?.idempotencyKey ?? "" })
        )
        assert.strictEqual(again._tag, "Existing")
        assert.strictEqual(expectRun(again).status, "queued")

        let running = first
        for (const run of queued) {
          yield* finish(running)
          // The thread is busy for those that come now, though nothing runs.
          assert.deepStrictEqual(yield* use((repository) => repository.start(request())), {
            _tag: "ThreadBusy",
            runId: run.runId,
            leaseExpired: false
          })
          const turns = yield* Effect.all(
            queued.filter((one) => one !== run && one.runId > run.runId).map((one) => turn(one)),
            { concurrency: "unbounded" }
          )
          for (const outcome of turns) assert.deepStrictEqual(outcome, { _tag: "Behind", runId: run.runId })
          const outcome = yield* turn(run)
          assert.strictEqual(outcome._tag, "Running")
          if (outcome._tag !== "Running") return
          running = outcome.run
          assert.deepInclude(running, { status: "running", epoch: 1, startedAtMillis: run.startedAtMillis })
          assert.strictEqual((yield* turn(run))._tag, "Running")
          assert.strictEqual((yield* append(item(running, `"x"`)))[0]?._tag, "Appended")
        }
        yield* finish(running)
        assert.strictEqual((yield* started()).status, "running")
      })
    )

    test(
      "RUN-23 RUN-14: runs of an owner start one after another, and a follower finds the next, those it knows, and those alive",
      Effect.gen(function*() {
        const hints: Queue.Queue<WakeUp> = yield* Queue.unbounded<WakeUp>()
        const listening = use((repository) => Stream.runForEach(repository.wakeups, (hint) => Queue.offer(hints, hint)))
        yield* Effect.forkScoped(listening)
        assert.strictEqual(yield* Queue.take(hints), "anything")
        yield* started({ ownerKey: "another", threadId: "a" })
        const all = yield* times(
          12,
          (index) => use((repository) => repository.start(request({ threadId: index % 2 === 0 ? "a" : `${index}` })))
        )
        const runs = all.flatMap((one) => one._tag === "Created" ? [one.run] : [])
          .toSorted((a, b) => a.startedAtMillis - b.startedAtMillis)
        assert.strictEqual(runs.length, 7)
        assert.strictEqual(new Set(runs.map((run) => run.startedAtMillis)).size, 7)
        const [first, second] = runs
        const newest = runs.at(-1)
        if (first === undefined || second === undefined || newest === undefined) return
        const list = (which: FollowedRuns, threadId?: string) =>
          Effect.map(
            use((repository) => repository.listFollowed({ ownerKey: "owner", threadId, which })),
            (rows) => rows.map(({ runId }) => runId)
          )
        const ids = (rows: ReadonlyArray<RunRow>) => rows.map(({ runId }) => runId)
        const after = (startedAtMillis: number, limit: number) => ({ _tag: "After", startedAtMillis, limit }) as const
        assert.deepStrictEqual(yield* list(after(0, 3)), ids(runs.slice(0, 3)))
        assert.deepStrictEqual(yield* list(after(first.startedAtMillis, 100)), ids(runs.slice(1)))
        assert.deepStrictEqual(yield* list(after(newest.startedAtMillis, 100)), [])
        const ofThread = runs.filter(({ threadId }) => threadId === "a")
        assert.strictEqual(ofThread.length, 1)
        assert.deepStrictEqual(yield* list(after(0, 1), "a"), ids(ofThread))
        const at = [newest, first].map((run) => run.startedAtMillis)
        assert.deepStrictEqual(yield* list({ _tag: "At", startedAtMillis: [...at, 1] }), ids([first, newest]))
        assert.deepStrictEqual(yield* list({ _tag: "At", startedAtMillis: at }, "none"), [])
        const newestOf = use((repository) => repository.newestStarts(["owner", "nobody", "another"]))
        assert.strictEqual((yield* newestOf).get("owner"), newest.startedAtMillis)
        assert.deepStrictEqual(Array.from((yield* newestOf).keys()).toSorted(), ["another", "owner"])

        // A hint names the owner, with the start of the newest run at least, or may mean anything.
        while (true) {
          const hint = yield* Queue.take(hints)
          if (hint === "anything" || (hint.get("owner") ?? 0) >= newest.startedAtMillis) break
        }

        yield* finish(first)
        const waiting = expectRun(yield* enqueue({ threadId: second.threadId }))
        assert.deepStrictEqual(yield* list({ _tag: "Alive" }), ids([...runs.slice(1), waiting]))
        assert.deepStrictEqual(yield* list({ _tag: "Alive" }, second.threadId), ids([second, waiting]))
        // The order holds whatever a clock does: what is kept is never later than what comes.
        yield* use((repository) => repository.sweep({ limit: 100, retentionMillis: past, tombstoneMillis: long }))
        assert.deepStrictEqual(yield* list(after(0, 100)), ids([...runs.slice(1), waiting]))
        assert.deepStrictEqual(yield* list({ _tag: "At", startedAtMillis: [first.startedAtMillis] }), [])
        assert.isAbove((yield* started({ threadId: "last" })).startedAtMillis, waiting.startedAtMillis)
      }).pipe(Effect.scoped)
    )

    test(
      "RUN-22: of many that queue and take turns at once one runs at a time, and each runs once",
      Effect.gen(function*() {
        const outcomes = yield* times(12, () => enqueue({}, 8))
        assert.strictEqual(count(outcomes, "Created"), 9)
        assert.strictEqual(count(outcomes, "ThreadBusy"), 3)
        const runs = outcomes.flatMap((outcome) => outcome._tag === "Created" ? [outcome.run] : [])
        const order: Array<string> = []
        while (order.length < 9) {
          const turns = yield* Effect.all(runs.map((run) => turn(run)), { concurrency: "unbounded" })
          assert.isAtMost(count(turns, "Running"), 1)
          for (const outcome of turns) {
            if (outcome._tag !== "Running") continue
            order.push(outcome.run.runId)
            yield* finish(outcome.run)
          }
        }
        assert.strictEqual(new Set(order).size, 9)
        const rows = yield* Effect.all(order.map((runId) => use((repository) => repository.get(runId))))
        const starts = rows.map(Option.match({ onNone: () => 0, onSome: (row) => row.startedAtMillis }))
        assert.deepStrictEqual(starts, starts.toSorted((a, b) => a - b))
      })
    )

    test(
      "RUN-22 RUN-05 RUN-12: a run that waits has no writer, can be aborted, extended and reaped, and is found",
      Effect.gen(function*() {
        const stale = staleEnd
        const first = yield* started()
        const [aborted, lost, patient, dead] = [
          expectRun(yield* enqueue({}, 9)),
          expectRun(yield* enqueue({}, 9)),
          expectRun(yield* enqueue({}, 9)),
          expectRun(yield* enqueue({ leaseMillis: past }, 9))
        ]
        assert.deepStrictEqual(yield* append(item(aborted, `"early"`)), [{ _tag: "Fenced", currentEpoch: 1 }])
        assert.strictEqual((yield* abort(aborted))._tag, "Aborted")
        assert.deepInclude(yield* get(aborted), { status: "aborted", lastSeq: 1, endSeq: 1, epoch: 2 })
        assert.deepStrictEqual(yield* turn(aborted), { _tag: "Ended", status: "aborted" })
        assert.deepStrictEqual((yield* readAll(aborted)).map(({ kind }) => kind), ["end"])
        assert.deepStrictEqual(yield* turn(lost, { epoch: 7 }), { _tag: "Fenced", currentEpoch: 1 })
        assert.deepStrictEqual(
          yield* use((repository) => repository.takeTurn({ runId: unique(), epoch: 1, leaseMillis: long })),
          { _tag: "Unknown" }
        )
        const beat = yield* use((repository) =>
          repository.heartbeat({ runId: patient.runId, epoch: patient.epoch, leaseMillis: 2 * long })
        )
        assert.strictEqual(beat._tag, "Extended")
        const reaped = yield* reap()
        assert.deepStrictEqual(reaped.map(({ runId, status }) => [runId, status]), [[dead.runId, "failed"]])

        const active = use((repository) =>
          repository.activeForThread({ ownerKey: "owner", threadId: "thread", windowMillis: long })
        )
        assert.deepStrictEqual(Option.map(yield* active, ({ runId }) => runId), Option.some(first.runId))
        const found = yield* use((repository) => repository.list({ ownerKey: "owner", status: "queued", limit: 100 }))
        assert.deepStrictEqual(
          found.map(({ runId }) => runId).toSorted(),
          [lost.runId, patient.runId].toSorted()
        )
        assert.strictEqual((yield* finish(lost))._tag, "Finished")
        yield* finish(first)
        assert.deepStrictEqual(Option.map(yield* active, ({ runId }) => runId), Option.some(patient.runId))
        assert.strictEqual((yield* turn(patient))._tag, "Running")

        // What died holds up no other: neither the one that ran nor one that waited longer.
        yield* started({ threadId: "dead", leaseMillis: past })
        yield* enqueue({ threadId: "dead", leaseMillis: past })
        const last = expectRun(yield* enqueue({ threadId: "dead" }))
        assert.strictEqual((yield* turn(last))._tag, "Behind")
        assert.strictEqual((yield* turn(last, { stale }))._tag, "Running")
      })
    )

    test(
      "RUN-22 RUN-04: a run that interrupts ends the running one and takes its place in one step, before those that wait",
      Effect.gen(function*() {
        const interrupt = (overrides?: Partial<StartOptions>) =>
          use((repository) => repository.start(request({ ...overrides, whenBusy: interrupting })))
        const free = yield* interrupt()
        assert.strictEqual(free._tag === "Created" ? free.interrupted : "", undefined)
        const first = expectRun(free)
        yield* append(item(first, `"kept"`))
        const waiting = expectRun(yield* enqueue())
        const outcome = yield* interrupt()
        assert.deepInclude(outcome, { _tag: "Created", interrupted: first.runId })
        const second = expectRun(outcome)
        assert.strictEqual(second.status, "running")
        assert.deepInclude(yield* get(first), {
          status: "aborted",
          endReason: "interrupted_by_run",
          lastSeq: 2,
          endSeq: 2,
          epoch: 2
        })
        assert.deepStrictEqual(yield* append(item(first, `"zombie"`)), [{ _tag: "Ended", status: "aborted" }])
        assert.deepStrictEqual(yield* turn(waiting), { _tag: "Behind", runId: second.runId })

        const all = yield* times(12, () => interrupt())
        assert.strictEqual(count(all, "Created"), 12)
        const rows = yield* Effect.all(all.map((one) => get(expectRun(one))))
        assert.strictEqual(rows.filter(({ status }) => status === "running").length, 1)
        assert.strictEqual(rows.filter(({ status }) => status === "aborted").length, 11)
        const ended = all.flatMap((one) => one._tag === "Created" ? [one.interrupted] : [])
        assert.strictEqual(new Set(ended).size, 12)

        // One that is stale has failed, and was not interrupted.
        const dead = yield* started({ threadId: "dead", leaseMillis: past })
        const after = yield* interrupt({ threadId: "dead", stale: staleEnd })
        assert.deepInclude(after, { interrupted: undefined, stale: dead.runId })
        assert.deepInclude(yield* get(dead), { status: "failed", endReason: "stale_run" })
      })
    )

    const ask = (run: RunRow, name: string, overrides?: { readonly epoch?: number; readonly maxEvents?: number }) =>
      use((repository) =>
        repository.ask({
          runId: run.runId,
          epoch: run.epoch,
          name,
          data: `{"question":"${name}"}`,
          byteCount: 20,
          ...roomy,
          ...overrides
        })
      )
    const answer = (run: Pick<RunRow, "runId">, name: string, value: string, ownerKey?: string) =>
      use((repository) =>
        repository.answer({ runId: run.runId, ownerKey, name, value, data: `{"answer":${value}}`, byteCount: 20 })
      )

    test(
      "RUN-20: a question is asked once, and the first of many answers counts",
      Effect.gen(function*() {
        const run = yield* started()
        yield* append(item(run, `"before"`))
        assert.deepStrictEqual(yield* ask(run, "deploy?"), { _tag: "Open", seq: 2 })
        assert.deepStrictEqual(yield* ask(run, "deploy?"), { _tag: "Open", seq: 2 })
        assert.deepStrictEqual(yield* ask(run, "colour?"), { _tag: "Open", seq: 3 })
        assert.strictEqual((yield* get(run)).openQuestions, 2)
        const list = (status: RunStatus) =>
          Effect.map(
            use((repository) => repository.list({ ownerKey: "owner", status, limit: 10 })),
            (rows) => rows.map(({ runId }) => runId)
          )
        assert.deepStrictEqual([yield* list("waiting"), yield* list("running")], [[run.runId], []])
        // What waits goes on writing, if it has something to say.
        assert.strictEqual((yield* append(item(run, `"meanwhile"`)))[0]?._tag, "Appended")
        const outcomes = yield* times(24, (index) => answer(run, "deploy?", `${index}`))
        assert.strictEqual(count(outcomes, "Accepted"), 1)
        assert.strictEqual(count(outcomes, "AlreadyAnswered"), 23)
        const winner = outcomes.findIndex(({ _tag }) => _tag === "Accepted")
        assert.deepStrictEqual(yield* ask(run, "deploy?"), { _tag: "Answered", value: `${winner}` })
        assert.deepInclude(yield* get(run), { openQuestions: 1, lastSeq: 5, eventCount: 5 })
        assert.strictEqual((yield* answer(run, "colour?", `"red"`, "owner"))._tag, "Accepted")
        assert.deepStrictEqual([yield* list("waiting"), yield* list("running")], [[], [run.runId]])
        assert.deepStrictEqual((yield* readAll(run)).map(({ data, seq }) => [seq, data]), [
          [1, `"before"`],
          [2, `{"question":"deploy?"}`],
          [3, `{"question":"colour?"}`],
          [4, `"meanwhile"`],
          [5, `{"answer":${winner}}`],
          [6, `{"answer":"red"}`]
        ])
      })
    )

    test(
      "RUN-20 RUN-05 RUN-18: a question of no writer is not asked, and none is answered twice, unasked, late or by others",
      Effect.gen(function*() {
        const run = yield* started()
        assert.deepStrictEqual(yield* ask(run, "a", { epoch: 9 }), { _tag: "Fenced", currentEpoch: 1 })
        assert.deepStrictEqual(yield* ask({ ...run, runId: unique() }, "a"), { _tag: "Unknown" })
        assert.deepStrictEqual(yield* ask(run, "a", { maxEvents: 0 }), { _tag: "LimitExceeded", limit: "maxEvents" })
        assert.strictEqual((yield* get(run)).openQuestions, 0)
        const queued = expectRun(yield* enqueue())
        assert.deepStrictEqual(yield* ask(queued, "a"), { _tag: "Fenced", currentEpoch: 1 })
        assert.deepStrictEqual(yield* answer(run, "a", "1"), { _tag: "NoQuestion" })
        assert.deepStrictEqual(yield* ask(run, "a", { maxEvents: 1 }), { _tag: "Open", seq: 1 })
        assert.deepStrictEqual(yield* answer(run, "a", "1", "another"), { _tag: "Unknown" })
        assert.deepStrictEqual(yield* answer({ runId: unique() }, "a", "1"), { _tag: "Unknown" })
        assert.deepStrictEqual(yield* answer(run, "b", "1"), { _tag: "NoQuestion" })
        // A log that is full still takes the answer.
        assert.strictEqual((yield* answer(run, "a", "1"))._tag, "Accepted")
        yield* ask(run, "c")
        yield* finish(run)
        assert.deepStrictEqual(yield* answer(run, "c", "1"), { _tag: "Ended", status: "succeeded" })
        assert.deepStrictEqual(yield* answer(run, "a", "1"), { _tag: "AlreadyAnswered" })
        assert.deepStrictEqual(yield* ask(run, "a"), { _tag: "Ended", status: "succeeded" })
        const ended = yield* use((repository) => repository.list({ ownerKey: "owner", status: "succeeded", limit: 10 }))
        assert.deepStrictEqual(ended.map(({ runId }) => runId), [run.runId])
        yield* use((repository) => repository.sweep({ limit: 100, retentionMillis: past, tombstoneMillis: long }))
        assert.deepStrictEqual(yield* answer(run, "a", "1"), { _tag: "Ended", status: "succeeded" })
      })
    )

    test(
      "RUN-20 RUN-04: an answer that races with the end of its run is stored before it, or refused",
      Effect.gen(function*() {
        for (let round = 0; round < 10; round++) {
          const run = yield* started({ threadId: `race ${round}` })
          yield* ask(run, "a")
          const [answered] = yield* Effect.all([answer(run, "a", "1"), finish(run)], { concurrency: "unbounded" })
          const kinds = (yield* readAll(run)).map(({ kind }) => kind)
          assert.deepStrictEqual(kinds, answered._tag === "Accepted" ? ["data", "data", "end"] : ["data", "end"])
        }
      })
    )

    const takeOver = (limit = 10) => use((repository) => repository.takeOver({ limit, leaseMillis: past, maxEpoch: 3 }))

    test(
      "RUN-21 RUN-05: a resumable run whose lease has expired is one taker's, under the next epoch, for so many times",
      Effect.gen(function*() {
        const resumable = { resume: `{"a":"\\u0000"}`, leaseMillis: past }
        const run = yield* started(resumable)
        yield* append(item(run, `"first"`))
        yield* started({ threadId: "live", resume: "1" })
        const mortal = yield* started({ threadId: "mortal", leaseMillis: past })
        assert.deepStrictEqual((yield* reap()).map(({ runId }) => runId), [mortal.runId], "it waits for a taker")
        assert.deepInclude(
          yield* use((repository) => repository.start(request({ stale: staleEnd }))),
          { _tag: "ThreadBusy", runId: run.runId }
        )
        const taken = (yield* times(8, () => takeOver(1))).flat()
        // A lease that lies in the past lets another one take it.
        const epochs = taken.map(({ run }) => run.epoch)
        assert.deepStrictEqual(new Set(epochs), new Set([2, 3]))
        assert.lengthOf(epochs, 2)
        for (const one of taken) {
          assert.deepStrictEqual([one.run.runId, one.run.status, one.resume], [run.runId, "running", resumable.resume])
          assert.isNotNull(one.run.heartbeatAtMillis)
        }
        assert.deepStrictEqual(yield* append(item(run, `"zombie"`)), [{ _tag: "Fenced", currentEpoch: 3 }])
        const last = { ...run, epoch: 3 }
        assert.strictEqual((yield* append(item(last, `"third"`)))[0]?._tag, "Appended")
        assert.strictEqual((yield* finish(run))._tag, "Fenced")
        assert.deepStrictEqual(yield* takeOver(), [], "it has had its writers")
        assert.deepStrictEqual((yield* reap()).map(({ endReason, runId }) => [endReason, runId]), [
          ["stale_run", run.runId]
        ])
        assert.deepStrictEqual((yield* readAll(run)).map(({ data }) => data), [`"first"`, `"third"`, staleEnd.data])
        assert.deepStrictEqual(yield* takeOver(), [])
      })
    )

    test(
      "RUN-21 RUN-12 RUN-20 RUN-22: what waits is taken over too, with its answers, and what has ended or waited too long is not",
      Effect.gen(function*() {
        const holder = yield* started()
        const queued = expectRun(yield* enqueue({ resume: "1", leaseMillis: past }))
        const [taken] = yield* takeOver()
        assert.deepInclude(taken?.run, { runId: queued.runId, status: "queued", epoch: 2 })
        const [again] = yield* takeOver()
        if (again === undefined) return assert.fail("it is taken again")
        yield* finish(holder)
        const first = yield* turn(again.run)
        assert.strictEqual(first._tag, "Running")
        yield* ask(again.run, "a")
        yield* answer(again.run, "a", "1")
        assert.deepStrictEqual(yield* ask(again.run, "a"), { _tag: "Answered", value: "1" })
        yield* abort(again.run)

        const forgotten = yield* started({ threadId: "forgotten", resume: "1", leaseMillis: -100_000 })
        assert.deepStrictEqual((yield* reap()).map(({ runId }) => runId), [forgotten.runId])
        assert.deepStrictEqual(yield* takeOver(), [])
      })
    )

    const keyed = (run: RunRow, key: string, ...events: ReadonlyArray<string>) => ({ ...item(run, ...events), key })

    test(
      "RUN-21 RUN-03: events with a key are stored once, whichever writer appends them, and however they come together",
      Effect.gen(function*() {
        const run = yield* started({ workflow: "1" })
        const other = yield* started({ threadId: "other" })
        const [first] = yield* append(keyed(run, "a", `"1"`, `"2"`))
        if (first?._tag !== "Appended") return assert.fail("it was appended")
        const { atMillis } = first
        assert.deepStrictEqual(first, { _tag: "Appended", firstSeq: 1, lastSeq: 2, atMillis })
        const again = { ...first, repeated: true as const }
        // The first content counts. The same key of another run, or none, is something else.
        const outcomes = yield* append(
          keyed(run, "a", `"other"`),
          keyed(other, "a", `"x"`),
          keyed(run, "b", `"3"`),
          item(run, `"4"`),
          keyed(run, "b", `"3"`),
          item(run, `"4"`),
          keyed(run, "", `"5"`)
        )
        assert.deepStrictEqual(outcomes[0], again)
        assert.deepStrictEqual(
          outcomes.map((outcome) => outcome._tag === "Appended" ? [outcome.firstSeq, outcome.repeated] : outcome),
          [[1, true], [1, undefined], [3, undefined], [4, undefined], [3, true], [5, undefined], [6, undefined]]
        )
        // What is known is no more of it, also if the log is full.
        const full = yield* use((repository) =>
          repository.append({
            items: [keyed(run, "a", `"1"`), keyed(run, "c", `"6"`), keyed(run, "", `"5"`)],
            maxEvents: 6,
            maxBytes: 1_000
          })
        )
        assert.deepStrictEqual(full.map(({ _tag }) => _tag), ["Appended", "LimitExceeded", "Appended"])
        const writers = yield* times(12, () => append(keyed(run, "race", `"7"`)))
        assert.lengthOf(writers.flat().filter((outcome) => outcome._tag === "Appended" && outcome.repeated !== true), 1)

        const next = yield* use((repository) => repository.activate({ runId: run.runId, leaseMillis: long }))
        if (next._tag !== "Activated") return assert.fail("it is begun")
        assert.deepStrictEqual(yield* append(keyed(run, "a", `"1"`)), [{ _tag: "Fenced", currentEpoch: 2 }])
        assert.deepStrictEqual(yield* append(keyed(next.run, "a", `"1"`)), [again])
        assert.deepInclude(yield* get(run), { lastSeq: 7, eventCount: 7 })
        assert.deepStrictEqual(
          (yield* readAll(run)).map(({ data }) => data),
          [1, 2, 3, 4, 4, 5, 7].map((n) => `"${n}"`)
        )
        yield* finish(next.run)
        assert.deepStrictEqual(yield* append(keyed(next.run, "a", `"1"`)), [{ _tag: "Ended", status: "succeeded" }])
      })
    )

    test(
      "RUN-21 RUN-05 RUN-20: a run of an engine is begun under the next epoch, is not reaped, and wakes when it is answered",
      Effect.gen(function*() {
        const activate = (run: RunRow, leaseMillis = long) =>
          use((repository) => repository.activate({ runId: run.runId, leaseMillis }))
        const wake = (limit = 10) => use((repository) => repository.wake({ limit, leaseMillis: long }))
        const heartbeat = (
          run: RunRow,
          options?: { readonly forward?: boolean; readonly answers?: number; readonly leaseMillis?: number }
        ) =>
          use((repository) =>
            repository.heartbeat({ runId: run.runId, epoch: run.epoch, leaseMillis: long, ...options })
          )
        const run = yield* started({ workflow: `{"a":1}`, leaseMillis: past })
        const ordinary = yield* started({ threadId: "ordinary", resume: "1" })
        assert.deepStrictEqual([yield* reap(), yield* takeOver()], [[], []])
        assert.deepInclude(yield* use((repository) => repository.start(request({ stale: staleEnd }))), {
          _tag: "ThreadBusy",
          runId: run.runId
        })
        const woken = (yield* times(6, () => wake(1))).flat()
        assert.deepStrictEqual(woken, [{ runId: run.runId, answered: [] }])
        assert.deepStrictEqual(yield* activate(ordinary), { _tag: "Unknown" })
        assert.deepStrictEqual(yield* activate({ ...run, runId: unique() }), { _tag: "Unknown" })

        const begun = yield* times(4, () => activate(run))
        const starts = begun.map((one) => one._tag === "Activated" ? [one.run.epoch, one.starts, one.workflow] : one)
        assert.deepStrictEqual(new Set(starts.map(String)), new Set([2, 3, 4, 5].map((n) => `${n},${n - 1},{"a":1}`)))
        const fifth = { ...run, epoch: 5 }
        assert.deepStrictEqual(yield* heartbeat({ ...run, epoch: 4 }), { _tag: "Fenced", currentEpoch: 5 })
        assert.strictEqual((yield* heartbeat(fifth, { forward: true }))._tag, "Extended")
        const next = yield* activate(run)
        if (next._tag !== "Activated") return assert.fail("it is begun")
        assert.deepStrictEqual([next.run.epoch, next.starts], [6, 1], "it has come forward")

        yield* ask(next.run, "a")
        yield* ask(next.run, "b")
        assert.deepStrictEqual(yield* wake(), [])
        yield* answer(run, "b", "1")
        // A heartbeat on the way leaves it to be woken.
        assert.strictEqual((yield* heartbeat(next.run))._tag, "Extended")
        assert.deepStrictEqual(yield* wake(), [{ runId: run.runId, answered: ["b"] }])
        assert.deepStrictEqual(yield* wake(), [])
        // And so does one of a program that does not know the answer yet: the lease of the waking holds.
        assert.strictEqual((yield* heartbeat(next.run, { answers: 0, leaseMillis: past }))._tag, "Extended")
        assert.deepStrictEqual(yield* wake(), [])
        assert.strictEqual((yield* heartbeat(next.run, { answers: 1, leaseMillis: past }))._tag, "Extended")
        assert.deepStrictEqual(yield* wake(), [{ runId: run.runId, answered: ["b"] }])
        // Each has its own answers, and one that waits for none has none.
        const other = yield* started({ threadId: "other", workflow: "1" })
        yield* started({ threadId: "third", workflow: "1", leaseMillis: past })
        yield* ask(other, "a")
        yield* ask(other, "c")
        yield* answer(other, "c", "1")
        yield* answer(other, "a", "1")
        yield* answer(run, "a", "1")
        const answersOf = (yield* wake()).map(({ answered }) => answered.toSorted().join(" "))
        assert.deepStrictEqual(answersOf.toSorted(), ["", "a b", "a c"])
        yield* abort(run)
        assert.deepStrictEqual(yield* activate(run), { _tag: "Ended", status: "aborted" })
        assert.deepStrictEqual(yield* wake(), [])
      })
    )

    test(
      "RUN-17: what a host notes about a run, such as the runs that it continues, is kept as it is",
      Effect.gen(function*() {
        const metadata = `{"attempts":["a","b"],"continued":{"reason":"stale_run","\\u0000":1}}`
        const run = yield* started({ metadata })
        yield* append(item(run, `"x"`))
        yield* finish(run)
        assert.strictEqual((yield* get(run)).metadata, metadata)
        // Until the key itself is forgotten.
        yield* use((repository) => repository.sweep({ limit: 100, retentionMillis: past, tombstoneMillis: long }))
        assert.strictEqual((yield* get(run)).metadata, metadata)
      })
    )

    test(
      "RUN-16: leases are kept by the store's own clock, which tells its time",
      Effect.gen(function*() {
        const before = yield* use((repository) => repository.now)
        const run = yield* started({ leaseMillis: 5_000 })
        const after = yield* use((repository) => repository.now)
        for (const time of [run.startedAtMillis, (run.leaseExpiresAtMillis ?? 0) - 5_000]) {
          assert.isAtLeast(time, before)
          assert.isAtMost(time, after)
        }
      })
    )

    test(
      "RUN-03: numbers start at 1 and have no gaps, with many writers at once",
      Effect.gen(function*() {
        const run = yield* started()
        const outcomes = (yield* times(40, (index) => append(item(run, `"${index}a"`, `"${index}b"`)))).flat()
        assert.strictEqual(count(outcomes, "Appended"), 40)
        const events = yield* readAll(run)
        assert.deepStrictEqual(events.map((event) => event.seq), Array.from({ length: 80 }, (_, index) => index + 1))
        for (const [index, outcome] of outcomes.entries()) {
          if (outcome._tag !== "Appended") continue
          assert.strictEqual(outcome.lastSeq, outcome.firstSeq + 1)
          assert.strictEqual(events[outcome.firstSeq - 1]?.data, `"${index}a"`)
          assert.strictEqual(events[outcome.lastSeq - 1]?.data, `"${index}b"`)
        }
        const row = yield* get(run)
        assert.strictEqual(row.lastSeq, 80)
        assert.strictEqual(row.eventCount, 80)
        assert.strictEqual(row.byteCount, events.reduce((sum, event) => sum + event.data.length, 0))
      })
    )

    test(
      "RUN-06 L-82: a batch keeps the order of each run, and an item that is refused fails alone",
      Effect.gen(function*() {
        const one = yield* started({ threadId: "1" })
        const two = yield* started({ threadId: "2" })
        const ended = yield* started({ threadId: "3" })
        yield* finish(ended)
        const outcomes = yield* append(
          item(one, `"a"`),
          item(ended, `"refused"`),
          item(two, `"b"`, `"c"`),
          { ...item(one, `"zombie"`), epoch: 7 },
          { ...item(one, `"nowhere"`), runId: unique() },
          item(one, `"d"`)
        )
        const [firstOfOne, lastOfOne] = yield* readAll(one)
        const [firstOfTwo, lastOfTwo] = yield* readAll(two)
        const times = [firstOfOne, firstOfTwo, lastOfOne].map((event) => event?.atMillis ?? 0)
        assert.strictEqual(lastOfTwo?.atMillis, times[1])
        const expected: ReadonlyArray<AppendOutcome> = [
          { _tag: "Appended", firstSeq: 1, lastSeq: 1, atMillis: times[0] ?? 0 },
          { _tag: "Ended", status: "succeeded" },
          { _tag: "Appended", firstSeq: 1, lastSeq: 2, atMillis: times[1] ?? 0 },
          { _tag: "Fenced", currentEpoch: 1 },
          { _tag: "Unknown" },
          { _tag: "Appended", firstSeq: 2, lastSeq: 2, atMillis: times[2] ?? 0 }
        ]
        assert.deepStrictEqual(outcomes, expected)
        assert.deepStrictEqual((yield* readAll(one)).map((event) => event.data), [`"a"`, `"d"`])
        assert.deepStrictEqual((yield* readAll(two)).map((event) => event.data), [`"b"`, `"c"`])
        assert.strictEqual((yield* readAll(ended)).length, 1)
      })
    )

    test(
      "RUN-15: an item over the run's number or size of events is refused whole, and smaller ones go on",
      Effect.gen(function*() {
        const run = yield* started()
        const limited = (
          events: ReadonlyArray<string>,
          limits: { readonly maxEvents: number; readonly maxBytes: number }
        ) => use((repository) => repository.append({ items: [item(run, ...events)], ...limits }))
        assert.deepStrictEqual(yield* limited(["1", "2", "3"], { maxEvents: 2, maxBytes: 100 }), [
          { _tag: "LimitExceeded", limit: "maxEvents" }
        ])
        assert.deepStrictEqual(yield* limited(["123"], { maxEvents: 2, maxBytes: 2 }), [
          { _tag: "LimitExceeded", limit: "maxBytes" }
        ])
        assert.deepStrictEqual(yield* readAll(run), [])
        const [stored] = yield* limited(["1", "2"], { maxEvents: 2, maxBytes: 2 })
        assert.deepInclude(stored, { _tag: "Appended", firstSeq: 1, lastSeq: 2 })
        // The terminal event is never refused for its size.
        assert.strictEqual((yield* finish(run))._tag, "Finished")
      })
    )

    test(
      "any JSON text comes back as it was",
      Effect.gen(function*() {
        const run = yield* started({ metadata: `{"text":"\\u0000 \\ud800 é 😀"}` })
        const texts = [`"\\u0000"`, `"\\ud800"`, `"é😀'\\"\\\\"`, `{"b":1,"a":[1.0,null]}`, `"${"x".repeat(100_000)}"`]
        yield* append(item(run, ...texts))
        assert.deepStrictEqual((yield* readAll(run)).map((event) => event.data), texts)
        assert.strictEqual((yield* get(run)).metadata, `{"text":"\\u0000 \\ud800 é 😀"}`)
      })
    )

    test(
      "RUN-04 L-73 L-74: the terminal event and the state change together, exactly once, and nothing follows",
      Effect.gen(function*() {
        const run = yield* started()
        yield* append(item(run, `{"kind":"end","status":"succeeded"}`))
        const outcomes = yield* times(8, () => finish(run))
        assert.strictEqual(count(outcomes, "Finished"), 1)
        assert.strictEqual(count(outcomes, "Ended"), 7)
        assert.deepStrictEqual(yield* append(item(run, `"late"`)), [{ _tag: "Ended", status: "succeeded" }])
        const events = yield* readAll(run)
        assert.deepStrictEqual(events.map(({ kind, seq }) => [seq, kind]), [[1, "data"], [2, "end"]])
        const row = yield* get(run)
        assert.strictEqual(row.status, "succeeded")
        assert.strictEqual(row.lastSeq, 2)
        assert.strictEqual(row.endSeq, 2)
        assert.isNull(row.leaseExpiresAtMillis)
        assert.strictEqual(row.completedAtMillis, events[1]?.atMillis)
      })
    )

    test(
      "RUN-04: while a run is ended, every append is stored before the end or refused",
      Effect.gen(function*() {
        const run = yield* started()
        const [outcomes] = yield* Effect.all([
          Effect.map(times(20, (index) => append(item(run, `${index}`))), (all) => all.flat()),
          finish(run)
        ], { concurrency: "unbounded" })
        const events = yield* readAll(run)
        assert.strictEqual(count(outcomes, "Appended") + count(outcomes, "Ended"), 20)
        assert.strictEqual(events.length, count(outcomes, "Appended") + 1)
        assert.deepStrictEqual(events.map((event) => event.seq), events.map((_, index) => index + 1))
        assert.deepStrictEqual(events.filter((event) => event.kind === "end").map((event) => event.seq), [
          events.length
        ])
      })
    )

    test(
      "RUN-05 L-78: a writer with another epoch is refused, and told the current one",
      Effect.gen(function*() {
        const run = yield* started()
        assert.deepStrictEqual(yield* append({ ...item(run, "1"), epoch: 0 }), [{ _tag: "Fenced", currentEpoch: 1 }])
        assert.deepStrictEqual(yield* finish(run, 2), { _tag: "Fenced", currentEpoch: 1 })
        assert.deepStrictEqual(
          yield* use((repository) => repository.heartbeat({ runId: run.runId, epoch: 2, leaseMillis: long })),
          { _tag: "Fenced", currentEpoch: 1 }
        )
        assert.deepStrictEqual(yield* readAll(run), [])
        assert.strictEqual((yield* get(run)).status, "running")
      })
    )

    test(
      "RUN-05 RUN-21 RUN-03: once a later writer has begun, nothing of the earlier one is stored, and no number is left out",
      Effect.gen(function*() {
        const runs = yield* Effect.forEach(
          Array.from({ length: 8 }, (_, index) => `thread ${index}`),
          (threadId) => started({ threadId, workflow: "1" })
        )
        const firstEvents = yield* append(...runs.map((run) => item(run, `"epoch 1"`)))
        assert.strictEqual(count(firstEvents, "Appended"), runs.length)
        // The earlier writers of all runs share batches, some with a key, and go on until they are refused.
        const earlier = Effect.gen(function*() {
          let writing: ReadonlyArray<RunRow> = runs
          for (let round = 0; writing.length > 0; round++) {
            const outcomes = yield* append(
              ...writing.map((run) => ({
                ...item(run, `"epoch 1"`, `"epoch 1"`),
                ...(round % 8 === 7 ? { key: `${round}` } : {})
              }))
            )
            for (const outcome of outcomes) {
              if (outcome._tag !== "Appended") assert.deepStrictEqual(outcome, { _tag: "Fenced", currentEpoch: 2 })
            }
            writing = writing.filter((_, index) => outcomes[index]?._tag === "Appended")
            yield* Effect.yieldNow
          }
        })
        const later = (run: RunRow) =>
          Effect.gen(function*() {
            yield* Effect.yieldNow
            const outcome = yield* use((repository) => repository.activate({ runId: run.runId, leaseMillis: long }))
            if (outcome._tag !== "Activated") throw new Error(`not begun: ${outcome._tag}`)
            const head = yield* use((repository) => repository.heads([run.runId]))
            assert.deepStrictEqual(head.map(({ lastSeq }) => lastSeq), [outcome.run.lastSeq])
            for (let index = 1; index < 6; index++) {
              assert.deepInclude((yield* append(item(outcome.run, `"epoch 2"`)))[0], {
                _tag: "Appended",
                firstSeq: outcome.run.lastSeq + index
              })
            }
            return outcome.run
          })
        const [, begun] = yield* Effect.all([earlier, Effect.forEach(runs, later, { concurrency: "unbounded" })], {
          concurrency: "unbounded"
        })
        for (const { byteCount, eventCount, lastSeq, runId } of begun) {
          const events = yield* readAll({ runId })
          assert.deepStrictEqual(events.map(({ seq }) => seq), events.map((_, index) => index + 1))
          assert.deepStrictEqual(
            events.map(({ data }) => data),
            [...Array(lastSeq).fill(`"epoch 1"`), ...Array(5).fill(`"epoch 2"`)]
          )
          assert.deepStrictEqual([eventCount, byteCount], [lastSeq, lastSeq * `"epoch 1"`.length])
          const ended = yield* use((repository) =>
            repository.abort({ runId, ownerKey: undefined, reason: null, data: "1" })
          )
          assert.deepInclude(ended._tag === "Aborted" ? ended.run : undefined, {
            lastSeq: events.length + 1,
            endSeq: events.length + 1,
            eventCount: events.length,
            byteCount: events.length * `"epoch 1"`.length
          })
        }
      })
    )

    test(
      "RUN-07 RUN-16 L-84: stale runs are ended by the store's clock with one terminal event, live ones are not",
      Effect.gen(function*() {
        const live = yield* started({ threadId: "live" })
        const stale = yield* Effect.forEach(
          ["1", "2", "3"],
          (threadId) => started({ threadId, leaseMillis: past })
        )
        const extended = yield* started({ threadId: "extended", leaseMillis: past })
        const beat = yield* use((repository) =>
          repository.heartbeat({ runId: extended.runId, epoch: 1, leaseMillis: long })
        )
        assert.strictEqual(beat._tag, "Extended")
        const batches = [yield* reap(2), yield* reap(2), yield* reap(2)]
        assert.deepStrictEqual(batches.map((batch) => batch.length), [2, 1, 0])
        assert.deepStrictEqual(
          batches.flat().map((run) => run.runId).sort(),
          stale.map((run) => run.runId).sort()
        )
        for (const run of stale) {
          const row = yield* get(run)
          assert.deepStrictEqual([row.status, row.endReason, row.epoch], ["failed", "stale_run", 2])
          assert.deepStrictEqual((yield* readAll(run)).map((event) => event.kind), ["end"])
          assert.deepStrictEqual(yield* append(item(run, "1")), [{ _tag: "Ended", status: "failed" }])
        }
        assert.strictEqual((yield* get(live)).status, "running")
        assert.strictEqual((yield* get(extended)).status, "running")
      })
    )

    test(
      "RUN-07: a heartbeat that races with the reaper either keeps the run alive or is refused",
      Effect.gen(function*() {
        const runs = yield* Effect.forEach(
          Array.from({ length: 12 }, (_, index) => `${index}`),
          (threadId) => started({ threadId, leaseMillis: past })
        )
        const [reaped, beats] = yield* Effect.all([
          Effect.map(times(3, () => reap()), (all) => all.flat().map((run) => run.runId)),
          Effect.forEach(
            runs,
            (run) => use((repository) => repository.heartbeat({ runId: run.runId, epoch: 1, leaseMillis: long })),
            { concurrency: "unbounded" }
          )
        ], { concurrency: "unbounded" })
        assert.strictEqual(new Set(reaped).size, reaped.length)
        for (const [index, run] of runs.entries()) {
          const row = yield* get(run)
          const isReaped = reaped.includes(run.runId)
          assert.strictEqual(row.status, isReaped ? "failed" : "running")
          assert.strictEqual((yield* readAll(run)).length, isReaped ? 1 : 0)
          // The heartbeat may have come first and the reaper have passed the run over; never may both have won.
          if (beats[index]?._tag === "Extended") assert.isFalse(isReaped)
        }
      })
    )

    test(
      "RUN-12: an abort ends a run once, racing with its end, and another owner's run is unknown",
      Effect.gen(function*() {
        const run = yield* started()
        assert.deepStrictEqual(yield* abort(run, "stranger"), { _tag: "Unknown" })
        const [aborts, finished] = yield* Effect.all([
          times(4, () => abort(run, "owner")),
          finish(run)
        ], { concurrency: "unbounded" })
        assert.strictEqual(count(aborts, "Aborted") + count([finished], "Finished"), 1)
        assert.strictEqual(count(aborts, "Unknown"), 0)
        assert.deepStrictEqual((yield* readAll(run)).map((event) => event.kind), ["end"])
        const row = yield* get(run)
        assert.strictEqual(row.status, finished._tag === "Finished" ? "succeeded" : "aborted")
        if (row.status === "aborted") assert.deepStrictEqual([row.endReason, row.epoch], ["asked", 2])
      })
    )

    test(
      "RUN-12 L-79: an abort before the run exists ends it as it begins, and holds no slot",
      Effect.gen(function*() {
        const first = request()
        const { idempotencyKey, ownerKey, threadId } = first
        const byKey = use((repository) =>
          repository.abortByKey({ ownerKey, threadId, idempotencyKey, reason: "early", data: `"by key"` })
        )
        assert.deepStrictEqual(yield* byKey, { _tag: "Registered" })
        assert.deepStrictEqual(yield* byKey, { _tag: "Registered" })
        const other = yield* started()
        const outcome = yield* use((repository) => repository.start(first))
        assert.strictEqual(outcome._tag, "Created")
        const run = expectRun(outcome)
        assert.deepStrictEqual([run.status, run.endReason, run.lastSeq, run.endSeq], ["aborted", "early", 1, 1])
        assert.deepStrictEqual(
          (yield* readAll(run)).map(({ data, kind, seq }) => ({ data, kind, seq })),
          [{ data: first.abortedData, kind: "end", seq: 1 }]
        )
        assert.strictEqual((yield* byKey)._tag, "AlreadyEnded")
        assert.strictEqual((yield* get(other)).status, "running")
        const conflict = yield* use((repository) =>
          repository.abortByKey({ ownerKey, threadId: "other", idempotencyKey, reason: null, data: "{}" })
        )
        assert.strictEqual(conflict._tag, "Conflict")
      })
    )

    test(
      "HTTP-09: an owner has so many runs queued and running, and no more, until one has ended",
      Effect.gen(function*() {
        const limits = { maxRunning: 3 }
        const start = (thread: string, overrides: Partial<StartOptions> = {}) =>
          use((repository) => repository.start(request({ threadId: thread, ...limits, ...overrides })))
        const tooManyRunning = { _tag: "TooMany", limit: "maxRunning" } as const
        const first = request({ threadId: "1", ...limits })
        const run = expectRun(yield* use((repository) => repository.start(first)))
        for (const thread of ["2", "3"]) assert.strictEqual((yield* start(thread))._tag, "Created")

        assert.deepStrictEqual(yield* start("4"), tooManyRunning)
        assert.strictEqual((yield* start("1"))._tag, "ThreadBusy")
        assert.strictEqual((yield* use((repository) => repository.start(first)))._tag, "Existing", "the same again")
        assert.strictEqual((yield* start("4", { ownerKey: "another" }))._tag, "Created")
        const early = request({ threadId: "4", ...limits })
        const { idempotencyKey, ownerKey, threadId } = early
        yield* use((repository) =>
          repository.abortByKey({ ownerKey, threadId, idempotencyKey, reason: null, data: "{}" })
        )
        const aborted = expectRun(yield* use((repository) => repository.start(early)))
        assert.strictEqual(aborted.status, "aborted", "which holds no slot")

        const queueing = { whenBusy: { _tag: "Enqueue", max: 9 } } as const
        assert.deepStrictEqual(yield* start("1", queueing), tooManyRunning)
        assert.strictEqual((yield* start("4", { ...queueing, ownerKey: "another" }))._tag, "Created")
        assert.deepStrictEqual(yield* start("5", { whenBusy: interrupting }), tooManyRunning)
        // One that takes another's place makes no more of them.
        assert.strictEqual((yield* start("2", { whenBusy: interrupting }))._tag, "Created")
        yield* abort(run)
        assert.strictEqual((yield* start("2", queueing))._tag, "Created")
        assert.deepStrictEqual(yield* start("6"), tooManyRunning)
      })
    )

    test(
      "HTTP-09 RUN-12: an owner has so many aborts of runs that have not begun, and no more",
      Effect.gen(function*() {
        const first = request()
        const abort = (idempotencyKey: string, ownerKey = first.ownerKey) =>
          use((repository) =>
            repository.abortByKey({
              ownerKey,
              threadId: first.threadId,
              idempotencyKey,
              reason: null,
              data: "{}",
              maxAborts: 2
            })
          )
        yield* abort(first.idempotencyKey)
        assert.strictEqual((yield* abort("b"))._tag, "Registered")
        assert.deepStrictEqual(yield* abort("c"), { _tag: "TooMany", limit: "maxAborts" })
        assert.strictEqual((yield* abort("b"))._tag, "Registered", "the same again")
        assert.strictEqual((yield* abort("c", "another"))._tag, "Registered")
        assert.strictEqual(expectRun(yield* use((repository) => repository.start(first))).status, "aborted")
        assert.strictEqual((yield* abort("c"))._tag, "Registered")
      })
    )

    test(
      "RUN-12 L-79: an abort by key that races with the start always ends the run",
      Effect.gen(function*() {
        for (let round = 0; round < 10; round++) {
          const first = request({ threadId: `${round}` })
          const { idempotencyKey, ownerKey, threadId } = first
          const [outcome] = yield* Effect.all([
            use((repository) => repository.start(first)),
            use((repository) => repository.abortByKey({ ownerKey, threadId, idempotencyKey, reason: null, data: "{}" }))
          ], { concurrency: "unbounded" })
          assert.strictEqual((yield* get(expectRun(outcome))).status, "aborted")
          assert.strictEqual((yield* readAll(expectRun(outcome))).length, 1)
        }
      })
    )

    test(
      "RUN-01 L-70: a run is found by its owner's key, also when it has ended",
      Effect.gen(function*() {
        const byKey = (ownerKey: string, idempotencyKey: string) =>
          Effect.map(use((repository) => repository.getByKey({ ownerKey, idempotencyKey })), Option.getOrUndefined)
        const run = yield* started()
        assert.strictEqual((yield* byKey("owner", run.idempotencyKey))?.runId, run.runId)
        assert.isUndefined(yield* byKey("other", run.idempotencyKey))
        assert.isUndefined(yield* byKey("owner", "another key"))
        yield* finish(run)
        assert.strictEqual((yield* byKey("owner", run.idempotencyKey))?.status, "succeeded")
      })
    )

    test(
      "RUN-10 L-71: a thread's run is the running one, else the one that ended last within the window",
      Effect.gen(function*() {
        const active = (windowMillis: number, threadId = "thread", ownerKey = "owner") =>
          Effect.map(
            use((repository) => repository.activeForThread({ ownerKey, threadId, windowMillis })),
            Option.getOrUndefined
          )
        assert.isUndefined(yield* active(long))
        const first = yield* started()
        assert.strictEqual((yield* active(past))?.runId, first.runId)
        assert.isUndefined(yield* active(long, "other"))
        assert.isUndefined(yield* active(long, "thread", "other"))
        yield* abort(first)
        assert.strictEqual((yield* active(long))?.runId, first.runId)
        assert.isUndefined(yield* active(past))
        const second = yield* started()
        assert.strictEqual((yield* active(long))?.runId, second.runId)
        yield* finish(second)
        assert.strictEqual((yield* active(long))?.status, "succeeded")
      })
    )

    test(
      "RUN-08: events are read in pages",
      Effect.gen(function*() {
        const run = yield* started()
        yield* append(item(run, ...Array.from({ length: 10 }, (_, index) => `${index + 1}`)))
        const page = (after: number) =>
          Effect.map(
            use((repository) => repository.read({ runId: run.runId, after, limit: 4 })),
            (events) => events.map((event) => event.seq)
          )
        assert.deepStrictEqual(yield* page(0), [1, 2, 3, 4])
        assert.deepStrictEqual(yield* page(7), [8, 9, 10])
        assert.deepStrictEqual(yield* page(10), [])
        const heads = yield* use((repository) => repository.heads([run.runId, unique()]))
        assert.deepStrictEqual(heads, [{ runId: run.runId, status: "running", lastSeq: 10 }])
      })
    )

    test(
      "RUN-13: a sweep deletes in bounded batches what is past its retention, and nothing else",
      Effect.gen(function*() {
        const first = request({ threadId: "ended" })
        const ended = expectRun(yield* use((repository) => repository.start(first)))
        yield* append(item(ended, "1", "2", "3", "4", "5"))
        yield* finish(ended)
        const running = yield* started({ threadId: "running" })
        yield* append(item(running, "1"))
        yield* use((repository) =>
          repository.abortByKey({
            ownerKey: "owner",
            threadId: "never",
            idempotencyKey: "never",
            reason: null,
            data: "{}"
          })
        )
        const sweep = (retentionMillis: number, tombstoneMillis: number) =>
          use((repository) => repository.sweep({ limit: 4, retentionMillis, tombstoneMillis }))
        assert.deepStrictEqual(yield* sweep(long, long), { expired: 0, events: 0, removed: 0, aborts: 0 })
        assert.deepStrictEqual(yield* sweep(past, long), { expired: 1, events: 4, removed: 0, aborts: 1 })
        assert.isNotNull((yield* get(ended)).expiredAtMillis)
        assert.deepStrictEqual(yield* sweep(past, long), { expired: 0, events: 2, removed: 0, aborts: 0 })
        assert.deepStrictEqual(yield* readAll(ended), [])
        const again = yield* use((repository) => repository.start({ ...first, runId: unique() }))
        assert.strictEqual(again._tag, "Existing")
        assert.deepStrictEqual(yield* sweep(past, past), { expired: 0, events: 0, removed: 1, aborts: 0 })
        assert.isTrue(Option.isNone(yield* use((repository) => repository.get(ended.runId))))
        assert.strictEqual((yield* get(running)).status, "running")
        assert.strictEqual((yield* readAll(running)).length, 1)
      })
    )

    test(
      "RUN-08: hints when it listens, and after each commit at the run and at least its last number, or at anything",
      Effect.gen(function*() {
        const run = yield* started()
        const hints = yield* Queue.unbounded<WakeUp>()
        yield* use((repository) => Stream.runForEach(repository.wakeups, (hint) => Queue.offer(hints, hint))).pipe(
          Effect.orDie,
          Effect.forkChild
        )
        const next = Effect.map(Queue.take(hints), (hint) => hint === "anything" ? Infinity : hint.get(run.runId) ?? 0)
        const until: (lastSeq: number) => Effect.Effect<void> = (lastSeq) =>
          Effect.flatMap(next, (position) => position < lastSeq ? until(lastSeq) : Effect.void)
        assert.strictEqual(yield* Queue.take(hints), "anything")
        yield* append(item(run, "1", "2"))
        yield* until(2)
        yield* append(item(run, "3"))
        yield* until(3)
        yield* finish(run)
        yield* until(4)
        const aborted = yield* started()
        yield* abort(aborted)
        const reaped = yield* started({ threadId: "reaped", leaseMillis: past })
        yield* reap()
        const missing = new Set<string>([aborted.runId, reaped.runId])
        while (missing.size > 0) {
          const hint = yield* Queue.take(hints)
          if (hint === "anything") missing.clear()
          else for (const runId of hint.keys()) missing.delete(runId)
        }
      })
    )
  })
}
