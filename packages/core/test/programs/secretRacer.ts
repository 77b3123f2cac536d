/**
 * Opens the store in the directory `argv[2]` when a line arrives, and lets `argv[3]` fibers race for the same secrets.
 * Prints one JSON line with what they saw. `argv[4]`, in octal, is the umask.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as Effect from "effect/Effect"
import * as Hex from "effect/encoding/Hex"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { once } from "node:events"

const directory = process.argv[2] ?? ""
const fibers = Number(process.argv[3])
if (process.argv[4] !== undefined) process.umask(Number.parseInt(process.argv[4], 8))

const program = Effect.gen(function*() {
  const store = yield* SecretStore.SecretStore
  const seen = yield* Effect.forEach(
    Array.from({ length: fibers * 4 }, (_, index) => `shared-${index % 4}`),
    (name) =>
      Effect.map(store.getOrCreateRandom(name, 32), (value) => [name, Hex.encode(Redacted.value(value))] as const),
    { concurrency: "unbounded" }
  )
  const created = yield* Effect.forEach(
    Array.from({ length: fibers }, (_, index) => index),
    (index) => store.create("created", Redacted.make(new TextEncoder().encode(`${process.pid}.${index}`))),
    { concurrency: "unbounded" }
  )
  yield* Effect.forEach(
    Array.from({ length: fibers }),
    () =>
      store.modify("counter", (current) => {
        const count = Number(Option.match(current, {
          onNone: () => "0",
          onSome: (bytes) => new TextDecoder().decode(Redacted.value(bytes))
        }))
        return Effect.succeed([undefined, Option.some(Redacted.make(new TextEncoder().encode(String(count + 1))))])
      }),
    { concurrency: "unbounded", discard: true }
  )
  return { seen, wins: created.filter((won) => won).length }
}).pipe(
  Effect.provide(SecretStore.layerFileSystem(directory)),
  Effect.provide(Layer.mergeAll(NodeFileSystem.layer, NodePath.layer, NodeCrypto.layer))
)

process.stdout.write("ready\n")
await once(process.stdin, "data")
process.stdout.write(`${JSON.stringify(await Effect.runPromise(program))}\n`)
process.stdin.destroy()
