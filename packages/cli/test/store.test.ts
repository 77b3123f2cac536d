/** The commands that act on the store alone, beside a backend that runs. */
import { assert, describe, it } from "@effect/vitest"
import { exitCodes } from "@sallyport/cli/ExitCode"
import * as Output from "@sallyport/cli/Output"
import * as MachineToken from "@sallyport/core/access/MachineToken"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as OS from "node:os"
import * as NPath from "node:path"
import * as Sallyport from "../../../test-support/backend.ts"
import { eventually, temporaryDirectory, timeout } from "../../../test-support/programs.ts"
import { commandLine } from "./commandLine.ts"

const kidOf = (token: string): string => {
  const { kid }: { readonly kid: string } = JSON.parse(
    Buffer.from(token.slice(token.indexOf("eyJ")).split(".", 1).join(), "base64url").toString()
  )
  return kid
}

/** Runs a command as a script does. */
const json = Effect.fnUntraced(function*<S extends Schema.ConstraintDecoder<unknown>>(
  schema: S,
  ...args: ReadonlyArray<string>
) {
  const { code, stderr, stdout } = yield* commandLine([...args, "--json"])
  assert.deepStrictEqual([code, stderr], [0, ""], args.join(" "))
  return Schema.decodeUnknownSync(schema)(JSON.parse(stdout))
})

describe("sallyport on a store", () => {
  it.live(
    "SESS-02: a new key signs from the rotation on, beside a server, and the tokens of the old one stay good",
    () =>
      Effect.gen(function*() {
        const state = yield* Sallyport.freshState
        const here = ["--state-dir", state]
        const server = yield* Sallyport.serve(state)
        const old = yield* Sallyport.pair(server)
        const before = yield* json(Output.Secrets, "secrets", "verify", ...here)
        const { keyId } = yield* json(Output.RotatedSigningKey, "secrets", "rotate", ...here)
        assert.notStrictEqual(kidOf(old), keyId)
        const after = yield* json(Output.Secrets, "secrets", "list", ...here)
        assert.deepStrictEqual(after.secrets.map(({ name }) => name), before.secrets.map(({ name }) => name))
        const issued = yield* commandLine(["sessions", "issue", "--label", "new", ...here])
        const token = issued.stdout.trim()
        assert.match(token, new RegExp(`^${MachineToken.pattern}$`))
        assert.strictEqual(kidOf(token.slice(MachineToken.prefix.length)), keyId)
        for (const one of [old, token]) {
          assert.strictEqual((yield* Sallyport.get(server, "/api/auth/sessions", one)).status, 200)
        }
        const person = yield* commandLine(["secrets", "rotate", ...here])
        assert.match(person.stdout, /^The key \S+ signs sessions from now on\./)
        assert.strictEqual(person.stderr, "")
      }).pipe(Effect.scoped),
    timeout
  )

  it.live("RUN-09: a sweep ends the runs whose process has died", () =>
    Effect.gen(function*() {
      const state = yield* Sallyport.freshState
      const here = ["--state-dir", state]
      const server = yield* Sallyport.serveWith(
        { SALLYPORT_RUNS_LEASE: "1 second", SALLYPORT_RUNS_HEARTBEAT_INTERVAL: "200 millis" },
        state
      )
      const { run } = yield* Sallyport.startRun(server, yield* Sallyport.pair(server), { to: 100_000, everyMillis: 20 })
      yield* server.stop("SIGKILL")
      yield* eventually(json(Output.Swept, "runs", "sweep", "--yes", ...here), ({ ended }) => ended === 1)
      const { runs } = yield* json(Output.Runs, "runs", "list", ...here)
      assert.deepStrictEqual(
        runs.map(({ endReason, runId, status }) => [runId, status, endReason]),
        [[run.runId, "failed", "stale_run"]]
      )
      // A list shows what a command takes: the beginning of an id, but for the runs of another subject, as which one may be
      // named that is not the owner.
      const beginning = run.runId.slice(0, 13)
      const own = yield* commandLine(["runs", "list", ...here])
      assert.match(own.stdout, new RegExp(`^${beginning} `, "m"))
      assert.strictEqual((yield* commandLine(["runs", "tail", beginning, ...here])).code, 0)
      const named = yield* commandLine(["runs", "list", "--subject", "owner", ...here])
      assert.match(named.stdout, new RegExp(`^${run.runId} `, "m"))
    }).pipe(Effect.scoped), timeout)

  it.live("tells a lifetime in whole seconds, whatever its milliseconds", () =>
    Effect.gen(function*() {
      const here = ["--state-dir", yield* Sallyport.freshState]
      yield* commandLine(["connect", "security", "account", ...here])
      for (const lifetime of ["20 millis", "1500 millis"]) {
        const { link } = yield* json(Output.Pairing, "pair", "--session-lifetime", lifetime, ...here)
        assert.strictEqual(link.sessionLifetimeSeconds, 1)
      }
      const { links } = yield* json(Output.Links, "links", "list", ...here)
      assert.deepStrictEqual(links.map(({ sessionLifetimeSeconds }) => sessionLifetimeSeconds), [1, 1])
      yield* json(Output.IssuedToken, "sessions", "issue", "--label", "a", "--lifetime", "86400500 millis", ...here)
      const { sessions } = yield* json(Output.Sessions, "sessions", "list", ...here)
      assert.deepStrictEqual(sessions.map(({ lifetimeSeconds }) => lifetimeSeconds), [86_400])
    }).pipe(Effect.scoped), timeout)

  it.live(
    "warns that a browser pairs over https only, but for an address of this machine",
    () =>
      Effect.gen(function*() {
        const here = ["--state-dir", yield* Sallyport.freshState]
        yield* commandLine(["connect", "security", "account", ...here])
        for (
          const [host, isSecure] of [
            ["127.0.0.1:4590", true],
            ["localhost", true],
            ["[::1]", true],
            ["127.evil.example", false],
            ["localhost.example", false]
          ] as const
        ) {
          const { stderr } = yield* commandLine(["pair", "--public-url", `http://${host}`, ...here])
          assert.strictEqual(stderr === "", isSecure, host)
          if (!isSecure) assert.include(stderr, "over https only")
        }
      }).pipe(Effect.scoped),
    timeout
  )

  it.live("logs as a server does for the command serve alone", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const here = ["--state-dir", NPath.join(directory, "serve")]
      yield* commandLine(["connect", "security", "account", ...here])
      yield* json(Output.IssuedToken, "sessions", "issue", "--label", "a", ...here)
      const inside = ["env", "-C", directory]
      const rotating = yield* Sallyport.sallyport(["secrets", "rotate", "--state-dir", "serve"], {}, inside)
      assert.strictEqual((yield* rotating.exit).code, 0)
      assert.strictEqual(rotating.stderr(), "")
    }).pipe(Effect.scoped), timeout)

  it.live(
    "shows a pairing link for the network with this machine's address, or says that it has none",
    () =>
      Effect.gen(function*() {
        const state = yield* Sallyport.freshState
        yield* commandLine(["connect", "security", "account", "--state-dir", state])
        const args = ["pair", "--lan", "--port", "4711", "--json", "--state-dir", state]
        const own = Object.values(OS.networkInterfaces()).flatMap((found) => found ?? []).find(({ family, internal }) =>
          family === "IPv4" && !internal
        )
        const { code, stderr, stdout } = yield* commandLine(args)
        if (own === undefined) {
          assert.deepStrictEqual([code, stdout], [exitCodes.Failed, ""])
          assert.match(stderr, /no address in a network.*--public-url/)
        } else {
          assert.strictEqual(code, 0, stderr)
          assert.match(
            stdout,
            new RegExp(`"pairingUrl":"http://${own.address.replaceAll(".", "\\.")}:4711/pair#token=`)
          )
          assert.include(stderr, "over https only")
        }
        const both = yield* commandLine([...args, "--public-url", "https://a.example"])
        assert.deepStrictEqual([both.code, both.stdout], [exitCodes.Usage, ""])
      }).pipe(Effect.scoped),
    timeout
  )
})
