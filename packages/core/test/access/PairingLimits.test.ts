import { assert, describe, it } from "@effect/vitest"
import * as AccessScope from "@sallyport/core/access/AccessScope"
import * as AuthPolicy from "@sallyport/core/access/AuthPolicy"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as PairingCode from "@sallyport/core/access/PairingCode"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as RateLimiter from "effect/persistence/RateLimiter"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/testing/TestClock"
import * as Attempts from "../../src/access/internal/attempts.ts"
import { Environment, feed, Probe, redeem, services, takeCalls } from "./accessSupport.ts"

const Links = BootstrapCredentialService.BootstrapCredentialService

type Service = BootstrapCredentialService.BootstrapCredentialService["Service"]
type Failure = BootstrapCredentialService.BootstrapCredentialError

const problem = <A, R>(effect: Effect.Effect<A, Failure, R>): Effect.Effect<string, never, R> =>
  Effect.match(effect, { onFailure: ({ reason }) => reason._tag, onSuccess: () => "let in" })

const wrong = (links: Service, source?: string) =>
  Effect.flatMap(PairingCode.generate("device"), (credential) => redeem(links, { credential, source }))

const good = (links: Service, source?: string) =>
  Effect.gen(function*() {
    const { code } = yield* links.issue({ issuedBy: "operator", scopes: ["runs:read"] })
    return yield* redeem(links, { credential: code, source })
  })

const limited = services({
  links: { attempts: { perSource: { limit: 5, window: "1 minute" }, total: { limit: 12, window: "1 minute" } } }
})

const seed = (links: Service, text: string) =>
  links.seed({ credential: Redacted.make(text), scopes: ["runs:read"], ready: Effect.void })

describe("wrong pairing codes", () => {
  it.effect("BOOT-06 BOOT-12: are limited per source, and a right one is never refused for them", () =>
    Effect.gen(function*() {
      const links = yield* Links
      for (let attempt = 0; attempt < 5; attempt++) {
        assert.strictEqual(yield* problem(wrong(links, "a")), "InvalidCredential")
      }
      const { reason } = yield* Effect.flip(wrong(links, "a"))
      if (reason._tag !== "TooManyAttempts") return assert.fail(reason._tag)
      assert.strictEqual(reason.retryAfterMillis, 60_000)
      assert.strictEqual(reason.message, "There were too many wrong pairing codes; try again in 1m")
      // The neighbour behind the same address may have sent them.
      assert.strictEqual(yield* problem(good(links, "a")), "let in")
      assert.strictEqual(yield* problem(wrong(links, "b")), "InvalidCredential")
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* problem(wrong(links, "a")), "InvalidCredential")
    }).pipe(Effect.provide(limited)))

  it.effect("BOOT-06: are limited in total, and then no source gets a counter of its own", () =>
    Effect.gen(function*() {
      const links = yield* Links
      for (let attempt = 0; attempt < 12; attempt++) {
        assert.strictEqual(yield* problem(wrong(links, `source-${attempt}`)), "InvalidCredential")
      }
      for (const source of ["another", undefined, "source-0"]) {
        assert.strictEqual(yield* problem(wrong(links, source)), "TooManyAttempts")
      }
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* problem(wrong(links, "another")), "InvalidCredential")
    }).pipe(Effect.provide(limited)))

  it.effect("BOOT-06: a source that goes on and on does not use up what all have together", () =>
    Effect.gen(function*() {
      const links = yield* Links
      for (let attempt = 0; attempt < 100; attempt++) yield* problem(wrong(links, "a"))
      for (let attempt = 0; attempt < 5; attempt++) {
        assert.strictEqual(yield* problem(wrong(links, "b")), "InvalidCredential")
      }
    }).pipe(Effect.provide(limited)))

  it.effect("BOOT-06: alone count: not a typing error, not a good code, not one that asks for too much, not a failing store", () =>
    Effect.gen(function*() {
      const links = yield* Links
      const probe = yield* Probe
      for (let attempt = 0; attempt < 50; attempt++) {
        const credential = Redacted.make("7777-7777-7777-7778")
        assert.strictEqual(yield* problem(redeem(links, { credential, source: "a" })), "MalformedCode")
        assert.strictEqual(yield* problem(good(links, "a")), "let in")
        const { code } = yield* links.issue({ issuedBy: "operator", scopes: ["runs:read"] })
        assert.strictEqual(
          yield* problem(redeem(links, { credential: code, source: "a", scopes: ["access:write"] })),
          "ScopeNotGranted"
        )
        probe.failing.add("links.redeem")
        assert.strictEqual(
          yield* problem(redeem(links, { credential: code, source: "a" })),
          "BootstrapStoreUnavailable"
        )
        probe.failing.clear()
      }
    }).pipe(Effect.provide(limited)))

  it.effect("BOOT-06: of n racers no more than the limit are told that theirs is wrong", () =>
    Effect.gen(function*() {
      const links = yield* Links
      const answers = yield* Effect.all(Array.from({ length: 100 }, () => problem(wrong(links, "a"))), {
        concurrency: "unbounded"
      })
      assert.strictEqual(answers.filter((answer) => answer === "InvalidCredential").length, 5)
      assert.strictEqual(answers.filter((answer) => answer === "TooManyAttempts").length, 95)
    }).pipe(Effect.provide(limited)))

  it.effect("BOOT-12 C-21: past every limit of its networks, and of all together, a right one from anywhere is let in", () =>
    Effect.gen(function*() {
      const links = yield* Links
      const answers = yield* Effect.forEach(
        Array.from({ length: 1_000 }, (_, index) => `2001:db8:1:${(index % 500).toString(16)}::${index + 1}`),
        (source) => problem(wrong(links, source))
      )
      // One network of 48 bits does not use up what all have together: 4 times what one address may.
      assert.strictEqual(answers.filter((answer) => answer === "InvalidCredential").length, 8)
      assert.strictEqual(yield* problem(wrong(links, "2001:db8:2::1")), "InvalidCredential")
      for (const source of ["2001:db8:1::1", "2001:db8:1:ffff::1", "2001:db8:2::1", "192.0.2.1", undefined]) {
        assert.strictEqual(yield* problem(good(links, source)), "let in")
      }
      for (let index = 0; index < 12; index++) yield* problem(wrong(links, `192.0.${index}.1`))
      assert.strictEqual(yield* problem(wrong(links, "198.51.100.1")), "TooManyAttempts")
      assert.strictEqual(yield* problem(good(links, "198.51.100.1")), "let in")
    }).pipe(Effect.provide(
      services({
        links: { attempts: { perSource: { limit: 2, window: "1 minute" }, total: { limit: 12, window: "1 minute" } } }
      })
    )))

  it.effect("BOOT-12: are counted by address and by each network that it is part of", () =>
    Effect.sync(() => {
      assert.deepStrictEqual(Attempts.networksOf("2001:DB8:1:2345:0:0:0:1%eth0"), [
        "2001:db8:1::/48",
        "2001:db8:1:2300::/56",
        "2001:db8:1:2345::/64",
        "2001:db8:1:2345::1/128"
      ])
      for (const text of ["203.0.113.7", "::ffff:203.0.113.7"]) {
        assert.deepStrictEqual(Attempts.networksOf(text), ["203.0.113.7/32"])
      }
      assert.deepStrictEqual(Attempts.networksOf("a socket"), ["a?socket"])
    }))

  it.effect("BOOT-06: any number of sources leave no more counters than there is room for: the oldest is forgotten", () =>
    Effect.gen(function*() {
      const attempts = yield* Attempts.make("test", {
        perSource: { attempts: 1, windowMillis: 3_600_000 },
        total: { attempts: 1_000_000, windowMillis: 3_600_000 }
      })
      const answer = (source: string) =>
        Effect.map(attempts.count(source), (exceeded) => Option.isSome(exceeded) ? "Exceeded" : "Counted")
      yield* answer("first")
      assert.strictEqual(yield* answer("first"), "Exceeded")
      for (let index = 0; index < 9_998; index++) yield* answer(`source-${index}`)
      assert.strictEqual(yield* answer("first"), "Exceeded")
      yield* answer("one more")
      assert.strictEqual(yield* answer("first"), "Counted")
      assert.strictEqual(yield* answer("one more"), "Exceeded")
    }))

  it.effect("BOOT-06: are counted with the host's RateLimiter where it has one, and none is judged while that is away", () =>
    Effect.gen(function*() {
      const environment = yield* Effect.context<Layer.Success<typeof Environment>>()
      let away = false
      const store = Layer.effect(
        RateLimiter.RateLimiterStore,
        Effect.map(RateLimiter.RateLimiterStore, (real) =>
          RateLimiter.RateLimiterStore.of({
            ...real,
            fixedWindow: (options) =>
              Effect.suspend(() =>
                away
                  ? Effect.fail(
                    new RateLimiter.RateLimiterError({
                      reason: new RateLimiter.RateLimitStoreError({ message: "away" })
                    })
                  )
                  : real.fixedWindow(options)
              )
          }))
      ).pipe(Layer.provide(RateLimiter.layerStoreMemory))
      const limiter = yield* Layer.build(RateLimiter.layer.pipe(Layer.provide(store)))
      const node = BootstrapCredentialService.make({ attempts: { perSource: { limit: 4, window: "1 minute" } } }).pipe(
        Effect.provideContext(environment),
        Effect.provideContext(limiter)
      )
      const nodes = [yield* node, yield* node] as const
      for (const links of [...nodes, ...nodes]) {
        assert.strictEqual(yield* problem(good(links, "a")), "let in")
        assert.strictEqual(yield* problem(wrong(links, "a")), "InvalidCredential")
      }
      for (const links of nodes) assert.strictEqual(yield* problem(wrong(links, "a")), "TooManyAttempts")
      away = true
      assert.strictEqual(yield* problem(wrong(nodes[0], "b")), "BootstrapStoreUnavailable")
      assert.strictEqual(yield* problem(good(nodes[0], "b")), "let in")
    }).pipe(Effect.provide(services())))

  it.effect("BOOT-06: limits that cannot work stop the layer", () =>
    Effect.gen(function*() {
      for (
        const limit of [
          { limit: 0, window: "1 minute" },
          { limit: 1.5, window: "1 minute" },
          { limit: NaN, window: "1 minute" },
          { limit: 1, window: 0 },
          { limit: 1, window: "Infinity" }
        ] as const
      ) {
        for (const attempts of [{ perSource: limit }, { total: limit }]) {
          const error = yield* Effect.flip(BootstrapCredentialService.make({ attempts }))
          assert.strictEqual(error._tag, "InvalidBootstrapCredentialOptions")
          assert.include(error.message, `attempts.${Object.keys(attempts)[0]}`)
        }
      }
    }).pipe(Effect.provide(Environment)))
})

describe("whom a pairing link may be for", () => {
  it.effect("a session issues links for its own subject, and the operator for any subject", () =>
    Effect.gen(function*() {
      const links = yield* Links
      const sessions = yield* SessionCredentialService.SessionCredentialService
      const { session } = yield* sessions.issue({
        subject: "ada",
        scopes: ["runs:read"],
        method: "bearer-access-token"
      })
      const issue = (subject: string | undefined) => links.issue({ issuedBy: session, subject, scopes: ["runs:read"] })
      yield* takeCalls
      for (const subject of ["eve", "owner", "Ada", "operator", ""]) {
        const { reason } = yield* Effect.flip(issue(subject))
        if (reason._tag !== "SubjectNotAllowed") return assert.fail(reason._tag)
        assert.strictEqual(reason.problem, "foreign")
      }
      assert.deepStrictEqual(yield* takeCalls, {})
      assert.strictEqual((yield* issue("ada")).link.subject, "ada")
      assert.strictEqual((yield* issue(undefined)).link.subject, "ada")
      const foreign = yield* links.issue({ issuedBy: "operator", subject: "eve", scopes: ["runs:read"] })
      assert.strictEqual(foreign.link.subject, "eve")
    }).pipe(Effect.provide(services())))

  it.effect("no subject is called as an actor of the feed, and neither subject nor label holds what a store cannot", () =>
    Effect.gen(function*() {
      const links = yield* Links
      yield* takeCalls
      const attempt = (subject: string, label?: string) =>
        Effect.all([
          problem(links.issue({ issuedBy: "operator", subject, label, scopes: [] })),
          problem(
            links.seed({
              credential: Redacted.make("c2VlZGVkLWJ5LXRoZS1kZXNrdG9w"),
              scopes: [],
              ready: Effect.void,
              subject,
              label
            })
          )
        ])
      for (const subject of ["operator", "system", "connect", "", "a\u0000", "a\nb", "\ud800"]) {
        assert.deepStrictEqual(yield* attempt(subject), ["SubjectNotAllowed", "SubjectNotAllowed"], subject)
      }
      for (const label of ["\u0000", "a\u0007b", "\udfff"]) {
        assert.deepStrictEqual(yield* attempt("ada", label), ["LabelNotAllowed", "LabelNotAllowed"])
      }
      assert.deepStrictEqual(yield* takeCalls, {})
      assert.deepStrictEqual(yield* attempt("Zoë", "Zoë’s phone 📱"), ["let in", "let in"])
    }).pipe(Effect.provide(services())))
})

describe("the policy in force", () => {
  const under = (kind: AuthPolicy.Kind) =>
    BootstrapCredentialService.make({}).pipe(Effect.provide(AuthPolicy.layer({ host: "127.0.0.1", kind })))

  it.effect("AUTH-01: a policy without seeded credentials refuses a seed, and one without pairing links a link", () =>
    Effect.gen(function*() {
      const text = (kind: string) => `c2VlZGVkLWJ5LXRoZS1kZXNrdG9w-${kind}`
      const answers: Record<string, ReadonlyArray<string>> = {}
      for (const kind of AuthPolicy.Kind.literals) {
        const links = yield* under(kind)
        answers[kind] = [
          yield* problem(links.issue({ issuedBy: "operator", scopes: AccessScope.builtin })),
          yield* problem(seed(links, text(kind)))
        ]
      }
      assert.deepStrictEqual(answers, {
        "desktop-managed-local": ["let in", "let in"],
        "loopback-browser": ["let in", "MethodNotOffered"],
        "remote-reachable": ["let in", "MethodNotOffered"],
        "unsafe-no-auth": ["MethodNotOffered", "MethodNotOffered"]
      })
    }).pipe(Effect.provide(Environment)))

  it.effect("AUTH-01: what was seeded under one policy is not taken under another, without a look at the store", () =>
    Effect.gen(function*() {
      const links = yield* Links
      const credential = Redacted.make("c2VlZGVkLWJ5LXRoZS1kZXNrdG9w")
      yield* seed(links, Redacted.value(credential))
      const { code } = yield* links.issue({ issuedBy: "operator", scopes: [] })
      yield* takeCalls
      assert.strictEqual(yield* problem(redeem(links, { credential, methods: ["pairing-link"] })), "InvalidCredential")
      assert.strictEqual(yield* problem(redeem(links, { credential: code, methods: [] })), "InvalidCredential")
      assert.strictEqual(
        yield* problem(redeem(links, { credential: code, methods: ["seeded-credential"] })),
        "InvalidCredential"
      )
      assert.deepStrictEqual(yield* takeCalls, {})
      assert.strictEqual(yield* problem(redeem(links, { credential: code, methods: ["pairing-link"] })), "let in")
      assert.strictEqual(yield* problem(redeem(links, { credential, methods: ["seeded-credential"] })), "let in")
    }).pipe(Effect.provide(services())))
})

describe("the sweeper of pairing links", () => {
  it.effect("BOOT-07 L-24: deletes links a day after their end, in batches, and goes on after a failure", () =>
    Effect.gen(function*() {
      const links = yield* Links
      const probe = yield* Probe
      for (let index = 0; index < 5; index++) yield* links.issue({ issuedBy: "operator", scopes: [] })
      const seeded = "c2VlZGVkLWJ5LXRoZS1kZXNrdG9w"
      yield* seed(links, seeded)
      yield* redeem(links, { credential: Redacted.make(seeded) })
      yield* Layer.build(BootstrapCredentialService.layerSweeper({ interval: "1 minute", batchSize: 2 }))
      const removed = Effect.map(
        feed,
        (events) =>
          events.filter(({ change }) => change._tag === "pairingLinkRemoved" && change.reason === "expired").length
      )
      yield* TestClock.adjust("24 hours")
      assert.strictEqual(yield* removed, 0)
      assert.strictEqual(yield* problem(seed(links, seeded)), "AlreadySeeded")
      probe.failing.add("links.sweep")
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual(yield* removed, 0)
      probe.failing.clear()
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* removed, 5)
      assert.strictEqual(yield* problem(seed(links, seeded)), "let in")
    }).pipe(Effect.provide(services())))
})
