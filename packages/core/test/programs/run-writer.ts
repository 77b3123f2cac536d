/**
 * Executes one run that counts, and prints each number once it is durable.
 *
 * The argument says where, how far and when to die or stop: at the `killAt`-th of the steps that it takes. On SQLite they lie
 * before each statement: between two of them nothing is stored. On PostgreSQL they lie before and after each message to the
 * server, which reads it while the process dies, but for those by which a connection signs in. And they lie around each number
 * that is printed.
 *
 * What it prints is written at once, so that the caller that reads it knows what was acknowledged: `executing`, `run <id>`,
 * numbers, `stopped`, `left` when the program ends, and at last `steps <count>`.
 */
import { NodeRuntime } from "@effect/platform-node"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as SqlRunEventRepository from "@sallyport/core/runs/SqlRunEventRepository"
import * as Digest from "effect/crypto/Digest"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { writeSync } from "node:fs"
import * as Net from "node:net"
import { DatabaseSync, StatementSync } from "node:sqlite"
import { clientOf, type SharedDatabase } from "../../../../test-support/sharedDatabase.ts"

/** What a writer is told. */
export interface Writing {
  readonly database: SharedDatabase
  readonly key: string
  readonly leaseMillis: number
  /** How far to count; absent for ever. */
  readonly to?: number | undefined
  /** Whether another process may go on with the run. */
  readonly resumable?: boolean | undefined
  readonly killAt?: number | undefined
  /** At which of the steps to stop instead, as SIGSTOP does. */
  readonly stopAt?: number | undefined
}

const { database, key, killAt, leaseMillis, resumable, stopAt, to = Infinity }: Writing = JSON.parse(
  process.argv[2] ?? ""
)

const print = (line: string) => Effect.sync(() => writeSync(1, `${line}\n`))

let steps = 0
const step = () => {
  if (++steps === killAt) process.kill(process.pid, "SIGKILL")
  if (steps !== stopAt) return
  writeSync(1, "stopped\n")
  process.kill(process.pid, "SIGSTOP")
}

/** Takes a step before each call of a method, and perhaps after it. */
const stepping = (prototype: object, method: string, after: boolean, counts: (self: object) => boolean): void => {
  const original: unknown = Reflect.get(prototype, method)
  if (typeof original !== "function") throw new Error(`There is no ${method}`)
  Reflect.set(prototype, method, function(this: object, ...args: ReadonlyArray<unknown>): unknown {
    if (!counts(this)) return Reflect.apply(original, this, args)
    step()
    const answer: unknown = Reflect.apply(original, this, args)
    if (after) step()
    return answer
  })
}
if ("filename" in database) {
  // Looking for the commits of other processes goes on by itself.
  const isOurs = (self: object) => !String(Reflect.get(self, "sourceSQL")).startsWith("PRAGMA")
  for (const method of ["all", "run", "get"]) stepping(StatementSync.prototype, method, false, isOurs)
  stepping(DatabaseSync.prototype, "exec", false, () => true)
} else {
  // A connection begins with its settings and two messages of its password.
  const signingIn = new WeakMap<object, number>()
  const isSignedIn = (self: object) => {
    const sent = signingIn.get(self) ?? 0
    signingIn.set(self, sent + 1)
    return sent >= 3
  }
  // What has been written reaches the server, although its sender is dead.
  stepping(
    Net.Socket.prototype,
    "write",
    true,
    (self) => Reflect.get(self, "remotePort") === database.port && isSignedIn(self)
  )
}

const program = Effect.gen(function*() {
  const log = yield* RunEventLog.RunEventLog
  const { run } = yield* log.execute(
    { threadId: key, idempotencyKey: key, request: {}, owner: { subject: "someone" }, resumable },
    (writer) =>
      Effect.gen(function*() {
        yield* print("executing")
        for (let n = 1; n <= to; n++) {
          yield* writer.append({ n })
          step()
          yield* print(String(n))
          step()
          if (to === Infinity) yield* Effect.sleep("1 millis")
        }
      }).pipe(Effect.ensuring(print("left")))
  )
  yield* print(`run ${run.runId}`)
  if (to === Infinity) return yield* Effect.never
  while ((yield* log.get({ runId: run.runId })).status === "running") yield* Effect.sleep("5 millis")
  yield* print(`steps ${steps}`)
})

program.pipe(
  Effect.provide(RunEventLog.layerWith({
    heartbeatInterval: `${leaseMillis / 4} millis`,
    lease: `${leaseMillis} millis`
  })),
  Effect.provide([
    Layer.provide(SqlRunEventRepository.layerStorage(), clientOf(database, 2)),
    Digest.layerWebCrypto,
    SecureRandom.layerWebCrypto
  ]),
  NodeRuntime.runMain
)
