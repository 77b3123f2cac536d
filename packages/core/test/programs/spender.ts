/**
 * Spends single-use values as one of several processes on one database.
 *
 * The first line of standard input says where and what; the values are spent when the second arrives, so that several of
 * these begin together. What was won is the last line of standard output.
 */
import { ReplayRepository } from "@sallyport/core/access/ReplayRepository"
import * as SqlReplayRepository from "@sallyport/core/access/SqlReplayRepository"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { createInterface } from "node:readline"
import { clientOf, type SharedDatabase } from "../../../../test-support/sharedDatabase.ts"

/** What a spender is told: each digest is tried twice. */
export interface Task {
  readonly database: SharedDatabase
  readonly digests: ReadonlyArray<string>
  readonly nowMillis: number
}

const lines = createInterface(process.stdin)[Symbol.asyncIterator]()

const program = Effect.gen(function*() {
  const { database, digests, nowMillis }: Task = JSON.parse((yield* Effect.promise(() => lines.next())).value ?? "")
  return yield* Effect.gen(function*() {
    const replays = yield* ReplayRepository
    process.stdout.write("ready\n")
    yield* Effect.promise(() => lines.next())
    const outcomes = yield* Effect.forEach(
      [...digests, ...digests],
      (digest) =>
        Effect.map(
          replays.spend({ kind: "dpop-jti", digest, expiresAtMillis: nowMillis + 60_000 }, nowMillis),
          (won) => won ? [digest] : []
        ),
      { concurrency: 8 }
    )
    return outcomes.flat()
  }).pipe(Effect.provide(SqlReplayRepository.layer.pipe(Layer.provide(clientOf(database)))))
})

const won = await Effect.runPromise(program)
process.stdout.write(`${JSON.stringify(won)}\n`, () => process.exit(0))
