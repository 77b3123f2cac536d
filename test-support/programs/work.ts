/**
 * Counts the work of the decoders that meet the network, for inputs of the largest size that is let in and of half of it,
 * and writes it to standard output as JSON.
 *
 * Work is the blocks of JavaScript that run, which depends on neither the machine nor its load. The decoders are loaded when
 * these are counted already. What the engine does by itself, as for a regular expression, is not counted.
 */
import { Session } from "node:inspector/promises"

const session = new Session()
session.connect()
await session.post("Profiler.enable")
await session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: true })

const { decoders, largeBodies, largeChats, largeForms, largeHeaders, makeServer } = await import("../decoders.ts")
const Effect = await import("effect/Effect")

/** Counts the blocks that run since the last count. */
const count = async () => {
  const { result } = await session.post("Profiler.takePreciseCoverage")
  let blocks = 0
  for (const { functions } of result) {
    for (const { ranges } of functions) for (const range of ranges) blocks += range.count
  }
  return blocks
}

/** Counts the work since the last count, which is that of this alone. To count takes longer than most work. */
const workOf = async (decode: () => unknown) => {
  await decode()
  return await count()
}

const counts: Array<{ readonly name: string; readonly half: number; readonly whole: number }> = []

for (const { decode, largest, name, units } of decoders) {
  const of = (unit: string, length: number) => unit.repeat(Math.floor(length / unit.length))
  // The first call makes what all others use.
  for (const unit of units) await decode(of(unit, 64))
  await count()
  for (const unit of units) {
    counts.push({
      name: `${name} of ${JSON.stringify(unit.slice(0, 40))}`,
      half: await workOf(() => decode(of(unit, largest / 2))),
      whole: await workOf(() => decode(of(unit, largest)))
    })
  }
}

await Effect.runPromise(Effect.scoped(Effect.gen(function*() {
  const { credentials, send } = yield* makeServer
  for (const requests of [largeChats, largeForms, largeBodies, largeHeaders]) {
    const halves = requests(0.5)
    for (const [index, whole] of requests(1).entries()) {
      const half = halves[index]
      // Some of them: each count takes longer than the request.
      if (half === undefined || index % 29 !== 0) continue
      const own = yield* credentials
      yield* Effect.promise(() => send(half, own))
      yield* Effect.promise(count)
      counts.push({
        name: whole.name,
        half: yield* Effect.promise(() => workOf(() => send(half, own))),
        whole: yield* Effect.promise(() => workOf(() => send(whole, own)))
      })
    }
  }
})))
session.disconnect()
process.stdout.write(JSON.stringify(counts))
