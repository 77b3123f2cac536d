/**
 * Tests `sallyport connect rotate-key` and `unlink` beside a backend and a relay in processes of their own, also killed
 * half-way.
 */
import { assert, describe, it } from "@effect/vitest"
import { exitCodes } from "@sallyport/cli/ExitCode"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Http from "node:http"
import { fileURLToPath } from "node:url"
import { exchange, freshState, get, pair, post, request, sallyport, serve } from "../../../test-support/backend.ts"
import { commandLine } from "./commandLine.ts"
import { program, type Running, temporaryDirectory, timeout } from "../../../test-support/programs.ts"

const relayScript = fileURLToPath(new URL("../../../examples/connect/src/relay.ts", import.meta.url))

interface Hooks {
  /** Runs before a request goes to the relay, and before its answer goes to the caller. */
  before: (path: string) => Promise<unknown> | undefined
  after: (path: string) => Promise<unknown> | undefined
}

/** Stands between a backend's commands and the relay. */
const proxyTo = (relayUrl: string) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly server: Http.Server; readonly url: string; readonly hooks: Hooks }>((resume) => {
      const hooks: Hooks = { before: () => undefined, after: () => undefined }
      const server = Http.createServer((incoming, outgoing) => {
        const chunks: Array<Buffer> = []
        const path = incoming.url ?? "/"
        incoming.on("data", (chunk: Buffer) => chunks.push(chunk))
        incoming.on("end", async () => {
          await hooks.before(path)
          const answer = await Effect.runPromise(Effect.option(request(relayUrl + path, {
            method: incoming.method ?? "GET",
            headers: {
              // The relay goes by the address that its caller knows.
              host: incoming.headers.host ?? "",
              "content-type": incoming.headers["content-type"] ?? "application/json",
              ...(incoming.headers.authorization === undefined ? {} : { authorization: incoming.headers.authorization })
            },
            body: Buffer.concat(chunks).toString()
          })))
          if (Option.isNone(answer)) return outgoing.destroy()
          await hooks.after(path)
          const { headers, status, text } = answer.value
          outgoing.writeHead(status, { "content-type": headers["content-type"] ?? "text/plain" }).end(text)
        })
      })
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        const port = typeof address === "object" ? address?.port : undefined
        resume(Effect.succeed({ server, url: `http://127.0.0.1:${port}`, hooks }))
      })
    }),
    ({ server }) =>
      Effect.promise(() => {
        server.closeAllConnections()
        return new Promise((resolve) => server.close(resolve))
      })
  )

const startRelay = Effect.gen(function*() {
  const relayProcess = yield* program(relayScript, [yield* temporaryDirectory, "0"])
  const relay: { readonly url: string; readonly linkCode: string; readonly clientCode: string } = JSON.parse(
    yield* relayProcess.printed(/^.*\n/)
  )
  return { proxy: yield* proxyTo(relay.url), relay, relayProcess }
})

/** Runs a command to its end. */
const ended = (...args: ReadonlyArray<string>) => commandLine(["connect", ...args])

const world = Effect.gen(function*() {
  const { proxy, relay, relayProcess } = yield* startRelay
  const state = yield* freshState
  const backend = yield* serve(state)
  const begin = (...args: ReadonlyArray<string>) => sallyport(["connect", ...args, "--state-dir", state, "--json"])
  const run = (...args: ReadonlyArray<string>) => ended(...args, "--state-dir", state, "--json")
  const linked = yield* run("link", "--relay", proxy.url, "--code", relay.linkCode, "--public-url", backend.url)
  assert.strictEqual(linked.code, 0, linked.stderr)
  const { environmentId, health: found }: { readonly environmentId: string; readonly health: unknown } = JSON.parse(
    linked.stdout
  )
  assert.deepStrictEqual(found, { status: "healthy", message: null })
  assert.strictEqual(linked.stderr, "")
  const token = (yield* exchange(relay, relay.clientCode)).json<{ readonly access_token: string }>().access_token
  const health = Effect.map(
    get(relay, `/api/relay/environments/${environmentId}/health`, token),
    (answer) => [answer.status, answer.json<{ readonly status?: string }>().status]
  )
  return { backend, begin, health, proxy, relayProcess, run }
})

describe("sallyport connect link", () => {
  it.live(
    "links a backend that the relay does not reach yet, says so, and names the code as the fault if it is used up",
    () =>
      Effect.gen(function*() {
        const { relay } = yield* startRelay
        const state = yield* freshState
        const url = "http://127.0.0.1:1"
        const link = ended(
          "link",
          "--relay",
          relay.url,
          "--code",
          relay.linkCode,
          "--public-url",
          url,
          "--state-dir",
          state
        )
        const linked = yield* link
        assert.strictEqual(linked.code, 0, linked.stderr)
        assert.include(
          linked.stderr,
          `sallyport: The relay cannot reach this backend at ${url} yet; start it there, or link it again with another --public-url\n`
        )
        const again = yield* link
        assert.strictEqual(again.code, 1)
        assert.include(again.stderr, `The relay at ${relay.url} did not take the code: it is wrong, used up or expired`)

        const shown = yield* ended("status", "--state-dir", state)
        assert.include(shown.stdout, `\nRegistered there at ${url}\n`)
        const status: { readonly link: object } = JSON.parse(
          (yield* ended("status", "--state-dir", state, "--json")).stdout
        )
        assert.deepInclude(status.link, { relayUrl: relay.url, url })
      }).pipe(Effect.scoped),
    timeout
  )

  it.live(
    "is linked if the relay is away before it has said whether it reaches the backend",
    () =>
      Effect.gen(function*() {
        const { proxy, relay, relayProcess } = yield* startRelay
        proxy.hooks.before = (path) =>
          path.endsWith("/health") ? Effect.runPromise(relayProcess.stop("SIGKILL")) : undefined
        const args = ["link", "--relay", proxy.url, "--code", relay.linkCode, "--public-url", "http://127.0.0.1:1"]
        const linked = yield* ended(...args, "--state-dir", yield* freshState, "--json")
        assert.strictEqual(linked.code, 0, linked.stderr)
        assert.deepInclude(JSON.parse(linked.stdout), { relayUrl: proxy.url, health: null })
        assert.include(linked.stderr, "It is not known whether the relay reaches this backend at http://127.0.0.1:1.")
        assert.include(linked.stderr, `The relay at ${proxy.url} cannot be reached`)
      }).pipe(Effect.scoped),
    timeout
  )
})

const rotatePath = "/api/relay/environments/rotate-key"

describe("sallyport connect rotate-key", () => {
  it.live(
    "killed with the relay told or not, leaves a backend that the relay believes, and finishes when run again",
    () =>
      Effect.gen(function*() {
        const { begin, health, proxy, run } = yield* world
        const keys = new Set<string>()
        const rotate = Effect.gen(function*() {
          const { code, stderr, stdout } = yield* run("rotate-key")
          assert.strictEqual(code, 0, stderr)
          const { keyId, previousUntil }: { readonly keyId: string; readonly previousUntil: string } = JSON.parse(
            stdout
          )
          assert.match(keyId, /^[A-Za-z0-9_-]{43}$/)
          assert.isFalse(keys.has(keyId))
          keys.add(keyId)
          assert.isAbove(Date.parse(previousUntil), Date.now())
          assert.deepStrictEqual(yield* health, [200, "healthy"])
        })
        yield* rotate
        for (const when of ["before", "after"] as const) {
          for (const count of [1, 2]) {
            let running: Running | undefined
            let seen = 0
            proxy.hooks[when] = (path) =>
              path === rotatePath && ++seen === count && running !== undefined
                ? Effect.runPromise(running.stop("SIGKILL"))
                : undefined
            running = yield* begin("rotate-key")
            assert.strictEqual((yield* running.exit).signal, "SIGKILL", `${when} ${count}`)
            proxy.hooks[when] = () => undefined
            assert.deepStrictEqual(yield* health, [200, "healthy"])
            yield* rotate
          }
        }
      }).pipe(Effect.scoped),
    timeout
  )
})

describe("sallyport connect unlink", () => {
  it.live(
    "CONN-07: is told of by the backend's address as on its state, to those who may manage",
    () =>
      Effect.gen(function*() {
        const { backend, run } = yield* world
        const token = yield* pair(backend)
        const here = yield* run("status")
        assert.include(here.stdout, `"url":"${backend.url}"`)
        const there = yield* commandLine(["connect", "status", "--url", backend.url, "--json"], {
          env: { SALLYPORT_TOKEN: token }
        })
        assert.deepInclude(there, { code: 0, stdout: here.stdout, stderr: "" })
        const link = (token: string) => get(backend, "/api/auth/connect-link", token)
        const told = (yield* link(token)).json<{ readonly link: object }>()
        assert.hasAllKeys(told.link, ["account", "environmentId", "relayId", "relayUrl", "url"])
        const lesser = yield* post(backend, "/api/auth/pairing-links", token, { scopes: ["access:read"] })
        const reader = yield* pair(backend, lesser.json<{ readonly code: string }>().code)
        assert.deepInclude(yield* link(reader), { status: 403 })
        const refused = yield* commandLine(["connect", "status", "--url", backend.url], {
          env: { SALLYPORT_TOKEN: reader }
        })
        assert.deepInclude(refused, { code: exitCodes.NotAllowed, stdout: "" })
      }).pipe(Effect.scoped),
    timeout
  )

  it.live("tells the relay, forgets a relay that cannot be told, and says which it was", () =>
    Effect.gen(function*() {
      const { health, run } = yield* world
      const unlinked = yield* run("unlink", "--yes")
      assert.deepInclude(unlinked, { code: 0, stdout: `{"link":null,"relayTold":true}\n` }, unlinked.stderr)
      assert.deepStrictEqual((yield* health)[0], 404)
      assert.deepInclude(yield* run("unlink", "--yes"), { code: 0 })
      const rotated = yield* run("rotate-key")
      assert.strictEqual(rotated.code, 9)
      assert.include(rotated.stderr, "linked to no relay")
    }).pipe(Effect.scoped), timeout)

  it.live("exits with its own code if the relay is away, and is no longer linked", () =>
    Effect.gen(function*() {
      const { relayProcess, run } = yield* world
      yield* relayProcess.stop("SIGKILL")
      const unlinked = yield* run("unlink", "--yes")
      assert.strictEqual(unlinked.code, 10)
      assert.strictEqual(unlinked.stdout, `{"link":null,"relayTold":false}\n`)
      assert.include(unlinked.stderr, "Unlink it there as well")
      const status: { readonly link: unknown } = JSON.parse((yield* run("status")).stdout)
      assert.isNull(status.link)
    }).pipe(Effect.scoped), timeout)
})
