/** What a person reads who has mistyped something, and the exit code by which a script tells one failure from another. */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import { type ExitCode, exitCodes } from "@sallyport/cli/ExitCode"
import * as Persistence from "@sallyport/cli/Persistence"
import * as StateDirectory from "@sallyport/cli/StateDirectory"
import * as ConnectClientStore from "@sallyport/core/connect/ConnectClientStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Struct from "effect/Struct"
import * as NFS from "node:fs"
import * as Http from "node:http"
import * as NPath from "node:path"
import { DatabaseSync } from "node:sqlite"
import * as Sallyport from "../../../test-support/backend.ts"
import { timeout } from "../../../test-support/programs.ts"
import { commandLine } from "./commandLine.ts"

/** Makes clients ask, as the relay's side of the backend would. */
const ask = (directory: string, thumbprints: ReadonlyArray<string>, options: ConnectClientStore.Options = {}) =>
  Effect.gen(function*() {
    const store = Persistence.layer({ database: undefined, state: yield* StateDirectory.open(directory) })
    yield* Effect.flatMap(
      ConnectClientStore.ConnectClientStore,
      (clients) =>
        Effect.forEach(
          thumbprints,
          (thumbprint) =>
            clients.request({ proofKeyThumbprint: thumbprint.padEnd(43, "a"), account: "ada", label: "phone" })
        )
    ).pipe(Effect.provide(Layer.provide(ConnectClientStore.layerWith(options), store)))
  }).pipe(Effect.provide([NodeServices.layer, NodeCrypto.layer]))

const listening = (handler: Http.RequestListener) =>
  Effect.acquireRelease(
    Effect.callback<Http.Server>((resume) => {
      const server = Http.createServer(handler)
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) => Effect.sync(() => void server.close())
  ).pipe(Effect.map((server) => {
    const address = server.address()
    return `http://127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}`
  }))

/** Answers some paths itself, and passes all else on to a backend. */
const before = (backend: string, paths: RegExp, status: number, body: object) =>
  listening((request, response) => {
    if (paths.test(request.url ?? "")) {
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body))
      return
    }
    const { headers, method = "GET" } = request
    const passed = Http.request(backend + (request.url ?? ""), { method, headers, agent: false }, (answer) => {
      response.writeHead(answer.statusCode ?? 500, answer.headers)
      answer.pipe(response)
    })
    request.pipe(passed)
  })

interface Mistake {
  readonly args: ReadonlyArray<string>
  readonly code: ExitCode
  readonly says: RegExp
  readonly env?: Readonly<Record<string, string>>
}

describe("sallyport tells what is wrong and what to do, in a line, by type", () => {
  it.live(
    "L-17 L-18: each mistyped command, option, value, id, address and token, and each exit code",
    () =>
      Effect.gen(function*() {
        const state = yield* Sallyport.freshState
        const server = yield* Sallyport.serve(state)
        const token = yield* Sallyport.pair(server)
        const { run } = yield* Sallyport.startRun(server, token, { to: 100_000, everyMillis: 50 })
        yield* ask(state, ["first", "finest"])
        const page = yield* listening((_, response) => response.end("<h1>hello</h1>"))
        const gateway = yield* listening((_, response) => response.writeHead(502).end("bad gateway"))
        const moved = yield* listening((_, response) => response.writeHead(302, { location: server.url }).end())
        const older = yield* listening((_, response) =>
          response.writeHead(404, { "content-type": "application/json" }).end(`{"error":"none"}`)
        )
        const reader = yield* commandLine([
          "sessions",
          "issue",
          "--label",
          "reader",
          "--scope",
          "runs:read",
          "--state-dir",
          state
        ])
        const copy = Effect.map(Sallyport.freshState, (copied) => {
          NFS.cpSync(state, copied, { recursive: true })
          for (const directory of [copied, NPath.join(copied, "secrets")]) NFS.chmodSync(directory, 0o700)
          return copied
        })
        const aged = yield* copy
        yield* ask(aged, ["expired"], { pendingLifetime: "1 millis" })
        const broken = yield* copy
        const database = new DatabaseSync(NPath.join(broken, "sallyport.db"), { timeout: 10_000 })
        database.exec("PRAGMA ignore_check_constraints = ON")
        database.exec("UPDATE sallyport_connect_settings SET mode = 'everyone'")
        database.exec("DROP TABLE sallyport_run_events")
        database.close()

        const here = ["--state-dir", state]
        const there = ["--url", server.url]
        const env = { SALLYPORT_TOKEN: token }
        const typo = (args: ReadonlyArray<string>, says: RegExp): Mistake => ({ args, code: "Usage", says })
        const mistakes: ReadonlyArray<Mistake> = [
          typo(["statsu"], /Unknown subcommand "statsu".*; did you mean status/),
          typo(["runs", "lst"], /Unknown subcommand "lst".*; did you mean list/),
          typo(["sessions", "list", "--jsn"], /Unrecognized flag: --jsn/),
          typo(["links", "revoke"], /Missing required argument: link/),
          typo(["links", "revoke", ""], /link/),
          typo(["runs", "tail", "a", "b"], /Unexpected positional argument: "b"/),
          typo(["runs", "tail", "a", "--after", "x"], /--after: "x"\. Expected a whole number from 0/),
          typo(["runs", "tail", "a", "--after="], /Missing value for flag --after\. Expected a whole number from 0/),
          typo(["feed", "tail", "--after", "-1"], /--after: "-1"\. Expected a whole number from 0/),
          typo(["pair", "--lifetime", "soon"], /--lifetime: "soon"\. Expected a duration such as "10 minutes"/),
          typo(["pair", "--port", "99999"], /--port: "99999"\. Expected a port between 0 and 65535/),
          typo(["pair", "--scope", "everything", ...here], /A scope has the form resource:action/),
          typo(["runs", "start", "t", "--input", "{", ...there], /--input: "\{"\. Expected JSON, such as/),
          typo(["runs", "start", "t", ...here], /executed by a server.*--url/),
          typo(["runs", "list", "--status", "lost"], /--status: "lost"\. Expected: .*"running"/),
          typo(["connect", "security", "everyone"], /<mode>: "everyone"\. Expected: "account" \| "client-approval"/),
          typo(["sessions", "revoke", ...here], /Name one session, or give --all/),
          typo(["sessions", "revoke-others", ...here], /--keep/),
          typo(["sessions", "list", ...there], /--url needs a token.*SALLYPORT_TOKEN.*--token-file/),
          typo(["sessions", "list", ...there, ...here], /Give --url or --state-dir, not both/),
          typo(["sessions", "list", ...there, "--token-file", "/no/such/file"], /token cannot be read.*--token-file/),
          typo(["completions", "tcsh"], /<shell>: "tcsh"\. Expected: "bash"/),
          ...(["rotate-key", "unlink"] as const).map((name): Mistake => ({
            args: ["connect", name, ...there],
            env,
            code: "Usage",
            says: new RegExp(`"connect ${name}" works on.*not with --url; run it there`)
          })),
          ...(["list", "verify", "rotate"] as const).map((name): Mistake => ({
            args: ["secrets", name, ...there],
            env,
            code: "Usage",
            says: new RegExp(`"secrets ${name}" works on.*not with --url; no server gives its secrets.*--state-dir`)
          })),
          { args: ["runs", "sweep", ...there], env, code: "Usage", says: /a server sweeps by itself/ },

          {
            args: ["sessions", "list", "--url", "nonsense"],
            env,
            code: "InvalidInput",
            says: /"nonsense" is not an http/
          },
          { args: ["sessions", "list", "--url", "ftp://a.example"], env, code: "InvalidInput", says: /ftp/ },
          {
            args: ["sessions", "list", "--url", "http://127.0.0.1:1"],
            env,
            code: "Unavailable",
            says: /127\.0\.0\.1:1: .*Start the server/
          },
          {
            args: ["sessions", "list", "--url", "http://no-such-host.invalid"],
            env,
            code: "Unavailable",
            says: /no-such-host\.invalid/
          },
          {
            args: ["sessions", "list", "--url", server.url.replace("http:", "https:")],
            env,
            code: "Unavailable",
            says: /speaks no TLS/
          },
          {
            args: ["sessions", "list", "--url", page],
            env,
            code: "Failed",
            says: /does not answer as a backend.*correct --url/
          },
          { args: ["sessions", "list", "--url", gateway], env, code: "Failed", says: /does not answer as a backend/ },
          { args: ["sessions", "list", "--url", older], env, code: "Failed", says: /does not answer as a backend/ },
          {
            args: ["sessions", "list", "--url", moved],
            env,
            code: "Failed",
            says: /sends its clients to http.*name that address with --url/
          },
          { args: ["feed", "tail", "--url", page], env, code: "Failed", says: /does not answer as a backend/ },
          { args: ["feed", "tail", "--url", gateway], env, code: "Failed", says: /does not answer as a backend/ },
          {
            args: ["runs", "tail", run.runId, "--url", older],
            env,
            code: "Failed",
            says: /does not answer as a backend/
          },
          {
            args: ["runs", "tail", run.runId, "--url", "http://127.0.0.1:1"],
            env,
            code: "Unavailable",
            says: /127\.0\.0\.1:1/
          },
          {
            args: ["sessions", "list", ...there],
            env: { SALLYPORT_TOKEN: "wrong" },
            code: "SignedOut",
            says: /sallyport sessions issue/
          },
          {
            args: ["feed", "tail", ...there],
            env: { SALLYPORT_TOKEN: "wrong" },
            code: "SignedOut",
            says: /sallyport sessions issue/
          },
          {
            args: ["sessions", "list", ...there],
            env: { SALLYPORT_TOKEN: "a b\u00e9\nc" },
            code: "Usage",
            says: /token/
          },
          { args: ["sessions", "list", ...there], env: { SALLYPORT_TOKEN: "пароль" }, code: "Usage", says: /token/ },
          {
            args: ["links", "list", ...there],
            env: { SALLYPORT_TOKEN: reader.stdout.trim() },
            code: "NotAllowed",
            says: /access:read/
          },

          { args: ["links", "revoke", "nothing", ...here], code: "NotFound", says: /list/ },
          {
            args: ["links", "revoke", "0197c2f", ...here],
            code: "NotFound",
            says: /at least 8 characters.*links list/
          },
          { args: ["runs", "abort", "0197c2f", ...there], env, code: "NotFound", says: /at least 8 characters/ },
          { args: ["sessions", "revoke", "nothing", ...here], code: "NotFound", says: /list/ },
          {
            args: ["sessions", "revoke-others", "--keep", "nothing", "--yes", ...here],
            code: "NotFound",
            says: /sallyport sessions list/
          },
          { args: ["runs", "tail", "nothing", ...here], code: "NotFound", says: /check the id|runs list/ },
          { args: ["connect", "approve", "nothing", ...here], code: "NotFound", says: /list the clients/ },
          { args: ["credentials", "set", "no.such", ...here], code: "NotFound", says: /sallyport credentials status/ },
          { args: ["connect", "approve", "fi", ...here], code: "Ambiguous", says: /give more of the thumbprint/ },
          { args: ["connect", "approve", "fi", ...there], env, code: "Ambiguous", says: /give more of the thumbprint/ },
          { args: ["connect", "approve", "expired", "--state-dir", aged], code: "Expired", says: /has expired; / },
          {
            args: ["connect", "approve", "first", "--code", "0000-0000", ...here],
            code: "Changed",
            says: /Look at its request before you decide/
          },
          { args: ["connect", "security", "--state-dir", broken], code: "Unreadable", says: /until it is set again/ },
          {
            args: ["runs", "tail", run.runId, "--state-dir", broken],
            code: "Unavailable",
            says: /check that the database can be reached/
          },
          { args: ["connect", "rotate-key", ...here], code: "NotLinked", says: /sallyport connect link/ },
          { args: ["status", "--state-dir", `${state}-typo`], code: "NoState", says: /--state-dir.*sallyport serve/ },
          {
            args: ["sessions", "issue", "--label", "a", "--scope", "no:thing", ...here],
            code: "NotAllowed",
            says: /no:thing/
          },
          { args: ["credentials", "test", "github.token", ...here], code: "NotValid", says: /is not set/ },
          { args: ["sessions", "revoke", "--all", ...here], code: "NotConfirmed", says: /--yes/ },
          { args: ["sessions", "revoke-others", ...there], env, code: "NotConfirmed", says: /--yes/ },
          { args: ["credentials", "remove", "github.token", ...here], code: "NotConfirmed", says: /--yes/ },
          { args: ["connect", "unlink", ...here], code: "NotConfirmed", says: /--yes/ },
          { args: ["runs", "sweep", ...here], code: "NotConfirmed", says: /--yes/ },
          { args: ["pair", "--lifetime", "400 days", ...here], code: "InvalidInput", says: /up to/ },
          {
            args: ["pair", "--public-url", "nonsense", ...here],
            code: "InvalidInput",
            says: /"nonsense" is not an http/
          },
          { args: ["runs", "start", "thread", "--key", "key", ...there], env, code: "Conflict", says: /key/ },
          { args: ["doctor", "--state-dir", broken], code: "Unhealthy", says: /found a fault: / }
        ]
        const wrong: Array<unknown> = []
        for (const { args, code, env, says } of mistakes) {
          const ended = yield* commandLine(args, env === undefined ? {} : { env })
          const { stderr } = ended
          const isUsage = stderr.includes("\nUsage: ")
          const isFine = ended.code === exitCodes[code] && says.test(stderr) &&
            (ended.stdout === "" || code === "Unhealthy") &&
            (isUsage ? /^sallyport: [^\n]+\nUsage: [^\n]+\nRun "[^\n]+\n$/ : /^sallyport: [^\n]+\n$/).test(stderr) &&
            !/\bundefined\b|\[object|Error\b|\bat .*:\d+:\d+/.test(stderr) && !stderr.includes(token)
          if (!isFine) wrong.push([args.join(" "), code, String(says), ended])
        }
        assert.deepStrictEqual(wrong, [])
        // A relay is needed for the one that is left, which connectRotation.test.ts has.
        const shown = new Set(mistakes.map(({ code }) => code))
        assert.deepStrictEqual(Struct.keys(exitCodes).filter((name) => !shown.has(name)), ["RelayNotTold"])
      }).pipe(Effect.scoped),
    timeout
  )

  it.live("L-18: a tail ends with the exit code of what the server tells it", () =>
    Effect.gen(function*() {
      const run = "0197c2f0-0000-7000-8000-000000000000"
      const tail = Effect.fnUntraced(function*(answer: Http.RequestListener, ...args: ReadonlyArray<string>) {
        const url = yield* listening(answer)
        return yield* commandLine([...args, "--json", "--url", url], { env: { SALLYPORT_TOKEN: "token" } })
      })
      const sends = (...events: ReadonlyArray<string>): Http.RequestListener => (_, response) =>
        response.writeHead(200, { "content-type": "text/event-stream" }).end(`retry: 1000\n\n${events.join("")}`)
      const failure = (code: string, retryable: boolean) =>
        sends(`event: failure\ndata: ${JSON.stringify({ code, message: `It is ${code}`, retryable })}\n\n`)
      const failures: ReadonlyArray<readonly [string, boolean, ExitCode]> = [
        ["session_ended", false, "SignedOut"],
        ["run_not_found", false, "NotFound"],
        ["cursor_expired", false, "Expired"],
        ["unavailable", true, "Unavailable"],
        ["internal_error", false, "Failed"],
        ["of_a_later_version", true, "Unavailable"],
        ["toString", false, "Failed"]
      ]
      for (const args of [["feed", "tail"], ["runs", "tail", run]]) {
        for (const [code, retryable, name] of failures) {
          assert.deepStrictEqual(
            yield* tail(failure(code, retryable), ...args),
            { code: exitCodes[name], stdout: "", stderr: `sallyport: It is ${code}\n` }
          )
        }
        for (const event of ["event: failure\ndata: {}\n\n", "event: data\ndata: {\n\n"]) {
          const garbled = yield* tail(sends(event), ...args)
          assert.deepInclude(garbled, { code: exitCodes.Failed, stdout: "" })
          assert.include(garbled.stderr, "does not answer as a backend")
        }
        const head = { "content-type": "text/event-stream" }
        const cuts: ReadonlyArray<Http.RequestListener> = [
          (_, response) => response.writeHead(200, head).end(": open\n\n"),
          (_, response) => response.writeHead(200, head).write(": open\n\n", () => response.destroy())
        ]
        for (const cut of cuts) {
          assert.deepStrictEqual(yield* tail(cut, ...args), {
            code: exitCodes.Unavailable,
            stdout: "",
            stderr:
              "sallyport: The connection to the server has ended; follow again with --after and the last number shown\n"
          })
        }
        const many = yield* tail((_, response) =>
          response.writeHead(429, { "content-type": "application/json" }).end(JSON.stringify({
            _tag: "TooManyRequests",
            code: "too_many_connections",
            message: "Too many are open",
            retryable: true,
            traceId: "0".repeat(32)
          })), ...args)
        assert.deepStrictEqual(many, {
          code: exitCodes.Conflict,
          stdout: "",
          stderr: "sallyport: Too many are open\n"
        })
      }
      // An event that stands for several, of a run that was compacted, in lines that a proxy has broken.
      const events = sends("id: 3-5\nevent: data\ndata: {\ndata: }\n\n", "id: ended\nevent: end\ndata: {}\n\n")
      const { stdout } = yield* tail(events, "runs", "tail", run)
      assert.strictEqual(stdout, `{"seq":5,"kind":"data","data":{}}\n{"seq":null,"kind":"end","data":{}}\n`)
    }).pipe(Effect.scoped), timeout)

  it.live("L-18: a tail ends as signed out when its session is revoked", () =>
    Effect.gen(function*() {
      const state = yield* Sallyport.freshState
      const server = yield* Sallyport.serve(state)
      const env = { SALLYPORT_TOKEN: yield* Sallyport.pair(server) }
      const tail = yield* Sallyport.sallyport(["feed", "tail", "--url", server.url], env)
      yield* tail.printed(/session/)
      yield* commandLine(["sessions", "revoke", "--all", "--yes", "--state-dir", state])
      assert.strictEqual((yield* tail.exit).code, exitCodes.SignedOut, tail.stderr())
    }).pipe(Effect.scoped), timeout)

  it.live("says of what a server does not tell whether it is the token or the server", () =>
    Effect.gen(function*() {
      const state = yield* Sallyport.freshState
      const server = yield* Sallyport.serve(state)
      const token = yield* Sallyport.pair(server)
      const here = ["--state-dir", state]
      const { stdout } = yield* commandLine(["sessions", "issue", "--label", "a", "--scope", "access:read", ...here])
      const status = (url: string, token: string) =>
        commandLine(["status", "--url", url], { env: { SALLYPORT_TOKEN: token } })
      const unread = yield* status(server.url, stdout.trim())
      assert.match(unread.stdout, /^Waiting clients not for this token\nWho may connect not for this token$/m)
      const url = yield* before(server.url, /connect-/, 404, {
        _tag: "NotFound",
        code: "connect_not_offered",
        message: "This server lets no client connect",
        retryable: false,
        traceId: "0".repeat(32)
      })
      const unoffered = yield* status(url, token)
      assert.match(
        unoffered.stdout,
        /^Waiting clients not offered by this server\nWho may connect not offered by this server$/m
      )
    }).pipe(Effect.scoped), timeout)

  it.live("L-18: a token that is refused ends with the exit code of the refusal", () =>
    Effect.gen(function*() {
      const server = yield* Sallyport.serve(yield* Sallyport.freshState)
      const env = { SALLYPORT_TOKEN: yield* Sallyport.pair(server) }
      const body = { error_description: "It cannot be", traceId: "0".repeat(32) }
      const refusals: ReadonlyArray<readonly [number, object, ExitCode]> = [
        [400, { _tag: "OAuthError", error: "invalid_scope" }, "NotAllowed"],
        [400, { _tag: "OAuthError", error: "invalid_grant" }, "InvalidInput"],
        [429, {
          _tag: "OAuthTooManyRequests",
          error: "temporarily_unavailable",
          code: "rate_limited"
        }, "Conflict"],
        [503, { _tag: "OAuthUnavailable", error: "temporarily_unavailable" }, "Unavailable"]
      ]
      for (const [status, refusal, code] of refusals) {
        const url = yield* before(server.url, /^\/oauth\/token$/, status, { ...refusal, ...body })
        assert.deepStrictEqual(
          yield* commandLine(["sessions", "issue", "--label", "a", "--url", url], { env }),
          { code: exitCodes[code], stdout: "", stderr: "sallyport: It cannot be\n" }
        )
      }
    }).pipe(Effect.scoped), timeout)
})
