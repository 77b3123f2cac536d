/**
 * Rotates the secrets in the directory `argv[2]` between the two keys `argv[3]` and `argv[4]` (hex) until it is killed, and counts in one of them.
 * Prints a line before each write (`writing`), and one for each acknowledged change of the count (`counted 7`).
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import * as EncryptedSecretStore from "@sallyport/core/secrets/EncryptedSecretStore"
import * as SecretKeys from "@sallyport/core/secrets/SecretKeys"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as Effect from "effect/Effect"
import * as Hex from "effect/encoding/Hex"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { writeSync } from "node:fs"

const directory = process.argv[2] ?? ""
const keyOf = (hex: string | undefined) => Redacted.make(Result.getOrThrow(Hex.decode(hex ?? "")))
const first = keyOf(process.argv[3])
const second = keyOf(process.argv[4])

const count = (current: Option.Option<Redacted.Redacted<Uint8Array>>) => {
  const text = Option.match(current, { onNone: () => "0,", onSome: (v) => new TextDecoder().decode(Redacted.value(v)) })
  const next = Number(text.slice(0, text.indexOf(","))) + 1
  return [next, Option.some(Redacted.make(new TextEncoder().encode(`${next},`.repeat(2_000))))] as const
}

const program = Effect.gen(function*() {
  const files = yield* SecretStore.SecretStore
  const telling = SecretStore.SecretStore.of({
    ...files,
    modify: (name, f) =>
      files.modify(name, (current) => Effect.tap(f(current), () => Effect.sync(() => writeSync(1, "writing\n"))))
  })
  const open = (active: typeof first, previous: typeof first) =>
    EncryptedSecretStore.make({ storeId: "rotator" }).pipe(
      Effect.provide(SecretKeys.layerKeys({ active, previous: [previous] })),
      Effect.provideService(SecretStore.SecretStore, telling)
    )
  const sides = [yield* open(first, second), yield* open(second, first)] as const
  for (let round = 0;; round++) {
    const { rotation } = round % 2 === 0 ? sides[0] : sides[1]
    // The other side counts while this one rotates, as a process that has not been restarted yet.
    const other = round % 2 === 0 ? sides[1].store : sides[0].store
    yield* Effect.all([
      rotation.rotate,
      Effect.flatMap(
        other.modify("counter", (current) => Effect.succeed(count(current))),
        (counted) => Effect.sync(() => writeSync(1, `counted ${counted}\n`))
      )
    ], { concurrency: "unbounded" })
  }
})

await program.pipe(
  Effect.provide(SecretStore.layerFileSystem(directory)),
  Effect.provide(Layer.mergeAll(NodeFileSystem.layer, NodePath.layer, NodeCrypto.layer)),
  Effect.runPromise
)
