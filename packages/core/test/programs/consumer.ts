/**
 * Consumes pairing links as one of several processes on one database.
 *
 * The first line of standard input says where and what; the links are consumed when the second arrives, so that several
 * of these begin together. What was won is the last line of standard output.
 */
import { AccessRepository } from "@sallyport/core/access/AccessRepository"
import * as SqlAccessRepository from "@sallyport/core/access/SqlAccessRepository"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { createInterface } from "node:readline"
import { clientOf, type SharedDatabase } from "../../../../test-support/sharedDatabase.ts"

/** What a consumer is told: each digest is tried `rounds` times. */
export interface Task {
  readonly database: SharedDatabase
  readonly digests: ReadonlyArray<string>
  readonly rounds: number
  readonly nowMillis: number
}

const lines = createInterface(process.stdin)[Symbol.asyncIterator]()

const program = Effect.gen(function*() {
  const { database, digests, nowMillis, rounds }: Task = JSON.parse(
    (yield* Effect.promise(() => lines.next())).value ?? ""
  )
  return yield* Effect.gen(function*() {
    const links = (yield* AccessRepository).links
    process.stdout.write("ready\n")
    yield* Effect.promise(() => lines.next())
    const attempts = Array.from({ length: rounds }, () => digests).flat()
    const outcomes = yield* Effect.forEach(
      attempts,
      (codeDigest) =>
        Effect.map(
          links.consume(
            { codeDigest, scopes: ["runs:read"], proofKeyThumbprint: undefined },
            { actor: "device", nowMillis }
          ),
          (outcome) => outcome._tag === "Consumed" ? [codeDigest] : []
        ),
      { concurrency: 8 }
    )
    return outcomes.flat()
  }).pipe(Effect.provide(SqlAccessRepository.layer.pipe(Layer.provide(clientOf(database)))))
})

const won = await Effect.runPromise(program)
process.stdout.write(`${JSON.stringify(won)}\n`, () => process.exit(0))
