import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { execFileSync } from "node:child_process"
import * as NFS from "node:fs"
import { connect } from "node:net"
import * as NPath from "node:path"
import { DatabaseSync } from "node:sqlite"
import { renderUnicodeCompact } from "uqr"
import * as Sallyport from "../../../test-support/backend.ts"
import * as Programs from "../../../test-support/programs.ts"

const { timeout } = Programs

/** Reads rows as another process on the same database. */
const rows = (stateDirectory: string, statement: string) =>
  Effect.acquireUseRelease(
    Effect.sync(() =>
      new DatabaseSync(NPath.join(stateDirectory, "sallyport.db"), { readOnly: true, timeout: 10_000 })
    ),
    (database) => Effect.sync(() => database.prepare(statement).all()),
    (database) => Effect.sync(() => database.close())
  )

interface Links {
  readonly links: ReadonlyArray<{ readonly id: string; readonly label: string | null }>
}

describe("sallyport serve", () => {
  it.live(
    "BOOT-09 L-01 L-04: a start issues one link and prints it once, with the code in the fragment of /pair",
    () =>
      Effect.gen(function*() {
        const state = yield* Sallyport.freshState
        const first = yield* Sallyport.serve(state)
        const pairingUrl = new URL(first.pairingUrl)
        assert.strictEqual(pairingUrl.origin, first.url)
        assert.strictEqual(pairingUrl.pathname, "/pair")
        assert.strictEqual(pairingUrl.search, "")
        assert.strictEqual(pairingUrl.hash, `#token=${first.code}`)
        assert.match(first.code, /^(?:[0-9A-Z]{4}-){3}[0-9A-Z]{4}$/)
        assert.strictEqual(new URL(first.url).hostname, "127.0.0.1")
        // The page answers without a redirect, which could lose the URL's fragment.
        const page = yield* Sallyport.request(`${first.url}/pair`)
        assert.strictEqual(page.status, 200)
        assert.match(String(page.headers["content-type"]), /^text\/html/)
        assert.lengthOf(yield* rows(state, "SELECT * FROM sallyport_pairing_links"), 1)
        const token = yield* Sallyport.pair(first)
        yield* first.stop("SIGTERM")
        assert.lengthOf(first.stdout().trim().split("\n"), 1)
        assert.notInclude(first.stderr(), first.code)

        // The first start's link is used up, so what the second start lists is its own.
        const second = yield* Sallyport.serve(state)
        const listed = yield* Sallyport.get(second, "/api/auth/pairing-links", token)
        assert.strictEqual(listed.status, 200, "the session has outlived the process")
        assert.deepStrictEqual(listed.json<Links>().links.map(({ label }) => label), ["start-up"])
        assert.notStrictEqual(second.code, first.code)
        assert.strictEqual((yield* Sallyport.exchange(second, first.code)).status, 400)
        assert.notStrictEqual(yield* Sallyport.pair(second), token)
      }),
    timeout
  )

  it.live(
    "BOOT-09: shows a person the pairing URL, once, the code to type, and the URL as a QR code",
    () =>
      Effect.gen(function*() {
        const state = yield* Sallyport.freshState
        const running = yield* Sallyport.sallyport(["serve", "--port", "0", "--state-dir", state])
        const pairingUrl = (yield* running.printed(/http:\S+#token=\S+/)).trim()
        const code = pairingUrl.slice(-19)
        const qr = renderUnicodeCompact(pairingUrl)
        yield* running.printed(/[▀▄█]+\n$/)
        yield* running.stop("SIGTERM")
        const text = running.stdout()
        assert.include(text, qr)
        assert.lengthOf(text.match(/#token=/g) ?? [], 1)
        assert.include(text, `enter ${code} at ${new URL("/pair", pairingUrl).href}`)
        assert.strictEqual(running.stderr(), "")
      }),
    timeout
  )

  it.live(
    "HTTP-08 C-43: warns that browsers elsewhere cannot pair over plain http, says what to do, and shows no QR code",
    () =>
      Effect.gen(function*() {
        const args = ["serve", "--port", "0", "--policy", "remote-reachable"]
        const plain = yield* Sallyport.sallyport([...args, "--state-dir", yield* Sallyport.freshState])
        yield* plain.printed(/It works once, until .*\n/)
        yield* plain.stop("SIGTERM")
        assert.match(plain.stderr(), /level=WARN/)
        for (const part of ["plain http", "--public-url https://", "127.0.0.1"]) assert.include(plain.stderr(), part)
        assert.notMatch(plain.stdout(), /[▀▄█]/)
        assert.match(plain.stdout(), /^Listening on http:\/\/127\.0\.0\.1:\d+\n/)

        const publicUrl = ["--public-url", "https://ide.example.com"]
        const behind = yield* Sallyport.sallyport([...args, ...publicUrl, "--state-dir", yield* Sallyport.freshState])
        yield* behind.printed(/[▀▄█]+\n$/)
        yield* behind.stop("SIGTERM")
        assert.strictEqual(behind.stderr(), "")
        assert.include(behind.stdout(), "https://ide.example.com/pair#token=")
      }),
    timeout
  )

  it.live(
    "HTTP-04: stops at SIGTERM, SIGINT and SIGHUP while a stream is open; the reader learns how the run ended",
    () =>
      Effect.forEach(["SIGTERM", "SIGINT", "SIGHUP"] as const, (signal) =>
        Effect.gen(function*() {
          const state = yield* Sallyport.freshState
          const server = yield* Sallyport.serve(state)
          const token = yield* Sallyport.pair(server)
          const { run } = yield* Sallyport.startRun(server, token, { to: 10_000, everyMillis: 50 })
          const reader = yield* Sallyport.follow(server, token, run.runId)
          const first = yield* reader.next
          assert.deepStrictEqual(first, { id: "1", event: "data", data: { count: 1 } })
          assert.deepStrictEqual(yield* server.stop(signal), { code: 0, signal: null })
          const rest = yield* reader.rest
          assert.isFalse(reader.wasCut(), "the server ended the stream")
          assert.deepStrictEqual(
            rest.filter(({ event }) => event === "data").map(({ id }) => id),
            Array.from({ length: rest.filter(({ event }) => event === "data").length }, (_, index) => String(index + 2))
          )

          const again = yield* Sallyport.serve(state)
          const view = (yield* Sallyport.get(again, `/api/runs/${run.runId}`, token)).json<Sallyport.RunView>()
          assert.strictEqual(view.status, "failed")
          assert.strictEqual(view.endReason, "server_shutdown")
          const later = yield* Sallyport.follow(again, token, run.runId, rest.at(-1)?.id ?? "1")
          const missed = yield* later.rest
          const ends = [...rest, ...missed].filter(({ event }) => event === "end")
          assert.lengthOf(ends, 1)
        }), { concurrency: "unbounded", discard: true }),
    timeout
  )

  for (const signal of ["SIGTERM", "SIGHUP"] as const) {
    it.live(
      `HTTP-04 OPS-01: a body that hangs does not hold up a server that ${signal} stops, and its client is let go`,
      () =>
        Effect.gen(function*() {
          const server = yield* Sallyport.serve(yield* Sallyport.freshState)
          const hanging = connect(Number(new URL(server.url).port), "127.0.0.1").on("error", () => {})
          const letGo = new Promise((resolve) => hanging.on("close", resolve))
          hanging.write(
            "POST /oauth/token HTTP/1.1\r\nhost: localhost\r\n" +
              "content-type: application/x-www-form-urlencoded\r\ncontent-length: 10\r\n\r\n"
          )
          hanging.resume()
          // The server has begun to read it when it has answered something that came later.
          yield* Sallyport.request(`${server.url}/api/auth/session`)
          assert.deepStrictEqual(yield* server.stop(signal), { code: 0, signal: null })
          yield* Effect.promise(() => letGo)
        }),
      timeout
    )
  }

  it.live("a second signal ends at once a server that waits for a body", () =>
    Effect.gen(function*() {
      const server = yield* Sallyport.serve(yield* Sallyport.freshState)
      const hanging = yield* Effect.acquireRelease(
        Effect.sync(() => connect(Number(new URL(server.url).port), "127.0.0.1")),
        (socket) => Effect.sync(() => socket.destroy())
      )
      hanging.on("error", () => {})
      hanging.write(
        "POST /oauth/token HTTP/1.1\r\nhost: localhost\r\n" +
          "content-type: application/x-www-form-urlencoded\r\ncontent-length: 10\r\n\r\n"
      )
      // The server has begun to read it when it has answered something that came later.
      yield* Sallyport.request(`${server.url}/api/auth/session`)
      // One that is sent together with the first is npm's copy of it.
      const [first] = yield* Effect.all([
        server.stop("SIGTERM"),
        server.stop("SIGTERM"),
        Effect.delay(server.stop("SIGTERM"), "700 millis")
      ], { concurrency: "unbounded" })
      assert.deepStrictEqual(first, { code: 143, signal: null })
    }), timeout)

  it("loads nothing for relays and issuers of identities before there are any", () => {
    const program = `
      import { registerHooks } from "node:module"
      const asked = new Set()
      registerHooks({ resolve: (name, context, next) => { asked.add(name); return next(name, context) } })
      await import("@sallyport/cli/Serve")
      process.stdout.write(JSON.stringify(["effect/Effect", "jose"].map((name) => asked.has(name))))
    `
    const loaded = execFileSync(
      process.execPath,
      ["--conditions=sallyport-source", "--input-type=module", "--eval", program],
      { cwd: import.meta.dirname, encoding: "utf8" }
    )
    assert.deepStrictEqual(JSON.parse(loaded), [true, false])
  })

  it.live("a request that arrives while the server starts is answered", () =>
    Effect.gen(function*() {
      const state = yield* Sallyport.freshState
      const { port } = new URL((yield* Effect.scoped(Sallyport.serve(state))).url)
      const connected = yield* Effect.forkChild(
        // The connection is refused until the server listens, which is before it has a handler.
        Effect.retry(Sallyport.request(`http://127.0.0.1:${port}/api/auth/session`), { while: () => true })
      )
      yield* Sallyport.sallyport(["serve", "--port", port, "--state-dir", state, "--json"])
      assert.strictEqual((yield* Fiber.join(connected)).status, 200)
    }), timeout)

  it.live(
    "SESS-12 BOOT-02 L-12: no token, code or ticket that was given out is in the state directory",
    () =>
      Effect.gen(function*() {
        const state = yield* Sallyport.freshState
        const server = yield* Sallyport.serve(state)
        const secrets = new Map<string, string>([["start-up code", server.code]])

        const signedIn = yield* Sallyport.request(`${server.url}/api/auth/bootstrap`, {
          method: "POST",
          headers: { "content-type": "application/json", origin: server.url },
          body: JSON.stringify({ credential: server.code, label: "browser" })
        })
        assert.strictEqual(signedIn.status, 200)
        const cookie = /=([^;]+)/.exec(signedIn.headers["set-cookie"]?.[0] ?? "")?.[1] ?? ""
        assert.match(cookie, /^[\w-]+\.[\w-]+\.[\w-]+$/)
        secrets.set("cookie", cookie)

        const issue = Effect.fnUntraced(function*(name: string, payload: object) {
          const answer = yield* Sallyport.post(server, "/api/auth/pairing-links", cookie, payload)
          assert.strictEqual(answer.status, 201, answer.text)
          const { code } = answer.json<{ readonly code: string }>()
          secrets.set(name, code)
          return code
        })
        yield* issue("unused code", { label: "phone" })
        yield* issue("unused machine code", { kind: "machine" })
        const code = yield* issue("used machine code", { kind: "machine" })
        const token = yield* Sallyport.pair(server, code)
        secrets.set("bearer token", token)
        const mistyped = "WRNG-WRNG-WRNG-WRNG"
        yield* Sallyport.exchange(server, mistyped)
        const ticket = yield* Sallyport.post(server, "/api/auth/websocket-ticket", token)
        assert.strictEqual(ticket.status, 200)
        secrets.set("ticket", ticket.json<{ readonly ticket: string }>().ticket)
        const { run } = yield* Sallyport.startRun(server, token, { to: 3, everyMillis: 0 })
        const reader = yield* Sallyport.follow(server, token, run.runId)
        assert.lengthOf(yield* reader.rest, 4)
        yield* Sallyport.post(server, "/api/auth/logout", token)

        const dump = () =>
          NFS.readdirSync(state, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
            .map(({ name, parentPath }) => ({ name, bytes: NFS.readFileSync(NPath.join(parentPath, name)) }))
        const assertNone = (where: string, bytes: Buffer) => {
          const text = bytes.toString("latin1")
          for (const [name, secret] of secrets) {
            // A code works without its dashes and in either case; a token is as secret as its signing key.
            for (const form of [secret, secret.replaceAll("-", ""), secret.split(".").at(-1) ?? secret]) {
              assert.isAbove(form.length, 8)
              assert.notInclude(text.toLowerCase(), form.toLowerCase(), `${where} holds the ${name}`)
              assert.isFalse(bytes.includes(Buffer.from(form, "base64url")), `${where} holds the bytes of the ${name}`)
            }
          }
        }
        const running = dump()
        assert.include(running.map(({ name }) => name), "sallyport.db-wal")
        assert.include(running.map(({ name }) => name), "session-signing-keys~1")
        for (const { bytes, name } of running) assertNone(name, bytes)
        yield* server.stop("SIGTERM")
        for (const { bytes, name } of dump()) assertNone(name, bytes)
        assertNone("the log", Buffer.from(server.stderr()))
        assert.notInclude(server.stderr(), mistyped)
      }),
    timeout
  )
})

describe("two servers on one state directory", () => {
  it.live(
    "L-05: both start at once; a session of one is good at the other until either ends it",
    () =>
      Effect.gen(function*() {
        const state = yield* Sallyport.freshState
        const [one, other] = yield* Effect.all([Sallyport.serve(state), Sallyport.serve(state)], { concurrency: 2 })
        for (const service of ["runs", "access", "spent_values"]) {
          const steps = yield* rows(state, `SELECT migration_id FROM sallyport_${service}_migrations`)
          assert.strictEqual(new Set(steps.map((step) => step.migration_id)).size, steps.length)
          assert.isAbove(steps.length, 0)
        }
        assert.deepStrictEqual(NFS.readdirSync(NPath.join(state, "secrets")).toSorted(), [
          "credentials.key~1",
          "pairing-code-key~1",
          "session-signing-keys~1"
        ])

        // Each takes the other's code and the other's token: they share both keys.
        const token = yield* Sallyport.pair(other, one.code)
        const remaining = yield* Sallyport.pair(one, other.code)
        for (const server of [one, other]) {
          for (const bearer of [token, remaining]) {
            assert.strictEqual((yield* Sallyport.get(server, "/api/auth/sessions", bearer)).status, 200)
          }
        }

        // `one` has the session in its cache when `other` ends it, and refuses it once it looks at the row again.
        assert.strictEqual((yield* Sallyport.post(other, "/api/auth/logout", token)).status, 204)
        assert.strictEqual((yield* Sallyport.get(other, "/api/auth/sessions", token)).status, 401)
        yield* Programs.eventually(
          Sallyport.get(one, "/api/auth/sessions", token),
          ({ status }) => status === 401
        )
        assert.strictEqual((yield* Sallyport.get(one, "/api/auth/sessions", remaining)).status, 200)
      }),
    timeout
  )

  it.live(
    "BOOT-03 BOOT-06 L-03: of 1,000 requests to two processes for one code, exactly one wins",
    () =>
      Effect.gen(function*() {
        const state = yield* Sallyport.freshState
        const [one, other] = yield* Effect.all([Sallyport.serve(state), Sallyport.serve(state)], { concurrency: 2 })
        const racers = Array.from({ length: 1_000 }, (_, index) => index % 2 === 0 ? one : other)
        // A request that a busy machine keeps for 10 seconds is answered by 503, and made again as a client does.
        const settled = (server: Sallyport.Server) =>
          Effect.repeat(Sallyport.exchange(server, one.code), { until: ({ status }) => status !== 503 })
        const answers = yield* Effect.forEach(racers, settled, { concurrency: 250 })
        const won = answers.filter(({ status }) => status === 200)
        assert.lengthOf(won, 1)
        // All come from one address, and both processes count its wrong attempts together.
        const lost = answers.filter(({ status }) => status !== 200)
          .map((answer) => `${answer.status} ${answer.json<{ readonly error: string }>().error}`)
        assert.deepStrictEqual(new Set(lost), new Set(["400 invalid_grant", "429 temporarily_unavailable"]))
        assert.isAtMost(lost.filter((answer) => answer === "400 invalid_grant").length, 10)
        const { access_token } = won[0]?.json<{ readonly access_token: string }>() ?? { access_token: "" }
        const listed = yield* Sallyport.get(other, "/api/auth/sessions", access_token)
        assert.lengthOf(listed.json<{ readonly sessions: ReadonlyArray<unknown> }>().sessions, 1)
      }),
    timeout
  )
})
