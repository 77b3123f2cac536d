import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it } from "@effect/vitest"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as RunWorkflow from "@sallyport/core/runs/RunWorkflow"
import * as SqlRunEventRepository from "@sallyport/core/runs/SqlRunEventRepository"
import { ClusterWorkflowEngine, SingleRunner } from "effect/cluster"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { sharedDatabases } from "../../../../test-support/databases.ts"
import { clientOf, type SharedDatabase } from "../../../../test-support/sharedDatabase.ts"

const shardingConfig = {
  refreshAssignmentsInterval: 100,
  entityMessagePollInterval: 100,
  entityTerminationTimeout: 0
}

/** Provides what one process has: a log, an engine, and the program, of the database that it shares with those before it. */
const processOf = (
  database: SharedDatabase,
  program: (request: RunWorkflow.DurableRequest) => Effect.Effect<Schema.Json | void, RunEventLog.RunEventLogError>
) =>
  RunWorkflow.layer(program).pipe(
    Layer.provideMerge(ClusterWorkflowEngine.layer),
    Layer.provide(SingleRunner.layer({ shardingConfig, runnerStorage: "memory" })),
    Layer.provideMerge(
      RunEventLog.layerWith({ heartbeatInterval: "200 millis", lease: "1 second", maxTakeOvers: 2 }).pipe(
        Layer.provide(SqlRunEventRepository.layer)
      )
    ),
    Layer.provide([clientOf(database, 8), NodeCrypto.layer])
  )

const request: RunEventLog.ExecutedRunRequest = {
  threadId: "thread",
  idempotencyKey: "key",
  owner: { subject: "ada" },
  request: null
}

describe.concurrent("a workflow whose process goes each time", () => {
  for (const { database, name } of sharedDatabases.filter(({ name }) => name !== "PostgreSQL at serializable")) {
    it.live(
      `RUN-21: it ends as stale_run once its starts are spent, and is not executed again (${name})`,
      () =>
        Effect.gen(function*() {
          const shared = yield* database
          const executed: Array<string> = []
          /** Has a process execute the run until it has come to a point, and go. */
          const goAt = (point: string, start: boolean) =>
            Effect.gen(function*() {
              const there = yield* Deferred.make<void>()
              const at = (name: string) =>
                Effect.andThen(
                  Effect.sync(() => executed.push(name)),
                  name === point ? Effect.andThen(Deferred.succeed(there, undefined), Effect.never) : Effect.void
                )
              const program = Effect.fnUntraced(function*({ run }: RunWorkflow.DurableRequest) {
                yield* run.step("first", Schema.Void, () => at("first"))
                yield* run.step("second", Schema.Void, () => at("second"))
                yield* at("body")
              })
              const runId = Effect.gen(function*() {
                const log = yield* RunEventLog.RunEventLog
                const { run } = start ? yield* RunWorkflow.start(request) : { run: (yield* log.list(request))[0] }
                yield* Deferred.await(there)
                return run?.runId ?? ""
              })
              return yield* Effect.provide(runId, processOf(shared, program))
            })
          yield* goAt("first", true)
          yield* goAt("first", false)
          // This one comes forward before it goes, by which it is the last: its starts are counted from here on.
          yield* goAt("second", false)
          yield* goAt("body", false)
          yield* goAt("body", false)
          const runId = yield* goAt("body", false)
          const program = () => Effect.sync(() => void executed.push("again"))
          yield* Effect.gen(function*() {
            const log = yield* RunEventLog.RunEventLog
            const data = yield* Stream.runCollect(yield* log.events({ runId }))
            assert.deepStrictEqual(data.map(({ data }) => data), [{
              status: "failed",
              reason: "stale_run",
              error: { message: "The server that executed the run has gone, each time it was begun" }
            }])
            assert.strictEqual((yield* log.get({ runId })).endReason, "stale_run")
            // The thread is free, and the engine has no more to do with the run.
            const next = yield* RunWorkflow.start({ ...request, idempotencyKey: "next" })
            yield* Stream.runDrain(yield* log.events({ runId: next.run.runId }))
            // Longer than two of its leases.
            yield* Effect.sleep("2500 millis")
          }).pipe(Effect.provide(processOf(shared, program)))
          assert.deepStrictEqual(executed, [
            "first",
            "first",
            "first",
            "second",
            "second",
            "body",
            "body",
            "body",
            "again"
          ])
        }),
      60_000
    )
  }
})
