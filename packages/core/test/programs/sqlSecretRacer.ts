/**
 * Opens the secrets of a database as one of several processes.
 *
 * The first line of standard input says where, under which keys (hex) and what to do. `race` waits for a second line, so that several of these begin
 * together, lets 8 fibers race for the same secrets and prints what they saw. `rotate` rotates between the two keys, and counts, until it is killed; it prints a line
 * before each write (`writing`), and one for each acknowledged change of the count (`counted 7`).
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as EncryptedSecretStore from "@sallyport/core/secrets/EncryptedSecretStore"
import * as SecretKeys from "@sallyport/core/secrets/SecretKeys"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as SqlSecretStore from "@sallyport/core/secrets/SqlSecretStore"
import * as Effect from "effect/Effect"
import * as Hex from "effect/encoding/Hex"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { writeSync } from "node:fs"
import { createInterface } from "node:readline"
import { clientOf, type SharedDatabase } from "../../../../test-support/sharedDatabase.ts"

/** What a process is told. */
export interface Task {
  readonly work: "race" | "rotate"
  readonly database: SharedDatabase
  readonly keys: readonly [string, string]
}

/** What one of several racing processes saw. */
export interface Seen {
  readonly values: ReadonlyArray<readonly [name: string, hex: string]>
  readonly wins: number
}

const lines = createInterface(process.stdin)[Symbol.asyncIterator]()
const { database, keys, work }: Task = JSON.parse((await lines.next()).value ?? "")
const [first, second] = keys.map((hex) => Redacted.make(Result.getOrThrow(Hex.decode(hex))))
if (first === undefined || second === undefined) throw new Error("two keys are needed")

const encrypted = (active: typeof first, previous: typeof first) =>
  EncryptedSecretStore.make({ storeId: "processes" }).pipe(
    Effect.provide(SecretKeys.layerKeys({ active, previous: [previous] })),
    Effect.updateService(SecretStore.SecretStore, (rows) =>
      SecretStore.SecretStore.of({
        ...rows,
        modify: (name, f) =>
          rows.modify(name, (current) =>
            Effect.tap(f(current), () =>
              Effect.sync(() => {
                if (work === "rotate") writeSync(1, "writing\n")
              })))
      }))
  )

const count = (current: Option.Option<Redacted.Redacted<Uint8Array>>) => {
  const text = Option.match(current, { onNone: () => "0,", onSome: (v) => new TextDecoder().decode(Redacted.value(v)) })
  const next = Number(text.slice(0, text.indexOf(","))) + 1
  return [next, Option.some(Redacted.make(new TextEncoder().encode(`${next},`.repeat(2_000))))] as const
}

const race = Effect.gen(function*() {
  const { store } = yield* encrypted(first, second)
  process.stdout.write("ready\n")
  yield* Effect.promise(() => lines.next())
  const values = yield* Effect.forEach(
    Array.from({ length: 32 }, (_, index) => `shared-${index % 4}`),
    (name) =>
      Effect.map(store.getOrCreateRandom(name, 32), (value) => [name, Hex.encode(Redacted.value(value))] as const),
    { concurrency: 8 }
  )
  const created = yield* Effect.forEach(
    Array.from({ length: 8 }, (_, index) => index),
    (index) => store.create("created", Redacted.make(new TextEncoder().encode(`${process.pid}.${index}`))),
    { concurrency: 8 }
  )
  yield* Effect.forEach(
    Array.from({ length: 8 }),
    () => store.modify("counter", (current) => Effect.succeed(count(current))),
    { concurrency: 8, discard: true }
  )
  const seen: Seen = { values, wins: created.filter((won) => won).length }
  process.stdout.write(`${JSON.stringify(seen)}\n`, () => process.exit(0))
})

const rotate = Effect.gen(function*() {
  const sides = [yield* encrypted(first, second), yield* encrypted(second, first)] as const
  for (let round = 0;; round++) {
    const [own, other] = round % 2 === 0 ? sides : [sides[1], sides[0]]
    // The other side counts while this one rotates, as a process that has not been restarted yet.
    yield* Effect.all([
      own.rotation.rotate,
      Effect.flatMap(
        other.store.modify("counter", (current) => Effect.succeed(count(current))),
        (counted) => Effect.sync(() => writeSync(1, `counted ${counted}\n`))
      )
    ], { concurrency: "unbounded" })
  }
})

const Stores: Layer.Layer<SecretStore.SecretStore, unknown> = SqlSecretStore.layer.pipe(
  Layer.provide([clientOf(database), NodeCrypto.layer])
)

await Effect.runPromise(
  (work === "race" ? race : rotate).pipe(Effect.provide(Stores), Effect.provide(NodeCrypto.layer))
)
