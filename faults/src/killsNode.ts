/**
 * Executes runs beside another node, follows them, and kills itself once at each point of a run that has a mark.
 *
 * Commands come as lines of JSON on standard input; what it prints is lines of JSON. It ends when its input does.
 */
import { NodeClusterSocket, NodeCrypto } from "@effect/platform-node"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as RunWorkflow from "@sallyport/core/runs/RunWorkflow"
import * as SqlRunEventRepository from "@sallyport/core/runs/SqlRunEventRepository"
import { ClusterWorkflowEngine, RunnerAddress } from "effect/cluster"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { closeSync, existsSync, openSync, writeSync } from "node:fs"
import { createInterface } from "node:readline"
import { clientOf, type SharedDatabase } from "../../test-support/sharedDatabase.ts"

/** Names how runs are executed. */
export type Kind = "resumable" | "workflow"

/** Says what a node is started with. */
export interface Setting {
  readonly database: SharedDatabase
  readonly kind: Kind
  /** Where the marks of points are at which a node has killed itself. */
  readonly marks: string
  readonly port: number
}

/** Lists what a node can be told. */
export type Command =
  | { readonly start: string }
  | { readonly follow: string; readonly after: number }

/** Lists what a node says. `killing` is its last word. */
export type Said =
  | { readonly ready: true }
  | { readonly started: string; readonly runId: string }
  | { readonly event: string; readonly seq: number; readonly kind: string }
  | { readonly closed: string }
  | { readonly killing: string }
  | { readonly refused: Command; readonly why: string }

/** The steps whose output is the same each time, and the events of each. */
const steps = ["first", "second", "third"]
const parts = [1, 2, 3]

/** The times of a cluster that the tests can wait for: a runner that is silent for 4 seconds has gone. */
const shardingConfig = {
  shardLockExpiration: 4_000,
  shardLockRefreshInterval: 1_000,
  runnerHealthCheckInterval: 1_000,
  refreshAssignmentsInterval: 500,
  entityMessagePollInterval: 500
}

const { database, kind, marks, port }: Setting = JSON.parse(process.argv[2] ?? "")

const say = (said: Said): void => {
  writeSync(1, `${JSON.stringify(said)}\n`)
}

/** Kills this process, unless some process was killed at this point of the run before, or enough were. */
const point = (runId: string, name: string) =>
  Effect.sync(() => {
    if (existsSync(`${marks}/enough`)) return
    try {
      closeSync(openSync(`${marks}/${runId}.${name}`, "wx"))
    } catch {
      return
    }
    say({ killing: `${runId}.${name}` })
    process.kill(process.pid, "SIGKILL")
  })

const workflow = RunWorkflow.layer(Effect.fnUntraced(function*({ run }) {
  const at = (name: string) => point(run.run.runId, name)
  let sum = 0
  for (const step of steps) {
    yield* at(`before-${step}`)
    sum += yield* run.step(step, Schema.Number, (append) =>
      Effect.gen(function*() {
        for (const part of parts) {
          yield* append({ step, part })
          yield* at(`${step}-${part}`)
        }
        return parts.length
      }))
  }
  const answer = yield* run.ask("go on?", { sum })
  yield* at("answered")
  yield* run.step("model", Schema.Void, (append) =>
    Effect.gen(function*() {
      for (const part of parts) {
        yield* append({ model: process.pid, part })
        yield* at(`model-${part}`)
      }
    }), { deterministic: false })
  yield* run.sleep("nap", "20 millis")
  yield* at("end")
  return { sum, answer }
}))

const resumed = Effect.fnUntraced(function*({ run }: { readonly run: RunEventLog.RunWriter }) {
  const at = (name: string) => point(run.run.runId, name)
  const before = new Set(
    (yield* Stream.runCollect(run.history)).map(({ data }) => `${Object(data).step}-${Object(data).part}`)
  )
  for (const step of steps) {
    yield* at(`before-${step}`)
    for (const part of parts) {
      if (!before.has(`${step}-${part}`)) yield* run.append({ step, part })
      yield* at(`${step}-${part}`)
    }
  }
  const sum = steps.length * parts.length
  const answer = yield* run.ask("go on?", { sum })
  yield* at("answered")
  yield* at("end")
  return { sum, answer }
})

/** Returns what a run is asked for by, in the tests' one way. */
const requestOf = (key: string): RunEventLog.ExecutedRunRequest => ({
  threadId: key,
  idempotencyKey: key,
  owner: { subject: "ada" },
  request: {},
  resumable: true
})

const Log = RunEventLog.layerWith({
  heartbeatInterval: "500 millis",
  lease: "2 seconds",
  pollInterval: "500 millis",
  // A run is killed at each of its points, and with the runs beside it.
  maxTakeOvers: 1_000
}).pipe(Layer.provide(SqlRunEventRepository.layer))

const Cluster = ClusterWorkflowEngine.layer.pipe(
  Layer.provide(NodeClusterSocket.layer({
    storage: "sql",
    shardingConfig: { ...shardingConfig, runnerAddress: Option.some(RunnerAddress.make("127.0.0.1", port)) }
  }))
)

const follow = (runId: string, after: number) =>
  Effect.gen(function*() {
    const log = yield* RunEventLog.RunEventLog
    yield* Stream.runForEach(yield* log.events({ runId, after }), ({ kind, seq }) =>
      Effect.sync(() => say({ event: runId, seq: Option.getOrElse(seq, () => 0), kind })))
    say({ closed: runId })
  })

const commands = <R>(
  start: (request: RunEventLog.ExecutedRunRequest) => Effect.Effect<
    RunEventLog.StartedRun,
    RunEventLog.RunEventLogError,
    R
  >
) =>
  Effect.gen(function*() {
    say({ ready: true })
    const lines = Stream.fromAsyncIterable(createInterface(process.stdin), (cause) => cause)
    yield* Stream.runForEach(lines, (line) => {
      const command: Command = JSON.parse(line)
      const obeyed: Effect.Effect<void, RunEventLog.RunEventLogError, R | RunEventLog.RunEventLog> = "start" in command
        ? Effect.map(start(requestOf(command.start)), ({ run }) => say({ started: command.start, runId: run.runId }))
        : follow(command.follow, command.after)
      return Effect.forkChild(
        Effect.catchCause(obeyed, (cause) => Effect.sync(() => say({ refused: command, why: String(cause) })))
      )
    })
  })

const executing = kind === "workflow"
  ? Effect.provide(
    commands(RunWorkflow.start),
    workflow.pipe(Layer.provideMerge(Cluster), Layer.provideMerge(Log))
  )
  : Effect.provide(
    commands((request) =>
      Effect.flatMap(RunEventLog.RunEventLog, (log) => log.execute(request, (run) => resumed({ run })))
    ),
    RunEventLog.layerTakeOver(resumed).pipe(Layer.provideMerge(Log))
  )

Effect.runPromise(Effect.provide(executing, Layer.merge(clientOf(database, 8), NodeCrypto.layer))).then(
  () => process.exit(0),
  (error) => {
    console.error(error)
    process.exit(1)
  }
)
