/**
 * Measures how long each decoder that meets the network takes for an input of the largest size that is let in: the functions
 * that read one text, and whole requests to a server in this process. Prints the slowest of each, in milliseconds; the exit
 * code is 1 if one takes more than 10. Meant for a quiet machine.
 */
import * as Effect from "effect/Effect"
import { decoders, largeBodies, largeChats, largeHeaders, makeServer } from "../test-support/decoders.ts"

const most = 10

/** Returns the median of several times, after others that warm the code up. */
const measure = async (run: () => unknown): Promise<number> => {
  const times = []
  for (let index = 0; index < 10; index++) {
    const began = performance.now()
    await run()
    times.push(performance.now() - began)
  }
  return times.slice(3).sort((a, b) => a - b)[0] ?? 0
}

const times: Array<readonly [name: string, millis: number]> = []

for (const { decode, largest, name, units } of decoders) {
  for (const unit of units) {
    const text = unit.repeat(largest / unit.length)
    times.push([`${name} of ${JSON.stringify(unit)}`, await measure(() => decode(text))])
  }
}

await Effect.runPromise(Effect.scoped(Effect.gen(function*() {
  const { credentials, send } = yield* makeServer
  for (const request of [...largeChats(1), ...largeBodies(1), ...largeHeaders(1)]) {
    const own = yield* credentials
    times.push([request.name, yield* Effect.promise(() => measure(() => send(request, own)))])
  }
})))

const slow = times.filter(([, millis]) => millis > most)
const shown = times.sort((a, b) => b[1] - a[1]).slice(0, Math.max(40, slow.length))
for (const [name, millis] of shown) process.stdout.write(`${millis.toFixed(2).padStart(9)} ms  ${name}\n`)
process.stdout.write(`${times.length} inputs of the largest size; ${slow.length} take more than ${most} ms\n`)
process.exitCode = slow.length === 0 ? 0 : 1
