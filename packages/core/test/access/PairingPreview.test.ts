import { assert, describe, it } from "@effect/vitest"
import { anyKey } from "@sallyport/core/access/BootstrapCredentialRepository"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as PairingCode from "@sallyport/core/access/PairingCode"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/testing/TestClock"
import { feed, redeem as redeemCode, services } from "./accessSupport.ts"

const Links = BootstrapCredentialService.BootstrapCredentialService

const issue = (
  options: { readonly uses?: number; readonly proofKeyThumbprint?: string; readonly label?: string } = {}
) => Links.use((links) => links.issue({ issuedBy: "operator", scopes: ["runs:read"], subject: "ada", ...options }))

const preview = (credential: Redacted.Redacted, source?: string) =>
  Links.use((links) => links.preview({ credential, source }))

const redeem = (credential: Redacted.Redacted) => Links.use((links) => redeemCode(links, { credential }))

/** Says how a code was refused. */
const refusal = <A, R>(effect: Effect.Effect<A, BootstrapCredentialService.BootstrapCredentialError, R>) =>
  Effect.match(effect, {
    onSuccess: () => "let in",
    onFailure: ({ reason }) => reason._tag === "InvalidCredential" ? `invalid: ${reason.ended}` : reason._tag
  })

const limits = {
  attempts: { perSource: { limit: 4, window: "1 minute" }, total: { limit: 100, window: "1 minute" } }
} as const

describe("a preview", () => {
  it.effect("BOOT-14: says what a code would give, as often as it is asked, and uses nothing", () =>
    Effect.gen(function*() {
      const { code, link } = yield* issue({ label: "Ada's tablet" })
      const before = yield* feed
      for (let repeat = 0; repeat < 20; repeat++) {
        const seen = yield* preview(code, "a")
        assert.deepStrictEqual(
          { ...seen, lifetime: Duration.toMillis(seen.lifetime), expiresAt: DateTime.toEpochMillis(seen.expiresAt) },
          {
            subject: "ada",
            scopes: ["runs:read"],
            label: "Ada's tablet",
            lifetime: Duration.toMillis("2 hours"),
            sessionEndsAt: null,
            expiresAt: DateTime.toEpochMillis(link.expiresAt)
          }
        )
      }
      assert.deepStrictEqual(yield* feed, before)
      assert.strictEqual((yield* redeem(code)).subject, "ada")
      assert.strictEqual(yield* refusal(preview(code)), "invalid: used")
    }).pipe(Effect.provide(services({ links: limits, sessions: { lifetime: "2 hours" } }))))

  it.effect("BOOT-14: counts as a redemption does: wrong codes do, right and mistyped ones don't", () =>
    Effect.gen(function*() {
      const { code } = yield* issue()
      for (let attempt = 0; attempt < 10; attempt++) {
        assert.strictEqual(yield* refusal(preview(Redacted.make("7777-7777-7777-7778"), "a")), "MalformedCode")
      }
      for (let attempt = 0; attempt < 4; attempt++) {
        yield* preview(code, "a")
        assert.strictEqual(yield* refusal(preview(yield* PairingCode.generate("device"), "a")), "invalid: undefined")
      }
      assert.strictEqual(yield* refusal(preview(yield* PairingCode.generate("device"), "a")), "TooManyAttempts")
      const wrong = yield* PairingCode.generate("device")
      assert.strictEqual(
        yield* refusal(Links.use((links) => redeemCode(links, { credential: wrong, source: "a" }))),
        "TooManyAttempts"
      )
      assert.strictEqual(yield* refusal(preview(code, "b")), "let in")
    }).pipe(Effect.provide(services({ links: limits }))))

  it.effect("BOOT-14: says nothing of a code that is bound to a key, nor by a way in that is closed", () =>
    Effect.gen(function*() {
      const bound = yield* issue({ proofKeyThumbprint: "key" })
      assert.strictEqual(yield* refusal(preview(bound.code)), "invalid: undefined")
      const forAnyKey = yield* issue({ proofKeyThumbprint: anyKey })
      assert.strictEqual(yield* refusal(preview(forAnyKey.code)), "let in", "who redeems it chooses the key")
      const { code } = yield* issue()
      const links = yield* Links
      assert.strictEqual(yield* refusal(links.preview({ credential: code, methods: [] })), "invalid: undefined")
    }).pipe(Effect.provide(services())))
})

describe("a code that has ended", () => {
  it.effect("BOOT-05: says for a day whether it was used, has expired or was revoked; one that never existed says nothing", () =>
    Effect.gen(function*() {
      const links = yield* Links
      const used = yield* issue({ uses: 2 })
      const revoked = yield* issue()
      const expired = yield* issue()
      const never = yield* PairingCode.generate("device")
      yield* redeem(used.code)
      assert.strictEqual(yield* refusal(preview(used.code)), "let in")
      yield* redeem(used.code)
      yield* links.revoke(revoked.link.id, "operator")
      const told = Effect.forEach([used.code, revoked.code, expired.code, never], (code) =>
        Effect.gen(function*() {
          const seen = yield* refusal(preview(code))
          assert.strictEqual(yield* refusal(redeem(code)), seen)
          return seen
        }))
      yield* TestClock.adjust("5 minutes")
      const all = ["invalid: used", "invalid: revoked", "invalid: expired", "invalid: undefined"]
      assert.deepStrictEqual(yield* told, all)
      yield* TestClock.adjust("23 hours")
      assert.deepStrictEqual(yield* told, all)
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(
        yield* told,
        all.map((each) => each === "invalid: revoked" ? "invalid: undefined" : each),
        "revoked 5 minutes before the others ended"
      )
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* told, all.map(() => "invalid: undefined"))
    }).pipe(Effect.provide(services())))

  it.effect("BOOT-05: each has a sentence of its own, which names no code", () =>
    Effect.gen(function*() {
      const used = yield* issue()
      yield* redeem(used.code)
      const sentences = yield* Effect.forEach(
        [used.code, yield* PairingCode.generate("device"), Redacted.make("x")],
        (code) =>
          Effect.map(Effect.flip(preview(code)), ({ message }) => {
            assert.notInclude(message, Redacted.value(code))
            return message
          })
      )
      assert.match(String(sentences[0]), /was used already/)
      assert.strictEqual(new Set(sentences).size, 3)
    }).pipe(Effect.provide(services())))
})
