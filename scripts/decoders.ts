/**
 * Measures how long each decoder that meets the network takes for an input of the largest size that is let in: the functions
 * that read one text, and whole requests to a server in this process. Prints the slowest of each, in milliseconds; the exit
 * code is 1 if one takes more than 10.
 */
import * as Effect from "effect/Effect"
import { decoders, largeBodies, largeChats, largeForms, largeHeaders, makeServer } from "../test-support/decoders.ts"

const most = 10

/**
 * Returns the median of several times, after others that warm the code up. It is the time of the processor, which says the
 * same beside other work.
 */
const measure = async (run: () => unknown): Promise<number> => {
  const times = []
  for (let index = 0; index < 11; index++) {
    const began = process.cpuUsage()
    await run()
    const { system, user } = process.cpuUsage(began)
    times.push((system + user) / 1_000)
  }
  return times.slice(4).sort((a, b) => a - b)[3] ?? 0
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
