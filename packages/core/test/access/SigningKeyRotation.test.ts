import { assert, describe, it } from "@effect/vitest"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as SessionToken from "@sallyport/core/access/SessionToken"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/testing/TestClock"
import * as Jose from "jose"
import * as SigningKeys from "../../src/access/internal/signingKeys.ts"
import { Environment, services, shown, takeCalls } from "./accessSupport.ts"

type Service = SessionCredentialService.SessionCredentialService["Service"]

const Sessions = SessionCredentialService.SessionCredentialService

/** Builds the service once more over the same stores, as another process has it. */
const process = SessionCredentialService.make({})

const issue = (sessions: Service, subject = "ada") =>
  sessions.issue({ subject, scopes: ["runs:read"], method: "bearer-access-token" })

const problem = <A>(effect: Effect.Effect<A, SessionCredentialService.SessionCredentialError>) =>
  Effect.match(effect, {
    onFailure: ({ reason }) => reason._tag === "SessionRefused" ? reason.problem : reason._tag,
    onSuccess: () => "let in"
  })

const kid = (token: Redacted.Redacted) => Option.getOrThrow(SessionToken.keyIdOf(token))

/** Returns the kids that are stored, the signing one first. */
const storedKids = Effect.map(
  SecretStore.SecretStore.use((secrets) => secrets.get(SigningKeys.secretName)),
  (stored): ReadonlyArray<string> =>
    JSON.parse(new TextDecoder().decode(Redacted.value(Option.getOrThrow(stored)))).keys.map((
      { kid }: { readonly kid: string }
    ) => kid)
)

/** Counts and fails the reads of a secret store. */
const watched = Effect.fnUntraced(function*() {
  const real = yield* SecretStore.SecretStore
  const watch = { reads: 0, failing: false }
  const failure = new SecretStore.SecretStoreError({
    reason: new SecretStore.StorageFailure({ operation: "get", cause: new Error("away") })
  })
  return {
    watch,
    store: SecretStore.SecretStore.of({
      ...real,
      get: (name) =>
        Effect.suspend(() => {
          watch.reads++
          return watch.failing ? Effect.fail(failure) : real.get(name)
        })
    })
  }
})

/** A token of the right form whose key no process has. */
const forged = (index: number) =>
  Redacted.make(
    [{ alg: "HS256", typ: SessionToken.type, kid: `unknown-${index}` }, { sid: "s", sub: "ada", jti: "j", iat: 1 }]
      .map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"))
      .concat(Buffer.alloc(32).toString("base64url"))
      .join(".")
  )

describe("rotation of the signing key", () => {
  it.effect("SESS-02: a new key signs, and the tokens of the keys before it go on", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const issued = [yield* issue(sessions)]
      for (let round = 0; round < 3; round++) {
        const keyId = yield* sessions.rotateSigningKey
        const next = yield* issue(sessions)
        assert.strictEqual(kid(next.token), keyId)
        issued.push(next)
      }
      assert.strictEqual(new Set(issued.map(({ token }) => kid(token))).size, 4)
      assert.deepStrictEqual(yield* storedKids, issued.map(({ token }) => kid(token)).toReversed())
      const other = yield* process
      for (const { session, token } of issued) {
        assert.strictEqual((yield* sessions.verify(token)).id, session.id)
        assert.strictEqual((yield* other.verify(token)).id, session.id)
      }
    }).pipe(Effect.provide(services())))

  it.effect("SESS-02: another process takes the token of a new key at once, and signs with it within a minute", () =>
    Effect.gen(function*() {
      const here = yield* Sessions
      const there = yield* process
      const before = yield* issue(there)
      const keyId = yield* here.rotateSigningKey
      const { session, token } = yield* issue(here)
      assert.strictEqual((yield* there.verify(token)).id, session.id)
      assert.strictEqual(kid((yield* issue(there)).token), keyId)
      assert.strictEqual((yield* there.verify(before.token)).id, before.session.id)

      const later = yield* here.rotateSigningKey
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(kid((yield* issue(there)).token), later)
    }).pipe(Effect.provide(services())))

  it.effect("SESS-02: of n processes that rotate at once, each makes a key, and none is lost", () =>
    Effect.gen(function*() {
      const processes = yield* Effect.all(Array.from({ length: 8 }, () => process))
      const [first] = processes
      if (first === undefined) return assert.fail()
      const before = yield* issue(first)
      const made = yield* Effect.all(processes.map(({ rotateSigningKey }) => rotateSigningKey), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual((yield* storedKids).toSorted(), [...made, kid(before.token)].toSorted())
      for (const sessions of processes) {
        const { session, token } = yield* issue(sessions)
        for (const other of processes) {
          const verified = yield* Effect.forkChild(other.verify(token))
          yield* TestClock.adjust("2 seconds")
          assert.strictEqual((yield* Fiber.join(verified)).id, session.id)
        }
      }
    }).pipe(Effect.provide(Environment)))

  it.effect("SESS-02: tokens of unknown keys cost one look at the stored keys a second, however many there are", () =>
    Effect.gen(function*() {
      const { store, watch } = yield* watched()
      const there = yield* Effect.provideService(process, SecretStore.SecretStore, store)
      const here = yield* Sessions
      watch.reads = 0
      yield* takeCalls
      const flood = Effect.all(Array.from({ length: 500 }, (_, index) => problem(there.verify(forged(index)))), {
        concurrency: "unbounded"
      })
      const first = yield* Effect.forkChild(flood)
      yield* TestClock.adjust("1 second")
      for (const answer of yield* Fiber.join(first)) assert.strictEqual(answer, "malformed")
      assert.isAtMost(watch.reads, 2)
      watch.reads = 0

      // A caller that has a good token waits with them, and is let in.
      const second = yield* Effect.forkChild(flood)
      yield* TestClock.adjust(1)
      yield* here.rotateSigningKey
      const { session, token } = yield* issue(here)
      const third = yield* Effect.forkChild(there.verify(token))
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual((yield* Fiber.join(third)).id, session.id)
      yield* Fiber.join(second)
      assert.isAtMost(watch.reads, 3)
      // None of it asked the sessions' own store for a forged one.
      assert.strictEqual((yield* takeCalls).findByTokenDigest, 1)
    }).pipe(Effect.provide(services())))

  it.effect("SESS-02: a clock that is set back keeps no caller waiting for longer than a second", () =>
    Effect.gen(function*() {
      yield* TestClock.adjust("1 hour")
      const there = yield* process
      const here = yield* Sessions
      assert.strictEqual(yield* problem(there.verify(forged(1))), "malformed")
      yield* TestClock.setTime(0)
      yield* here.rotateSigningKey
      const { token } = yield* issue(here)
      const verified = yield* Effect.forkChild(problem(there.verify(token)))
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(verified), "let in")
    }).pipe(Effect.provide(services())))

  it.effect("SESS-02: when the keys cannot be read, a token of an unknown key is not called wrong, and none is issued on old ones", () =>
    Effect.gen(function*() {
      const { store, watch } = yield* watched()
      const there = yield* Effect.provideService(process, SecretStore.SecretStore, store)
      const here = yield* Sessions
      const before = yield* issue(there)
      yield* here.rotateSigningKey
      const { token } = yield* issue(here)
      watch.failing = true
      assert.strictEqual(yield* problem(there.verify(token)), "SessionStoreUnavailable")
      assert.strictEqual(yield* problem(there.verify(before.token)), "let in")
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* problem(issue(there)), "SessionStoreUnavailable")
      watch.failing = false
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* problem(there.verify(token)), "let in")
      assert.strictEqual(yield* problem(issue(there)), "let in")
    }).pipe(Effect.provide(services())))

  it.effect("SESS-02 L-24: a retired key is dropped when an hour has passed and no live session needs it, and not before", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const idle = yield* issue(sessions, "idle")
      const first = kid(idle.token)
      const second = yield* sessions.rotateSigningKey
      const busy = yield* issue(sessions, "busy")
      const third = yield* sessions.rotateSigningKey
      const revoked = yield* issue(sessions, "revoked")
      const fourth = yield* sessions.rotateSigningKey
      yield* sessions.revoke(revoked.session.id, "operator")

      assert.strictEqual(yield* sessions.sweepSigningKeys, 0)
      yield* TestClock.adjust("59 minutes")
      assert.strictEqual(yield* sessions.sweepSigningKeys, 0)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* sessions.sweepSigningKeys, 1)
      assert.deepStrictEqual(yield* storedKids, [fourth, second, first])
      assert.notInclude(yield* storedKids, third)

      // One is used all the time, the other not at all.
      for (let day = 0; day < 29; day++) {
        yield* TestClock.adjust("1 day")
        assert.strictEqual(yield* problem(sessions.verify(busy.token)), "let in")
        assert.strictEqual(yield* sessions.sweepSigningKeys, 0)
      }
      yield* TestClock.adjust("1 day")
      assert.strictEqual(yield* sessions.sweepSigningKeys, 1)
      assert.deepStrictEqual(yield* storedKids, [fourth, second])
      assert.strictEqual(yield* problem(sessions.verify(busy.token)), "let in")
      // The key that signs stays, whether or not it has signed anything.
      yield* sessions.revoke(busy.session.id, "operator")
      assert.strictEqual(yield* sessions.sweepSigningKeys, 1)
      assert.deepStrictEqual(yield* storedKids, [fourth])
    }).pipe(Effect.provide(services())))

  it.effect("SESS-02: the sweeper drops the keys too", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      yield* sessions.rotateSigningKey
      yield* Layer.build(SessionCredentialService.layerSweeper({ interval: "10 minutes" }))
      yield* TestClock.adjust("50 minutes")
      assert.strictEqual((yield* storedKids).length, 2)
      yield* TestClock.adjust("20 minutes")
      assert.strictEqual((yield* storedKids).length, 1)
    }).pipe(Effect.provide(services())))

  it.effect("SESS-02 SESS-01: the exported keys verify every token with an independent library, and are printed nowhere", () =>
    Effect.gen(function*() {
      const sessions = yield* Sessions
      const before = yield* issue(sessions)
      yield* sessions.rotateSigningKey
      const after = yield* issue(sessions)
      const exported = yield* sessions.verificationKeys
      const { keys } = Redacted.value(exported)
      assert.strictEqual(keys.length, 2)
      for (const { session, token } of [before, after]) {
        const { payload } = yield* Effect.promise(() =>
          Jose.jwtVerify(
            Redacted.value(token),
            (header) => {
              const key = keys.find((candidate) => candidate.kid === header.kid)
              return key === undefined ? Promise.reject(new Error("no such key")) : Jose.importJWK({ ...key })
            },
            { typ: SessionToken.type, algorithms: ["HS256"] }
          )
        )
        assert.strictEqual(payload.sid, session.id)
      }
      assert.deepStrictEqual(Object.keys(keys[0] ?? {}).toSorted(), ["alg", "k", "kid", "kty", "use"])
      for (const { k } of keys) assert.notInclude(shown(exported), k)
    }).pipe(Effect.provide(services())))
})
