/**
 * States what every `ConnectClientRepository` must do, with the policy over it. An adapter's test file is a single call of
 * `suite`.
 */
import { AccessRepository } from "@sallyport/core/access/AccessRepository"
import { anyKey } from "@sallyport/core/access/BootstrapCredentialRepository"
import { assert, describe, it } from "@effect/vitest"
import type { SecurityMode } from "@sallyport/core/access/ConnectClient"
import { admits, type Ask, type Deciding, type Decision } from "@sallyport/core/access/ConnectClientRepository"
import * as ConnectClientStore from "@sallyport/core/connect/ConnectClientStore"
import { toSession } from "@sallyport/core/access/SessionCredentialRepository"
import * as Context from "effect/Context"
import type * as Digest from "effect/crypto/Digest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { allEvents, askRow, at, brief, linkRow, redemption, sessionRow, start } from "./internal/accessRows.ts"
import * as Histories from "./internal/connectHistories.ts"
import * as Devices from "./internal/deviceHistories.ts"
import * as Lineage from "./internal/lineageHistories.ts"
import { testOn, times } from "./internal/newStore.ts"

const { key } = Histories

const ask = (name: string, fields?: Partial<Ask>): Ask =>
  askRow(key(name), { label: "Ada's phone", verificationCode: `CODE-${name}`, ...fields })

const deciding = (name: string, decision: Decision, fields?: Partial<Deciding>): Deciding => ({
  proofKeyThumbprint: key(name),
  decision,
  reason: null,
  backOffMillis: 100,
  maxBackOffMillis: 300,
  ...fields
})

const request = (name: string, afterMillis: number, fields?: Partial<Ask>) =>
  AccessRepository.use(({ clients }) => clients.request(ask(name, fields), undefined, at(afterMillis, "ada")))
const decide = (name: string, decision: Decision, afterMillis: number, fields?: Partial<Deciding>) =>
  AccessRepository.use(({ clients }) => clients.decide(deciding(name, decision, fields), at(afterMillis, "owner")))
const setMode = (mode: SecurityMode, afterMillis: number, trust: "all" | ReadonlyArray<string> = []) =>
  AccessRepository.use(({ clients }) => clients.setMode({ mode, trust }, at(afterMillis, "owner")))
const find = (name: string) =>
  AccessRepository.use(({ clients }) => Effect.map(clients.find(key(name)), Option.getOrUndefined))
/** Tells whether a client would be let in now. */
const isAdmitted = (name: string) =>
  AccessRepository.use(({ clients }) => Effect.zipWith(clients.storedMode, find(name), admits))
/** Returns the fields of a client's row that a test looks at. */
const fieldsOf = (name: string) => Effect.map(find(name), (row): Readonly<Record<string, unknown>> => ({ ...row }))

const grantRow = (id: string, name: string) => linkRow(id, { proofKeyThumbprint: key(name), createdBy: "connect" })

/** Gives a client a session with a ticket, and a link that was not redeemed; and others the same beside it. */
const giveAccess = (name: string, id: string) =>
  Effect.gen(function*() {
    const sessions = (yield* AccessRepository).sessions
    const links = (yield* AccessRepository).links
    yield* sessions.insert(sessionRow(`session-${id}`, { proofKeyThumbprint: key(name) }), at(0))
    yield* sessions.insertTicket({
      ticketDigest: `ticket-${id}`,
      sessionId: sessionRow(`session-${id}`).id,
      expiresAtMillis: start + 10_000
    })
    yield* links.insert(grantRow(`link-${id}`, name), at(0))
  })

/** Names what a client still has at a time, and what others have. */
const access = (afterMillis: number) =>
  Effect.gen(function*() {
    const nowMillis = start + afterMillis
    const sessions = yield* AccessRepository.use(({ sessions: repository }) =>
      repository.list({ nowMillis, afterId: undefined, limit: 100 })
    )
    const links = yield* AccessRepository.use(({ links: repository }) => repository.list({ nowMillis, limit: 100 }))
    return [...sessions.map((row) => String(row.id)), ...links.map((row) => row.id)].toSorted()
  })

const consumeTicket = (id: string, afterMillis: number) =>
  AccessRepository.use(({ sessions }) =>
    sessions.consumeTicket({ ticketDigest: `ticket-${id}`, nowMillis: start + afterMillis })
  )

/**
 * Tests a repository with the access feed, the sessions and the pairing links beside it. The layer is built again for each
 * test. `spoilMode` has the store hold a mode that no reader knows, if that is possible. `peer` provides the same
 * repositories on the same store with a connection of their own. `runs` is how many random histories there are of each kind,
 * by default 10.
 *
 * @category suites
 * @since 0.1.0
 */
export const suite = <E, R = never>(
  title: string,
  layer: Layer.Layer<AccessRepository | R, E>,
  options?: {
    readonly digest?: Layer.Layer<Digest.Digest> | undefined
    readonly spoilMode?: Effect.Effect<void, unknown, R> | undefined
    readonly peer?: Layer.Layer<AccessRepository, unknown, R> | undefined
    readonly runs?: number | undefined
  }
) =>
  describe(`ConnectClientRepository (${title})`, () => {
    const test = testOn(layer)

    test(
      "CONN-03: a client waits until it is approved, and is let in from then on, with its grant in the same step",
      Effect.gen(function*() {
        const clients = (yield* AccessRepository).clients
        const pending = yield* clients.request(ask("a"), grantRow("early", "a"), at(0, "ada"))
        assert.strictEqual(pending._tag, "Pending")
        assert.deepStrictEqual(yield* access(0), [])
        assert.strictEqual((yield* decide("a", "approved", 1))._tag, "Decided")
        const granted = yield* clients.request(ask("a"), grantRow("grant", "a"), at(2, "ada"))
        assert.strictEqual(granted._tag, "Granted")
        assert.strictEqual(granted._tag === "Granted" && granted.row.lastSeenAtMillis, start + 2)
        assert.deepStrictEqual(yield* access(2), ["grant"])
        assert.isTrue(yield* isAdmitted("a"))
        assert.isFalse(yield* isAdmitted("b"))
      })
    )

    test(
      "BOOT-10 CONN-06: a code is redeemed only by a client that is admitted at that moment, and a refusal leaves it unspent",
      Effect.gen(function*() {
        const links = (yield* AccessRepository).links
        const redeem = (id: string, name: string, afterMillis: number) =>
          Effect.map(
            links.redeem(redemption(id, { proofKeyThumbprint: key(name) }), at(afterMillis)),
            (outcome) => outcome._tag === "Refused" ? outcome.reason : outcome._tag
          )
        // Grants of clients that are unknown, waiting and approved, and the operator's own links for the same keys.
        for (const name of ["a", "b", "c"]) yield* links.insert(grantRow(`grant-${name}`, name), at(0))
        for (const name of ["b", "c", "d"]) {
          yield* links.insert(linkRow(`own-${name}`, { proofKeyThumbprint: key(name) }), at(0))
        }
        yield* request("b", 1)
        assert.strictEqual(yield* redeem("grant-a", "a", 1), "client-not-admitted")
        assert.strictEqual(yield* redeem("grant-b", "b", 1), "client-not-admitted")
        yield* decide("b", "approved", 2)
        assert.strictEqual(yield* redeem("grant-b", "b", 2), "Redeemed")
        assert.strictEqual(yield* redeem("own-b", "b", 2), "Redeemed")
        yield* request("c", 3)
        yield* decide("c", "blocked", 4)
        // The decision has ended what was open. What is given to a blocked client later is refused as well.
        yield* links.insert(linkRow("later", { proofKeyThumbprint: key("c") }), at(5))
        yield* links.insert(linkRow("for-anyone"), at(5))
        assert.strictEqual(yield* redeem("later", "c", 5), "client-not-admitted")
        assert.strictEqual(yield* redeem("for-anyone", "c", 5), "client-not-admitted")
        assert.strictEqual(yield* redeem("for-anyone", "d", 5), "Redeemed")
        assert.strictEqual(yield* redeem("own-d", "d", 5), "Redeemed")
        assert.deepStrictEqual((yield* access(5)).filter((id) => !id.startsWith("session")), ["grant-a", "later"])
      })
    )

    for (const decision of ["rejected", "revoked", "blocked"] as const) {
      test(
        `CONN-06 L-43: a client that is ${decision} loses its sessions, tickets and grants at once, and no other caller does`,
        Effect.gen(function*() {
          yield* request("a", 0)
          yield* request("b", 0)
          yield* decide("a", "approved", 1)
          yield* giveAccess("a", "1")
          yield* giveAccess("a", "2")
          yield* giveAccess("b", "3")
          yield* decide("a", decision, 5)
          assert.deepStrictEqual(yield* access(5), ["link-3", "session-3"])
          assert.isTrue(Option.isNone(yield* consumeTicket("1", 5)))
          const events = (yield* allEvents).slice(-5).map(brief)
          assert.deepStrictEqual(events.toSorted(), [
            `connectClientUpserted a ${decision}`,
            "pairingLinkRemoved link-1 revoked",
            "pairingLinkRemoved link-2 revoked",
            "sessionRemoved session-1 revoked",
            "sessionRemoved session-2 revoked"
          ])
          assert.isFalse(yield* isAdmitted("a"))
        })
      )
    }

    test(
      "CONN-04 L-31 L-39: a revoked key, and a key of another account, start over: pending, undecided, not seen",
      Effect.gen(function*() {
        yield* request("a", 0)
        yield* decide("a", "approved", 1)
        yield* request("a", 2)
        yield* decide("a", "revoked", 3, { reason: "lost" })
        const again = yield* request("a", 4, { verificationCode: "CODE-2" })
        const expected = {
          status: "pending",
          requestedAtMillis: start + 4,
          verificationCode: "CODE-2",
          decidedAtMillis: null,
          decidedBy: null,
          reason: null,
          lastSeenAtMillis: null
        }
        assert.strictEqual(again._tag, "Pending")
        assert.deepInclude(yield* fieldsOf("a"), expected)
        yield* decide("a", "approved", 5)
        yield* request("a", 6)
        yield* giveAccess("a", "of-ada")
        const other = yield* request("a", 7, { account: "bob", verificationCode: "CODE-3" })
        assert.strictEqual(other._tag, "Pending")
        assert.deepInclude(yield* fieldsOf("a"), {
          ...expected,
          account: "bob",
          requestedAtMillis: start + 7,
          verificationCode: "CODE-3",
          firstSeenAtMillis: start + 7
        })
        assert.deepStrictEqual(yield* access(7), [])
      })
    )

    test(
      "CONN-05 L-33: a decision takes the place of the one before, with one time, who made it and why",
      Effect.gen(function*() {
        yield* request("a", 0)
        yield* decide("a", "rejected", 1, { reason: "who is this?" })
        assert.deepInclude(yield* fieldsOf("a"), {
          status: "rejected",
          decidedAtMillis: start + 1,
          decidedBy: "owner",
          reason: "who is this?",
          askAgainAtMillis: start + 101
        })
        yield* decide("a", "approved", 2)
        assert.deepInclude(yield* fieldsOf("a"), {
          status: "approved",
          decidedAtMillis: start + 2,
          reason: null,
          askAgainAtMillis: null,
          rejections: 0
        })
      })
    )

    test(
      "CONN-08: the label and the code of a request are pinned, and an approval of another request changes nothing",
      Effect.gen(function*() {
        yield* request("a", 0)
        yield* request("a", 1, { label: "Your bank", verificationCode: "OTHER" })
        assert.deepInclude(yield* fieldsOf("a"), { label: "Ada's phone", verificationCode: "CODE-a" })
        assert.strictEqual((yield* decide("a", "approved", 2, { requestedAtMillis: start + 1 }))._tag, "Changed")
        assert.strictEqual((yield* decide("a", "approved", 2, { requestedAtMillis: start }))._tag, "Decided")
        yield* request("a", 3, { label: "Your bank" })
        assert.deepInclude(yield* fieldsOf("a"), { label: "Ada's phone", status: "approved" })
      })
    )

    test(
      "CONN-09: requests expire, are capped per account, and a rejected client waits longer each time",
      Effect.gen(function*() {
        for (const name of ["a", "b", "c"]) yield* request(name, 0)
        assert.strictEqual((yield* request("d", 1))._tag, "TooMany")
        assert.strictEqual((yield* request("a", 1))._tag, "Pending")
        assert.strictEqual((yield* request("d", 1, { account: "bob" }))._tag, "Pending")
        assert.strictEqual((yield* decide("a", "approved", 1_000))._tag, "Expired")
        assert.strictEqual((yield* request("e", 1_000))._tag, "Pending")
        const waits: Array<number> = []
        let now = 1_000
        for (let n = 0; n < 4; n++) {
          yield* decide("e", "rejected", now)
          const row = yield* find("e")
          const until = (row?.askAgainAtMillis ?? 0) - start
          waits.push(until - now)
          assert.strictEqual((yield* request("e", until - 1))._tag, "Refused")
          assert.strictEqual((yield* request("e", until - 1, { account: "bob" }))._tag, "Refused")
          assert.strictEqual((yield* request("e", until))._tag, "Pending")
          now = until
        }
        assert.deepStrictEqual(waits, [100, 200, 300, 300])
        yield* decide("e", "blocked", now)
        assert.strictEqual((yield* request("e", now + 1_000_000))._tag, "Refused")
        assert.strictEqual((yield* request("e", now + 1_000_000, { account: "bob" }))._tag, "Refused")
      })
    )

    test(
      "CONN-09: of many clients of one account that ask at once, no more wait than may",
      Effect.gen(function*() {
        const outcomes = yield* times(12, (index) => request("abcdefghijkl".charAt(index), 0))
        assert.deepStrictEqual(
          outcomes.map(({ _tag }) => _tag).toSorted(),
          [...Array.from({ length: 3 }, () => "Pending"), ...Array.from({ length: 9 }, () => "TooMany")]
        )
      })
    )

    test(
      "CONN-09 L-24: of thousands of clients of one account that ask, as many are kept as may wait, and other accounts are not shut out",
      Effect.gen(function*() {
        const clients = (yield* AccessRepository).clients
        const flood = Effect.fnUntraced(function*(wave: string, count: number, afterMillis: number) {
          const outcomes = yield* Effect.forEach(
            Array.from({ length: count }, (_, index) => `${wave}${index}`.padEnd(43, "-")),
            (proofKeyThumbprint) =>
              clients.request(ask("a", { proofKeyThumbprint, maxPending: 20 }), undefined, at(afterMillis, "ada")),
            { concurrency: 16 }
          )
          return outcomes.filter(({ _tag }) => _tag === "Pending").length
        })
        const kept = Effect.map(clients.list({ after: undefined, limit: 100 }), (rows) => rows.length)
        assert.strictEqual(yield* flood("first", 2_000, 0), 20)
        assert.deepStrictEqual([yield* kept, (yield* allEvents).length], [20, 20])
        assert.strictEqual((yield* request("b", 0, { account: "bob", maxPending: 20 }))._tag, "Pending")
        // When those have expired, as many others can wait; what is left of the first goes with a sweep.
        assert.strictEqual(yield* flood("second", 50, 1_000), 20)
        yield* clients.sweep({ idleBeforeMillis: start, limit: 1_000 }, at(1_000))
        assert.strictEqual(yield* kept, 20)
      })
    )

    test(
      "CONN-02: turning approval on trusts the clients seen so far that are named, and ends what the others have",
      Effect.gen(function*() {
        yield* setMode("account", 0)
        for (const name of ["a", "b"]) {
          const outcome = yield* request(name, 1)
          assert.strictEqual(outcome._tag === "Granted" && outcome.row.status, "observed")
          yield* giveAccess(name, name)
        }
        assert.strictEqual((yield* request("c", 1))._tag, "Granted")
        assert.strictEqual((yield* request("d", 1))._tag, "TooMany")
        const approved = yield* setMode("client-approval", 2, [key("a"), key("z")])
        assert.deepStrictEqual(approved.map((row) => row.proofKeyThumbprint), [key("a")])
        assert.deepStrictEqual(yield* access(2), ["link-a", "session-a"])
        assert.strictEqual((yield* request("a", 3))._tag, "Granted")
        assert.strictEqual((yield* request("b", 3))._tag, "Pending")
        assert.isFalse(yield* isAdmitted("c"))
        yield* setMode("account", 4)
        assert.deepStrictEqual((yield* setMode("client-approval", 5, "all")).map((row) => row.proofKeyThumbprint), [
          key("c")
        ])
      })
    )

    test(
      "CONN-03: a client that the owner refused stays out while accounts suffice, under whichever account",
      Effect.gen(function*() {
        yield* request("a", 0)
        yield* decide("a", "revoked", 1)
        yield* setMode("account", 2)
        assert.strictEqual((yield* request("a", 3))._tag, "Refused")
        assert.strictEqual((yield* request("a", 3, { account: "bob" }))._tag, "Refused")
        assert.isFalse(yield* isAdmitted("a"))
      })
    )

    for (const refused of ["rejected", "revoked", "blocked", "mode"] as const) {
      test(
        `CONN-03 CONN-06 L-30: of requests and a refusal of the client (${refused}) at once, either is last: no grant stays`,
        Effect.gen(function*() {
          const clients = (yield* AccessRepository).clients
          const byMode = refused === "mode"
          for (let round = 0; round < 4; round++) {
            if (byMode) yield* setMode("account", round)
            else yield* request("a", round)
            if (!byMode) yield* decide("a", "approved", round)
            const [outcomes] = yield* Effect.all([
              times(3, (n) => clients.request(ask("a"), grantRow(`grant-${round}-${n}`, "a"), at(round, "ada"))),
              byMode
                ? setMode("client-approval", round)
                : decide("a", refused, round, { backOffMillis: 1, maxBackOffMillis: 1 })
            ], { concurrency: "unbounded" })
            for (const outcome of outcomes) assert.include(["Granted", "Refused", "Pending"], outcome._tag)
            assert.deepStrictEqual(yield* access(round), [])
          }
        })
      )
    }

    test(
      "CONN-10: the feed says who decided, when and why, once; a repeated decision adds nothing",
      Effect.gen(function*() {
        yield* request("a", 0)
        yield* decide("a", "rejected", 7, { reason: "not mine" })
        yield* decide("a", "rejected", 8, { reason: "again" })
        const events = yield* allEvents
        assert.deepStrictEqual(events.map(brief), [
          "connectClientUpserted a pending",
          "connectClientUpserted a rejected"
        ])
        assert.deepInclude(events[1], { actor: "owner" })
        const change = events[1]?.change
        assert.strictEqual(change?._tag === "connectClientUpserted" && change.client.reason, "not mine")
        assert.strictEqual(events[1]?.at.epochMilliseconds, start + 7)
      })
    )

    test(
      "lists who asked last first, in pages, and finds a client by the beginning of its thumbprint",
      Effect.gen(function*() {
        const clients = (yield* AccessRepository).clients
        for (const [index, name] of ["c", "a", "b"].entries()) yield* request(name, index === 2 ? 1 : index)
        const all = yield* clients.list({ after: undefined, limit: 10 })
        assert.deepStrictEqual(all.map((row) => row.proofKeyThumbprint.charAt(0)), ["a", "b", "c"])
        for (let n = 0; n < all.length; n++) {
          const page = yield* clients.list({ after: all[n], limit: 1 })
          assert.deepStrictEqual(page, all.slice(n + 1, n + 2))
        }
        assert.strictEqual((yield* clients.findByPrefix("")).length, 2)
        assert.deepStrictEqual((yield* clients.findByPrefix("aaa")).map((row) => row.status), ["pending"])
        assert.deepStrictEqual(yield* clients.findByPrefix("ab"), [])
      })
    )

    test(
      "CONN-09: sweeps requests that expired and clients not heard of, and neither approved nor blocked ones",
      Effect.gen(function*() {
        const clients = (yield* AccessRepository).clients
        for (const name of ["a", "b", "c"]) yield* request(name, 0)
        yield* decide("a", "approved", 1)
        yield* decide("b", "blocked", 1)
        yield* request("d", 2)
        yield* decide("d", "rejected", 2)
        assert.strictEqual(yield* clients.sweep({ idleBeforeMillis: start, limit: 10 }, at(999)), 0)
        assert.strictEqual(yield* clients.sweep({ idleBeforeMillis: start + 102, limit: 10 }, at(1_000)), 2)
        assert.deepStrictEqual((yield* allEvents).slice(-2).map(brief), [
          "connectClientRemoved c expired",
          "connectClientRemoved d expired"
        ])
        assert.strictEqual((yield* clients.list({ after: undefined, limit: 10 })).length, 2)
      })
    )

    test(
      "CONN-02 CONN-06: a sweep leaves a client that has a session or a grant, so that turning approval on ends them",
      Effect.gen(function*() {
        const clients = (yield* AccessRepository).clients
        yield* setMode("account", 0)
        for (const name of ["a", "b", "c"]) yield* request(name, 0)
        yield* giveAccess("a", "1")
        yield* AccessRepository.use(({ links }) => links.insert(grantRow("link-2", "b"), at(0)))
        const sweep = clients.sweep({ idleBeforeMillis: start + 100, limit: 10 }, at(100))
        assert.strictEqual(yield* sweep, 1)
        yield* setMode("client-approval", 200)
        assert.deepStrictEqual(yield* access(200), [])
        assert.strictEqual(yield* sweep, 2)
      })
    )

    const { digest, peer, runs = 10, spoilMode } = options ?? {}
    const history = (before: ReadonlyArray<Histories.Step>, histories: ReadonlyArray<ReadonlyArray<Histories.Step>>) =>
      Effect.gen(function*() {
        const context = yield* Effect.context<R>()
        yield* Histories.run(histories, {
          before,
          stores: peer === undefined
            ? undefined
            : yield* Effect.forEach(histories, () => Layer.build(Layer.fresh(peer))),
          spoilMode: spoilMode === undefined ? undefined : Effect.provideContext(spoilMode, context)
        })
      }).pipe(Effect.scoped, Effect.provide(Layer.fresh(layer), { local: true }))

    it.live.prop(
      "CONN-03 CONN-04 CONN-05 CONN-06 L-30 L-33 L-39 L-43: in no history is a client let in whose latest decision is another, the feed replays to the table at every step, and no caller who is not let in has access",
      [Schema.Array(Histories.Step).check(Schema.isMaxLength(24))],
      ([steps]) => history(steps, []),
      { arbitrary: { runs } }
    )

    it.live.prop(
      "CONN-03 CONN-04 CONN-05 CONN-06 L-30 L-33 L-39 L-43: the same holds of several actors at once, in the order in which their steps took effect",
      [
        Schema.Boolean,
        Schema.Array(Schema.Array(Histories.Step).check(Schema.isMaxLength(8)))
          .check(Schema.isMinLength(2), Schema.isMaxLength(3))
      ],
      ([approved, histories]) => history(approved ? Histories.approvals : [], histories),
      { arbitrary: { runs } }
    )

    it.live.prop(
      "SESS-13 CONN-06 SESS-19: in no history is anything accepted that descends from what was ended, nothing else was ended, and the feed replays to the tables at every step",
      [Schema.Array(Lineage.Step).check(Schema.isMaxLength(16))],
      ([steps]) => Effect.provide(Lineage.run([...Lineage.handedOn, ...steps]), Layer.fresh(layer), { local: true }),
      { arbitrary: { runs } }
    )

    it.live.prop(
      "CONN-14 AGENT-03 SESS-13: in no history of device requests, polls, decisions, expiry, the owner's end and restarts is there a session without an approval that stands",
      [Schema.Array(Devices.Step).check(Schema.isMaxLength(30))],
      ([steps]) =>
        Devices.run(
          [...Devices.letIn, ...steps],
          peer === undefined
            ? undefined
            : Effect.map(Layer.build(Layer.fresh(peer)), (services) => Context.get(services, AccessRepository))
        ).pipe(Effect.scoped, Effect.provide(Layer.fresh(layer), { local: true })),
      { arbitrary: { runs } }
    )

    it.live.prop(
      "CONN-14 AGENT-03 SESS-13: the same holds of devices and owners at once, in whatever order their steps take effect",
      [
        Schema.Array(Schema.Array(Devices.Act).check(Schema.isMaxLength(10))).check(
          Schema.isMinLength(2),
          Schema.isMaxLength(3)
        )
      ],
      ([histories]) =>
        Effect.gen(function*() {
          const stores = peer === undefined
            ? undefined
            : yield* Effect.forEach(histories, () => Layer.build(Layer.fresh(peer)))
          yield* Devices.runAtOnce(histories, stores)
        }).pipe(Effect.scoped, Effect.provide(Layer.fresh(layer), { local: true })),
      { arbitrary: { runs } }
    )

    test(
      "CONN-14 AGENT-03 T10: a device polls, is slowed down for good, is approved with less than it asked for, and redeems its code once",
      Effect.gen(function*() {
        const { clients, links } = yield* AccessRepository
        // Devices wait for their owner in either mode, and a client of a relay with the same key is another client.
        yield* setMode("account", 0)
        assert.strictEqual((yield* request("a", 0))._tag, "Granted")
        const ask = Devices.ask("a", "code", { account: "ada", pendingMillis: 20_000 })
        assert.strictEqual((yield* clients.request(ask, undefined, at(0, "ada")))._tag, "Pending")
        const polls = yield* Effect.forEach([0, 50, 60, 9_160], (afterMillis) =>
          Devices.fetch("code", afterMillis, "ada"))
        assert.deepStrictEqual(polls, ["Pending", "SlowDown", "SlowDown", "Pending"])
        assert.strictEqual(yield* Devices.fetch("code", 9_161, "bob"), "Unknown")
        assert.deepStrictEqual(
          (yield* clients.findByCode({ verificationCode: "USER-code", nowMillis: start + 9_161 }))
            .map(({ proofKeyThumbprint }) =>
              proofKeyThumbprint
            ),
          [key("a")]
        )
        assert.isNull((yield* find("a"))?.device?.grantedScopes)
        yield* Devices.decide("a", "approved", 9_162, { scopes: ["runs:read"] })
        const granted = yield* find("a")
        assert.deepStrictEqual(granted?.device?.grantedScopes, ["runs:read"])
        // A decision that was made already changes nothing of what was given.
        yield* Devices.decide("a", "approved", 9_162, { scopes: ["runs:operate"] })
        assert.deepStrictEqual(yield* find("a"), granted)
        assert.deepStrictEqual(
          (yield* links.list({ nowMillis: start + 9_163, limit: 10 })).map(({ id, issuedBy, scopes }) => ({
            id,
            issuedBy,
            scopes
          })),
          [{ id: "code", issuedBy: null, scopes: ["runs:read"] }]
        )
        assert.deepStrictEqual(
          yield* clients.findByCode({ verificationCode: "USER-code", nowMillis: start + 9_163 }),
          []
        )
        const fetched = yield* times(6, () => Devices.fetch("code", 9_163, "ada"))
        assert.deepStrictEqual(fetched.toSorted(), [
          "Redeemed",
          ...Array.from({ length: 5 }, () => "exhausted")
        ])
        assert.strictEqual((yield* request("a", 9_164))._tag, "Granted")
      })
    )

    for (const refused of ["rejected", "revoked", "blocked"] as const) {
      test(
        `CONN-14 CONN-06: of a device's polls and its being ${refused} at once, either is last, and nothing that it has stays`,
        Effect.gen(function*() {
          const { clients } = yield* AccessRepository
          for (const [round, name] of ["a", "b", "c"].entries()) {
            yield* clients.request(Devices.ask(name, `code-${name}`), undefined, at(round, "cli"))
            yield* Devices.decide(name, "approved", round)
            yield* Effect.all([
              times(3, () => Devices.fetch(`code-${name}`, round)),
              Devices.decide(name, refused, round)
            ], { concurrency: "unbounded" })
            assert.deepStrictEqual(yield* access(round), [])
            assert.isNull((yield* find(name))?.device?.grantedScopes)
            assert.include(["Denied", "revoked"], yield* Devices.fetch(`code-${name}`, round))
          }
        })
      )
    }

    test(
      "CONN-14 SESS-13: a device that a session approved ends with what descends from it, and a session that has ended approves none",
      Effect.gen(function*() {
        const { clients, sessions } = yield* AccessRepository
        const row = sessionRow("owner", { lifetimeMillis: 5_000, absoluteExpiresAtMillis: start + 10_000 })
        yield* sessions.insert(row, at(0))
        const by = toSession(row)
        yield* clients.request(Devices.ask("a", "code-a"), undefined, at(0, "cli"))
        yield* clients.request(Devices.ask("b", "code-b"), undefined, at(0, "cli"))
        yield* Devices.decide("a", "approved", 1, { by })
        const [link] = yield* AccessRepository.use(({ links }) => links.list({ nowMillis: start + 1, limit: 10 }))
        assert.deepInclude({ ...link }, {
          issuedBy: row.id,
          sessionLifetimeMillis: 5_000,
          sessionEndsAtMillis: start + 10_000,
          proofKeyThumbprint: null,
          createdBy: "owner"
        })
        yield* sessions.revoke({ _tag: "Session", id: row.id }, at(2))
        assert.deepStrictEqual(yield* access(2), [])
        assert.strictEqual(yield* Devices.fetch("code-a", 2), "revoked")
        assert.strictEqual((yield* Devices.decide("b", "approved", 3, { by }))._tag, "ApproverEnded")
        assert.strictEqual((yield* find("b"))?.status, "pending")
      })
    )

    test(
      "CONN-14 SESS-17: the code of a device is good no longer than the session that approved it, polled or not",
      Effect.gen(function*() {
        const { clients, links, sessions } = yield* AccessRepository
        const row = sessionRow("owner", { expiresAtMillis: start + 100, absoluteExpiresAtMillis: start + 100 })
        yield* sessions.insert(row, at(0))
        for (const name of ["a", "b"]) {
          yield* clients.request(Devices.ask(name, `code-${name}`), undefined, at(0, "cli"))
          yield* Devices.decide(name, "approved", 1, { by: toSession(row) })
        }
        const open = yield* links.list({ nowMillis: start + 1, limit: 10 })
        assert.deepStrictEqual(open.map(({ expiresAtMillis }) => expiresAtMillis), [start + 100, start + 100])
        const poll = (afterMillis: number) =>
          clients.poll({ deviceCodeDigest: "code-digest-of-code-a", account: "cli" }, at(afterMillis, "cli"))
        assert.strictEqual((yield* poll(99))._tag, "Approved")
        assert.deepStrictEqual(
          yield* Effect.forEach(["code-a", "code-b"], (code) => Devices.fetch(code, 100)),
          ["expired", "Expired"]
        )
        assert.deepStrictEqual(yield* Devices.liveLinks(100), [])
      })
    )

    test(
      "CONN-14 SESS-14: a device that a session with a key approves has to prove a key of its own, if it has not proven one yet",
      Effect.gen(function*() {
        const { clients, links, sessions } = yield* AccessRepository
        const row = sessionRow("owner", { proofKeyThumbprint: key("owner"), method: "dpop-access-token" })
        yield* sessions.insert(row, at(0))
        for (const name of ["a", "b"]) {
          yield* clients.request(Devices.ask(name, `code-${name}`), undefined, at(0, "cli"))
        }
        yield* Devices.decide("a", "approved", 1, { by: toSession(row) })
        yield* Devices.decide("b", "approved", 1)
        const given = yield* links.list({ nowMillis: start + 1, limit: 10 })
        assert.sameMembers(given.map(({ proofKeyThumbprint }) => proofKeyThumbprint), [anyKey, null])
      })
    )

    if (spoilMode !== undefined) {
      test(
        "CONN-01 L-32 L-40: no caller is let in under a mode that cannot be read, and nothing is changed",
        Effect.gen(function*() {
          yield* setMode("account", 0)
          yield* request("a", 1)
          const before = yield* find("a")
          yield* spoilMode
          assert.strictEqual((yield* request("a", 2))._tag, "ModeUnreadable")
          assert.isFalse(yield* isAdmitted("a"))
          assert.deepStrictEqual(yield* find("a"), before)
          const snapshot = yield* AccessRepository.use(({ feed }) => feed.snapshot({ nowMillis: start }))
          assert.isUndefined(snapshot.connectSecurityMode)
        })
      )
    }
    if (digest !== undefined) {
      const store = <A, E2>(
        name: string,
        effect: Effect.Effect<A, E2, AccessRepository | ConnectClientStore.ConnectClientStore>
      ) =>
        test(
          name,
          effect.pipe(
            Effect.provide(
              ConnectClientStore.layerWith({ recheckInterval: "1 hour" }).pipe(Layer.provide(digest)),
              { local: true }
            )
          )
        )
      store(
        "CONN-11 L-42: who waits is told of a decision at once, and of each as what it is",
        Effect.gen(function*() {
          const clients = yield* ConnectClientStore.ConnectClientStore
          for (const decision of ["approved", "rejected", "blocked"] as const) {
            const thumbprint = key(decision.charAt(0))
            const asked = yield* clients.request({ proofKeyThumbprint: thumbprint, account: "ada" })
            assert.strictEqual(asked._tag, "Pending")
            const client = yield* clients.get(thumbprint)
            const waiter = {
              proofKeyThumbprint: thumbprint,
              account: "ada",
              requestedAtMillis: client.requestedAt.epochMilliseconds
            }
            const waiting = yield* Effect.forkChild(clients.awaitDecision({ ...waiter, timeout: "1 minute" }))
            yield* Effect.yieldNow
            yield* clients.decide({ client: thumbprint, decision, by: "operator" })
            assert.strictEqual(yield* Fiber.join(waiting), decision)
            assert.strictEqual(
              yield* clients.awaitDecision({ ...waiter, account: "bob", timeout: "1 minute" }),
              decision === "blocked" ? "blocked" : "expired"
            )
          }
        })
      )
      store(
        "CONN-07: a client is known by a beginning of its thumbprint that no other has, and an unknown one is an error",
        Effect.gen(function*() {
          const clients = yield* ConnectClientStore.ConnectClientStore
          yield* clients.request({ proofKeyThumbprint: `ab${key("c").slice(2)}`, account: "ada" })
          yield* clients.request({ proofKeyThumbprint: `ad${key("c").slice(2)}`, account: "ada" })
          const reasonOf = (client: string) =>
            clients.decide({ client, decision: "approved", by: "operator" }).pipe(
              Effect.flip,
              Effect.map((error) => error.reason._tag)
            )
          assert.strictEqual(yield* reasonOf("a"), "ClientAmbiguous")
          assert.strictEqual(yield* reasonOf("x"), "ClientNotFound")
          assert.strictEqual(yield* reasonOf(""), "ClientNotFound")
          assert.strictEqual(yield* reasonOf("a%"), "ClientNotFound")
          assert.strictEqual(yield* reasonOf(key("x")), "ClientNotFound")
          assert.strictEqual(
            (yield* clients.decide({ client: "ab", decision: "approved", by: "operator" })).status,
            "approved"
          )
          const wrongCode = yield* Effect.flip(
            clients.decide({ client: "ad", decision: "approved", by: "operator", code: "0000-0000" })
          )
          assert.strictEqual(wrongCode.reason._tag, "RequestChanged")
        })
      )
    }
  })
