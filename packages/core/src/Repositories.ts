/**
 * Every repository of a backend in memory, as one layer: what a test or a throw-away server puts where production has a
 * database. A relay has two more, with layers of their own in `@sallyport/connect`.
 *
 * @since 0.1.0
 */
import * as Layer from "effect/Layer"
import * as AccessRepository from "./access/AccessRepository.ts"
import * as ReplayRepository from "./access/ReplayRepository.ts"
import * as RunEventRepository from "./runs/RunEventRepository.ts"

/**
 * Names the ports that a persistence fills.
 *
 * @category models
 * @since 0.1.0
 */
export type Repositories =
  | AccessRepository.AccessRepository
  | ReplayRepository.ReplayRepository
  | RunEventRepository.RunEventRepository

/**
 * Provides all repositories in memory; what they hold ends with the layer.
 *
 * **Example** (Running without a database)
 *
 * ```ts
 * import { NodeCrypto } from "@effect/platform-node"
 * import { Repositories, RunEventLog } from "@sallyport/core"
 * import { Console, Effect, Layer } from "effect"
 *
 * const Runs = RunEventLog.layer.pipe(Layer.provide([Repositories.layerMemory, NodeCrypto.layer]))
 *
 * const program = Effect.gen(function*() {
 *   const runs = yield* RunEventLog.RunEventLog
 *   const { run } = yield* runs.start({
 *     threadId: "thread-1",
 *     idempotencyKey: "request-1",
 *     owner: { subject: "ada" },
 *     request: {}
 *   })
 *   yield* Console.log(run.status, run.lastSeq)
 *   // => running 0
 * })
 *
 * Effect.runPromise(Effect.provide(program, Runs))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMemory: Layer.Layer<Repositories> = Layer.mergeAll(
  AccessRepository.layerMemory,
  ReplayRepository.layerMemory,
  RunEventRepository.layerMemory
)
