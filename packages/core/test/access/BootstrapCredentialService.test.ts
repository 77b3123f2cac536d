import { AccessRepository } from "@sallyport/core/access/AccessRepository"
import { assert, describe, it } from "@effect/vitest"
import * as AccessScope from "@sallyport/core/access/AccessScope"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as PairingCode from "@sallyport/core/access/PairingCode"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import type { Session } from "@sallyport/core/access/Session"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as Cause from "effect/Cause"
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import * as TestClock from "effect/testing/TestClock"
import * as Tracer from "effect/Tracer"
import { Environment, feed, Probe, redeem, services, shown, takeCalls } from "./accessSupport.ts"

const Links = BootstrapCredentialService.BootstrapCredentialService

const issue = (options: {
  readonly scopes?: ReadonlyArray<AccessScope.AccessScope>
  readonly uses?: number
  readonly kind?: PairingCode.Kind
  readonly lifetime?: Duration.Input
  readonly proofKeyThumbprint?: string
  readonly label?: string
} = {}) => Links.use((links) => links.issue({ issuedBy: "operator", scopes: ["runs:read", "access:read"], ...options }))

type Failure = BootstrapCredentialService.BootstrapCredentialError

/** Returns the reason of a refusal, or that there was none. */
const problem = <A, R>(effect: Effect.Effect<A, Failure, R>): Effect.Effect<string, never, R> =>
  Effect.match(effect, { onFailure: ({ reason }) => reason._tag, onSuccess: () => "let in" })

const seedText = "c2VlZGVkLWJ5LXRoZS1kZXNrdG9wLWFwcA"

/** Collects what is logged, whatever its level, message and annotations together. */
const withLogs = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const lines: Array<string> = []
    const logger = Logger.make<unknown, void>(({ cause, fiber, message }) => {
      const annotations = fiber.getRef(References.CurrentLogAnnotations)
      lines.push(`${shown(message)} ${shown(annotations)} ${Cause.pretty(cause)}`)
    })
    return Effect.map(
      Effect.provide(effect, Layer.mergeAll(Logger.layer([logger]), Layer.succeed(References.MinimumLogLevel, "All"))),
      (result) => [result, lines] as const
    )
  })

describe("a pairing link", () => {
  it.effect("BOOT-01: has the code of a device unless it is for a machine, and is redeemed in any form of entry", () =>
    Effect.gen(function*() {
      const links = yield* Links
      assert.match(Redacted.value((yield* issue()).code), /^[0-9A-HJKMNP-TV-Z]{4}(-[0-9A-HJKMNP-TV-Z]{4}){3}$/)
      assert.match(
        Redacted.value((yield* issue({ kind: "machine" })).code),
        /^[0-9A-HJKMNP-TV-Z]{4}(-[0-9A-HJKMNP-TV-Z]{4}){6}$/
      )
      const forms: ReadonlyArray<(code: string) => string> = [
        (code) => code,
        (code) => code.toLowerCase(),
        (code) => code.replaceAll("-", ""),
        (code) => ` ${code.replaceAll("-", " - ")} `,
        (code) => code.replaceAll("0", "o").replaceAll("1", "l")
      ]
      for (const kind of ["device", "machine"] as const) {
        for (const form of forms) {
          const { code } = yield* issue({ kind })
          const session = yield* redeem(links, { credential: Redacted.make(form(Redacted.value(code))) })
          assert.deepInclude({ ...session }, {
            subject: "owner",
            scopes: ["runs:read", "access:read"],
            proofKeyThumbprint: null
          })
        }
      }
    }).pipe(Effect.provide(services())))

  it.effect("BOOT-01: a mistyped code is told apart without asking the store, and costs nothing", () =>
    Effect.gen(function*() {
      const links = yield* Links
      for (const kind of ["device", "machine"] as const) {
        const { code } = yield* issue({ kind })
        const text = Redacted.value(code)
        const other = text.startsWith("7") ? "8" : "7"
        yield* takeCalls
        for (
          const typo of [
            other + text.slice(1),
            text.replaceAll("-", " - ").replace(/^./, other),
            `U${text.slice(1)}`,
            // Not to the length of a device's code: one in 32 of those has a good check symbol.
            kind === "device" ? text.slice(1) : text.slice(0, 18)
          ]
        ) assert.strictEqual(yield* problem(redeem(links, { credential: Redacted.make(typo) })), "MalformedCode", typo)
        assert.deepStrictEqual(yield* takeCalls, {})
        assert.strictEqual(yield* problem(redeem(links, { credential: code })), "let in")
      }
      for (const junk of ["", " ", "x", "A".repeat(21), "A".repeat(513), "A".repeat(1_000_000), "\u0000".repeat(16)]) {
        assert.strictEqual(yield* problem(redeem(links, { credential: Redacted.make(junk) })), "MalformedCode")
      }
    }).pipe(Effect.provide(services())))

  it.effect("BOOT-03 L-03: of n racers exactly as many win as there are uses", () =>
    Effect.gen(function*() {
      const links = yield* Links
      for (const uses of [1, 3]) {
        const { code } = yield* issue({ uses })
        const outcomes = yield* Effect.all(
          Array.from({ length: 24 }, () => problem(redeem(links, { credential: code }))),
          { concurrency: "unbounded" }
        )
        assert.strictEqual(outcomes.filter((outcome) => outcome === "let in").length, uses)
        assert.strictEqual(outcomes.filter((outcome) => outcome === "InvalidCredential").length, 24 - uses)
      }
      assert.deepStrictEqual(yield* links.list(), [])
    }).pipe(Effect.provide(services())))

  it.effect("BOOT-03 L-11: a request for more than it grants, or without its key, is refused and burns nothing", () =>
    Effect.gen(function*() {
      const links = yield* Links
      const { code } = yield* issue({ proofKeyThumbprint: "key" })
      const before = yield* feed
      for (let repeat = 0; repeat < 3; repeat++) {
        const greedy = yield* Effect.flip(
          redeem(links, { credential: code, scopes: ["runs:read", "access:write"], proofKeyThumbprint: "key" })
        )
        assert.strictEqual(greedy.reason._tag, "ScopeNotGranted")
        assert.include(greedy.message, "access:write")
        assert.strictEqual(yield* problem(redeem(links, { credential: code })), "InvalidCredential")
        assert.strictEqual(
          yield* problem(redeem(links, { credential: code, proofKeyThumbprint: "another" })),
          "InvalidCredential"
        )
        // Who lacks the key does not learn what the link grants.
        assert.strictEqual(
          yield* problem(redeem(links, { credential: code, scopes: ["access:write"] })),
          "InvalidCredential"
        )
      }
      assert.deepStrictEqual(yield* feed, before)
      assert.deepStrictEqual((yield* links.list()).map(({ remainingUses }) => remainingUses), [1])
      const grant = yield* redeem(links, { credential: code, scopes: ["runs:read"], proofKeyThumbprint: "key" })
      assert.deepStrictEqual(grant.scopes, ["runs:read"])
      assert.strictEqual(grant.proofKeyThumbprint, "key")
      assert.strictEqual(
        yield* problem(redeem(links, { credential: code, proofKeyThumbprint: "key" })),
        "InvalidCredential"
      )
    }).pipe(Effect.provide(services())))

  it.effect("BOOT-03: a redemption that fails in the store is an error; before the commit it burns nothing", () =>
    Effect.gen(function*() {
      const links = yield* Links
      const probe = yield* Probe
      const { code } = yield* issue()
      probe.failing.add("links.redeem")
      assert.strictEqual(yield* problem(redeem(links, { credential: code })), "BootstrapStoreUnavailable")
      probe.failing.clear()
      assert.strictEqual(yield* problem(redeem(links, { credential: code })), "let in")
    }).pipe(Effect.provide(services())))

  it.effect("BOOT-04: lives five minutes to the millisecond unless its issuer says otherwise", () =>
    Effect.gen(function*() {
      const links = yield* Links
      const lives = Effect.fnUntraced(function*(lifetime: Duration.Input | undefined, millis: number) {
        const { code, link } = yield* issue({ uses: 2, ...(lifetime === undefined ? {} : { lifetime }) })
        assert.strictEqual(DateTime.toEpochMillis(link.expiresAt) - DateTime.toEpochMillis(link.createdAt), millis)
        yield* TestClock.adjust(Duration.millis(millis - 1))
        assert.strictEqual((yield* links.list()).length, 1)
        assert.strictEqual(yield* problem(redeem(links, { credential: code })), "let in")
        yield* TestClock.adjust("1 millis")
        assert.strictEqual((yield* links.list()).length, 0)
        assert.strictEqual(yield* problem(redeem(links, { credential: code })), "InvalidCredential")
      })
      yield* lives(undefined, 300_000)
      yield* lives("1 millis", 1)
      yield* lives("1 hour", 3_600_000)
      yield* lives(Duration.millis(1.4), 1)
    }).pipe(Effect.provide(services())))

  it.effect("BOOT-04: refuses lifetimes that are not positive or above the maximum, and makes no link", () =>
    Effect.gen(function*() {
      const links = yield* Links
      for (const lifetime of ["3600001 millis", "Infinity", 0, -1, NaN, 0.2] as const) {
        const error = yield* Effect.flip(issue({ lifetime }))
        assert.strictEqual(error.reason._tag, "LifetimeOutOfBounds", String(lifetime))
        assert.include(error.message, "1h")
        assert.strictEqual(
          yield* problem(links.seed({
            credential: Redacted.make(seedText),
            scopes: [],
            ready: Effect.void,
            lifetime
          })),
          "LifetimeOutOfBounds"
        )
      }
      assert.deepStrictEqual(yield* feed, [])
    }).pipe(Effect.provide(services())))

  it.effect("BOOT-04: the configured lifetime and maximum hold, and ones that contradict each other stop the layer", () =>
    Effect.gen(function*() {
      const links = yield* BootstrapCredentialService.make({ lifetime: "1 minute", maximumLifetime: "2 minutes" })
      const ask = (lifetime?: Duration.Input) => links.issue({ issuedBy: "operator", scopes: [], lifetime })
      assert.strictEqual(DateTime.toEpochMillis((yield* ask()).link.expiresAt), 60_000)
      assert.strictEqual(yield* problem(ask("2 minutes")), "let in")
      assert.strictEqual(yield* problem(ask("121 seconds")), "LifetimeOutOfBounds")
      for (
        const [options, problem] of [
          [{ lifetime: "2 hours" }, "lifetime must not be longer than maximumLifetime"],
          [{ maximumLifetime: "4 minutes" }, "lifetime must not be longer than maximumLifetime"],
          [{ lifetime: 0 }, "lifetime must be a duration of at least 1 millisecond"],
          [{ lifetime: -5 }, "lifetime must be a duration of at least 1 millisecond"],
          [{ lifetime: "Infinity" }, "lifetime must be a duration of at least 1 millisecond"],
          [{ maximumLifetime: NaN }, "maximumLifetime must be a duration of at least 1 millisecond"]
        ] as const
      ) {
        const error = yield* Effect.flip(BootstrapCredentialService.make(options))
        assert.strictEqual(error._tag, "InvalidBootstrapCredentialOptions")
        assert.include(error.message, problem)
      }
    }).pipe(Effect.provide(Environment)))

  it.effect("a revoked link lets no caller in, and is revoked once", () =>
    Effect.gen(function*() {
      const links = yield* Links
      const { code, link } = yield* issue()
      yield* links.revoke(link.id, "operator")
      assert.strictEqual(yield* problem(redeem(links, { credential: code })), "InvalidCredential")
      for (const id of [link.id, "unknown", ""]) {
        const error = yield* Effect.flip(links.revoke(id, "operator"))
        assert.strictEqual(error.reason._tag, "LinkNotFound")
      }
      assert.deepStrictEqual(yield* links.list(), [])
    }).pipe(Effect.provide(services())))

  it.effect("a number of uses that is none leaves nothing behind", () =>
    Effect.gen(function*() {
      for (const uses of [0, -1, 1.5, NaN, Infinity]) {
        assert.strictEqual((yield* Effect.flip(issue({ uses }))).reason._tag, "InvalidInput", String(uses))
      }
      assert.deepStrictEqual(yield* feed, [])
    }).pipe(Effect.provide(services())))
})

describe("delegation", () => {
  const sessionWith = (scopes: ReadonlyArray<AccessScope.AccessScope>): Effect.Effect<
    Session,
    SessionCredentialService.SessionCredentialError,
    SessionCredentialService.SessionCredentialService
  > =>
    SessionCredentialService.SessionCredentialService.use((sessions) =>
      sessions.issue({ subject: "ada", scopes, method: "bearer-access-token" })
    ).pipe(Effect.map(({ session }) => session))

  it.effect("BOOT-08: a session hands on what it holds and nothing else", () =>
    Effect.gen(function*() {
      const links = yield* Links
      const issuer = yield* sessionWith(["access:write", "runs:read"])
      for (let mask = 0; mask < 2 ** AccessScope.builtin.length; mask++) {
        const scopes = AccessScope.builtin.filter((_, index) => (mask >> index) % 2 === 1)
        const missing = scopes.filter((scope) => scope !== "access:write" && scope !== "runs:read")
        const outcome = yield* Effect.result(links.issue({ issuedBy: issuer, scopes }))
        if (missing.length === 0) {
          assert.isTrue(outcome._tag === "Success")
        } else {
          if (outcome._tag === "Success") return assert.fail(`handed on ${scopes.join(" ")}`)
          const { reason } = outcome.failure
          if (reason._tag !== "ScopeNotHeld") return assert.fail(reason._tag)
          assert.deepStrictEqual(reason.missing, missing)
          assert.include(outcome.failure.message, missing.join(", "))
        }
      }
      assert.strictEqual((yield* links.list()).length, 4)
    }).pipe(Effect.provide(services())))

  it.effect("BOOT-08: holds along a chain: the session of a link hands on no more than the link granted", () =>
    Effect.gen(function*() {
      const links = yield* Links
      const { code } = yield* links.issue({
        issuedBy: yield* sessionWith(["access:write", "runs:read"]),
        scopes: ["access:write"]
      })
      const second = yield* redeem(links, { credential: code })
      assert.strictEqual(second.subject, "ada")
      assert.strictEqual((yield* feed).at(-1)?.actor, "ada")
      assert.strictEqual(yield* problem(links.issue({ issuedBy: second, scopes: ["runs:read"] })), "ScopeNotHeld")
      assert.strictEqual(yield* problem(links.issue({ issuedBy: second, scopes: ["access:write"] })), "let in")
    }).pipe(Effect.provide(services())))

  it.effect("BOOT-08: the operator holds the host's vocabulary, and no scope outside it", () =>
    Effect.gen(function*() {
      const narrow: ReadonlyArray<AccessScope.AccessScope> = ["runs:read"]
      const links = yield* Effect.provideService(BootstrapCredentialService.make({}), AccessScope.Vocabulary, narrow)
      const ask = (scopes: ReadonlyArray<AccessScope.AccessScope>) =>
        problem(links.issue({ issuedBy: "operator", scopes }))
      assert.strictEqual(yield* ask(["runs:read"]), "let in")
      assert.strictEqual(yield* ask(["runs:read", "access:write"]), "ScopeNotHeld")
      const session = yield* Effect.provide(sessionWith(["runs:read"]), services())
      for (const issuedBy of ["operator", session] as const) {
        const { message } = yield* Effect.flip(links.issue({ issuedBy, scopes: ["access:write"] }))
        assert.include(message, "This server has no scope access:write; it has runs:read")
      }
    }).pipe(Effect.provide(Environment)))

  it.effect("BOOT-08 AUTH-02: all is the vocabulary that the service was built with, or what the session holds", () =>
    Effect.gen(function*() {
      const hosts: ReadonlyArray<AccessScope.AccessScope> = ["runs:read", "access:write"]
      const links = yield* Effect.provideService(BootstrapCredentialService.make({}), AccessScope.Vocabulary, hosts)
      // A caller that has no vocabulary in its context, as most have not, grants the host's all the same.
      assert.deepStrictEqual((yield* links.issue({ issuedBy: "operator", scopes: "all" })).link.scopes, hosts)
      const credential = Redacted.make("a-seed-of-22-characters")
      assert.deepStrictEqual((yield* links.seed({ credential, scopes: "all", ready: Effect.void })).scopes, hosts)
      const session = yield* Effect.provide(sessionWith(["runs:read"]), services())
      assert.deepStrictEqual((yield* links.issue({ issuedBy: session, scopes: "all" })).link.scopes, ["runs:read"])
      // @ts-expect-error: a misspelt "all" is no list of scopes.
      yield* Effect.exit(Effect.suspend(() => links.issue({ issuedBy: "operator", scopes: "al" })))
    }).pipe(Effect.provide(Environment)))
})

describe("refusals", () => {
  it.effect("BOOT-05: a credential that never existed is one and the same error, one that did says how it ended, and the log has the reason", () =>
    Effect.gen(function*() {
      const links = yield* Links
      const expired = yield* issue({ lifetime: "1 minute" })
      yield* TestClock.adjust("1 minute")
      const revoked = yield* issue()
      yield* links.revoke(revoked.link.id, "operator")
      const spent = yield* issue()
      yield* redeem(links, { credential: spent.code })
      const bound = yield* issue({ proofKeyThumbprint: "key" })
      const repository = (yield* AccessRepository).links
      const swept = yield* issue()
      const unknown = yield* PairingCode.generate("device")
      const cases = {
        unknown: { credential: unknown },
        expired: { credential: expired.code },
        revoked: { credential: revoked.code },
        exhausted: { credential: spent.code },
        "proof-key-mismatch": { credential: bound.code, proofKeyThumbprint: "another" }
      }
      const errors: Array<Failure> = []
      const told: Array<Failure> = []
      for (const [reason, attempt] of Object.entries(cases)) {
        const [error, lines] = yield* withLogs(Effect.flip(redeem(links, attempt)))
        ;(["expired", "revoked", "exhausted"].includes(reason) ? told : errors).push(error)
        assert.strictEqual(lines.length, 1, reason)
        assert.include(lines[0], reason)
        assert.notInclude(lines[0], Redacted.value(attempt.credential))
      }
      errors.push(yield* Effect.flip(redeem(links, { credential: bound.code })))
      // A seeded credential that no host seeded, and one whose link was swept away.
      errors.push(yield* Effect.flip(redeem(links, { credential: Redacted.make(seedText) })))
      yield* TestClock.adjust("1 hour")
      yield* repository.sweep({ endedBeforeMillis: 10_000_000, limit: 100 }, { actor: "system", nowMillis: 10_000_000 })
      errors.push(yield* Effect.flip(redeem(links, { credential: swept.code })))
      const [first] = errors
      for (const error of errors) {
        assert.deepStrictEqual(error, first)
        assert.strictEqual(error.message, "The pairing code is not valid, or not any more; ask for a new one")
        assert.strictEqual(JSON.stringify(error), JSON.stringify(first))
        assert.deepStrictEqual(Object.keys(error.reason), ["_tag"])
      }
      assert.strictEqual(errors.length, 5)
      assert.deepStrictEqual(
        told.map(({ reason }) => reason._tag === "InvalidCredential" ? reason.ended : reason._tag),
        ["expired", "revoked", "used"]
      )
    }).pipe(Effect.provide(services())))

  it.effect("L-18: a failing store is its own error, whatever the words of its cause, and never an invalid code", () =>
    Effect.gen(function*() {
      const links = yield* Links
      const probe = yield* Probe
      const { code, link } = yield* issue()
      for (const operation of ["links.insert", "links.redeem", "links.list", "links.revoke"]) {
        probe.failing.add(operation)
      }
      const seed = links.seed({ credential: Redacted.make(seedText), scopes: [], ready: Effect.void })
      for (
        const effect of [
          Effect.asVoid(issue()),
          Effect.asVoid(redeem(links, { credential: code })),
          Effect.asVoid(links.list()),
          links.revoke(link.id, "operator"),
          Effect.asVoid(seed)
        ]
      ) {
        const error = yield* Effect.flip<
          void,
          Failure,
          BootstrapCredentialService.BootstrapCredentialService | SessionCredentialService.SessionCredentialService
        >(effect)
        assert.strictEqual(error.reason._tag, "BootstrapStoreUnavailable")
        assert.include(error.message, "try again")
        assert.include(shown(error), "expired, revoked or not found")
      }
      probe.failing.clear()
      assert.strictEqual(yield* problem(seed), "let in")
    }).pipe(Effect.provide(services())))

  it.effect("L-02: a digest key that cannot be made, read or trusted stops the layer", () =>
    Effect.gen(function*() {
      const secrets = yield* SecretStore.SecretStore
      const failure = new SecretStore.SecretStoreError({
        reason: new SecretStore.StorageFailure({
          operation: "getOrCreateRandom",
          secretName: "pairing-code-key",
          cause: new Error("disk full")
        })
      })
      const broken = { ...secrets, getOrCreateRandom: () => Effect.fail(failure) }
      const error = yield* Effect.flip(
        Effect.provideService(BootstrapCredentialService.make({}), SecretStore.SecretStore, broken)
      )
      assert.strictEqual(error, failure)
      for (const bytes of ["", "short-pairing-key"]) {
        yield* secrets.set("pairing-code-key", Redacted.make(new TextEncoder().encode(bytes)))
        const corrupt = yield* Effect.flip(BootstrapCredentialService.make({}))
        if (corrupt._tag !== "SecretStoreError") return assert.fail(corrupt._tag)
        assert.strictEqual(corrupt.reason._tag, "Corrupt")
        assert.include(corrupt.message, "pairing-code-key")
        assert.include(corrupt.message, "Restore the secret from a backup, or remove it")
        assert.notInclude(shown(corrupt), "short-pairing-key")
      }
    }).pipe(Effect.provide(Environment)))
})

describe("a seeded credential", () => {
  const seed = (
    options: {
      readonly credential?: string
      readonly ready?: Effect.Effect<void>
      readonly lifetime?: Duration.Input
    } = {}
  ) =>
    Links.use((links) =>
      links.seed({
        credential: Redacted.make(options.credential ?? seedText),
        scopes: ["runs:read"],
        ready: options.ready ?? Effect.void,
        lifetime: options.lifetime
      })
    )

  it.effect("BOOT-04 L-10: its clock starts when the server is ready, however long that takes", () =>
    Effect.gen(function*() {
      const links = yield* Links
      const ready = yield* Deferred.make<void>()
      const seeding = yield* Effect.forkChild(seed({ ready: Deferred.await(ready) }))
      yield* TestClock.adjust("1 hour")
      assert.isUndefined(seeding.pollUnsafe())
      assert.strictEqual(yield* problem(redeem(links, { credential: Redacted.make(seedText) })), "InvalidCredential")
      yield* Deferred.succeed(ready, undefined)
      const link = yield* Fiber.join(seeding)
      assert.strictEqual(DateTime.toEpochMillis(link.createdAt), 3_600_000)
      assert.strictEqual(DateTime.toEpochMillis(link.expiresAt), 3_600_000 + 300_000)
      yield* TestClock.adjust(Duration.millis(299_999))
      assert.strictEqual(yield* problem(redeem(links, { credential: Redacted.make(seedText) })), "let in")
    }).pipe(Effect.provide(services())))

  it.effect("BOOT-04 L-10: it is redeemed once, expires, and cannot be seeded again, spent or not", () =>
    Effect.gen(function*() {
      const links = yield* Links
      const consume = (text: string) => problem(redeem(links, { credential: Redacted.make(text) }))
      yield* seed()
      assert.strictEqual(yield* problem(Effect.provideService(seed(), Links, links)), "AlreadySeeded")
      const outcomes = yield* Effect.all(Array.from({ length: 12 }, () => consume(seedText)), {
        concurrency: "unbounded"
      })
      assert.strictEqual(outcomes.filter((outcome) => outcome === "let in").length, 1)
      const again = yield* Effect.flip(seed())
      assert.strictEqual(again.reason._tag, "AlreadySeeded")
      assert.strictEqual(yield* consume(seedText), "InvalidCredential")
      yield* seed({ credential: `${seedText}-2` })
      yield* TestClock.adjust("5 minutes")
      assert.strictEqual(yield* consume(`${seedText}-2`), "InvalidCredential")
      assert.strictEqual((yield* Effect.flip(seed({ credential: `${seedText}-2` }))).reason._tag, "AlreadySeeded")
      assert.strictEqual(yield* consume(`${seedText}-2`), "InvalidCredential")
    }).pipe(Effect.provide(services())))

  it.effect("L-10: n seedings of one credential at once make one link", () =>
    Effect.gen(function*() {
      const links = yield* Links
      const outcomes = yield* Effect.all(
        Array.from({ length: 12 }, () => problem(Effect.provideService(seed(), Links, links))),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(outcomes.sort(), [...Array.from({ length: 11 }, () => "AlreadySeeded"), "let in"])
      assert.strictEqual((yield* links.list()).length, 1)
    }).pipe(Effect.provide(services())))

  it.effect("BOOT-04: an interrupted start seeds nothing", () =>
    Effect.gen(function*() {
      const links = yield* Links
      const seeding = yield* Effect.forkChild(seed({ ready: Effect.never }))
      yield* TestClock.adjust("1 minute")
      yield* Fiber.interrupt(seeding)
      assert.deepStrictEqual(yield* links.list(), [])
      assert.deepStrictEqual(yield* feed, [])
    }).pipe(Effect.provide(services())))

  it.effect("BOOT-04: one that could be guessed, or that looks like a mistyped code, is refused", () =>
    Effect.gen(function*() {
      for (
        const [credential, reason] of [["", "WeakCredential"], ["A".repeat(21), "WeakCredential"], [
          "A".repeat(513),
          "WeakCredential"
        ], ["0000-0000-0000-0000-0000-0000-0007", "MalformedCode"]] as const
      ) {
        const error = yield* Effect.flip(seed({ credential }))
        assert.strictEqual(error.reason._tag, reason)
      }
      assert.deepStrictEqual(yield* feed, [])
      assert.strictEqual((yield* seed({ credential: "A".repeat(22) })).remainingUses, 1)
      assert.strictEqual((yield* seed({ credential: "B".repeat(512) })).remainingUses, 1)
    }).pipe(Effect.provide(services())))

  it.effect("BOOT-04: whatever a host seeds can be redeemed, also where it happens to read as a code", () =>
    Effect.gen(function*() {
      const links = yield* Links
      const machine = Redacted.value(yield* PairingCode.generate("machine"))
      // Of hexadecimal text of 28 digits every 32nd is a code by chance.
      const hex = Array.from(
        { length: 400 },
        (_, index) => (index * 2_654_435_761 % 2 ** 32).toString(16).padStart(28, "abcdef0123456789abcdef012345")
      )
      const byChance = hex.filter((text) => Option.isSome(PairingCode.parse(text)))
      assert.isAbove(byChance.length, 0)
      for (const credential of [machine, machine.replaceAll("-", "").toLowerCase(), ...hex]) {
        const seeded = yield* Effect.exit(seed({ credential }))
        // The machine's code in another form is the same credential.
        if (Exit.isFailure(seeded)) assert.strictEqual(credential.length, 28)
        else {assert.strictEqual(
            yield* problem(redeem(links, { credential: Redacted.make(credential) })),
            "let in",
            credential
          )}
        assert.strictEqual(
          yield* problem(redeem(links, { credential: Redacted.make(credential) })),
          "InvalidCredential"
        )
      }
    }).pipe(Effect.provide(services())))
})

describe("secrets", () => {
  it.effect("BOOT-02 L-12: rows, lists, feed, errors, spans and logs hold no code and no seeded credential", () =>
    Effect.gen(function*() {
      const spans: Array<Tracer.NativeSpan> = []
      const tracer = Tracer.make({
        span: (options) => {
          const span = new Tracer.NativeSpan(options)
          spans.push(span)
          return span
        }
      })
      const outcomes: Array<unknown> = []
      const credentials: Array<Redacted.Redacted> = []
      const run = Effect.gen(function*() {
        const links = yield* Links
        const probe = yield* Probe
        const device = yield* issue({ uses: 2, label: "Ada's phone" })
        const machine = yield* issue({ kind: "machine" })
        const bound = yield* issue({ proofKeyThumbprint: "key" })
        const gone = yield* issue()
        const seeded = Redacted.make(seedText, { label: "seed" })
        credentials.push(device.code, machine.code, bound.code, gone.code, seeded)
        outcomes.push(links, device, machine, bound, gone)
        outcomes.push(yield* links.seed({ credential: seeded, scopes: ["runs:read"], ready: Effect.void }))
        outcomes.push(yield* links.list())
        yield* links.revoke(gone.link.id, "operator")
        for (const operation of [undefined, "links.redeem"]) {
          if (operation !== undefined) probe.failing.add(operation)
          for (const credential of credentials) {
            outcomes.push(yield* Effect.exit(redeem(links, { credential, scopes: ["connect:manage"] })))
            outcomes.push(yield* Effect.exit(redeem(links, { credential })))
            outcomes.push(
              yield* Effect.exit(redeem(links, { credential: Redacted.make(`${Redacted.value(credential)}7`) }))
            )
          }
        }
        outcomes.push(yield* Effect.exit(links.seed({ credential: seeded, scopes: [], ready: Effect.void })))
        outcomes.push(yield* links.list(), yield* feed, probe.traffic)
      })
      const [, lines] = yield* withLogs(Effect.provideService(run, Tracer.Tracer, tracer))
      assert.isAbove(lines.length, 3)
      const names = new Set(spans.map(({ name }) => name))
      for (const method of ["issue", "redeem", "list", "revoke", "seed"]) {
        assert.isTrue(names.has(`BootstrapCredentialService.${method}`), method)
      }
      const walked = [
        ...outcomes,
        ...outcomes.filter(Exit.isExit).filter(Exit.isFailure).map(({ cause }) => Cause.pretty(cause)),
        ...spans.flatMap((span) => [span.name, [...span.attributes], span.events, span.links, span.status]),
        lines
      ]
      for (const text of walked.map(shown)) {
        for (const credential of credentials) {
          const plain = Redacted.value(credential)
          const bare = plain.replaceAll("-", "")
          for (
            const form of [
              plain,
              bare,
              bare.toLowerCase(),
              Buffer.from(plain).toString("hex"),
              Buffer.from(bare).toString("base64url")
            ]
          ) {
            assert.notInclude(text, form)
          }
        }
      }
    }).pipe(Effect.provide(services())))

  it.effect("BOOT-02 SESS-12: the stored digest is keyed: it cannot be computed from the code, and differs between stores", () =>
    Effect.gen(function*() {
      const digestOf = Effect.gen(function*() {
        const links = yield* Links
        const probe = yield* Probe
        const key = Redacted.value(
          Option.getOrThrow(yield* SecretStore.SecretStore.use((store) => store.get("pairing-code-key")))
        )
        assert.strictEqual(key.length, 32)
        yield* links.seed({ credential: Redacted.make(seedText), scopes: [], ready: Effect.void })
        const repository = (yield* AccessRepository).links
        const [row] = yield* repository.list({ nowMillis: 0, limit: 10 })
        assert.notInclude(shown(probe.traffic), Buffer.from(key).toString("hex"))
        return row?.codeDigest ?? ""
      })
      const first = yield* Effect.provide(digestOf, Layer.fresh(services()))
      const second = yield* Effect.provide(digestOf, Layer.fresh(services()))
      assert.match(first, /^[0-9a-f]{64}$/)
      assert.notStrictEqual(first, second)
      for (const text of [seedText, `seed:${seedText}`, `code:${seedText}`]) {
        const plain = yield* Effect.promise(() => crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)))
        assert.notStrictEqual(Buffer.from(plain).toString("hex"), first)
      }
      // A digest that leaked is no credential either.
      yield* Effect.gen(function*() {
        const links = yield* Links
        const { code } = yield* issue()
        const repository = (yield* AccessRepository).links
        const [row] = yield* repository.list({ nowMillis: 0, limit: 10 })
        assert.strictEqual(
          yield* problem(redeem(links, { credential: Redacted.make(row?.codeDigest ?? "") })),
          "InvalidCredential"
        )
        assert.strictEqual(yield* problem(redeem(links, { credential: code })), "let in")
      }).pipe(Effect.provide(services()))
    }))

  it.effect("L-05: services built at once over one store redeem each other's codes", () =>
    Effect.gen(function*() {
      const made = yield* Effect.all(
        Array.from({ length: 6 }, () => BootstrapCredentialService.make({})),
        { concurrency: "unbounded" }
      )
      for (const [index, issuer] of made.entries()) {
        const { code } = yield* issuer.issue({ issuedBy: "operator", scopes: [] })
        const redeemer = made[(index + 1) % made.length] ?? issuer
        assert.strictEqual(yield* problem(redeem(redeemer, { credential: code })), "let in")
      }
    }).pipe(Effect.provide(services())))

  it.effect("BOOT-02: the feed says who issued, redeemed and revoked", () =>
    Effect.gen(function*() {
      const links = yield* Links
      const twice = yield* issue({ uses: 2 })
      yield* redeem(links, { credential: twice.code })
      yield* redeem(links, { credential: twice.code })
      const other = yield* issue()
      yield* links.revoke(other.link.id, "operator")
      assert.deepStrictEqual(
        (yield* feed).map(({ actor, change }) => [
          change._tag,
          actor,
          change._tag === "pairingLinkUpserted" ? change.link.remainingUses : "reason" in change ? change.reason : ""
        ]),
        [
          ["pairingLinkUpserted", "operator", 2],
          ["pairingLinkUpserted", "operator", 1],
          ["sessionUpserted", "operator", ""],
          ["pairingLinkRemoved", "operator", "consumed"],
          ["sessionUpserted", "operator", ""],
          ["pairingLinkUpserted", "operator", 1],
          ["pairingLinkRemoved", "operator", "revoked"]
        ]
      )
    }).pipe(Effect.provide(services())))
})
