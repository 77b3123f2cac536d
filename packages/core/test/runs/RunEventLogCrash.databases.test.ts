/**
 * Processes that die or stop while they execute a run, and what their readers and those who come after them see.
 */
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import type * as Sweeper from "@sallyport/core/Sweeper"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import * as SqlRunEventRepository from "@sallyport/core/runs/SqlRunEventRepository"
import * as Context from "effect/Context"
import * as Digest from "effect/crypto/Digest"
import * as SecureRandom from "effect/crypto/SecureRandom"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import { spawn } from "node:child_process"
import { availableParallelism } from "node:os"
import { fileURLToPath } from "node:url"
import { sharedDatabases } from "../../../../test-support/databases.ts"
import type { SharedDatabase } from "../../../../test-support/sharedDatabase.ts"
import type { Writing } from "../programs/run-writer.ts"
import { argumentsOf } from "../../../../test-support/programs.ts"

const program = fileURLToPath(new URL("../programs/run-writer.ts", import.meta.url))
const owner = { subject: "someone" }
const leaseMillis = 2_000

// -----------------------------------------------------------------------------
// Writers
// -----------------------------------------------------------------------------

interface Writer {
  readonly lines: ReadonlyArray<string>
  readonly acknowledged: () => ReadonlyArray<number>
  readonly until: (condition: (lines: ReadonlyArray<string>) => boolean) => Effect.Effect<void>
  readonly exited: Effect.Effect<void>
  readonly signal: (name: NodeJS.Signals) => Effect.Effect<void>
}

/** Starts a process that executes a run; it is gone when the scope closes. */
const startWriter = (writing: Writing): Effect.Effect<Writer, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() =>
        spawn(process.execPath, [...argumentsOf(program), JSON.stringify(writing)], {
          stdio: ["ignore", "pipe", "inherit"]
        })
      ),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    ),
    (child) => {
      let rest = ""
      let closed = false
      const lines: Array<string> = []
      const looks = new Set<() => void>()
      const look = () => looks.forEach((look) => look())
      child.stdout.setEncoding("utf8").on("data", (text: string) => {
        const parts = (rest + text).split("\n")
        rest = parts.pop() ?? ""
        lines.push(...parts)
        look()
      })
      child.on("close", () => {
        closed = true
        look()
      })
      const wait = (condition: () => boolean) =>
        Effect.callback<void>((resume) => {
          const look = () => {
            if (!condition()) return
            looks.delete(look)
            resume(Effect.void)
          }
          looks.add(look)
          look()
        })
      return {
        lines,
        acknowledged: () => lines.filter((line) => /^\d+$/.test(line)).map(Number),
        until: (condition) => wait(() => condition(lines)),
        exited: wait(() => closed),
        signal: (name) => Effect.sync(() => void child.kill(name))
      }
    }
  )

/** Lets few processes start at once, which takes a processor each. All may wait for their leases together, which takes none. */
const starting = Semaphore.makeUnsafe(availableParallelism() + 1)

/** Returns how many steps a writer takes that nothing disturbs: its lease is long enough for a busy machine. */
const stepsOf = Effect.fnUntraced(
  function*(writing: Pick<Writing, "database" | "resumable"> & { readonly to: number }) {
    const dry = yield* startWriter({ ...writing, key: "dry", leaseMillis: 60_000 })
    yield* dry.exited
    const steps = Number(dry.lines.find((line) => line.startsWith("steps "))?.slice(6))
    assert.isAbove(steps, 15, dry.lines.join("\n"))
    return steps
  },
  Effect.scoped
)

const runIdIn = (lines: ReadonlyArray<string>) => lines.find((line) => line.startsWith("run "))?.slice(4)

// -----------------------------------------------------------------------------
// Another process
// -----------------------------------------------------------------------------

const clientOf = (database: SharedDatabase, busyTimeout: Duration.Input) =>
  "filename" in database
    ? SqliteClient.layer({ ...database, busyTimeout })
    : PgClient.layer({ ...database, password: Redacted.make(database.password), maxConnections: 4 })

/** Provides the run log of this process, on tables that it creates. */
const logOf = (
  database: SharedDatabase,
  reaper: Layer.Layer<never, Sweeper.InvalidSweeperOptions, RunEventLog.RunEventLog>,
  busyTimeout: Duration.Input = "30 seconds"
) =>
  Effect.map(
    Layer.build(
      reaper.pipe(
        Layer.provideMerge(RunEventLog.layerWith({
          heartbeatInterval: `${leaseMillis / 4} millis`,
          lease: `${leaseMillis} millis`
        })),
        Layer.provide([
          Layer.provide(SqlRunEventRepository.layer, clientOf(database, busyTimeout)),
          Digest.layerWebCrypto,
          SecureRandom.layerWebCrypto
        ])
      )
    ),
    Context.get(RunEventLog.RunEventLog)
  )

const request = (key: string): RunEventLog.RunRequest => ({
  threadId: key,
  idempotencyKey: key,
  request: {},
  owner
})

const readAll = (log: RunEventLog.RunEventLog["Service"], runId: string) =>
  Stream.runCollect(Stream.unwrap(log.events({ runId, owner })))

/** Asserts what a reader of a run sees: numbers from 1, at least those acknowledged, and one terminal event. */
const assertRead = (
  events: Effect.Success<ReturnType<typeof readAll>>,
  acknowledged: ReadonlyArray<number>,
  title: string
) => {
  const data = events.filter((event) => event.kind === "data").map((event) => event.data)
  assert.deepStrictEqual(data, Array.from({ length: data.length }, (_, index) => ({ n: index + 1 })), title)
  // The last event may have been stored without the program living to say so.
  assert.isAtLeast(data.length, acknowledged.length, title)
  assert.deepStrictEqual(
    events.map(({ seq }) => Option.getOrUndefined(seq)),
    events.map((_, index) => index + 1),
    title
  )
  assert.deepStrictEqual(events.filter((event) => event.kind === "end").length, 1, title)
  assert.strictEqual(events[events.length - 1]?.kind, "end", title)
}

const suite = (
  name: string,
  withDatabase: <E>(
    body: (database: SharedDatabase) => Effect.Effect<void, E, Scope.Scope>
  ) => Effect.Effect<void, unknown>
) => {
  // Most of their time they wait for leases to run out.
  describe(`a process that executes a run on ${name}`, { concurrent: true }, () => {
    it.live(
      "RUN-04 RUN-06 RUN-07 L-70 L-84: killed at every step: nothing acknowledged is lost, nothing runs twice, and each " +
        "reader is told of one end within the lease and a second",
      () =>
        withDatabase(Effect.fnUntraced(function*(database) {
          const log = yield* logOf(database, RunEventLog.layerReaper({ interval: "100 millis" }))
          const steps = yield* stepsOf({ database, to: 2 })
          const tally = { killed: 0, begun: 0 }
          // How often each step was taken. On a busy machine a writer may take fewer than the dry one, and end unharmed.
          const taken = Array.from({ length: steps }, () => 0)
          const isEnough = () => tally.killed > steps / 2 && tally.begun > steps / 2
          const pending = taken.map((_, index) => index)
          const take = Effect.fnUntraced(function*(step: number) {
            const round = taken[step] = (taken[step] ?? 0) + 1
            const key = `killed at ${step + 1}, round ${round}`
            const { early, writer } = yield* starting.withPermit(Effect.gen(function*() {
              const writer = yield* startWriter({ database, key, leaseMillis, to: 2, killAt: step + 1 })
              // A reader that was there before the end, if there was a run to read.
              const early = yield* Effect.forkChild(
                Effect.flatMap(
                  writer.until((lines) => runIdIn(lines) !== undefined),
                  () => readAll(log, runIdIn(writer.lines) ?? "")
                )
              )
              yield* writer.exited
              return { early, writer }
            }))
            if (!writer.lines.some((line) => line.startsWith("steps "))) tally.killed++
            let executions = 0
            const again = yield* log.execute(request(key), () => Effect.sync(() => void executions++))
            const events = yield* readAll(log, again.run.runId)
            if (again.created) {
              // It died before its run was stored, and so before anything was executed.
              yield* Fiber.interrupt(early)
              assert.deepStrictEqual([writer.lines, executions], [[], 1], key)
              return
            }
            tally.begun++
            assert.strictEqual(executions, 0, key)
            assertRead(events, writer.acknowledged(), key)
            const run = yield* log.get({ runId: again.run.runId })
            const end = events[events.length - 1]
            assert.deepInclude(
              [{ status: "succeeded" }, { status: "failed", reason: RunEventLog.staleRun }].map((one) => one.status),
              run.status,
              key
            )
            // By the database's clock, which gave the lease.
            const lastSign = (run.heartbeatAt ?? run.startedAt).epochMilliseconds
            const tookMillis = (end?.atMillis ?? Infinity) - lastSign
            // A machine that was too busy to end it in time is not each time.
            if (tookMillis > leaseMillis + 1_000 && round < 5) pending.push(step)
            else assert.isAtMost(tookMillis, leaseMillis + 1_000, key)
            if (runIdIn(writer.lines) === undefined) return yield* Fiber.interrupt(early)
            assert.deepStrictEqual(yield* Fiber.join(early), events, key)
          }, Effect.scoped)
          while (pending.length > 0 || !isEnough()) {
            if (pending.length === 0) pending.push(...taken.keys())
            yield* Effect.forEach(pending.splice(0), take, { concurrency: "unbounded", discard: true })
          }
          assert.isAbove(tally.killed, steps / 2)
          assert.isAbove(tally.begun, steps / 2)
        })),
      300_000
    )

    it.live(
      "RUN-21 RUN-04 RUN-05: killed at any step of a resumable run, another process goes on in it: each number is appended " +
        "once, and each reader is told of one end",
      () =>
        withDatabase(Effect.fnUntraced(function*(database) {
          const to = 4
          let takenOver = 0
          const goOn = ({ run }: RunEventLog.ResumedRun) =>
            Effect.gen(function*() {
              takenOver++
              const before = yield* Stream.runCollect(run.history)
              for (let n = before.length + 1; n <= to; n++) yield* run.append({ n })
            })
          const log = yield* logOf(
            database,
            Layer.merge(
              RunEventLog.layerTakeOver(goOn, { interval: "50 millis" }),
              RunEventLog.layerReaper({ interval: "100 millis" })
            )
          )
          const steps = yield* stepsOf({ database, to, resumable: true })
          const take = Effect.fnUntraced(function*(step: number) {
            const key = `killed at ${step}`
            const writer = yield* starting.withPermit(Effect.tap(
              startWriter({ database, key, leaseMillis, to, resumable: true, killAt: step }),
              (writer) => writer.exited
            ))
            const again = yield* log.execute(
              { ...request(key), resumable: true },
              (run) => Effect.forEach([1, 2, 3, 4], (n) => run.append({ n }), { discard: true })
            )
            const events = yield* readAll(log, again.run.runId)
            assertRead(events, writer.acknowledged(), key)
            assert.deepStrictEqual(events.map(({ data }) => data), [
              { n: 1 },
              { n: 2 },
              { n: 3 },
              { n: 4 },
              { status: "succeeded" }
            ], key)
          }, Effect.scoped)
          const chosen = Array.from({ length: Math.floor(steps / 3) }, (_, index) => 3 * (index + 1))
          yield* Effect.forEach(chosen, take, { concurrency: "unbounded" })
          assert.isAbove(takenOver, 0)
        })),
      300_000
    )

    it.live(
      "RUN-05 RUN-16 L-84: stopped for less than its lease it lives on; for longer, its run ends once and it is let go",
      () =>
        withDatabase(Effect.fnUntraced(function*(database) {
          // Who waited here for a writer that is stopped in a transaction could not let it go on.
          const log = yield* logOf(database, RunEventLog.layerReaper({ interval: "50 millis" }), "1 millis")
          /** Stops a writer three times for half of its lease, and returns it unless a busy machine kept it from going on in time. */
          const live = Effect.fnUntraced(function*(key: string) {
            const writer = yield* startWriter({ database, key, leaseMillis: 2 * leaseMillis })
            yield* writer.until((lines) => runIdIn(lines) !== undefined)
            const runId = runIdIn(writer.lines) ?? ""
            const reader = yield* Effect.forkChild(readAll(log, runId))
            for (let round = 0; round < 3; round++) {
              const before = yield* log.get({ runId })
              const written = writer.lines.length
              yield* writer.signal("SIGSTOP")
              // Half of its lease. It was extended a quarter of itself ago, at worst.
              yield* Effect.sleep(leaseMillis)
              yield* writer.signal("SIGCONT")
              const goesOn = (lines: ReadonlyArray<string>) => lines.length > written + 20 || lines.includes("left")
              yield* Effect.raceFirst(writer.until(goesOn), writer.exited)
              // On a machine so busy that a commit is not answered in seconds, it has given up.
              if (!goesOn(writer.lines)) return undefined
              // Its heart beats again before it is stopped again.
              const after = yield* Effect.repeat(log.get({ runId }), {
                until: ({ heartbeatAt, status }) =>
                  status !== "running" || heartbeatAt?.epochMilliseconds !== before.heartbeatAt?.epochMilliseconds,
                schedule: Schedule.spaced("20 millis")
              })
              const lastSign = (after.heartbeatAt ?? after.startedAt).epochMilliseconds
              if ((after.completedAt?.epochMilliseconds ?? 0) - lastSign >= 2 * leaseMillis) return undefined
              assert.deepInclude(after, { status: "running", endReason: null })
            }
            return { reader, runId, writer }
          })
          let alive = yield* live("stopped")
          for (let n = 2; alive === undefined; n++) alive = yield* live(`stopped ${n}`)
          const { reader, runId, writer } = alive
          // A process that is stopped in a transaction on SQLite holds up all other writers, reapers too.
          let probes = 0
          yield* Effect.suspend(() =>
            writer.signal("SIGSTOP").pipe(
              Effect.andThen(Effect.suspend(() => log.start(request(`probe ${++probes}`)))),
              Effect.tapError(() => writer.signal("SIGCONT"))
            )
          ).pipe(Effect.retry(Schedule.spaced("10 millis")))
          const events = yield* Fiber.join(reader)
          assert.deepInclude(events[events.length - 1]?.data, { status: "failed", reason: RunEventLog.staleRun })
          yield* writer.signal("SIGCONT")
          yield* writer.until((lines) => lines.includes("left"))
          assertRead(events, writer.acknowledged(), "stopped")
          // By a refused append or heartbeat, whichever came first. It has left no trace after the end.
          assert.deepStrictEqual(yield* readAll(log, runId), events)
        })),
      300_000
    )

    // On SQLite there is one lock for all writers, and a process that is stopped in a transaction holds it until it goes on.
    if (name !== "SQLite file") {
      it.live(
        "RUN-05 L-84 OPS-01: stopped at any step, also in a transaction, it does not keep its run: each reader is told of one end",
        () =>
          withDatabase(Effect.fnUntraced(function*(database) {
            const log = yield* logOf(database, RunEventLog.layerReaper({ interval: "100 millis" }))
            const bounded = { ...database, options: "-c idle_in_transaction_session_timeout=500ms" }
            const steps = yield* stepsOf({ database, to: 2 })
            let stopped = 0
            const take = Effect.fnUntraced(function*(step: number) {
              const key = `stopped at ${step}`
              const writer = yield* starting.withPermit(Effect.tap(
                startWriter({ database: bounded, key, leaseMillis, to: 2, stopAt: step }),
                (writer) =>
                  // On a machine so busy that the server ends its transactions, it gives up and exits.
                  Effect.raceFirst(
                    writer.until((lines) => lines.some((line) => line === "stopped" || line.startsWith("steps "))),
                    writer.exited
                  )
              ))
              // On a busy machine it may take fewer steps than the dry one, and end unharmed.
              if (writer.lines.includes("stopped")) stopped++
              const early = yield* Effect.forkChild(
                Effect.flatMap(
                  writer.until((lines) => runIdIn(lines) !== undefined),
                  () => readAll(log, runIdIn(writer.lines) ?? "")
                )
              )
              let executions = 0
              const again = yield* log.execute(request(key), () => Effect.sync(() => void executions++))
              const events = yield* readAll(log, again.run.runId)
              assert.strictEqual(executions, again.created ? 1 : 0, key)
              if (again.created) assert.deepStrictEqual(writer.acknowledged(), [], key)
              else assertRead(events, writer.acknowledged(), key)
              if (runIdIn(writer.lines) === undefined) return yield* Fiber.interrupt(early)
              assert.deepStrictEqual(yield* Fiber.join(early), events, key)
            }, Effect.scoped)
            // They come in pairs, before and after a message to the server; the third, the sixth and so on are of both kinds.
            const chosen = Array.from({ length: Math.floor(steps / 3) }, (_, index) => 3 * (index + 1))
            yield* Effect.forEach(chosen, take, { concurrency: "unbounded" })
            assert.isAbove(stopped, chosen.length / 2)
          })),
        300_000
      )
    }

    it.live(
      "RUN-02 L-84: killed, it does not keep its thread: the next start ends its run, with no reaper anywhere",
      () =>
        withDatabase(Effect.fnUntraced(function*(database) {
          const log = yield* logOf(database, Layer.empty)
          /** Kills a writer, and returns what keeps its thread from another run, unless a busy machine looked after its lease. */
          const kill = Effect.fnUntraced(function*(key: string) {
            const writer = yield* startWriter({ database, key, leaseMillis })
            yield* writer.until((lines) => lines.length > 10 || lines.includes("left"))
            yield* writer.signal("SIGKILL")
            yield* writer.exited
            const runId = runIdIn(writer.lines) ?? ""
            const reader = yield* Effect.forkChild(readAll(log, runId))
            const next = { ...request(`next to ${key}`), threadId: key }
            const busy = yield* Effect.result(log.start(next))
            const run = yield* log.get({ runId })
            const lastSign = (run.heartbeatAt ?? run.startedAt).epochMilliseconds
            if ((run.completedAt?.epochMilliseconds ?? 0) - lastSign >= leaseMillis) return undefined
            assert.strictEqual(Result.isFailure(busy) ? busy.failure.reason._tag : "started", "ThreadBusy")
            return { next, reader, writer }
          })
          let killed = yield* kill("thread")
          for (let n = 2; killed === undefined; n++) killed = yield* kill(`thread ${n}`)
          const { next, reader, writer } = killed
          const started = yield* Effect.retry(log.start(next), {
            while: ({ reason }) => reason._tag === "ThreadBusy",
            schedule: Schedule.spaced("50 millis")
          })
          assert.isTrue(started.created)
          const events = yield* Fiber.join(reader)
          assertRead(events, writer.acknowledged(), "thread")
          assert.deepInclude(events[events.length - 1]?.data, { status: "failed", reason: RunEventLog.staleRun })
        })),
      300_000
    )
  })
}

for (const { database, name } of sharedDatabases) {
  suite(name, (body) => Effect.scoped(Effect.flatMap(database, body)))
}
