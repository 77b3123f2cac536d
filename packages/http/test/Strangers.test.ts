import { assert, describe, it } from "@effect/vitest"
import { IdempotencyKeyHeader } from "@sallyport/contract/RunGroup"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as fc from "fast-check"
import { assertError, bearer, raw, start } from "./support.ts"

/** Writes text as the bytes of its UTF-8, one character each. */
const bytes = (text: string) => Buffer.from(text, "utf8").toString("latin1")

/** Posts JSON with the headers as given, byte by byte, and returns the status and the JSON of the answer. */
const post = (port: number, path: string, headers: ReadonlyArray<string>, body: unknown) => {
  const text = JSON.stringify(body)
  return Effect.map(
    raw(
      port,
      [
        `POST ${path} HTTP/1.1`,
        `host: 127.0.0.1:${port}`,
        "connection: close",
        "content-type: application/json",
        `content-length: ${Buffer.byteLength(text)}`,
        ...headers,
        "",
        bytes(text)
      ].join("\r\n")
    ),
    (answer) => {
      const [head = "", json = ""] = answer.split("\r\n\r\n")
      return { status: Number(head.split(" ")[1]), json: Object(json.startsWith("{") ? JSON.parse(json) : {}) }
    }
  )
}

describe("text that strangers send", () => {
  it.live("BOOT-11 C-01: a header of any bytes is kept as plain text, and never costs the code", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const cases: ReadonlyArray<readonly [sent: string, kept: string | null]> = [
        ["MyApp/1.0\t(Linux)", "MyApp/1.0 (Linux)"],
        [bytes("École/1.0"), "École/1.0"],
        ["\u00c9cole/1.0", "École/1.0"],
        [bytes("a\u202eb\u200b\ufeffc"), "a\ufffdb\ufffd c"],
        ["a\u0085b", "a\ufffdb"],
        [bytes("x".repeat(255) + "😀😀"), "x".repeat(255) + "😀"],
        ["\t", null]
      ]
      for (const [sent, kept] of cases) {
        const credential = yield* server.code()
        const answer = yield* post(server.port, "/api/auth/bootstrap", [`user-agent: ${sent}`], { credential })
        assert.strictEqual(answer.status, 200, JSON.stringify(sent))
        assert.strictEqual(answer.json.session.device.userAgent, kept)
      }
    }))

  it.live("BOOT-11 C-03: a label that is no line is a 400, and the code is good afterwards", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const token = yield* server.token()
      const credential = yield* server.code()
      for (
        const label of [
          "a\u202eb",
          "a\u200bb",
          "a\u200db",
          "\u2066a",
          "\ufeff\u00ada",
          "a\u0000b",
          "a\nb",
          "\ud800",
          "\u3164",
          " ",
          "x".repeat(129)
        ]
      ) {
        const invalid = { status: 400, tag: "InvalidRequest", code: "invalid_request" }
        assertError(yield* server.send({ path: "/api/auth/bootstrap", body: { credential, label } }), invalid)
        assertError(
          yield* server.send({ path: "/api/auth/pairing-links", headers: bearer(token), body: { label } }),
          invalid
        )
      }
      const answer = yield* server.send({ path: "/api/auth/bootstrap", body: { credential, label: " Zoë's 📱 " } })
      assert.deepStrictEqual([answer.status, Object(answer.json.session).device.label], [200, "Zoë's 📱"])
    }))

  it.live("BOOT-11 C-05: an Idempotency-Key is a string in quotes or bare, and ASCII", () =>
    Effect.gen(function*() {
      const server = yield* start()
      const headers = [`authorization: Bearer ${yield* server.token()}`]
      const send = (threadId: string, key: string) =>
        post(server.port, "/api/runs", [...headers, `idempotency-key: ${key}`], { threadId, input: null })
      const keys: ReadonlyArray<readonly [sent: string, key: string]> = [
        [`"8e03978e"`, "8e03978e"],
        ["8e03978f", "8e03978f"],
        [`"a \\"b\\" \\\\"`, `a "b" \\`],
        ["a b", "a b"]
      ]
      for (const [sent, key] of keys) {
        const { json, status } = yield* send(key, sent)
        assert.deepStrictEqual([status, json.run.idempotencyKey], [201, key])
        const aborted = yield* post(
          server.port,
          `/api/threads/${encodeURIComponent(key)}/abort`,
          headers,
          { idempotencyKey: key }
        )
        assert.strictEqual(aborted.json.run?.runId, json.run.runId)
      }
      for (
        const sent of [
          "é",
          bytes("é"),
          `"é"`,
          `"a`,
          `"`,
          `""`,
          `"a"b"`,
          `"a\\b"`,
          "a\tb",
          "",
          "\u0080",
          "x".repeat(256)
        ]
      ) {
        const { json, status } = yield* send("thread", sent)
        assert.deepStrictEqual([status, json.code], [400, "invalid_request"], sent)
      }
    }))

  it("BOOT-11 C-05: any key of printable ASCII is written as it is read", () => {
    const encode = Schema.encodeSync(IdempotencyKeyHeader)
    const decode = Schema.decodeSync(IdempotencyKeyHeader)
    const key = fc.string({
      unit: fc.integer({ min: 32, max: 126 }).map((code) => String.fromCharCode(code)),
      minLength: 1,
      maxLength: 255
    })
    fc.assert(fc.property(key, (key) => {
      const header = encode(key)
      assert.match(header, /^[\x20-\x7e]+$/)
      assert.strictEqual(decode(header), key)
    }))
  })
})
