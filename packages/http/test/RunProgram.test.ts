import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it } from "@effect/vitest"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as RunEventRepository from "@sallyport/core/runs/RunEventRepository"
import * as RunProgram from "@sallyport/http/RunProgram"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"

const Log = RunEventLog.layerWith({ heartbeatInterval: "50 millis", lease: "200 millis" }).pipe(
  Layer.provide([RunEventRepository.layerMemory, NodeCrypto.layer])
)

const program = Effect.fnUntraced(
  function*({ input, run }: Pick<RunProgram.RunProgramRequest, "input" | "run">) {
    const before = yield* Stream.runCollect(run.history)
    for (let n = before.length + 1; n <= Object(input).to; n++) yield* run.append(n)
    return yield* run.ask("enough?", null)
  }
)

describe("a resumable program", () => {
  it.live("RUN-21 RUN-20: goes on with a run that another process has left, in which it is answered", () =>
    Effect.gen(function*() {
      const log = yield* RunEventLog.RunEventLog
      assert.isTrue((yield* RunProgram.RunProgram).resumable)
      const owner = { subject: "ada" }
      // A run whose writer is not heard of any more.
      const { run: { epoch, runId } } = yield* log.start({
        threadId: "thread",
        idempotencyKey: "key",
        owner,
        request: { to: 3 },
        resumable: true
      })
      yield* log.append({ runId, epoch, events: [1] })
      const events = yield* log.events({ runId, owner })
      const all = yield* events.pipe(
        Stream.tap(({ data }) =>
          Object(data).question === undefined
            ? Effect.void
            : log.answer({ runId, owner, name: "enough?", value: "yes" })
        ),
        Stream.runCollect
      )
      assert.deepStrictEqual(all.map(({ data }) => data), [
        1,
        2,
        3,
        { question: { name: "enough?", ask: null } },
        { answer: { name: "enough?", value: "yes" } },
        { status: "succeeded", result: "yes" }
      ])
      assert.strictEqual((yield* log.get({ runId })).epoch, 2)
    }).pipe(Effect.provide(Layer.provideMerge(RunProgram.layerResumable(program), Log))))

  it.live("RUN-21: a program says itself that it is resumable", () =>
    Effect.gen(function*() {
      assert.isFalse((yield* RunProgram.RunProgram).resumable)
    }).pipe(Effect.provide(Layer.provideMerge(RunProgram.layer(program), Log))))
})

describe("a program that writes deltas", () => {
  const deltas = Effect.fnUntraced(function*({ run }: Pick<RunProgram.RunProgramRequest, "run">) {
    for (const delta of ["a", "b", "c"]) yield* run.appendDelta({ delta })
  })

  it.live("RUN-25: says for how long they may be joined, also for runs that it takes over", () =>
    Effect.gen(function*() {
      const log = yield* RunEventLog.RunEventLog
      assert.strictEqual((yield* RunProgram.RunProgram).joinDeltas, "1 minute")
      const request = { threadId: "thread", idempotencyKey: "key", owner: { subject: "ada" }, request: null }
      const { run } = yield* log.start({ ...request, resumable: true })
      const all = yield* Stream.runCollect(yield* log.events({ runId: run.runId }))
      assert.deepStrictEqual(all.map(({ data }) => data), [{ delta: "abc" }, { status: "succeeded" }])
    }).pipe(
      Effect.provide(Layer.provideMerge(RunProgram.layerResumable(deltas, { joinDeltas: "1 minute" }), Log))
    ))
})
