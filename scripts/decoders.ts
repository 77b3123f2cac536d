/**
 * Measures how long each decoder that meets the network takes for an input of the largest size that is let in: the functions
 * that read one text, and whole requests to a server in this process. Prints the slowest of each, in milliseconds; the exit
 * code is 1 if one takes more than 10.
 */
import * as Effect from "effect/Effect"
import { decoders, largeBodies, largeChats, largeForms, largeHeaders, makeServer } from "../test-support/decoders.ts"

const most = 10

/**
 * Returns the least of the times of several calls, or of several rounds of calls that are too short to be measured alone. All
 * other requests wait for as long. Other work on the machine makes it longer, and nothing makes it shorter.
 */
const measure = async (run: () => unknown): Promise<number> => {
  // These warm the code up.
  for (let index = 0; index < 4; index++) await run()
  let least = Infinity
  for (let round = 0; round < 5; round++) {
    const began = performance.now()
    let calls = 0
    let millis = 0
    while (millis < 4) {
      await run()
      calls++
      millis = performance.now() - began
    }
    least = Math.min(least, millis / calls)
  }
  return least
}

const times: Array<readonly [name: string, millis: number]> = []

for (const { decode, largest, name, units } of decoders) {
  for (const unit of units) {
    const text = unit.repeat(largest / unit.length)
    times.push([`${name} of ${JSON.stringify(unit.slice(0, 40))}`, await measure(() => decode(text))])
  }
}

await Effect.runPromise(Effect.scoped(Effect.gen(function*() {
  const { credentials, send } = yield* makeServer
  for (const request of [...largeChats(1), ...largeForms(1), ...largeBodies(1), ...largeHeaders(1)]) {
    const own = yield* credentials
    times.push([request.name, yield* Effect.promise(() => measure(() => send(request, own)))])
  }
})))

const slow = times.filter(([, millis]) => millis > most)
const shown = times.sort((a, b) => b[1] - a[1]).slice(0, Math.max(40, slow.length))
for (const [name, millis] of shown) process.stdout.write(`${millis.toFixed(2).padStart(9)} ms  ${name}\n`)
process.stdout.write(`${times.length} inputs of the largest size; ${slow.length} take more than ${most} ms\n`)
process.exitCode = slow.length === 0 ? 0 : 1
