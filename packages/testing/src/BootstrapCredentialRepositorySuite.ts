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
  type PairingLinkRow,
  type RedeemOutcome,
  type Redemption,
  type RefusalReason
} from "@sallyport/core/access/BootstrapCredentialRepository"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { allEvents, at, brief, expectFeed, linkRow, redemption, sessionRow, start } from "./internal/accessRows.ts"
import { testOn, times } from "./internal/newStore.ts"
import { small, testAgainstMemory } from "./internal/steps.ts"

const refused = (reason: RefusalReason): RedeemOutcome => ({ _tag: "Refused", reason })

const wins = (outcomes: ReadonlyArray<RedeemOutcome>) =>
  outcomes.flatMap((outcome) => outcome._tag === "Redeemed" ? [outcome.link.remainingUses] : [])

const id = Schema.Literals(["a", "b", "c", "d"])
const scopes = Schema.Array(Schema.Literals(["access:read", "runs:read", "runs:operate"])).check(Schema.isMaxLength(3))
const key = Schema.NullOr(Schema.Literals(["key-1", "key-2"]))
const millis = small(20)

const redeeming = {
  id,
  session: small(20),
  replaces: Schema.NullOr(small(20)),
  attempt: Schema.NullOr(small(3)),
  repeats: Schema.Boolean
}

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
  Schema.TaggedStruct("redeem", { ...redeeming, scopes, key, now: millis }),
  Schema.TaggedStruct("redeem", {
    ...redeeming,
    scopes: Schema.Tuple([]),
    key: Schema.Literal("key-1"),
    now: small(5)
  }),
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
    case "redeem":
      return yield* links.redeem({
        codeDigest: `code-digest-of-${step.id}`,
        session: sessionRow(`session-${step.session}`, {
          scopes: step.scopes,
          proofKeyThumbprint: step.key,
          createdAtMillis: start + step.now,
          redemptionDigest: step.attempt === null ? null : `attempt-${step.attempt}`
        }),
        // Steps go back in time, which the clock of a database does not.
        repeatMillis: step.repeats ? 1_000_000 : -1_000_000,
        replaces: step.replaces === null ? undefined : SessionId.make(`session-${step.replaces}`)
      }, at(step.now))
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
            sessionLifetimeMillis: 3_600_000,
            sessionEndsAtMillis: start + 200_000_000_000,
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
        const { createdAt, expiresAt, sessionEndsAt, sessionLifetime, ...rest } = event.change.link
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
        assert.strictEqual(sessionEndsAt?.epochMilliseconds, start + 200_000_000_000)
        assert.deepStrictEqual(sessionLifetime, Duration.hours(1))
      })
    )

    test(
      "insert answers digest-exists and changes nothing if the digest exists, live, spent or revoked",
      Effect.gen(function*() {
        const links = (yield* AccessRepository).links
        const again = (codeDigest: string) => links.insert(linkRow("other", { codeDigest, label: "second" }), at(0))
        yield* links.insert(linkRow("live"), at(0))
        yield* links.insert(linkRow("spent"), at(0))
        yield* links.redeem(redemption("spent"), at(0))
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
      "insert fails and changes nothing if the id exists with another digest",
      Effect.gen(function*() {
        const links = (yield* AccessRepository).links
        yield* links.insert(linkRow("one"), at(0))
        const error = yield* Effect.flip(links.insert(linkRow("one", { codeDigest: "another" }), at(0)))
        assert.instanceOf(error, RepositoryError)
        assert.strictEqual(error.operation, "insert")
        assert.deepStrictEqual(yield* links.list({ nowMillis: start, limit: 10 }), [linkRow("one")])
        assert.deepStrictEqual(yield* links.redeem(redemption("other"), at(0)), refused("unknown"))
        yield* expectFeed("pairingLinkUpserted one 1")
      })
    )

    test(
      "of 30 that insert one digest, one gets inserted",
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
        yield* links.redeem(redemption("a"), at(0))
        assert.strictEqual(yield* issue("h", "s", 0), "inserted")
        assert.strictEqual(yield* issue("i", "s", 0), "too-many-open")
        yield* links.revoke("b", at(0))
        assert.strictEqual(yield* issue("j", "s", 0), "inserted")
        // The links that are open end 10 seconds after the start, as the session does.
        assert.strictEqual(yield* issue("k", "s", 10_000), "issuer-ended")
        yield* sessions.revoke({ _tag: "Session", id: SessionId.make("t") }, at(1))
        assert.strictEqual(yield* issue("l", "t", 2), "issuer-ended")
        assert.deepStrictEqual(yield* links.redeem(redemption("d"), at(2)), refused("revoked"))
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
      "SESS-13 HTTP-09 C-15: a session that was let in shares its number with all that descends from it, and with no other",
      Effect.gen(function*() {
        const { links, sessions } = yield* AccessRepository
        const sid = SessionId.make
        yield* sessions.insert(sessionRow("owner"), at(0))
        const letIn = (id: string, parent: string) =>
          sessions.insert({ ...sessionRow(id), parentId: sid(parent) }, at(0))
        const issue = (id: string, issuer: string, remainingUses = 1) =>
          links.insert(linkRow(id, { issuedBy: sid(issuer), remainingUses }), at(0), Infinity, 4)
        // Two branches of the owner; that of `a` goes on for generations.
        yield* letIn("a", "owner")
        yield* letIn("b", "owner")
        yield* letIn("a1", "a")
        yield* letIn("a2", "a1")
        yield* letIn("a3", "a2")
        // Every session of the branch has let in three: `a1`, `a2` and `a3`.
        for (const issuer of ["a", "a1", "a2", "a3"]) {
          assert.strictEqual(yield* issue(`two of ${issuer}`, issuer, 2), "too-many-let-in")
        }
        assert.strictEqual(yield* issue("one of a3", "a3"), "inserted")
        for (const issuer of ["a", "a1", "a2", "a3"]) {
          assert.strictEqual(yield* issue(`another of ${issuer}`, issuer), "too-many-let-in")
        }
        // Neither the owner nor the other branch is the worse for it: the owner has let in two.
        assert.strictEqual(yield* issue("four of b", "b", 4), "inserted")
        assert.deepStrictEqual(
          [yield* issue("three of owner", "owner", 3), yield* issue("two of owner", "owner", 2)],
          ["too-many-let-in", "inserted"]
        )
        // What has ended counts no longer, and what descends from it still does.
        yield* sessions.revoke({ _tag: "Session", id: sid("a1") }, at(0))
        assert.strictEqual(yield* issue("after a1", "a2"), "inserted")
        assert.strictEqual(yield* issue("after that", "a"), "too-many-let-in")
        yield* sessions.revoke({ _tag: "Session", id: sid("a"), descendants: true }, at(0))
        assert.strictEqual(yield* issue("after a", "a3"), "issuer-ended")
      })
    )

    test(
      "HTTP-09 C-15: of links that a branch's sessions issue at once, so many give uses as the branch may let in",
      Effect.gen(function*() {
        const { links, sessions } = yield* AccessRepository
        const sid = SessionId.make
        yield* sessions.insert(sessionRow("owner"), at(0))
        for (const [id, parent] of [["a", "owner"], ["a1", "a"], ["a2", "a1"], ["a3", "a1"]] as const) {
          yield* sessions.insert({ ...sessionRow(id), parentId: sid(parent) }, at(0))
        }
        const outcomes = yield* times(
          24,
          (index) =>
            links.insert(
              linkRow(`link-${index}`, { issuedBy: sid(["a", "a1", "a2", "a3"][index % 4] ?? "a") }),
              at(0),
              99,
              10
            )
        )
        // Three sessions of the branch were let in before.
        assert.strictEqual(outcomes.filter((outcome) => outcome === "inserted").length, 7)
      })
    )

    test(
      "SESS-13 HTTP-09: a session lets in so many live sessions and no more, counted with the uses that its links have left",
      Effect.gen(function*() {
        const { links, sessions } = yield* AccessRepository
        const s = SessionId.make("s")
        yield* sessions.insert(sessionRow("s"), at(0))
        const issue = (id: string, remainingUses: number, afterMillis = 0) =>
          links.insert(linkRow(id, { issuedBy: s, remainingUses }), at(afterMillis), Infinity, 3)
        assert.strictEqual(yield* issue("a", 4), "too-many-let-in")
        assert.strictEqual(yield* issue("a", 2), "inserted")
        assert.strictEqual(yield* issue("b", 2), "too-many-let-in")
        // A use becomes a session, and stays counted.
        const child = redemption("a", { parentId: s })
        yield* links.redeem(child, at(0))
        yield* links.redeem(redemption("a", { parentId: s }), at(0))
        assert.deepStrictEqual([yield* issue("b", 2), yield* issue("b", 1)], ["too-many-let-in", "inserted"])
        assert.strictEqual(yield* issue("c", 1), "too-many-let-in")
        yield* links.revoke("b", at(0))
        yield* sessions.revoke({ _tag: "Session", id: child.session.id }, at(0))
        assert.deepStrictEqual([yield* issue("c", 3), yield* issue("c", 2)], ["too-many-let-in", "inserted"])
        // The operator's links have no bound.
        assert.strictEqual(yield* links.insert(linkRow("d", { remainingUses: 9 }), at(0), 1, 1), "inserted")
        const racing = SessionId.make("t")
        yield* sessions.insert(sessionRow("t"), at(0))
        const outcomes = yield* times(
          10,
          (index) => links.insert(linkRow(`t-${index}`, { issuedBy: racing }), at(0), Infinity, 3)
        )
        assert.strictEqual(outcomes.filter((outcome) => outcome === "inserted").length, 3)
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
        assert.deepStrictEqual(yield* links.redeem(redemption("one"), at(0)), refused("proof-key-mismatch"))
        for (const proofKeyThumbprint of ["key-1", "key-2"]) {
          assert.strictEqual((yield* links.redeem(redemption("one", { proofKeyThumbprint }), at(0)))._tag, "Redeemed")
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
      "redeem takes one use after the other and begins a session for each, and the last one removes the link",
      Effect.gen(function*() {
        const links = (yield* AccessRepository).links
        const row = linkRow("one", { remainingUses: 2 })
        yield* links.insert(row, at(0))
        const first = redemption("one")
        const second = redemption("one")
        assert.deepStrictEqual(yield* links.redeem(first, at(1, "device")), {
          _tag: "Redeemed",
          link: { ...row, remainingUses: 1 }
        })
        assert.deepStrictEqual(yield* links.redeem(second, at(2)), {
          _tag: "Redeemed",
          link: { ...row, remainingUses: 0 }
        })
        assert.deepStrictEqual(yield* links.redeem(redemption("one"), at(3)), refused("exhausted"))
        assert.deepStrictEqual(yield* links.list({ nowMillis: start, limit: 10 }), [])
        yield* expectFeed(
          "pairingLinkUpserted one 2",
          "pairingLinkUpserted one 1",
          `sessionUpserted ${first.session.id}`,
          "pairingLinkRemoved one consumed",
          `sessionUpserted ${second.session.id}`
        )
        const { sessions } = yield* AccessRepository
        assert.deepStrictEqual(yield* sessions.findById(first.session.id), Option.some(first.session))
        for (const event of (yield* allEvents).slice(1, 3)) {
          assert.strictEqual(event.actor, "device")
          assert.strictEqual(event.at.epochMilliseconds, start + 1)
        }
      })
    )

    test(
      "BOOT-03 L-11: every refusal names its reason and changes nothing, and the link still works afterwards",
      Effect.gen(function*() {
        const links = (yield* AccessRepository).links
        yield* links.insert(linkRow("bound", { proofKeyThumbprint: "key-1", expiresAtMillis: start + 100 }), at(0))
        yield* links.insert(linkRow("spent"), at(0))
        yield* links.redeem(redemption("spent"), at(0))
        yield* links.insert(linkRow("revoked"), at(0))
        yield* links.revoke("revoked", at(0))
        const before = yield* allEvents
        const refusals: ReadonlyArray<readonly [RefusalReason, Redemption, number]> = [
          ["unknown", redemption("unknown"), 0],
          ["revoked", redemption("revoked"), 0],
          ["expired", redemption("bound", { proofKeyThumbprint: "key-1" }), 100],
          ["expired", redemption("bound", { proofKeyThumbprint: "key-1" }), 1_000_000],
          ["exhausted", redemption("spent"), 0],
          ["proof-key-mismatch", redemption("bound"), 0],
          ["proof-key-mismatch", redemption("bound", { proofKeyThumbprint: "key-2" }), 0],
          ["proof-key-mismatch", redemption("bound", { proofKeyThumbprint: "KEY-1" }), 0],
          ["scope-not-granted", redemption("bound", { proofKeyThumbprint: "key-1", scopes: ["runs:operate"] }), 0],
          [
            "scope-not-granted",
            redemption("bound", { proofKeyThumbprint: "key-1", scopes: ["access:read", "access:write"] }),
            0
          ]
        ]
        for (const [reason, options, afterMillis] of refusals) {
          assert.deepStrictEqual(yield* links.redeem(options, at(afterMillis)), refused(reason))
          const { sessions } = yield* AccessRepository
          assert.deepStrictEqual(yield* sessions.findById(options.session.id), Option.none())
        }
        assert.deepStrictEqual(yield* allEvents, before)
        const last = yield* links.redeem(
          redemption("bound", { proofKeyThumbprint: "key-1", scopes: ["runs:read", "access:read", "runs:read"] }),
          at(99)
        )
        assert.strictEqual(last._tag, "Redeemed")
      })
    )

    test(
      "redeem takes an attempt that asks for nothing, for all, or for a part, and one with a key that is not asked for",
      Effect.gen(function*() {
        const links = (yield* AccessRepository).links
        const row = linkRow("one", { remainingUses: 4 })
        yield* links.insert(row, at(0))
        const scopes: ReadonlyArray<ReadonlyArray<AccessScope>> = [
          [],
          ["runs:read"],
          ["runs:read", "access:read"]
        ]
        for (const asked of scopes) {
          const outcome = yield* links.redeem(redemption("one", { scopes: asked, proofKeyThumbprint: "any" }), at(0))
          assert.strictEqual(outcome._tag, "Redeemed")
        }
        yield* links.insert(linkRow("no scopes", { scopes: [] }), at(0))
        assert.deepStrictEqual(
          yield* links.redeem(redemption("no scopes", { scopes: ["runs:read"] }), at(0)),
          refused("scope-not-granted")
        )
      })
    )

    for (const uses of [1, 3]) {
      test(
        `BOOT-03 L-03: of 50 that redeem a link with ${uses} use(s), ${uses} win`,
        Effect.gen(function*() {
          const links = (yield* AccessRepository).links
          yield* links.insert(linkRow("one", { remainingUses: uses }), at(0))
          const outcomes = yield* times(50, () => links.redeem(redemption("one"), at(1)))
          assert.deepStrictEqual(wins(outcomes).sort(), Array.from({ length: uses }, (_, index) => index))
          assert.strictEqual(
            outcomes.filter((outcome) => outcome._tag === "Refused" && outcome.reason === "exhausted").length,
            50 - uses
          )
          const events = (yield* allEvents).map(brief)
          assert.strictEqual(events.length, 1 + 2 * uses)
          assert.strictEqual(events.at(-2), "pairingLinkRemoved one consumed")
          const { sessions } = yield* AccessRepository
          assert.strictEqual(
            (yield* sessions.list({ nowMillis: start, afterId: undefined, limit: 100 })).length,
            uses
          )
        })
      )
    }

    test(
      "BOOT-03: attempts with the wrong scope or key take no use from the right ones that race with them",
      Effect.gen(function*() {
        const links = (yield* AccessRepository).links
        yield* links.insert(linkRow("one", { remainingUses: 3, proofKeyThumbprint: "key-1" }), at(0))
        const outcomes = yield* times(60, (index) =>
          links.redeem(
            index % 3 === 0
              ? redemption("one", { proofKeyThumbprint: "key-1" })
              : index % 3 === 1
              ? redemption("one", { proofKeyThumbprint: "key-2" })
              : redemption("one", { proofKeyThumbprint: "key-1", scopes: ["access:write"] }),
            at(1)
          ))
        assert.deepStrictEqual(wins(outcomes.filter((_, index) => index % 3 === 0)).sort(), [0, 1, 2])
        assert.deepStrictEqual(wins(outcomes.filter((_, index) => index % 3 !== 0)), [])
        assert.strictEqual((yield* allEvents).length, 1 + 2 * 3)
      })
    )

    test(
      "a link that is revoked and redeemed at once goes one way, and its feed says which",
      Effect.gen(function*() {
        const links = (yield* AccessRepository).links
        const rounds = 10
        for (let round = 0; round < rounds; round++) yield* links.insert(linkRow(`link-${round}`), at(0))
        for (let round = 0; round < rounds; round++) {
          const id = `link-${round}`
          const [redeemed, revoked] = yield* Effect.all(
            [links.redeem(redemption(id), at(1)), links.revoke(id, at(1))],
            { concurrency: "unbounded" }
          )
          assert.strictEqual(redeemed._tag === "Redeemed", !revoked)
        }
        const removed = (yield* allEvents).filter(({ change }) => change._tag === "pairingLinkRemoved")
        assert.strictEqual(removed.length, rounds)
      })
    )

    test(
      "BOOT-10 C-31: the same attempt made again is given the session of the first, and takes no use",
      Effect.gen(function*() {
        const links = (yield* AccessRepository).links
        const { sessions } = yield* AccessRepository
        yield* links.insert(linkRow("one", { remainingUses: 2 }), at(0))
        const attempt = (name: string) => ({
          ...redemption("one", { redemptionDigest: name }),
          repeatMillis: 1_000_000
        })
        const first = attempt("first")
        assert.strictEqual((yield* links.redeem(first, at(1)))._tag, "Redeemed")
        const repeated: RedeemOutcome = { _tag: "Repeated", session: first.session }
        const before = yield* allEvents
        for (const afterMillis of [1, 9_999]) {
          assert.deepStrictEqual(yield* links.redeem(attempt("first"), at(afterMillis)), repeated)
        }
        assert.deepStrictEqual(yield* allEvents, before)
        // Another attempt is another session; the first one is known again also after the last use.
        assert.strictEqual((yield* links.redeem(attempt("second"), at(2)))._tag, "Redeemed")
        assert.deepStrictEqual(yield* links.redeem(attempt("first"), at(2)), repeated)
        assert.deepStrictEqual(yield* links.redeem(attempt("third"), at(2)), refused("exhausted"))
        // Too late, or after the end of the session, it is an attempt as any other.
        assert.deepStrictEqual(
          yield* links.redeem({ ...attempt("first"), repeatMillis: 0 }, at(2)),
          refused("exhausted")
        )
        yield* sessions.revoke({ _tag: "Session", id: first.session.id }, at(3))
        assert.deepStrictEqual(yield* links.redeem(attempt("first"), at(3)), refused("exhausted"))
        assert.deepStrictEqual(yield* links.redeem(attempt("second"), at(10_000)), refused("expired"))
      })
    )

    test(
      "BOOT-10: of several sessions of one attempt the first by its id is the answer, in whichever order they began",
      Effect.gen(function*() {
        const { links } = yield* AccessRepository
        yield* links.insert(linkRow("one", { remainingUses: 3 }), at(0))
        const attempt = (id: string, repeatMillis: number) =>
          links.redeem({
            ...redemption("one"),
            session: sessionRow(id, { redemptionDigest: "same" }),
            repeatMillis
          }, at(1))
        for (const id of ["b", "a", "c"]) assert.strictEqual((yield* attempt(id, -1_000_000))._tag, "Redeemed")
        assert.deepStrictEqual(yield* attempt("d", 1_000_000), {
          _tag: "Repeated",
          session: sessionRow("a", { redemptionDigest: "same" })
        })
      })
    )

    test(
      "BOOT-10 C-31: of 50 that make the same attempt at once all get one session",
      Effect.gen(function*() {
        const links = (yield* AccessRepository).links
        const { sessions } = yield* AccessRepository
        yield* links.insert(linkRow("one", { remainingUses: 3 }), at(0))
        const outcomes = yield* times(
          50,
          () => links.redeem({ ...redemption("one", { redemptionDigest: "same" }), repeatMillis: 1_000_000 }, at(1))
        )
        assert.deepStrictEqual(wins(outcomes), [2])
        const [row, ...others] = yield* sessions.list({ nowMillis: start, afterId: undefined, limit: 100 })
        assert.deepStrictEqual(others, [])
        const repeated = outcomes.filter((outcome) => outcome._tag === "Repeated")
        assert.strictEqual(repeated.length, 49)
        for (const { session } of repeated) assert.deepStrictEqual(session, row)
        assert.strictEqual((yield* allEvents).length, 3)
      })
    )

    test(
      "BOOT-10: a session whose id or digest exists takes no use and replaces nothing",
      Effect.gen(function*() {
        const links = (yield* AccessRepository).links
        const { sessions } = yield* AccessRepository
        yield* links.insert(linkRow("one"), at(0))
        yield* sessions.insert(sessionRow("before"), at(0))
        const before = yield* allEvents
        for (
          const session of [
            sessionRow("before", { tokenDigest: "another" }),
            sessionRow("new", {
              tokenDigest: sessionRow("before").tokenDigest
            })
          ]
        ) {
          const attempt = { ...redemption("one"), session, replaces: SessionId.make("before") }
          const error = yield* Effect.flip(links.redeem(attempt, at(1)))
          assert.deepInclude({ ...error }, { reason: "Conflict", outcome: "unchanged" })
        }
        assert.deepStrictEqual(yield* allEvents, before)
        assert.deepStrictEqual(wins([yield* links.redeem(redemption("one"), at(1))]), [0])
      })
    )

    test(
      "SESS-20 C-45: redeem ends the session that is replaced, with its tickets, in the same step",
      Effect.gen(function*() {
        const links = (yield* AccessRepository).links
        const { sessions } = yield* AccessRepository
        yield* links.insert(linkRow("one", { remainingUses: 2 }), at(0))
        const old = sessionRow("old")
        yield* sessions.insert(old, at(0))
        yield* sessions.insertTicket({ ticketDigest: "ticket", sessionId: old.id, expiresAtMillis: start + 5_000 })
        const attempt = (scopes: ReadonlyArray<AccessScope>) => ({ ...redemption("one", { scopes }), replaces: old.id })
        assert.deepStrictEqual(yield* links.redeem(attempt(["access:write"]), at(1)), refused("scope-not-granted"))
        assert.deepStrictEqual(yield* sessions.findById(old.id), Option.some(old))
        const first = attempt([])
        assert.deepStrictEqual(wins([yield* links.redeem(first, at(1, "ada"))]), [1])
        const live = yield* sessions.list({ nowMillis: start + 1, afterId: undefined, limit: 10 })
        assert.deepStrictEqual(live, [first.session])
        assert.isTrue(Option.isNone(yield* sessions.consumeTicket({ ticketDigest: "ticket", nowMillis: start + 1 })))
        // One that is over already is no obstacle, and nothing is told of it.
        const second = attempt([])
        assert.deepStrictEqual(wins([yield* links.redeem(second, at(2))]), [0])
        yield* expectFeed(
          "pairingLinkUpserted one 2",
          "sessionUpserted old",
          "pairingLinkUpserted one 1",
          "sessionRemoved old revoked",
          `sessionUpserted ${first.session.id}`,
          "pairingLinkRemoved one consumed",
          `sessionUpserted ${second.session.id}`
        )
      })
    )

    test(
      "SESS-13 SESS-20: a link that the replaced session had issued ends with it, though it is the one that is redeemed",
      Effect.gen(function*() {
        const links = (yield* AccessRepository).links
        const { sessions } = yield* AccessRepository
        const old = sessionRow("old")
        yield* sessions.insert(old, at(0))
        for (const id of ["one", "other"]) {
          yield* links.insert(linkRow(id, { issuedBy: old.id, remainingUses: 2 }), at(0))
        }
        const first = { ...redemption("one"), replaces: old.id }
        assert.deepStrictEqual(wins([yield* links.redeem(first, at(1))]), [1])
        assert.deepStrictEqual(yield* links.list({ nowMillis: start + 1, limit: 10 }), [])
        for (const id of ["one", "other"]) {
          assert.deepStrictEqual(yield* links.redeem(redemption(id), at(2)), refused("revoked"))
        }
        yield* expectFeed(
          "sessionUpserted old",
          "pairingLinkUpserted one 2",
          "pairingLinkUpserted other 2",
          "pairingLinkUpserted one 1",
          "sessionRemoved old revoked",
          "pairingLinkRemoved one revoked",
          "pairingLinkRemoved other revoked",
          `sessionUpserted ${first.session.id}`
        )
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
        yield* links.redeem(redemption("spent"), at(1))
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
        yield* links.redeem(redemption("spent"), at(0))
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
        assert.deepStrictEqual(yield* links.redeem(redemption("one"), at(1)), refused("revoked"))
      })
    )

    test(
      "BOOT-05: findByCodeDigest returns a link in whatever state it is, and none for a code that never existed",
      Effect.gen(function*() {
        const links = (yield* AccessRepository).links
        const digest = (id: string) => redemption(id).codeDigest
        for (const id of ["open", "spent", "revoked", "expired"]) {
          yield* links.insert(linkRow(id, { expiresAtMillis: start + (id === "expired" ? 1 : 20) }), at(0))
        }
        yield* links.redeem(redemption("spent"), at(0))
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
        yield* links.redeem(redemption("spent"), at(0))
        yield* links.insert(linkRow("revoked"), at(0))
        yield* links.revoke("revoked", at(5))
        const before = (yield* allEvents).length
        const sweep = (endedBefore: number, limit: number) =>
          links.sweep({ endedBeforeMillis: start + endedBefore, limit }, at(100, "system"))

        assert.strictEqual(yield* sweep(4, 100), 0)
        assert.strictEqual(yield* sweep(100, 0), 0)
        assert.strictEqual(yield* sweep(100, 1), 1)
        assert.deepStrictEqual(yield* links.redeem(redemption("revoked"), at(0)), refused("unknown"))
        assert.deepStrictEqual(yield* links.redeem(redemption("spent"), at(0)), refused("exhausted"))
        assert.strictEqual(yield* sweep(29, 100), 2)
        assert.deepStrictEqual(yield* links.redeem(redemption("spent"), at(0)), refused("unknown"))
        assert.deepStrictEqual(yield* links.redeem(redemption("expired-late"), at(50)), refused("expired"))
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
        yield* links.redeem(redemption("a"), at(1))
        yield* links.redeem(redemption("a"), at(1))
        yield* links.redeem(redemption("b"), at(1))
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
