import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { readFile } from "node:fs/promises"
import { begin, end, type Kit, markdown, type Row, type Section, sections } from "./badInput.ts"
import * as fc from "fast-check"
import { claimsOf, type DpopServer, generate, headerOf, prove, signingKey, start, token } from "./dpopSupport.ts"
import type { Answer } from "./support.ts"

const nonceMillis = 300_000

const publicUrl = new URL("https://sallyport.example")

const makeKit = Effect.fnUntraced(function*(server: DpopServer, section: Section) {
  const key = generate()
  const nonces: Array<string> = []
  if (section.nonces) {
    // The clock goes on from one period to the next, and every answer has the nonce of its period.
    for (const millis of [0, nonceMillis, nonceMillis]) {
      server.advance(millis)
      const headers = { authorization: "DPoP x", dpop: "x" }
      nonces.push(String((yield* server.send({ path: "/whoami", headers })).headers["dpop-nonce"]))
    }
    assert.strictEqual(new Set(nonces).size, 3)
  }
  const [old = "", previous = "", current = ""] = nonces
  const kit: Kit = {
    url: "https://sallyport.example/whoami",
    port: server.port,
    key,
    otherKey: generate(),
    p384: generate("ES384"),
    token: yield* token(server, key.thumbprint),
    otherToken: yield* token(server, key.thumbprint),
    bearerToken: yield* token(server),
    nowMillis: server.nowMillis(),
    nonces: { old, previous, current },
    signingKey: yield* signingKey(server)
  }
  return kit
})

/** Says of an answer what the table says of it. */
const verdictOf = (answer: Answer): string => {
  if (answer.status === 200) return "accepted"
  assert.strictEqual(answer.status, answer.json.code === "cross_origin" ? 403 : 401, answer.text)
  const problem = /^The DPoP proof is not valid: (.+) \(the server's time is \d+\)$/.exec(String(answer.json.message))
  return problem === null ? String(answer.json.code) : `${String(answer.json.code)}: ${String(problem[1])}`
}

const send = (server: DpopServer, kit: Kit, row: Row) =>
  Effect.gen(function*() {
    const { after, headers } = row.craft({ ...kit, nowMillis: server.nowMillis() })
    if (after !== undefined) {
      assert.strictEqual(verdictOf(yield* server.send({ path: "/whoami", headers: after })), "accepted", row.sent)
    }
    const answer = yield* server.send({ path: "/whoami", headers })
    assert.strictEqual(verdictOf(answer), row.verdict, `${row.sent}: ${answer.text}`)
    if (answer.status === 200 || answer.status === 403) return
    const challenge = String(answer.headers["www-authenticate"])
    const code = row.verdict.replace(/:.*/, "")
    if (code === "unauthorized") return assert.match(challenge, /^(?:Bearer|DPoP) realm="sallyport"/)
    assert.strictEqual(
      challenge,
      `DPoP realm="sallyport", error="${code}", algs="ES256 ES384 EdDSA Ed25519"`
    )
    if (code === "invalid_dpop_proof") {
      assert.strictEqual(answer.json.serverTimeSeconds, Math.floor(server.nowMillis() / 1000))
    } else {
      assert.strictEqual(answer.headers["dpop-nonce"], kit.nonces.current)
    }
  })

const loopback = sections.at(-1)

describe("SESS-10 SESS-01 L-06: bad input, by each fault of a proof or a token (R6, T14)", () => {
  for (const section of sections) {
    describe(`${section.title}`, () => {
      it.live.each(section.rows)("$sent: $verdict", (row) =>
        Effect.gen(function*() {
          const server = yield* start({
            frozen: true,
            dpop: section.nonces ? { nonceLifetime: nonceMillis } : {},
            ...(section === loopback ? {} : { policy: "remote-reachable", publicUrl })
          })
          yield* send(server, yield* makeKit(server, section), row)
        }))
    })
  }

  it.live("BOOT-11: no change of a proof or a token becomes a defect", () =>
    Effect.gen(function*() {
      const server = yield* start({ frozen: true, policy: "remote-reachable", publicUrl })
      const kit = yield* makeKit(server, { title: "", about: "", nonces: false, rows: [] })
      const good = prove(
        kit.key,
        headerOf(kit.key),
        claimsOf({ method: "GET", url: kit.url, nowMillis: kit.nowMillis, token: kit.token })
      )
      const headerChar = fc.integer({ min: 0x20, max: 0xff }).filter((code) => code !== 0x7f).map((code) =>
        String.fromCharCode(code)
      )
      // Some characters of the text become others, or it is cut, repeated, or something else altogether.
      const changed = (text: string) =>
        fc.oneof(
          fc.tuple(fc.nat(text.length - 1), fc.nat(20), fc.string({ unit: headerChar, maxLength: 20 })).map((
            [at, count, other]
          ) => text.slice(0, at) + other + text.slice(at + count)),
          fc.nat(text.length).map((end) => text.slice(0, end)),
          fc.integer({ min: 2, max: 8 }).map((count) => text.repeat(count)),
          fc.tuple(fc.jsonValue(), fc.jsonValue()).map(([header, claims]) =>
            prove(kit.key, JSON.stringify(header), JSON.stringify(claims))
          ),
          fc.dictionary(fc.constantFrom("typ", "alg", "jwk", "kid", "crit", "b64", "__proto__"), fc.jsonValue()).map((
            header
          ) =>
            prove(
              kit.key,
              { ...headerOf(kit.key), ...header },
              claimsOf({ method: "GET", url: kit.url, nowMillis: kit.nowMillis, token: kit.token })
            )
          ),
          fc.dictionary(fc.constantFrom("jti", "htm", "htu", "iat", "ath", "nonce", "__proto__"), fc.jsonValue(), {
            minKeys: 1
          }).map((claims) =>
            prove(kit.key, headerOf(kit.key), {
              ...claimsOf({ method: "GET", url: kit.url, nowMillis: kit.nowMillis, token: kit.token }),
              ...claims
            })
          )
        )
      const either = fc.oneof(
        changed(good).map((dpop) => ({ token: kit.token, dpop })),
        changed(kit.token).map((token) => ({ token, dpop: good }))
      ).filter(({ dpop, token }) => dpop !== good || token !== kit.token)
      yield* Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(either, ({ dpop, token }) =>
            Effect.runPromise(Effect.map(
              server.send({ path: "/whoami", headers: { authorization: `DPoP ${token}`, dpop } }),
              // A claim that the check does not read may be anything.
              ({ status, text }) =>
                assert.isTrue(status === 401 || status === 400 || status === 200, `${status} ${text}`)
            ))),
          { numRuns: 500 }
        )
      )
    }), 60_000)

  it("is in the documentation as it is tested (npm run bad-input writes the table)", async () => {
    const page = await readFile(new URL("../../../docs/dpop-and-tokens.md", import.meta.url), "utf8")
    assert.strictEqual(page.split(begin)[1]?.split(end)[0]?.trim(), markdown())
    const rows = sections.flatMap((section) => section.rows)
    assert.isAtLeast(rows.filter((row) => row.verdict !== "accepted").length, 31)
    assert.strictEqual(new Set(rows.map((row) => row.sent)).size, rows.length)
  })
})
