/**
 * The tools of the MCP server: what a program may do in the greenhouse, on behalf of the person who let it in.
 */
import { CurrentSession } from "@sallyport/core"
import { Effect, Schema } from "effect"
import { Tool, Toolkit } from "effect/ai"

const Beds = Tool.make("beds", {
  description: "Lists the beds of the greenhouse with how moist they are, in percent",
  success: Schema.Struct({ beds: Schema.Record(Schema.String, Schema.Finite) })
}).annotate(Tool.Readonly, true)

const Water = Tool.make("water", {
  description: "Waters a bed, and returns how moist it is afterwards, in percent",
  parameters: Schema.Struct({ bed: Schema.String }),
  success: Schema.Struct({ moisture: Schema.Finite, by: Schema.String }),
  failure: Schema.Struct({ problem: Schema.String }),
  dependencies: [CurrentSession.CurrentSession]
})

export const toolkit = Toolkit.make(Beds, Water)

/** Does what the tools say. The session is the one whose token came with the call. */
export const layer = toolkit.toLayer(Effect.sync(() => {
  const beds = new Map([["tomatoes", 40], ["basil", 55]])
  return toolkit.of({
    beds: () => Effect.succeed({ beds: Object.fromEntries(beds) }),
    water: Effect.fnUntraced(function*({ bed }) {
      const { client, scopes, subject } = yield* CurrentSession.CurrentSession
      if (!scopes.includes("greenhouse:water")) {
        return yield* Effect.fail({ problem: "You were not granted greenhouse:water; sign in again and ask for it" })
      }
      const before = beds.get(bed)
      if (before === undefined) return yield* Effect.fail({ problem: `There is no bed ${bed}` })
      const moisture = Math.min(100, before + 10)
      beds.set(bed, moisture)
      return { moisture, by: `${subject} through ${client?.id}` }
    })
  })
}))
