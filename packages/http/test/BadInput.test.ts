import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { readFile } from "node:fs/promises"
import { begin, end, type Kit, markdown, type Row, type Section, sections } from "./badInput.ts"
import { type DpopServer, generate, signingKey, start, token } from "./dpopSupport.ts"
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

describe("SESS-10 SESS-01 L-06: bad input", () => {
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

  it("is in the documentation as it is tested (npm run bad-input writes the table)", async () => {
    const page = await readFile(new URL("../../../docs/dpop-and-tokens.md", import.meta.url), "utf8")
    assert.strictEqual(page.split(begin)[1]?.split(end)[0]?.trim(), markdown())
    const rows = sections.flatMap((section) => section.rows)
    assert.isAtLeast(rows.filter((row) => row.verdict !== "accepted").length, 31)
    assert.strictEqual(new Set(rows.map((row) => row.sent)).size, rows.length)
  })
})
