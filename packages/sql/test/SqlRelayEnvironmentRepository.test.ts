import { assert, describe, it } from "@effect/vitest"
import * as RelayEnvironmentRepository from "@sallyport/core/RelayEnvironmentRepository"
import * as SqlRelayEnvironmentRepository from "@sallyport/sql/SqlRelayEnvironmentRepository"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { databases } from "./databases.ts"

const row: RelayEnvironmentRepository.RelayEnvironmentRow = {
  id: "desk",
  account: "ada",
  url: "https://desk.example",
  keyX: "x".repeat(43),
  keyId: "k".repeat(43),
  linkedAtMillis: 1
}

const stores = [
  { name: "memory", layer: Layer.fresh(RelayEnvironmentRepository.layerMemory) },
  ...databases.map(({ layer, name }) => ({
    name,
    layer: SqlRelayEnvironmentRepository.layer.pipe(Layer.provide(layer))
  }))
]

for (const { layer, name } of stores) {
  describe(`RelayEnvironmentRepository (${name})`, () => {
    it.live("keeps an environment for its account alone, and takes a new key from nobody else", () =>
      Effect.gen(function*() {
        const environments = yield* RelayEnvironmentRepository.RelayEnvironmentRepository
        assert.isTrue(yield* environments.link(row))
        assert.isFalse(yield* environments.link({ ...row, account: "eve", keyX: "e".repeat(43) }))
        assert.isTrue(Option.isNone(yield* environments.find({ id: "desk", account: "eve" })))
        assert.deepStrictEqual(yield* environments.find({ id: "desk", account: "ada" }), Option.some(row))
        const moved = { ...row, url: "https://moved.example", keyX: "y".repeat(43), linkedAtMillis: 2 }
        assert.isTrue(yield* environments.link(moved))
        assert.isTrue(yield* environments.link({ ...row, id: "attic" }))
        assert.deepStrictEqual(yield* environments.list({ account: "ada", limit: 10 }), [
          { ...row, id: "attic" },
          moved
        ])
        assert.isFalse(yield* environments.unlink({ id: "desk", account: "eve" }))
        const unlinked = yield* Effect.all(
          [1, 2, 3].map(() => environments.unlink({ id: "desk", account: "ada" })),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(unlinked.filter((won) => won), [true])
      }).pipe(Effect.provide(layer)))
  })
}
