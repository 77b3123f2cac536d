/**
 * States what every `ScopedCredentialRepository` must do. An adapter's test file is a single call of `suite`.
 */
import { AccessRepository, layerMemory } from "@sallyport/core/access/AccessRepository"
import { assert, describe } from "@effect/vitest"
import { type RemoveOutcome } from "@sallyport/core/access/ScopedCredentialRepository"
import type { CredentialPlace, CredentialScope } from "@sallyport/core/access/ScopedCredential"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { allEvents, at, expectFeed, start } from "./internal/accessRows.ts"
import { testOn, times } from "./internal/newStore.ts"
import { small, testAgainstMemory } from "./internal/steps.ts"

const place = (scope: CredentialScope, owner: string, key = "github.token"): CredentialPlace => ({ scope, owner, key })

const written = (where: CredentialPlace, revision: string, afterMillis = 0, updatedBy = "ada") => ({
  scope: where.scope,
  owner: where.owner,
  key: where.key,
  revision,
  sealed: `sealed-${revision}`,
  updatedAtMillis: start + afterMillis,
  updatedBy
})

const scope = Schema.Literals(["user", "org", "workspace"])
const owner = Schema.Literals(["a", "b"])
const key = Schema.Literals(["k1", "k2"])
const spot = { scope, owner, key }

const Step = Schema.Union([
  Schema.TaggedStruct("put", { ...spot, revision: small(4), supersedes: Schema.NullOr(owner), now: small(20) }),
  Schema.TaggedStruct("find", {
    key,
    owners: Schema.Array(Schema.Struct({ scope, owner })).check(Schema.isMaxLength(4))
  }),
  Schema.TaggedStruct("list", { scope, owner, afterKey: Schema.NullOr(key), limit: small(3) }),
  Schema.TaggedStruct("remove", {
    key,
    candidates: Schema.Array(Schema.Struct({ scope, owner, removable: Schema.Boolean })).check(Schema.isMaxLength(4)),
    now: small(20)
  }),
  Schema.TaggedStruct("mark", { ...spot, revision: small(4), until: Schema.NullOr(small(20)), now: small(20) }),
  Schema.TaggedStruct("reseal", { ...spot, revision: small(4) }),
  Schema.TaggedStruct("page", { after: Schema.NullOr(Schema.Struct(spot)), limit: small(4) })
])

/** Runs a step and returns its answer as plain data. */
const runStep = Effect.fnUntraced(function*(step: typeof Step.Type) {
  const credentials = (yield* AccessRepository).credentials
  switch (step._tag) {
    case "put":
      return yield* credentials.put(
        written(step, `r${step.revision}`, step.now),
        step.supersedes === null || step.scope === "user"
          ? undefined
          : { scope: "user", owner: step.supersedes, key: step.key },
        at(step.now)
      )
    case "find": {
      const seen = new Set<string>()
      const owners = step.owners.filter((one) => {
        const id = `${one.scope} ${one.owner}`
        return !seen.has(id) && seen.add(id)
      })
      return yield* credentials.find({ key: step.key, owners })
    }
    case "list":
      return yield* credentials.list({ owner: step, afterKey: step.afterKey ?? undefined, limit: step.limit })
    case "remove":
      return yield* credentials.remove({ key: step.key, candidates: step.candidates }, at(step.now))
    case "mark":
      return yield* credentials.mark({
        place: { scope: step.scope, owner: step.owner, key: step.key },
        revision: `r${step.revision}`,
        rejectedUntilMillis: step.until === null ? null : start + step.until
      }, at(step.now))
    case "reseal":
      return yield* credentials.reseal({
        place: { scope: step.scope, owner: step.owner, key: step.key },
        revision: `r${step.revision}`,
        fromSealed: `sealed-r${step.revision}`,
        sealed: `resealed-r${step.revision}`
      })
    case "page":
      return yield* credentials.page({ after: step.after ?? undefined, limit: step.limit })
  }
})

/**
 * Runs the contract tests of `ScopedCredentialRepository` against a layer. `name` tells adapters apart in the report.
 *
 * The layer must be a new, empty store each time that it is built, and provide the access feed of that store beside the
 * repository.
 *
 * @category suites
 * @since 0.1.0
 */
export const suite = <E>(
  name: string,
  layer: Layer.Layer<AccessRepository, E>
): void => {
  describe(`ScopedCredentialRepository (${name})`, () => {
    const test = testOn(layer)

    test(
      "SCOPE-12: keeps every field, and appends who wrote it and when, without the ciphertext",
      Effect.gen(function*() {
        const credentials = (yield* AccessRepository).credentials
        const where = place("org", `Zoë's "org" 📱 \\ ; --`)
        const stored = yield* credentials.put(written(where, "r1"), undefined, at(0, "ada"))
        const [row] = yield* credentials.find({ key: where.key, owners: [where] })
        assert.deepStrictEqual(row, {
          ...written(where, "r1"),
          createdAtMillis: start,
          rejectedUntilMillis: null
        })
        const [event] = yield* allEvents
        assert.deepStrictEqual(event?.change, { _tag: "credentialUpserted", credential: stored })
        assert.strictEqual(event?.actor, "ada")
        assert.strictEqual(event?.at.epochMilliseconds, start)
        assert.notInclude(JSON.stringify(event), "sealed-")
      })
    )

    test(
      "L-53: replaces a value in one step, which keeps the time of the first and takes the mark away",
      Effect.gen(function*() {
        const credentials = (yield* AccessRepository).credentials
        const where = place("org", "acme")
        yield* credentials.put(written(where, "r1"), undefined, at(0))
        assert.isTrue(
          yield* credentials.mark({ place: where, revision: "r1", rejectedUntilMillis: start + 9 }, at(1))
        )
        yield* credentials.put(written(where, "r2", 2), undefined, at(2))
        const [row, ...others] = yield* credentials.find({ key: where.key, owners: [where] })
        assert.lengthOf(others, 0)
        assert.deepInclude(row, { revision: "r2", createdAtMillis: start, updatedAtMillis: start + 2 })
        assert.isNull(row?.rejectedUntilMillis)
        yield* expectFeed(
          "credentialUpserted org acme github.token",
          "credentialUpserted org acme github.token",
          "credentialUpserted org acme github.token"
        )
      })
    )

    test(
      "L-59: removes what a write supersedes in the same step",
      Effect.gen(function*() {
        const credentials = (yield* AccessRepository).credentials
        yield* credentials.put(written(place("user", "ada"), "r1"), undefined, at(0))
        yield* credentials.put(written(place("org", "acme"), "r2"), place("user", "ada"), at(1))
        yield* credentials.put(written(place("org", "acme"), "r3"), place("user", "ada"), at(2))
        const rows = yield* credentials.find({
          key: "github.token",
          owners: [place("user", "ada"), place("org", "acme")]
        })
        assert.deepStrictEqual(rows.map((row) => row.revision), ["r3"])
        yield* expectFeed(
          "credentialUpserted user ada github.token",
          "credentialRemoved user ada github.token",
          "credentialUpserted org acme github.token",
          "credentialUpserted org acme github.token"
        )
      })
    )

    test(
      "SCOPE-02: finds the rows of one key in the order of the owners that are asked for",
      Effect.gen(function*() {
        const credentials = (yield* AccessRepository).credentials
        const all = [place("workspace", "w"), place("user", "ada"), place("org", "acme")]
        yield* Effect.forEach(all, (where, index) => credentials.put(written(where, `r${index}`), undefined, at(0)))
        yield* credentials.put(written(place("user", "ada", "other"), "other"), undefined, at(0))
        yield* credentials.put(written(place("user", "bob"), "bob"), undefined, at(0))
        for (const owners of [all, all.toReversed(), all.slice(1), []]) {
          const rows = yield* credentials.find({ key: "github.token", owners })
          assert.deepStrictEqual(rows.map((row) => row.scope), owners.map((one) => one.scope))
        }
      })
    )

    test(
      "SCOPE-03 L-54: removes the first that exists where that may be, and nothing in its place",
      Effect.gen(function*() {
        const credentials = (yield* AccessRepository).credentials
        yield* credentials.put(written(place("org", "acme"), "r1"), undefined, at(0))
        const candidates = [
          { ...place("user", "ada"), removable: true },
          { ...place("org", "acme"), removable: false },
          { ...place("workspace", "w"), removable: true }
        ]
        yield* credentials.put(written(place("workspace", "w"), "r2"), undefined, at(0))
        const refused: RemoveOutcome = { _tag: "Refused", scope: "org" }
        assert.deepStrictEqual(yield* credentials.remove({ key: "github.token", candidates }, at(1)), refused)
        yield* credentials.put(written(place("user", "ada"), "r3"), undefined, at(2))
        const removed = yield* credentials.remove({ key: "github.token", candidates }, at(3))
        assert.strictEqual(removed._tag === "Removed" ? removed.credential.scope : removed._tag, "user")
        assert.deepStrictEqual(yield* credentials.remove({ key: "github.token", candidates }, at(4)), refused)
        assert.strictEqual((yield* credentials.remove({ key: "other", candidates }, at(4)))._tag, "Absent")
        yield* expectFeed(
          "credentialUpserted org acme github.token",
          "credentialUpserted workspace w github.token",
          "credentialUpserted user ada github.token",
          "credentialRemoved user ada github.token"
        )
      })
    )

    test(
      "SCOPE-03: of 16 racers exactly one removes a row",
      Effect.gen(function*() {
        const credentials = (yield* AccessRepository).credentials
        yield* credentials.put(written(place("user", "ada"), "r1"), undefined, at(0))
        const outcomes = yield* times(16, () =>
          credentials.remove(
            { key: "github.token", candidates: [{ ...place("user", "ada"), removable: true }] },
            at(1)
          ))
        assert.lengthOf(outcomes.filter(({ _tag }) => _tag === "Removed"), 1)
        assert.lengthOf(outcomes.filter(({ _tag }) => _tag === "Absent"), 15)
      })
    )

    test(
      "SCOPE-05: of 16 racing writers the last one's row stays, whole",
      Effect.gen(function*() {
        const credentials = (yield* AccessRepository).credentials
        const where = place("org", "acme")
        yield* times(
          16,
          (index) => credentials.put(written(where, `r${index}`, index, `u${index}`), undefined, at(index))
        )
        const [row, ...others] = yield* credentials.find({ key: where.key, owners: [where] })
        assert.lengthOf(others, 0)
        assert.strictEqual(row?.sealed, `sealed-${row?.revision}`)
        assert.strictEqual(`r${row?.updatedBy.slice(1)}`, row?.revision)
        const events = yield* allEvents
        assert.lengthOf(events, 16)
        const last = events[events.length - 1]?.change
        assert.strictEqual(last?._tag === "credentialUpserted" ? last.credential.revision : "", row?.revision)
      })
    )

    test(
      "SCOPE-11: marks only the revision that was checked, and says whether it changed anything",
      Effect.gen(function*() {
        const credentials = (yield* AccessRepository).credentials
        const where = place("user", "ada")
        yield* credentials.put(written(where, "r1"), undefined, at(0))
        const mark = (revision: string, rejectedUntilMillis: number | null) =>
          credentials.mark({ place: where, revision, rejectedUntilMillis }, at(1))
        assert.isFalse(yield* mark("r0", start + 5))
        assert.isFalse(yield* mark("r1", null))
        assert.isTrue(yield* mark("r1", start + 5))
        assert.isFalse(yield* mark("r1", start + 5))
        assert.isTrue(yield* mark("r1", start + 6))
        assert.isTrue(yield* mark("r1", null))
        assert.lengthOf(yield* allEvents, 4)
      })
    )

    test(
      "SCOPE-12: puts reads into the feed",
      Effect.gen(function*() {
        const credentials = (yield* AccessRepository).credentials
        yield* credentials.recordRead({ source: "org", owner: "acme", key: "github.token", count: 3 }, at(7, "bob"))
        const [event] = yield* allEvents
        assert.deepStrictEqual(event?.change, {
          _tag: "credentialRead",
          source: "org",
          owner: "acme",
          key: "github.token",
          count: 3
        })
        assert.strictEqual(event?.actor, "bob")
      })
    )

    test(
      "SCOPE-07: encrypts again only what is still the same, and without an event",
      Effect.gen(function*() {
        const credentials = (yield* AccessRepository).credentials
        const where = place("user", "ada")
        yield* credentials.put(written(where, "r1"), undefined, at(0))
        const reseal = (revision: string, fromSealed: string) =>
          credentials.reseal({ place: where, revision, fromSealed, sealed: "again" })
        assert.isFalse(yield* reseal("r2", "sealed-r1"))
        assert.isFalse(yield* reseal("r1", "sealed-r2"))
        assert.isTrue(yield* reseal("r1", "sealed-r1"))
        assert.isFalse(yield* reseal("r1", "sealed-r1"))
        assert.deepInclude((yield* credentials.page({ after: undefined, limit: 9 }))[0], {
          revision: "r1",
          sealed: "again"
        })
        assert.lengthOf(yield* allEvents, 1)
      })
    )

    testAgainstMemory({
      port: "ScopedCredentialRepository",
      steps: Schema.Array(Step).check(Schema.isMinLength(20), Schema.isMaxLength(80)),
      run: runStep,
      feed: allEvents,
      layer,
      layerMemory
    })
  })
}
