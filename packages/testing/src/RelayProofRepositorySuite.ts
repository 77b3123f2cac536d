/**
 * States what every `RelayProofRepository` must do. An adapter's test file is a single call of `suite`.
 */
import { assert, describe } from "@effect/vitest"
import { RelayProofRepository, type RelayProofRow } from "@sallyport/connect/RelayProofRepository"
import { RelayProofStatus } from "@sallyport/contract/ConnectProtocol"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import { testOn, times } from "./internal/newStore.ts"

const row = (requestId: string, receivedAtMillis: number, fields?: Partial<RelayProofRow>): RelayProofRow => ({
  requestId,
  environmentId: "desk",
  account: "ada",
  proofKeyThumbprint: "t".repeat(43),
  status: "pending_approval",
  requestedAtMillis: 1_000,
  proof: `header.${requestId}.signature`,
  keyId: "k".repeat(43),
  receivedAtMillis,
  ...fields
})

const ofStatus = (status: RelayProofStatus): Partial<RelayProofRow> => ({
  status,
  requestedAtMillis: status === "pending_approval" || status === "decision" ? 1_000 : null
})

const record = (proof: RelayProofRow, keep = 100) =>
  RelayProofRepository.use((proofs) => proofs.record(proof, { keep }))
const list = (limit = 100, after?: RelayProofRow, account = "ada") =>
  RelayProofRepository.use((proofs) => proofs.list({ account, limit, after }))
const ids = Effect.map((rows: ReadonlyArray<RelayProofRow>) => rows.map(({ requestId }) => requestId))

/**
 * Runs the contract tests of `RelayProofRepository` against a layer, which each test builds again.
 *
 * @category suites
 * @since 0.1.0
 */
export const suite = <E>(name: string, layer: Layer.Layer<RelayProofRepository, E>): void => {
  describe(`RelayProofRepository (${name})`, () => {
    const test = testOn(layer)

    test(
      "keeps the last proof of each account, environment, client and status, whatever order they come in",
      Effect.gen(function*() {
        const proofs: ReadonlyArray<RelayProofRow> = [
          ...RelayProofStatus.literals.map((status, index) => row(status, 10 + index, ofStatus(status))),
          row("attic", 20, { environmentId: "attic" }),
          row("other key", 21, { proofKeyThumbprint: "u".repeat(43) })
        ]
        for (const proof of proofs) yield* record(proof)
        yield* record(row("eve", 22, { account: "eve" }))
        assert.deepStrictEqual(yield* list(), proofs.toReversed())
        assert.deepStrictEqual(yield* ids(list(100, undefined, "eve")), ["eve"])

        const later = row("later", 30, { requestedAtMillis: 2_000 })
        yield* record(later)
        yield* record(row("late", 29))
        assert.deepStrictEqual(yield* list(), [later, ...proofs.toReversed().filter((proof) => proof !== proofs[1])])
      })
    )

    test(
      "knows the request that an environment answered to be pending, and no other",
      Effect.gen(function*() {
        const proofs = yield* RelayProofRepository
        yield* record(row("pending", 10))
        yield* record(row("decision", 11, { status: "decision", requestedAtMillis: 2_000 }))
        const pending = {
          account: "ada",
          environmentId: "desk",
          proofKeyThumbprint: "t".repeat(43),
          requestedAtMillis: 1_000
        }
        assert.isTrue(yield* proofs.hasPending(pending))
        for (
          const other of [
            { ...pending, account: "eve" },
            { ...pending, environmentId: "attic" },
            { ...pending, proofKeyThumbprint: "u".repeat(43) },
            { ...pending, requestedAtMillis: 1_001 },
            { ...pending, requestedAtMillis: 2_000 }
          ]
        ) {
          assert.isFalse(yield* proofs.hasPending(other), JSON.stringify(other))
        }
        yield* record(row("again", 12, { requestedAtMillis: 3_000 }))
        assert.isFalse(yield* proofs.hasPending(pending))
        assert.isTrue(yield* proofs.hasPending({ ...pending, requestedAtMillis: 3_000 }))
      })
    )

    test(
      "lists in pages, those received last first, also if several were received at once",
      Effect.gen(function*() {
        const proofs = ["b", "a", "d", "c", "e"].map((id, index) =>
          row(id, index < 4 ? 10 : 20, { proofKeyThumbprint: id.repeat(43) })
        )
        for (const proof of proofs) yield* record(proof)
        const seen: Array<string> = []
        let after: RelayProofRow | undefined
        while (true) {
          const page: ReadonlyArray<RelayProofRow> = yield* list(2, after)
          seen.push(...page.map(({ requestId }) => requestId))
          after = page.at(-1)
          if (page.length < 2) break
        }
        assert.deepStrictEqual(seen, ["e", "d", "c", "b", "a"])
      })
    )

    test(
      "keeps no more than so many of an account and a status: hundreds of clients leave others' proofs alone",
      Effect.gen(function*() {
        yield* record(row("pending", 1))
        yield* record(row("eve", 1, { account: "eve", ...ofStatus("refused") }))
        const flood = Array.from(
          { length: 500 },
          (_, index) =>
            row(`refused-${String(index).padStart(4, "0")}`, 10 + index, {
              proofKeyThumbprint: String(index).padStart(43, "0"),
              ...ofStatus("refused")
            })
        )
        yield* Effect.forEach(flood, (proof) => record(proof, 5), { concurrency: 8 })
        yield* record(row("last", 9_999, { proofKeyThumbprint: "z".repeat(43), ...ofStatus("refused") }), 5)
        assert.deepStrictEqual(yield* ids(list(1_000)), [
          "last",
          "refused-0499",
          "refused-0498",
          "refused-0497",
          "refused-0496",
          "pending"
        ])
        assert.deepStrictEqual(yield* ids(list(1_000, undefined, "eve")), ["eve"])
      })
    )

    test(
      "L-24: sweeps what was received long ago in bounded batches, and nothing else",
      Effect.gen(function*() {
        const proofs = yield* RelayProofRepository
        for (let index = 0; index < 10; index++) {
          yield* record(row(`proof-${index}`, index, { account: `account-${index % 3}`, environmentId: `${index}` }))
        }
        const sweep = proofs.sweep({ receivedUntilMillis: 6, limit: 3 })
        assert.deepStrictEqual([yield* sweep, yield* sweep, yield* sweep, yield* sweep], [3, 3, 1, 0])
        const left = yield* Effect.forEach([0, 1, 2], (account) => ids(list(100, undefined, `account-${account}`)))
        assert.deepStrictEqual(left, [["proof-9"], ["proof-7"], ["proof-8"]])
      })
    )

    test(
      "of 32 racers with proofs for one client the one received last stays",
      Effect.gen(function*() {
        yield* times(32, (index) => {
          const nth = (index * 7) % 32
          return record(row(`proof-${nth}`, nth))
        })
        assert.deepStrictEqual(yield* ids(list()), ["proof-31"])
      })
    )
  })
}
