import { assert, describe, it } from "@effect/vitest"
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as PairingCode from "@sallyport/core/access/PairingCode"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { type Answer, assertError, bearer, type Server, start } from "./support.ts"

const preview = (server: Server, credential: string, headers: Record<string, string> = {}): Effect.Effect<Answer> =>
  server.send({ path: "/api/auth/bootstrap/preview", headers, body: { credential } })

const redeem = (server: Server, credential: string) =>
  server.send({ path: "/api/auth/bootstrap", body: { credential } })

const wrongCode = Effect.map(PairingCode.generate("device"), Redacted.value).pipe(Effect.provide(NodeCrypto.layer))

const invalid = { status: 401, tag: "Unauthorized", code: "invalid_credential" }

describe("the preview of a code", () => {
  it.live("BOOT-14: says what it would give, signs no one in, and leaves the code as it was", () =>
    Effect.gen(function*() {
      const server = yield* start({ sessions: { lifetime: "3 days" } })
      const code = yield* server.code({ scopes: ["runs:read"] })
      for (const entered of [code, code.toLowerCase().replaceAll("-", "")]) {
        const answer = yield* preview(server, entered)
        assert.strictEqual(answer.status, 200, answer.text)
        assert.isUndefined(answer.headers["set-cookie"])
        assert.strictEqual(answer.headers["cache-control"], "no-store")
        const { expiresAt, ...rest } = answer.json
        assert.deepStrictEqual(rest, {
          subject: "owner",
          scopes: ["runs:read"],
          label: null,
          lifetimeSeconds: 259_200,
          sessionEndsAt: null
        })
        assert.isAbove(Date.parse(String(expiresAt)), Date.now())
      }
      assert.isUndefined(server.probe.calls.get("sessions.insert"))
      const [link] = yield* Effect.orDie(server.links.list())
      assert.strictEqual(link?.remainingUses, 1)
      assert.strictEqual((yield* redeem(server, code)).status, 200)
    }))

  it.live("BOOT-05 BOOT-14: is refused in words of their own for a code that was used, revoked or mistyped, or never was", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const used = yield* server.code()
      yield* redeem(server, used)
      const revoked = yield* server.code()
      const token = yield* server.token()
      const [link] = yield* Effect.orDie(server.links.list())
      yield* server.send({ path: "/api/auth/pairing-links/revoke", headers: bearer(token), body: { id: link?.id } })
      const sentences: Array<string> = []
      const endings: Array<unknown> = []
      for (const code of [used, revoked, yield* wrongCode]) {
        for (const ask of [preview, redeem]) {
          const answer = yield* ask(server, code)
          assertError(answer, invalid)
          sentences.push(String(answer.json.message))
          endings.push(answer.json.ended)
        }
      }
      assert.deepStrictEqual(endings, ["used", "used", "revoked", "revoked", undefined, undefined])
      const mistyped = yield* preview(server, "7777-7777-7777-7778")
      assertError(mistyped, { status: 400, tag: "InvalidRequest", code: "malformed_code" })
      assert.strictEqual(new Set([...sentences, mistyped.json.message]).size, 4)
      assert.match(String(sentences[0]), /used/)
      assert.match(String(sentences[2]), /revoked/)
      const token400 = yield* server.send({
        path: "/oauth/token",
        headers: { "content-type": "application/x-www-form-urlencoded" },
        body: new URLSearchParams({
          grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
          subject_token_type: "urn:sallyport:token-type:bootstrap-credential",
          subject_token: used
        }).toString()
      })
      assert.deepStrictEqual([token400.json.error, token400.json.error_description], ["invalid_grant", sentences[0]])
    }))

  it.live("BOOT-06 BOOT-14 C-20: counts as an attempt, and costs nothing when a page of another origin asks", () =>
    Effect.gen(function*() {
      const server = yield* start({ links: { attempts: { perSource: { limit: 3, window: "1 minute" } } } })
      for (let attempt = 0; attempt < 10; attempt++) {
        for (const headers of [{ origin: "https://evil.example" }, { "sec-fetch-site": "same-site" }]) {
          assertError(yield* preview(server, yield* wrongCode, headers), {
            status: 403,
            tag: "Forbidden",
            code: "cross_origin"
          })
        }
      }
      for (let attempt = 0; attempt < 3; attempt++) assertError(yield* preview(server, yield* wrongCode), invalid)
      const limited = yield* preview(server, yield* wrongCode)
      assertError(limited, { status: 429, tag: "TooManyRequests", code: "rate_limited", retryable: true })
      assert.isAtLeast(Number(limited.headers["retry-after"]), 1)
      assert.strictEqual(limited.json["retryAfterSeconds"], Number(limited.headers["retry-after"]))
      assert.strictEqual((yield* redeem(server, yield* wrongCode)).status, 429)
    }))

  it.live("BOOT-14: is an error that can be tried again while the store does not answer", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const code = yield* server.code()
      server.probe.failing.add("links.findByCodeDigest")
      assertError(yield* preview(server, code), {
        status: 503,
        tag: "Unavailable",
        code: "unavailable",
        retryable: true
      })
      server.probe.failing.clear()
      assert.strictEqual((yield* preview(server, code)).status, 200)
    }))
})
