import { assert, describe, it } from "@effect/vitest"
import * as MachineToken from "@sallyport/core/access/MachineToken"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as fc from "fast-check"
import * as Jose from "jose"
import { readFileSync } from "node:fs"
import { crc32 } from "node:zlib"
import { Probe, services } from "./accessSupport.ts"

const issue = (options: Partial<SessionCredentialService.IssueOptions> = {}) =>
  SessionCredentialService.SessionCredentialService.use((sessions) =>
    sessions.issue({
      subject: "ada",
      scopes: ["runs:read"],
      method: "bearer-access-token",
      machine: true,
      label: "backup",
      lifetime: "90 days",
      absoluteLifetime: "365 days",
      ...options
    })
  )

const whole = new RegExp(`^${MachineToken.pattern}$`)

/** Checks a token as a scanner does that was written from the documentation. */
const isMachineToken = (text: string): boolean => {
  const [, body = "", checksum = ""] = /^(sallyport_.+)\.([0-9A-Za-z]{6})$/.exec(text) ?? []
  const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
  return crc32(body) === Array.from(checksum).reduce((sum, digit) => sum * 62 + digits.indexOf(digit), 0)
}

describe("a machine's token", () => {
  it.effect("SESS-17: has a prefix and a checksum that a scanner checks by itself, and is verified, listed and revoked as any", () =>
    Effect.gen(function*() {
      const sessions = yield* SessionCredentialService.SessionCredentialService
      const { session, token } = yield* issue()
      const text = Redacted.value(token)
      assert.match(text, whole)
      assert.isTrue(isMachineToken(text))
      assert.include(String(token), "session-token")
      assert.strictEqual((yield* sessions.verify(token)).id, session.id)
      assert.strictEqual(Option.getOrThrow(yield* sessions.inspect(token)).session.id, session.id)
      const [listed] = yield* sessions.list()
      assert.deepInclude(listed?.session.device, { label: "backup", kind: "program" })
      // Without its prefix and checksum it is signed as every token is, and works as none.
      const inner = Option.getOrThrow(MachineToken.parse(token))
      assert.strictEqual(Jose.decodeJwt(Redacted.value(inner))["sid"], session.id)
      const refused = yield* Effect.flip(sessions.verify(inner))
      assert.strictEqual(refused.reason._tag, "SessionRefused")
      yield* sessions.revoke(session.id, "operator")
      assert.strictEqual((yield* Effect.flip(sessions.verify(token))).reason._tag, "SessionRefused")
    }).pipe(Effect.provide(services())))

  it.effect("SESS-17: any other text that begins like one is refused without a look at any store", () =>
    Effect.gen(function*() {
      const sessions = yield* SessionCredentialService.SessionCredentialService
      const { calls } = yield* Probe
      const { token } = yield* issue()
      const text = Redacted.value(token)
      const symbols = "Aa09_-.~ "
      const other = fc.record({ at: fc.nat(text.length - 1), by: fc.constantFrom(...symbols) }).map(({ at, by }) =>
        text.slice(0, at) + by + text.slice(at + 1)
      ).filter((changed) => changed !== text)
      const shapes = [
        MachineToken.prefix,
        `${MachineToken.prefix}.`,
        `${MachineToken.prefix}a.b.c`,
        text.slice(0, -1),
        `${text}0`,
        text.slice(0, -7),
        `${text}.000000`,
        MachineToken.prefix + text,
        text.toUpperCase(),
        ` ${text}`,
        `${text}\n`
      ]
      // What the checksum fits is not signed.
      const unsigned = Redacted.value(MachineToken.make(Redacted.make("e30.e30.AAAA")))
      calls.clear()
      for (const wrong of [...shapes, unsigned, ...fc.sample(other, 300)]) {
        const refused = yield* Effect.flip(sessions.verify(Redacted.make(wrong)))
        assert.strictEqual(refused.reason._tag, "SessionRefused", wrong)
        if (wrong !== text) assert.isTrue(!isMachineToken(wrong) || !whole.test(wrong), wrong)
      }
      assert.deepStrictEqual([...calls], [])
    }).pipe(Effect.provide(services())))

  it.effect("SESS-17: is not made of a cookie, nor of a token that is refreshed", () =>
    Effect.gen(function*() {
      const cookie = yield* issue({ method: "browser-session-cookie" })
      assert.isFalse(MachineToken.hasForm(cookie.token))
      const refreshed = yield* issue({ client: { id: "a client", resource: null } })
      assert.isDefined(refreshed.refreshToken)
      assert.isFalse(MachineToken.hasForm(refreshed.token))
      const plain = yield* issue({ machine: undefined })
      assert.isFalse(MachineToken.hasForm(plain.token))
    }).pipe(Effect.provide(services())))

  it("SESS-17: the documentation gives scanners this pattern", () => {
    const page = readFileSync(new URL("../../../../docs/dpop-and-tokens.md", import.meta.url), "utf8")
    assert.include(page, MachineToken.pattern)
  })
})
