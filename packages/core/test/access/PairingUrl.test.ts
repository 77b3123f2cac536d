import { assert, describe, it } from "@effect/vitest"
import * as PairingUrl from "@sallyport/core/access/PairingUrl"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as fc from "fast-check"
import { inspect } from "node:util"

const code = Redacted.make("ABCD-EFGH-JKMN-PQRS")

const made = (baseUrl: string, secret = code): URL =>
  new URL(Redacted.value(Result.getOrThrow(PairingUrl.make(baseUrl, secret))))

describe("PairingUrl", () => {
  it("BOOT-09 L-01: carries the code in the fragment of /pair, never in a path or query, under any prefix", () => {
    const prefix = fc.array(fc.string({ unit: fc.constantFrom(..."abcxyz019-_."), minLength: 1, maxLength: 8 }), {
      maxLength: 3
    }).filter((segments) =>
      segments.every((segment) => segment !== "." && segment !== "..") && segments.at(-1) !== "ws"
    )
    fc.assert(
      fc.property(
        fc.constantFrom("http:", "https:", "ws:", "wss:"),
        fc.constantFrom("127.0.0.1:4590", "localhost", "[::1]:8080", "box.example:8443"),
        prefix,
        fc.constantFrom("", "/", "//", "?token=old", "#token=old", "/?a=b#c"),
        (protocol, host, segments, rest) => {
          const path = segments.map((segment) => `/${segment}`).join("")
          const url = made(`${protocol}//${host}${path}${rest}`)
          assert.strictEqual(url.pathname, `${path}/pair`)
          assert.strictEqual(url.search, "")
          assert.strictEqual(url.hash, "#token=ABCD-EFGH-JKMN-PQRS")
          assert.strictEqual(url.host, host)
          assert.strictEqual(url.protocol, protocol.endsWith("s:") && protocol !== "ws:" ? "https:" : "http:")
        }
      )
    )
  })

  it("BOOT-09: a fragment gives back any credential as it was", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme", maxLength: 64 }), (credential) => {
        const url = made("http://127.0.0.1:4590", Redacted.make(credential))
        assert.strictEqual(url.pathname, "/pair")
        assert.strictEqual(url.search, "")
        const prefix = "#token="
        assert.strictEqual(url.hash.slice(0, prefix.length), prefix)
        assert.strictEqual(decodeURIComponent(url.hash.slice(prefix.length)), credential)
        assert.strictEqual(new URLSearchParams(url.hash.slice(1)).get("token"), credential)
      })
    )
  })

  it("L-13: makes of an address what fetch takes: ws becomes http, a final /ws goes, and so does user information", () => {
    for (
      const [given, base] of [
        ["ws://127.0.0.1:4590", "http://127.0.0.1:4590"],
        ["ws://127.0.0.1:4590/ws", "http://127.0.0.1:4590"],
        ["wss://box.example/ws/", "https://box.example"],
        ["wss://box.example/api/ws", "https://box.example/api"],
        ["https://box.example/api//ws//", "https://box.example/api"],
        ["https://box.example/api/", "https://box.example/api"],
        ["https://box.example/news", "https://box.example/news"],
        ["https://box.example/ws/api", "https://box.example/ws/api"],
        ["HTTP://Box.Example:80/", "http://box.example"],
        ["wss://box.example:443/ws", "https://box.example"],
        ["https://ada:secret@box.example:8443/api", "https://box.example:8443/api"],
        ["  http://127.0.0.1:4590\n", "http://127.0.0.1:4590"],
        ["http://[::1]:4590/?x=1#y", "http://[::1]:4590"]
      ] as const
    ) {
      const result = Result.getOrThrow(PairingUrl.httpBase(given))
      assert.strictEqual(result, base, given)
      assert.strictEqual(new Request(`${result}/x`).url, `${base}/x`)
      assert.strictEqual(Result.getOrThrow(PairingUrl.httpBase(result)), base, "a base is a fixed point")
    }
  })

  it("BOOT-09: refuses what no browser opens, with an error that names the remedy", () => {
    for (
      const given of [
        "",
        "box.example",
        "127.0.0.1:4590",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://",
        "/pair",
        "ftp://box.example",
        "constructor:x"
      ]
    ) {
      const failure = Result.flip(PairingUrl.make(given, code))
      const error = Result.getOrThrow(failure)
      assert.instanceOf(error, PairingUrl.InvalidBaseUrl, given)
      assert.include(error.message, "http://127.0.0.1:4590")
    }
  })

  it("SEC-08: neither the address nor an error shows a code or a password", () => {
    const address = Result.getOrThrow(PairingUrl.make("http://127.0.0.1:4590", code))
    for (
      const shown of [String(address), JSON.stringify(address), inspect(address, { depth: Infinity, showHidden: true })]
    ) {
      assert.notInclude(shown, "ABCD")
    }
    for (
      const given of [
        "ftp://ada:hunter2@box.example",
        "ada:hunter2@box.example",
        "ftp://ada:hunter2/x@y@box.example/",
        `ftp://${"a".repeat(300)}:hunter2@box.example`
      ]
    ) {
      const error = Result.getOrThrow(Result.flip(PairingUrl.make(given, code)))
      for (const shown of [String(error), error.message, JSON.stringify(error), inspect(error, { depth: Infinity })]) {
        assert.notInclude(shown, "hunter2")
        assert.notInclude(shown, "ABCD")
      }
      assert.include(error.message, "box.example")
    }
  })
})
