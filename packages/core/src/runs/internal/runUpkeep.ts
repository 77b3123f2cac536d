/**
 * Sees to runs again and again: those whose process has gone, or that wait to be woken.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Outage from "../../Outage.ts"
import * as Sweeper from "../../Sweeper.ts"
import type { RunEventLogError } from "./runErrors.ts"

/** Does a step in batches, unless the clock has jumped. `others` names the options that are not about that. */
export const layer = <A, R, RBatch>(
  name: string,
  options: Sweeper.Options | undefined,
  batchSize: number,
  sentences: Parameters<typeof Outage.make>[0],
  make: Effect.Effect<(limit: number) => Effect.Effect<ReadonlyArray<A>, RunEventLogError, RBatch>, never, R>,
  others?: ReadonlyArray<string>
): Layer.Layer<never, Sweeper.InvalidSweeperOptions, Exclude<R | RBatch, Scope.Scope>> =>
  Layer.effectDiscard(Effect.gen(function*() {
    const batch = yield* make
    const { batchSize: limit, intervalMillis } = yield* Sweeper.settings(name, options, {
      interval: "500 millis",
      batchSize
    }, others)
    const outage = Outage.make(sentences)()
    yield* Effect.addFinalizer(() => outage.left)
    const step = Effect.map(Effect.suspend(() => batch(limit)), ({ length }) => length)
    // Not a `Sweeper`, which rests for a second first: runs of a process that died are seen to as soon as another is there.
    yield* Effect.forkScoped(Sweeper.again({ step, batchSize: limit, intervalMillis, outage }))
  }))
