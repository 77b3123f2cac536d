/**
 * States what every `BootstrapCredentialRepository` must do. An adapter's test file is a single call of `suite`.
 */
import { AccessRepository, layerMemory } from "@sallyport/core/access/AccessRepository"
import { assert, describe } from "@effect/vitest"
import { RepositoryError } from "@sallyport/core/RepositoryError"
import type { AccessScope } from "@sallyport/core/access/AccessScope"
import { SessionId } from "@sallyport/core/access/Session"
import {
  anyKey,
  type ConsumeOutcome,
  type PairingLinkRow,
  type RefusalReason
} from "@sallyport/core/access/BootstrapCredentialRepository"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { allEvents, at, brief, expectFeed, linkRow, sessionRow, start, times } from "./internal/accessRows.ts"
import { testOn } from "./internal/newStore.ts"
import { small, testAgainstMemory } from "./internal/steps.ts"

const attempt = (id: string, options?: {
  readonly scopes?: ReadonlyArray<AccessScope> | undefined
  readonly proofKeyThumbprint?: string | undefined
}) => ({
  codeDigest: `code-digest-of-${id}`,
  scopes: options?.scopes,
  proofKeyThumbprint: options?.proofKeyThumbprint
})

const refused = (reason: RefusalReason): ConsumeOutcome => ({ _tag: "Refused", reason })

const wins = (outcomes: ReadonlyArray<ConsumeOutcome>) =>
  outcomes.flatMap((outcome) => outcome._tag === "Consumed" ? [outcome.row.remainingUses] : [])

const id = Schema.Literals(["a", "b", "c", "d"])
const scopes = Schema.Array(Schema.Literals(["access:read", "runs:read", "runs:operate"])).check(Schema.isMaxLength(3))
const key = Schema.NullOr(Schema.Literals(["key-1", "key-2"]))
const millis = small(20)

const Step = Schema.Union([
  Schema.TaggedStruct("insert", {
    id,
    digestOf: id,
    scopes,
    key,
    remainingUses: small(3),
    createdAt: millis,
    expiresAt: millis
  }),
  Schema.TaggedStruct("consume", { id, scopes: Schema.NullOr(scopes), key, now: millis }),
  Schema.TaggedStruct("consume", { id, scopes: Schema.Null, key: Schema.Literal("key-1"), now: small(5) }),
  Schema.TaggedStruct("list", { now: millis, limit: small(4) }),
  Schema.TaggedStruct("revoke", { id, now: millis }),
  Schema.TaggedStruct("sweep", { ended: millis, limit: small(4), now: millis })
])

/** Runs a step and returns its answer as plain data. */
const runStep = Effect.fnUntraced(function*(step: typeof Step.Type) {
  const links = (yield* AccessRepository).links
  switch (step._tag) {
    case "insert":
      return yield* links.insert(
        linkRow(step.id, {
          codeDigest: `code-digest-of-${step.digestOf}`,
          scopes: step.scopes,
          proofKeyThumbprint: step.key,
          remainingUses: step.remainingUses,
          createdAtMillis: start + step.createdAt,
          expiresAtMillis: start + step.expiresAt
        }),
        at(step.createdAt)
      )
    case "consume":
      return yield* links.consume(
        attempt(step.id, { scopes: step.scopes ?? undefined, proofKeyThumbprint: step.key ?? undefined }),
        at(step.now)
      )
    case "list":
      return yield* links.list({ nowMillis: start + step.now, limit: step.limit })
    case "revoke":
      return yield* links.revoke(step.id, at(step.now))
    case "sweep":
      return yield* links.sweep({ endedBeforeMillis: start + step.ended, limit: step.limit }, at(step.now))
  }
})

/**
 * Runs the contract tests of `BootstrapCredentialRepository` against a layer. `name` tells adapters apart in the report.
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
  describe(`BootstrapCredentialRepository (${name})`, () => {
    const test = testOn(layer)

    test(
      "keeps every field of a link and appends its event",
      Effect.gen(function*() {
        const links = (yield* AccessRepository).links
        const rows: ReadonlyArray<PairingLinkRow> = [
          linkRow("plain"),
          linkRow("full", {
            label: `Zoë's "phone" 📱 \\ ; -- \n`,
            subject: "org:müller/ö",
            scopes: ["runs:operate", "access:read", "credentials:write"],
            proofKeyThumbprint: "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
            remainingUses: 1_000_000,
            createdBy: "ada",
            createdAtMillis: start + 1,
            expiresAtMillis: start + 100_000_000_000
          }),
          linkRow("no scopes", { scopes: [], createdAtMillis: start + 2 })
        ]
        for (const row of rows) assert.strictEqual(yield* links.insert(row, at(5, "ada")), "inserted")
        const found = yield* links.list({ nowMillis: start, limit: 10 })
        assert.deepStrictEqual(found, rows.toReversed())
        const events = yield* allEvents
        assert.deepStrictEqual(events.map(brief), [
          "pairingLinkUpserted plain 1",
          "pairingLinkUpserted full 1000000",
          "pairingLinkUpserted no scopes 1"
        ])
        const [, event] = events
        assert.strictEqual(event?.actor, "ada")
        assert.strictEqual(event?.at.epochMilliseconds, start + 5)
        assert.deepInclude(event?.change, { _tag: "pairingLinkUpserted" })
        if (event?.change._tag !== "pairingLinkUpserted") return assert.fail()
        const { createdAt, expiresAt, ...rest } = event.change.link
        assert.deepStrictEqual({ ...rest }, {
          id: "full",
          label: `Zoë's "phone" 📱 \\ ; -- \n`,
          subject: "org:müller/ö",
          scopes: ["runs:operate", "access:read", "credentials:write"],
          remainingUses: 1_000_000,
          needsProof: true,
          createdBy: "ada"
        })
        assert.strictEqual(createdAt.epochMilliseconds, start + 1)
        assert.strictEqual(expiresAt.epochMilliseconds, start + 100_000_000_000)
      })
    )

    test(
      "insert answers false and changes nothing where the digest exists, live, spent or revoked",
      Effect.gen(function*() {
        const links = (yield* AccessRepository).links
        const again = (codeDigest: string) => links.insert(linkRow("other", { codeDigest, label: "second" }), at(0))
        yield* links.insert(linkRow("live"), at(0))
        yield* links.insert(linkRow("spent"), at(0))
        yield* links.consume(attempt("spent"), at(0))
        yield* links.insert(linkRow("revoked"), at(0))
        yield* links.revoke("revoked", at(0))
        const before = yield* allEvents
        for (const id of ["live", "spent", "revoked"]) {
          assert.strictEqual(yield* again(`code-digest-of-${id}`), "digest-exists")
        }
        // The same row once more is a digest that exists, and no error.
        assert.strictEqual(yield* links.insert(linkRow("live"), at(0)), "digest-exists")
        assert.deepStrictEqual(yield* allEvents, before)
        assert.deepStrictEqual(yield* links.list({ nowMillis: start, limit: 10 }), [linkRow("live")])
      })
    )

    test(
      "insert fails and changes nothing where the id exists with another digest",
      Effect.gen(function*() {
        const links = (yield* AccessRepository).links
        yield* links.insert(linkRow("one"), at(0))
        const error = yield* Effect.flip(links.insert(linkRow("one", { codeDigest: "another" }), at(0)))
        assert.instanceOf(error, RepositoryError)
        assert.strictEqual(error.operation, "insert")
        assert.deepStrictEqual(yield* links.list({ nowMillis: start, limit: 10 }), [linkRow("one")])
        assert.deepStrictEqual(yield* links.consume(attempt("other"), at(0)), refused("unknown"))
        yield* expectFeed("pairingLinkUpserted one 1")
      })
    )

    test(
      "of 30 that insert one digest, one gets true",
      Effect.gen(function*() {
        const links = (yield* AccessRepository).links
        const outcomes = yield* times(
          30,
          (index) => links.insert(linkRow(`link-${index}`, { codeDigest: "the same" }), at(0))
        )
        assert.strictEqual(outcomes.filter((outcome) => outcome === "inserted").length, 1)
        assert.strictEqual((yield* links.list({ nowMillis: start, limit: 100 })).length, 1)
        assert.strictEqual((yield* allEvents).length, 1)
      })
    )

    test(
      "SESS-13 HTTP-09: a session issues links while it is live, and has so many open at once and no more",
      Effect.gen(function*() {
        const { links, sessions } = yield* AccessRepository
        const issue = (id: string, issuer: string, afterMillis: number, maxOpen = 2) =>
          links.insert(linkRow(id, { issuedBy: SessionId.make(issuer) }), at(afterMillis), maxOpen)
        for (const id of ["s", "t"]) yield* sessions.insert(sessionRow(id), at(0))
        assert.strictEqual(yield* issue("a", "unknown", 0), "issuer-ended")
        assert.deepStrictEqual(
          [yield* issue("a", "s", 0), yield* issue("b", "s", 0), yield* issue("c", "s", 0), yield* issue("d", "t", 0)],
          ["inserted", "inserted", "too-many-open", "inserted"]
        )
        // A digest that exists is told before the bound, and links of the operator have none.
        assert.strictEqual(yield* issue("a", "s", 0), "digest-exists")
        for (const id of ["e", "f", "g"]) assert.strictEqual(yield* links.insert(linkRow(id), at(0), 2), "inserted")
        yield* links.consume(attempt("a"), at(0))
        assert.strictEqual(yield* issue("h", "s", 0), "inserted")
        assert.strictEqual(yield* issue("i", "s", 0), "too-many-open")
        yield* links.revoke("b", at(0))
        assert.strictEqual(yield* issue("j", "s", 0), "inserted")
        // The links that are open end 10 seconds after the start, as the session does.
        assert.strictEqual(yield* issue("k", "s", 10_000), "issuer-ended")
        yield* sessions.revoke({ _tag: "Session", id: SessionId.make("t") }, at(1))
        assert.strictEqual(yield* issue("l", "t", 2), "issuer-ended")
        assert.deepStrictEqual(yield* links.consume(attempt("d"), at(2)), refused("revoked"))
      })
    )

    test(
      "HTTP-09: of 30 links that a session issues at once, so many are open as may be",
      Effect.gen(function*() {
        const { links, sessions } = yield* AccessRepository
        yield* sessions.insert(sessionRow("s"), at(0))
        const outcomes = yield* times(
          30,
          (index) => links.insert(linkRow(`link-${index}`, { issuedBy: SessionId.make("s") }), at(0), 5)
        )
        assert.strictEqual(outcomes.filter((outcome) => outcome === "inserted").length, 5)
        assert.strictEqual((yield* links.list({ nowMillis: start, limit: 100 })).length, 5)
      })
    )

    test(
      "SESS-13: of a session that ends while it issues links, no link is left open",
      Effect.gen(function*() {
        const { links, sessions } = yield* AccessRepository
        for (let round = 0; round < 5; round++) {
          const issuer = SessionId.make(`s-${round}`)
          yield* sessions.insert(sessionRow(issuer), at(0))
          const issuing = times(6, (index) => links.insert(linkRow(`${issuer}-${index}`, { issuedBy: issuer }), at(0)))
          const ending = sessions.revoke(
            round % 2 === 0 ? { _tag: "Session", id: issuer } : { _tag: "Subject", subject: "ada" },
            at(0)
          )
          yield* Effect.all([issuing, ending], { concurrency: "unbounded" })
          assert.deepStrictEqual(yield* links.list({ nowMillis: start, limit: 100 }), [])
        }
      })
    )

    test(
      "SESS-14: a link for any key takes an attempt with a proof, whatever the key, and no other",
      Effect.gen(function*() {
        const links = (yield* AccessRepository).links
        yield* links.insert(linkRow("one", { proofKeyThumbprint: anyKey, remainingUses: 2 }), at(0))
        assert.deepStrictEqual(yield* links.consume(attempt("one"), at(0)), refused("proof-key-mismatch"))
        for (const proofKeyThumbprint of ["key-1", "key-2"]) {
          assert.strictEqual((yield* links.consume(attempt("one", { proofKeyThumbprint }), at(0)))._tag, "Consumed")
        }
      })
    )

    test(
      "SESS-15 HTTP-09 C-15: list gives the links for a subject, or all, page after page, and revoke takes those for a subject",
      Effect.gen(function*() {
        const links = (yield* AccessRepository).links
        const ids = ["a", "b", "c", "d", "e", "f", "g"]
        for (const [index, id] of ids.entries()) {
          yield* links.insert(
            linkRow(id, { subject: index % 2 === 0 ? "ada" : "bob", createdAtMillis: start + (index >> 1) }),
            at(0)
          )
        }
        const pages = Effect.fnUntraced(function*(subject: string | undefined, limit: number) {
          const found: Array<PairingLinkRow> = []
          while (true) {
            const page = yield* links.list({ nowMillis: start, subject, after: found.at(-1), limit })
            found.push(...page)
            if (page.length < limit) return found.map(({ id }) => id)
          }
        })
        for (const limit of [1, 2, 3, 10]) {
          assert.deepStrictEqual(yield* pages(undefined, limit), ids.toReversed())
          assert.deepStrictEqual(yield* pages("ada", limit), ["g", "e", "c", "a"])
          assert.deepStrictEqual(yield* pages("eve", limit), [])
        }
        assert.isFalse(yield* links.revoke("a", at(0), "bob"))
        assert.isTrue(yield* links.revoke("a", at(0), "ada"))
        assert.deepStrictEqual(yield* pages("ada", 2), ["g", "e", "c"])
      })
    )

    test(
      "consume takes one use after the other, and the last one removes the link",
      Effect.gen(function*() {
        const links = (yield* AccessRepository).links
        const row = linkRow("one", { remainingUses: 2 })
        yield* links.insert(row, at(0))
        assert.deepStrictEqual(yield* links.consume(attempt("one"), at(1, "device")), {
          _tag: "Consumed",
          row: { ...row, remainingUses: 1 }
        })
        assert.deepStrictEqual(yield* links.consume(attempt("one"), at(2)), {
          _tag: "Consumed",
          row: { ...row, remainingUses: 0 }
        })
        assert.deepStrictEqual(yield* links.consume(attempt("one"), at(3)), refused("exhausted"))
        assert.deepStrictEqual(yield* links.list({ nowMillis: start, limit: 10 }), [])
        yield* expectFeed(
          "pairingLinkUpserted one 2",
          "pairingLinkUpserted one 1",
          "pairingLinkRemoved one consumed"
        )
        const [, second] = yield* allEvents
        assert.strictEqual(second?.actor, "device")
        assert.strictEqual(second?.at.epochMilliseconds, start + 1)
      })
    )

    test(
      "BOOT-03 L-11: every refusal names its reason and changes nothing, and the link still works afterwards",
      Effect.gen(function*() {
        const links = (yield* AccessRepository).links
        yield* links.insert(linkRow("bound", { proofKeyThumbprint: "key-1", expiresAtMillis: start + 100 }), at(0))
        yield* links.insert(linkRow("spent"), at(0))
        yield* links.consume(attempt("spent"), at(0))
        yield* links.insert(linkRow("revoked"), at(0))
        yield* links.revoke("revoked", at(0))
        const before = yield* allEvents
        const refusals: ReadonlyArray<readonly [RefusalReason, ReturnType<typeof attempt>, number]> = [
          ["unknown", attempt("unknown"), 0],
          ["revoked", attempt("revoked"), 0],
          ["expired", attempt("bound", { proofKeyThumbprint: "key-1" }), 100],
          ["expired", attempt("bound", { proofKeyThumbprint: "key-1" }), 1_000_000],
          ["exhausted", attempt("spent"), 0],
          ["proof-key-mismatch", attempt("bound"), 0],
          ["proof-key-mismatch", attempt("bound", { proofKeyThumbprint: "key-2" }), 0],
          ["proof-key-mismatch", attempt("bound", { proofKeyThumbprint: "KEY-1" }), 0],
          ["scope-not-granted", attempt("bound", { proofKeyThumbprint: "key-1", scopes: ["runs:operate"] }), 0],
          [
            "scope-not-granted",
            attempt("bound", { proofKeyThumbprint: "key-1", scopes: ["access:read", "access:write"] }),
            0
          ]
        ]
        for (const [reason, options, afterMillis] of refusals) {
          assert.deepStrictEqual(yield* links.consume(options, at(afterMillis)), refused(reason))
        }
        assert.deepStrictEqual(yield* allEvents, before)
        const last = yield* links.consume(
          attempt("bound", { proofKeyThumbprint: "key-1", scopes: ["runs:read", "access:read", "runs:read"] }),
          at(99)
        )
        assert.strictEqual(last._tag, "Consumed")
      })
    )

    test(
      "consume takes an attempt that asks for nothing, for all, or for a part, and one with a key that is not asked for",
      Effect.gen(function*() {
        const links = (yield* AccessRepository).links
        const row = linkRow("one", { remainingUses: 5 })
        yield* links.insert(row, at(0))
        const scopes: ReadonlyArray<ReadonlyArray<AccessScope> | undefined> = [
          undefined,
          [],
          ["runs:read"],
          ["runs:read", "access:read"]
        ]
        for (const asked of scopes) {
          const outcome = yield* links.consume(attempt("one", { scopes: asked, proofKeyThumbprint: "any" }), at(0))
          assert.strictEqual(outcome._tag, "Consumed")
        }
        yield* links.insert(linkRow("no scopes", { scopes: [] }), at(0))
        assert.deepStrictEqual(
          yield* links.consume(attempt("no scopes", { scopes: ["runs:read"] }), at(0)),
          refused("scope-not-granted")
        )
      })
    )

    for (const uses of [1, 3]) {
      test(
        `BOOT-03 L-03: of 50 that consume a link with ${uses} use(s), ${uses} win`,
        Effect.gen(function*() {
          const links = (yield* AccessRepository).links
          yield* links.insert(linkRow("one", { remainingUses: uses }), at(0))
          const outcomes = yield* times(50, () => links.consume(attempt("one"), at(1)))
          assert.deepStrictEqual(wins(outcomes).sort(), Array.from({ length: uses }, (_, index) => index))
          assert.strictEqual(
            outcomes.filter((outcome) => outcome._tag === "Refused" && outcome.reason === "exhausted").length,
            50 - uses
          )
          const events = (yield* allEvents).map(brief)
          assert.strictEqual(events.length, 1 + uses)
          assert.strictEqual(events.at(-1), "pairingLinkRemoved one consumed")
        })
      )
    }

    test(
      "BOOT-03: attempts with the wrong scope or key take no use from the right ones that race with them",
      Effect.gen(function*() {
        const links = (yield* AccessRepository).links
        yield* links.insert(linkRow("one", { remainingUses: 3, proofKeyThumbprint: "key-1" }), at(0))
        const outcomes = yield* times(60, (index) =>
          links.consume(
            index % 3 === 0
              ? attempt("one", { proofKeyThumbprint: "key-1" })
              : index % 3 === 1
              ? attempt("one", { proofKeyThumbprint: "key-2" })
              : attempt("one", { proofKeyThumbprint: "key-1", scopes: ["access:write"] }),
            at(1)
          ))
        assert.deepStrictEqual(wins(outcomes.filter((_, index) => index % 3 === 0)).sort(), [0, 1, 2])
        assert.deepStrictEqual(wins(outcomes.filter((_, index) => index % 3 !== 0)), [])
        assert.strictEqual((yield* allEvents).length, 4)
      })
    )

    test(
      "a link that is revoked and consumed at once goes one way, and its feed says which",
      Effect.gen(function*() {
        const links = (yield* AccessRepository).links
        const rounds = 10
        for (let round = 0; round < rounds; round++) yield* links.insert(linkRow(`link-${round}`), at(0))
        for (let round = 0; round < rounds; round++) {
          const id = `link-${round}`
          const [consumed, revoked] = yield* Effect.all(
            [links.consume(attempt(id), at(1)), links.revoke(id, at(1))],
            { concurrency: "unbounded" }
          )
          assert.strictEqual(consumed._tag === "Consumed", !revoked)
        }
        const removed = (yield* allEvents).filter(({ change }) => change._tag === "pairingLinkRemoved")
        assert.strictEqual(removed.length, rounds)
      })
    )

    test(
      "list returns what can be redeemed, newest first, at most as many as asked",
      Effect.gen(function*() {
        const links = (yield* AccessRepository).links
        yield* links.insert(linkRow("b", { createdAtMillis: start + 1 }), at(0))
        yield* links.insert(linkRow("B", { createdAtMillis: start + 1 }), at(0))
        yield* links.insert(linkRow("a", { createdAtMillis: start + 1 }), at(0))
        yield* links.insert(linkRow("older", { createdAtMillis: start }), at(0))
        yield* links.insert(linkRow("newest", { createdAtMillis: start + 2, remainingUses: 2 }), at(0))
        yield* links.insert(linkRow("expired", { expiresAtMillis: start + 5 }), at(0))
        yield* links.insert(linkRow("spent"), at(0))
        yield* links.consume(attempt("spent"), at(1))
        yield* links.insert(linkRow("revoked"), at(0))
        yield* links.revoke("revoked", at(1))
        const ids = (limit: number) =>
          Effect.map(links.list({ nowMillis: start + 5, limit }), (rows) => rows.map((row) => row.id))
        assert.deepStrictEqual(yield* ids(100), ["newest", "b", "a", "B", "older"])
        assert.deepStrictEqual(yield* ids(2), ["newest", "b"])
        assert.deepStrictEqual(yield* ids(0), [])
        assert.strictEqual((yield* links.list({ nowMillis: start + 4, limit: 100 })).length, 6)
      })
    )

    test(
      "revoke ends a link once, and says false for one that is unknown, spent, expired or revoked",
      Effect.gen(function*() {
        const links = (yield* AccessRepository).links
        yield* links.insert(linkRow("one"), at(0))
        yield* links.insert(linkRow("spent"), at(0))
        yield* links.consume(attempt("spent"), at(0))
        yield* links.insert(linkRow("expired", { expiresAtMillis: start + 1 }), at(0))
        const before = yield* allEvents
        for (const id of ["unknown", "spent", "expired"]) assert.isFalse(yield* links.revoke(id, at(1)))
        assert.deepStrictEqual(yield* allEvents, before)
        const outcomes = yield* times(20, () => links.revoke("one", at(1, "ada")))
        assert.strictEqual(outcomes.filter((revoked) => revoked).length, 1)
        const events = yield* allEvents
        assert.strictEqual(events.length, before.length + 1)
        assert.deepInclude(events.at(-1), { actor: "ada" })
        assert.deepStrictEqual(events.slice(-1).map(brief), ["pairingLinkRemoved one revoked"])
        assert.deepStrictEqual(yield* links.consume(attempt("one"), at(1)), refused("revoked"))
      })
    )

    test(
      "BOOT-05: findByCodeDigest returns a link in whatever state it is, and none for a code that never existed",
      Effect.gen(function*() {
        const links = (yield* AccessRepository).links
        const digest = (id: string) => attempt(id).codeDigest
        for (const id of ["open", "spent", "revoked", "expired"]) {
          yield* links.insert(linkRow(id, { expiresAtMillis: start + (id === "expired" ? 1 : 20) }), at(0))
        }
        yield* links.consume(attempt("spent"), at(0))
        yield* links.revoke("revoked", at(1))
        const before = yield* allEvents
        for (const id of ["open", "spent", "revoked", "expired"]) {
          const row = Option.getOrUndefined(yield* links.findByCodeDigest(digest(id)))
          assert.strictEqual(row?.id, id)
          assert.strictEqual(row?.remainingUses, id === "spent" ? 0 : 1)
          assert.strictEqual(row?.revokedAtMillis, id === "revoked" ? start + 1 : null)
        }
        assert.isTrue(Option.isNone(yield* links.findByCodeDigest(digest("unknown"))))
        assert.deepStrictEqual(yield* allEvents, before)
      })
    )

    test(
      "BOOT-07 L-24: sweep deletes what has ended, the first ended first, and tells of what expired unspent",
      Effect.gen(function*() {
        const links = (yield* AccessRepository).links
        yield* links.insert(linkRow("live"), at(0))
        yield* links.insert(linkRow("expired-late", { expiresAtMillis: start + 30 }), at(0))
        yield* links.insert(linkRow("expired", { expiresAtMillis: start + 20 }), at(0))
        yield* links.insert(linkRow("spent", { expiresAtMillis: start + 10 }), at(0))
        yield* links.consume(attempt("spent"), at(0))
        yield* links.insert(linkRow("revoked"), at(0))
        yield* links.revoke("revoked", at(5))
        const before = (yield* allEvents).length
        const sweep = (endedBefore: number, limit: number) =>
          links.sweep({ endedBeforeMillis: start + endedBefore, limit }, at(100, "system"))

        assert.strictEqual(yield* sweep(4, 100), 0)
        assert.strictEqual(yield* sweep(100, 0), 0)
        assert.strictEqual(yield* sweep(100, 1), 1)
        assert.deepStrictEqual(yield* links.consume(attempt("revoked"), at(0)), refused("unknown"))
        assert.deepStrictEqual(yield* links.consume(attempt("spent"), at(0)), refused("exhausted"))
        assert.strictEqual(yield* sweep(29, 100), 2)
        assert.deepStrictEqual(yield* links.consume(attempt("spent"), at(0)), refused("unknown"))
        assert.deepStrictEqual(yield* links.consume(attempt("expired-late"), at(50)), refused("expired"))
        assert.strictEqual(yield* sweep(30, 100), 1)
        assert.strictEqual(yield* sweep(30, 100), 0)

        assert.deepStrictEqual(yield* links.list({ nowMillis: start, limit: 10 }), [linkRow("live")])
        const events = (yield* allEvents).slice(before)
        assert.deepStrictEqual(events.map(brief), [
          "pairingLinkRemoved expired expired",
          "pairingLinkRemoved expired-late expired"
        ])
        assert.isTrue(events.every(({ actor }) => actor === "system"))
        // A swept digest is free again.
        assert.strictEqual(yield* links.insert(linkRow("expired"), at(0)), "inserted")
      })
    )

    test(
      "sweepers that race delete each row once and tell of it once",
      Effect.gen(function*() {
        const links = (yield* AccessRepository).links
        const n = 30
        yield* times(n, (index) => links.insert(linkRow(`link-${index}`), at(0)))
        const sweep = links.sweep({ endedBeforeMillis: start + 10_000, limit: 4 }, at(20_000))
        const counts = yield* times(8, () => sweep)
        let deleted = counts.reduce((sum, count) => sum + count, 0)
        while (deleted < n) deleted += yield* sweep
        assert.strictEqual(deleted, n)
        assert.strictEqual(yield* sweep, 0)
        const removed = (yield* allEvents).slice(n).map(brief)
        assert.deepStrictEqual(
          removed.toSorted(),
          Array.from({ length: n }, (_, index) => `pairingLinkRemoved link-${index} expired`).sort()
        )
      })
    )

    test(
      "BOOT-02 L-12: no event carries the digest of a code",
      Effect.gen(function*() {
        const links = (yield* AccessRepository).links
        for (const id of ["a", "b", "c", "d"]) yield* links.insert(linkRow(id, { remainingUses: 2 }), at(0))
        yield* links.consume(attempt("a"), at(1))
        yield* links.consume(attempt("a"), at(1))
        yield* links.consume(attempt("b"), at(1))
        yield* links.revoke("c", at(1))
        yield* links.sweep({ endedBeforeMillis: start + 10_000, limit: 100 }, at(20_000))
        const text = JSON.stringify(yield* allEvents)
        assert.include(text, "pairingLinkRemoved")
        assert.notInclude(text, "digest")
      })
    )

    testAgainstMemory({
      port: "BootstrapCredentialRepository",
      steps: Schema.Array(Step).check(Schema.isMinLength(40), Schema.isMaxLength(120)),
      run: runStep,
      feed: allEvents,
      layer,
      layerMemory
    })
  })
}
