/** The runs of this cluster: some stages, each done by the node that executes the run at that time. */
import { RunProgram } from "@sallyport/http"
import { Config, Effect, Schema, Stream } from "effect"

/** Describes the input of a run: how many stages it has. */
const Input = Schema.Struct({ stages: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 1_000 })) })

/**
 * Provides the program. After the node that executes it is gone, another one does the stages that the log does not have.
 */
export const layer = RunProgram.layerResumable(Effect.fnUntraced(function*({ input, run }) {
  const takes = yield* Config.Duration("STAGE_TAKES").pipe(Config.withDefault("1 second"))
  const { stages } = yield* Schema.decodeUnknownEffect(Input)(input)
  const done = yield* Stream.runCount(run.history)
  for (let stage = done + 1; stage <= stages; stage++) {
    yield* Effect.sleep(takes)
    yield* run.append({ stage, node: process.pid })
  }
  return { stages }
}))
