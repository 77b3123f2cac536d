/**
 * Writes to the store in the directory `argv[2]` until it is killed, and prints a line for each acknowledged operation: `set 7`, `create 7`.
 * Every value is its number, repeated, so that a torn one would show.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { writeSync } from "node:fs"

const directory = process.argv[2] ?? ""
const first = Number(process.argv[3])

const program = Effect.gen(function*() {
  const store = yield* SecretStore.SecretStore
  for (let number = first;; number++) {
    const value = Redacted.make(new TextEncoder().encode(`${number},`.repeat(10_000)))
    yield* store.set("set", value)
    writeSync(1, `set ${number}\n`)
    yield* store.create(`created-${number % 8}`, value)
    yield* store.remove(`created-${(number + 4) % 8}`)
  }
})

await program.pipe(
  Effect.provide(SecretStore.layerFileSystem(directory)),
  Effect.provide(Layer.mergeAll(NodeFileSystem.layer, NodePath.layer, NodeCrypto.layer)),
  Effect.runPromise
)
