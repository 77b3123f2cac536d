import { assert, describe, it } from "@effect/vitest"
import * as RelayProofRepository from "@sallyport/connect/RelayProofRepository"
import * as RelayProofRepositorySuite from "@sallyport/testing/RelayProofRepositorySuite"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { TestClock } from "effect/testing"

RelayProofRepositorySuite.suite("memory", RelayProofRepository.layerMemory)

describe("the sweeper of proofs", () => {
  it.effect("L-24: deletes a proof when it has been kept as long as the host says", () =>
    Effect.gen(function*() {
      const proofs = yield* RelayProofRepository.RelayProofRepository
      yield* proofs.record({
        requestId: "request",
        environmentId: "desk",
        account: "ada",
        proofKeyThumbprint: "t".repeat(43),
        status: "refused",
        requestedAtMillis: null,
        proof: "proof",
        keyId: "k".repeat(43),
        receivedAtMillis: 0
      }, { keep: 1 })
      const count = Effect.map(proofs.list({ account: "ada", limit: 10 }), (rows) => rows.length)
      yield* TestClock.adjust("59 minutes")
      assert.strictEqual(yield* count, 1)
      yield* TestClock.adjust("2 minutes")
      assert.strictEqual(yield* count, 0)
    }).pipe(
      Effect.provide(
        RelayProofRepository.layerSweeper({ retention: "1 hour", interval: "1 minute" }).pipe(
          Layer.provideMerge(RelayProofRepository.layerMemory)
        )
      )
    ))
})
