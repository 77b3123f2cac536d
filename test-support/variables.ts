/**
 * The variables that the documentation lists, and those that a program looks for.
 */
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import { readFileSync } from "node:fs"

const page = readFileSync(new URL("../docs/mounting.md", import.meta.url), "utf8")

const rows = new Map(
  Array.from(page.matchAll(/^\| `(\w+)` \| (`SALLYPORT_.*) \|$/gm), ([, module = "", variables = ""]) => [
    module,
    Array.from(variables.matchAll(/`(SALLYPORT_\w+)`/g), ([, name = ""]) => name).toSorted()
  ])
)

/** Returns the variables that docs/mounting.md lists for the `layerConfig` of a module, sorted. */
export const documented = (module: string): ReadonlyArray<string> => rows.get(module) ?? []

/** Runs an effect with some variables set, and returns those that it looked for, sorted. */
export const lookedFor = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  set: Readonly<Record<string, string>> = {}
): Effect.Effect<ReadonlyArray<string>, E, R> => {
  const read = new Set<string>()
  const provider = ConfigProvider.make((path) =>
    Effect.sync(() => {
      const name = path.join("_")
      read.add(name)
      const value = set[name]
      return value === undefined ? undefined : ConfigProvider.makeValue(value)
    })
  )
  return effect.pipe(
    Effect.provideService(ConfigProvider.ConfigProvider, provider),
    Effect.map(() => Array.from(read).toSorted())
  )
}
