import { assert, describe, it } from "@effect/vitest"
import * as AccessScope from "@sallyport/core/access/AccessScope"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import type { Principal } from "@sallyport/core/access/Principal"
import type { Session, SessionMethod } from "@sallyport/core/access/Session"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as ConnectionEnd from "@sallyport/core/access/ConnectionEnd"
import * as ConnectClientStore from "@sallyport/core/connect/ConnectClientStore"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as TestClock from "effect/testing/TestClock"
import { services } from "./accessSupport.ts"

type Scopes = ReadonlyArray<AccessScope.AccessScope>
type LinkOptions = BootstrapCredentialService.Options

const Links = BootstrapCredentialService.BootstrapCredentialService
const Sessions = SessionCredentialService.SessionCredentialService

const all: Scopes = ["access:read", "access:write", "connect:manage", "runs:read"]

const layer = (links: LinkOptions = {}) => Layer.provideMerge(ConnectClientStore.layer, services({ links }))

/** Has a principal issue a link. */
const offer = (issuedBy: Principal, options: {
  readonly subject?: string
  readonly proofKeyThumbprint?: string
  readonly scopes?: Scopes
} = {}) =>
  Links.use((links) =>
    links.issue({ scopes: options.scopes ?? (issuedBy === "operator" ? all : issuedBy.scopes), ...options, issuedBy })
  )

/** Redeems a code for a session, as a device does. */
const redeem = Effect.fnUntraced(function*(code: Redacted.Redacted, proofKeyThumbprint?: string) {
  const method: SessionMethod = proofKeyThumbprint === undefined ? "bearer-access-token" : "dpop-access-token"
  const { session, token } = yield* (yield* Links).redeem({
    credential: code,
    method,
    proof: proofKeyThumbprint === undefined ? undefined : Effect.succeed({ proofKeyThumbprint, spend: Effect.void })
  })
  return { session, token }
})

/** Lets a device in that another issued a link for. */
const pair = (issuedBy: Principal, subject?: string) =>
  Effect.flatMap(offer(issuedBy, subject === undefined ? {} : { subject }), ({ code }) => redeem(code))

const isLetIn = ({ session, token }: { readonly session: Session; readonly token: Redacted.Redacted }) =>
  Sessions.use((sessions) =>
    sessions.verify(
      token,
      session.proofKeyThumbprint === null ? undefined : { proofKeyThumbprint: session.proofKeyThumbprint }
    )
  ).pipe(Effect.as(true), Effect.orElseSucceed(() => false))

const isRefused = (code: Redacted.Redacted, proofKeyThumbprint?: string) =>
  redeem(code, proofKeyThumbprint).pipe(
    Effect.as("redeemed"),
    Effect.catch((error) => Effect.succeed(error.reason._tag))
  )

const reasonOf = <A, E extends { readonly reason: { readonly _tag: string } }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.flip(effect), ({ reason }) => reason._tag)

describe("lineage", () => {
  it.effect("SESS-13 C-10: who ends the other sessions ends their links in the same step, and all that came from them", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const owner = yield* pair("operator")
      const other = yield* pair("operator")
      const child = yield* pair(other.session)
      const grandchild = yield* pair(child.session)
      const { code } = yield* offer(other.session)
      const { code: deep } = yield* offer(grandchild.session)
      const { code: own } = yield* offer(owner.session)
      assert.deepStrictEqual(yield* sessions.revokeOthers(owner.session), { sessions: 3, links: 2, connections: 0 })
      for (const out of [other, child, grandchild]) assert.isFalse(yield* isLetIn(out))
      for (const dead of [code, deep]) assert.strictEqual(yield* isRefused(dead), "InvalidCredential")
      assert.isTrue(yield* isLetIn(owner))
      assert.strictEqual(yield* isRefused(own), "redeemed")
    }).pipe(Effect.provide(layer())))

  it.effect("SESS-13: a session says who let it in: the operator, a session by its link, or the host", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const link = yield* offer("operator")
      const owner = yield* redeem(link.code)
      const second = yield* offer(owner.session)
      const device = yield* redeem(second.code)
      const begun = yield* sessions.issue({ subject: "ada", scopes: [], method: "bearer-access-token", actor: "sso" })
      assert.deepStrictEqual(owner.session.letInBy, { actor: "operator", sessionId: null, linkId: link.link.id })
      assert.deepStrictEqual(device.session.letInBy, {
        actor: owner.session.subject,
        sessionId: owner.session.id,
        linkId: second.link.id
      })
      assert.deepStrictEqual(begun.session.letInBy, { actor: "sso", sessionId: null, linkId: null })
      const listed = yield* sessions.list()
      assert.deepStrictEqual(listed.map(({ descendants, session }) => [descendants, session.letInBy.linkId]), [
        [1, link.link.id],
        [0, second.link.id],
        [0, null]
      ])
    }).pipe(Effect.provide(layer())))

  it.effect("SESS-13: the answer to a revocation counts the sessions, links and connections that ended", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const owner = yield* pair("operator")
      const other = yield* pair(owner.session)
      const child = yield* pair(other.session)
      yield* offer(child.session)
      const awaitEnd = yield* ConnectionEnd.make
      const connect = yield* ConnectionEnd.makeOpen
      const open = yield* Effect.forEach(
        [other.session, other.session, child.session, owner.session],
        (session) =>
          Effect.forkChild(Effect.scoped(Effect.andThen(connect(session), awaitEnd(session))), {
            startImmediately: true
          })
      )
      const counts = Effect.map(sessions.list(), (listed) => listed.map(({ connections }) => connections))
      assert.deepStrictEqual(yield* counts, [1, 2, 1])
      assert.deepStrictEqual(
        yield* sessions.revoke(other.session.id, owner.session, { descendants: true }),
        { sessions: 2, links: 1, connections: 3 }
      )
      const ends = yield* Effect.forEach(open.slice(0, 3), (fiber) => Fiber.join(fiber))
      assert.deepStrictEqual(ends.map(({ _tag }) => _tag), ["SessionEnded", "SessionEnded", "SessionEnded"])
      assert.deepStrictEqual(yield* counts, [1])
      yield* Effect.forEach(open, (fiber) => Fiber.interrupt(fiber))
      assert.deepStrictEqual(yield* counts, [0])
    }).pipe(Effect.provide(layer())))

  it.effect("SESS-11: a session is renamed by a line, within the reach of who asks", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const ada = yield* pair("operator", "ada")
      const bob = yield* pair("operator", "bob")
      const { id } = ada.session
      assert.strictEqual((yield* sessions.rename(id, " Ada’s phone 📱 ", ada.session)).device.label, "Ada’s phone 📱")
      assert.strictEqual((yield* sessions.verify(ada.token)).device.label, "Ada’s phone 📱")
      for (const label of ["", "  ", "x".repeat(129), "a\u202eb", "a\u200bb", "two\nlines", "\u0000", "\ud800"]) {
        assert.strictEqual(
          yield* reasonOf(sessions.rename(id, label, ada.session)),
          "LabelNotAllowed",
          JSON.stringify(label)
        )
      }
      assert.strictEqual(yield* reasonOf(sessions.rename(id, "mine", bob.session)), "SessionNotFound")
      assert.strictEqual((yield* sessions.rename(id, "by the operator", "operator")).device.label, "by the operator")
      yield* sessions.logout(ada.session)
      assert.strictEqual(yield* reasonOf(sessions.rename(id, "late", "operator")), "SessionNotFound")
    }).pipe(Effect.provide(layer())))

  it.effect("SESS-13: the session that asks goes on, though it came from one that ends, and keeps its links", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const parent = yield* pair("operator")
      const asking = yield* pair(parent.session)
      const { code } = yield* offer(asking.session)
      const child = yield* pair(asking.session)
      yield* sessions.revoke(parent.session.id, asking.session, { descendants: true })
      assert.deepStrictEqual(
        [yield* isLetIn(parent), yield* isLetIn(asking), yield* isLetIn(child)],
        [false, true, true]
      )
      yield* sessions.revokeOthers(asking.session)
      assert.deepStrictEqual([yield* isLetIn(asking), yield* isLetIn(child)], [true, false])
      assert.strictEqual(yield* isRefused(code), "redeemed")
    }).pipe(Effect.provide(layer())))

  it.effect("SESS-13 C-11: no link for a subject that was put out is redeemed, whether the operator or a session issued it", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const ada = yield* pair("operator", "ada")
      const bob = yield* pair("operator", "bob")
      const codes = [(yield* offer(ada.session)).code, (yield* offer("operator", { subject: "ada" })).code]
      const { code: bobs } = yield* offer(bob.session)
      assert.strictEqual((yield* sessions.revokeBySubject("ada", "operator")).sessions, 1)
      for (const code of codes) assert.strictEqual(yield* isRefused(code), "InvalidCredential")
      assert.isFalse(yield* isLetIn(ada))
      assert.isTrue(yield* isLetIn(bob))
      assert.strictEqual(yield* isRefused(bobs), "redeemed")
    }).pipe(Effect.provide(layer())))

  for (const decision of ["rejected", "revoked", "blocked"] as const) {
    it.effect(`SESS-13 CONN-06 C-12: a client that was ${decision} is out with all that it handed on`, () =>
      Effect.gen(function*() {
        const clients = yield* ConnectClientStore.ConnectClientStore
        const key = "k".repeat(43)
        yield* clients.request({ proofKeyThumbprint: key, account: "ada" })
        yield* clients.decide({ client: key, decision: "approved", by: "operator" })
        const { code } = yield* offer("operator", { proofKeyThumbprint: key })
        const client = yield* redeem(code, key)
        const child = yield* pair(client.session)
        const grandchild = yield* pair(child.session)
        const open = [yield* offer(client.session), yield* offer(child.session), yield* offer(grandchild.session)]
        const owner = yield* pair("operator")
        const { code: owners } = yield* offer(owner.session)
        // What it handed on goes as well if the client's own session has ended before.
        yield* (yield* Sessions).logout(client.session)
        assert.deepStrictEqual([yield* isLetIn(client), yield* isLetIn(child)], [false, true])
        yield* clients.decide({ client: key, decision, by: owner.session })
        for (const out of [client, child, grandchild]) assert.isFalse(yield* isLetIn(out))
        for (const link of open) assert.strictEqual(yield* isRefused(link.code), "InvalidCredential")
        assert.isTrue(yield* isLetIn(owner))
        assert.strictEqual(yield* isRefused(owners), "redeemed")
      }).pipe(Effect.provide(layer({ unboundDelegation: true }))))
  }

  it.effect("SESS-13: revoking one session ends its links, and what came from it only if asked for; the list says how much", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const first = yield* pair("operator")
      const child = yield* pair(first.session)
      const grandchild = yield* pair(child.session)
      const sibling = yield* pair(first.session)
      const counts = Effect.map(
        sessions.list(),
        (listed) => new Map(listed.map(({ descendants, session }) => [session.id, descendants]))
      )
      const found = yield* counts
      assert.deepStrictEqual(
        [first, child, grandchild, sibling].map(({ session }) => found.get(session.id)),
        [3, 1, 0, 0]
      )
      const { code } = yield* offer(child.session)
      yield* sessions.revoke(child.session.id, "operator")
      assert.strictEqual(yield* isRefused(code), "InvalidCredential")
      assert.deepStrictEqual([yield* isLetIn(child), yield* isLetIn(grandchild)], [false, true])
      assert.strictEqual((yield* counts).get(first.session.id), 2)
      yield* sessions.revoke(first.session.id, "operator", { descendants: true })
      for (const out of [first, grandchild, sibling]) assert.isFalse(yield* isLetIn(out))
      assert.deepStrictEqual(yield* sessions.list(), [])
      assert.strictEqual(
        yield* reasonOf(sessions.revoke(first.session.id, "operator", { descendants: true })),
        "SessionNotFound"
      )
    }).pipe(Effect.provide(layer())))

  it.effect("SESS-13: logging out ends the session's links and leaves alone what came from it", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const first = yield* pair("operator")
      const child = yield* pair(first.session)
      const { code } = yield* offer(first.session)
      yield* sessions.logout(first.session)
      assert.strictEqual(yield* isRefused(code), "InvalidCredential")
      assert.isTrue(yield* isLetIn(child))
      assert.strictEqual(yield* reasonOf(offer(first.session)), "IssuerEnded")
    }).pipe(Effect.provide(layer())))

  it.effect("SESS-13: a session that expires takes its open links along", () =>
    Effect.gen(function*() {
      const short = yield* pair("operator")
      yield* TestClock.adjust("40 seconds")
      const { code, link } = yield* offer(short.session)
      assert.strictEqual(link.expiresAt.epochMilliseconds, short.session.expiresAt.epochMilliseconds)
      yield* TestClock.adjust("19 seconds")
      assert.strictEqual((yield* (yield* Links).list()).length, 1)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* isRefused(code), "InvalidCredential")
      assert.deepStrictEqual(yield* (yield* Links).list(), [])
      assert.strictEqual(yield* reasonOf(offer(short.session)), "IssuerEnded")
    }).pipe(Effect.provide(services({ sessions: { lifetime: "1 minute" } }))))

  it.effect("SESS-14 C-12: what a bound session hands on is bound to the key given, or to one that the new device proves", () =>
    Effect.gen(function*() {
      const { code } = yield* offer("operator", { proofKeyThumbprint: "key-1" })
      const bound = yield* redeem(code, "key-1")
      const any = yield* offer(bound.session)
      assert.isTrue(any.link.needsProof)
      assert.strictEqual(yield* isRefused(any.code), "InvalidCredential")
      const child = yield* redeem(any.code, "key-2")
      assert.strictEqual(child.session.proofKeyThumbprint, "key-2")
      for (const proofKeyThumbprint of ["key-1", "key-3"]) {
        const named = yield* offer(bound.session, { proofKeyThumbprint })
        for (const wrong of [undefined, "key-9"]) {
          assert.strictEqual(yield* isRefused(named.code, wrong), "InvalidCredential")
        }
        assert.strictEqual(yield* isRefused(named.code, proofKeyThumbprint), "redeemed")
      }
      // The operator, and a session that is bound to no key, hand on what they like.
      const plain = yield* pair("operator")
      for (const by of ["operator" as const, plain.session]) {
        const { code: open, link } = yield* offer(by)
        assert.isFalse(link.needsProof)
        assert.strictEqual(yield* isRefused(open), "redeemed")
      }
    }).pipe(Effect.provide(layer())))

  it.effect("HTTP-09: a session lets in so many others and no more, and again when one has ended", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const owner = yield* pair("operator")
      const children = [yield* pair(owner.session), yield* pair(owner.session)]
      const error = yield* Effect.flip(offer(owner.session))
      assert.strictEqual(error.reason._tag, "TooManyLetIn")
      assert.match(error.message, /let in 2 sessions.*end one first/)
      yield* Effect.forEach(children.slice(0, 1), ({ session }) => sessions.revoke(session.id, "operator"))
      yield* offer(owner.session)
      yield* offer("operator")
    }).pipe(Effect.provide(layer({ maxLetInPerSession: 2 }))))

  it.effect("HTTP-09 C-15: a session has 32 links open and no more; the operator has as many as it likes", () =>
    Effect.gen(function*() {
      const links = yield* Links
      const session = (yield* pair("operator")).session
      const issued = yield* Effect.forEach(Array.from({ length: 32 }), () => offer(session))
      const error = yield* Effect.flip(offer(session))
      assert.strictEqual(error.reason._tag, "TooManyOpenLinks")
      assert.match(error.message, /32 pairing links open/)
      yield* Effect.forEach(issued.slice(0, 1), ({ link }) => links.revoke(link.id, session))
      yield* offer(session)
      for (let index = 0; index < 989; index++) yield* offer("operator")
      const found: Array<string> = []
      let last: typeof issued[number]["link"] | undefined
      while (true) {
        const page = yield* links.list({ after: last, limit: 100 })
        found.push(...page.map(({ id }) => id))
        last = page.at(-1)
        if (page.length < 100) break
      }
      assert.deepStrictEqual([found.length, new Set(found).size], [1_021, 1_021])
    }).pipe(Effect.provide(layer())))

  it.effect("SESS-15 C-14: a session ends what is its own subject's; for everyone's it needs access:manage", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const links = yield* Links
      const ada = yield* pair("operator", "ada")
      const bob = yield* pair("operator", "bob")
      const { link } = yield* offer(bob.session)
      assert.strictEqual(yield* reasonOf(sessions.revoke(bob.session.id, ada.session)), "SessionNotFound")
      assert.strictEqual(yield* reasonOf(links.revoke(link.id, ada.session)), "LinkNotFound")
      assert.isTrue(yield* isLetIn(bob))
      const { code } = yield* offer("operator", { subject: "eve", scopes: [...all, "access:manage"] })
      const manager = yield* redeem(code)
      yield* links.revoke(link.id, manager.session)
      yield* sessions.revoke(bob.session.id, manager.session)
      assert.isFalse(yield* isLetIn(bob))
    }).pipe(Effect.provide(layer())))

  it.effect("SESS-19 C-34: everything from before a time ends, with what came from it since, and nothing else", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const old = yield* pair("operator", "ada")
      const bob = yield* pair("operator", "bob")
      const { code: oldCode } = yield* offer("operator", { subject: "eve" })
      yield* TestClock.adjust("1 minute")
      const since = yield* DateTime.now
      const child = yield* pair(old.session)
      const fresh = yield* pair("operator", "ada")
      const { code: freshCode } = yield* offer(fresh.session)
      assert.strictEqual((yield* sessions.revokeIssuedBefore(since, "operator")).sessions, 3)
      for (const out of [old, bob, child]) assert.isFalse(yield* isLetIn(out))
      assert.strictEqual(yield* isRefused(oldCode), "InvalidCredential")
      assert.isTrue(yield* isLetIn(fresh))
      assert.strictEqual(yield* isRefused(freshCode), "redeemed")
      assert.strictEqual((yield* sessions.revokeIssuedBefore(since, "operator")).sessions, 0)
    }).pipe(Effect.provide(layer())))

  it("CONN-13 C-13: the scopes that a client gets only by name are those that let in, manage and decide", () => {
    assert.deepStrictEqual(AccessScope.missing(AccessScope.widening, AccessScope.builtin), [
      "access:read",
      "credentials:read",
      "credentials:write",
      "runs:read",
      "runs:operate"
    ])
  })
})
