/** The operator's commands as a person and a script run them: beside a server, on it by its address, and on a terminal. */
import { assert, describe, it } from "@effect/vitest"
import { exitCodes } from "@sallyport/cli/ExitCode"
import * as Output from "@sallyport/cli/Output"
import * as MachineToken from "@sallyport/core/access/MachineToken"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as NFS from "node:fs"
import * as NPath from "node:path"
import { freshState, pair, sallyport, serve, type Server } from "../../../test-support/backend.ts"
import { timeout } from "../../../test-support/programs.ts"
import { commandLine } from "./commandLine.ts"

const run = (args: ReadonlyArray<string>, env: Record<string, string> = {}) => commandLine(args, { env })

const decode = <S extends Schema.ConstraintDecoder<unknown>>(schema: S, text: string): S["Type"] =>
  Schema.decodeUnknownSync(schema)(JSON.parse(text))

/** Runs a command on the store of a server and on the server itself, and returns both answers. */
const both = Effect.fnUntraced(function*<S extends Schema.ConstraintDecoder<unknown>>(
  state: string,
  server: Server,
  token: string,
  schema: S,
  ...args: ReadonlyArray<string>
) {
  const store = yield* run([...args, "--json", "--state-dir", state])
  const remote = yield* run([...args, "--json", "--url", server.url], { SALLYPORT_TOKEN: token })
  assert.deepStrictEqual([store.code, remote.code], [0, 0], store.stderr + remote.stderr)
  assert.lengthOf(store.stdout.trimEnd().split("\n"), 1)
  return { store: decode(schema, store.stdout), remote: decode(schema, remote.stdout) }
})

describe("sallyport, for an operator", () => {
  it.live(
    "L-17 L-18: answers the same from a store and from a server, in the published form, with the token in no argument",
    () =>
      Effect.gen(function*() {
        const state = yield* freshState
        const server = yield* serve(state)
        const token = yield* pair(server)

        const made = yield* run(["pair", "--label", "phone", "--scope", "runs:read", "--json", "--state-dir", state])
        const { code, link, pairingUrl } = decode(Output.Pairing, made.stdout)
        assert.deepStrictEqual([link.label, link.scopes, link.createdBy], ["phone", ["runs:read"], "operator"])
        assert.notInclude(String(code) + String(pairingUrl), "token=")
        const links = yield* both(state, server, token, Output.Links, "links", "list")
        assert.deepStrictEqual(links.store, links.remote)
        assert.deepStrictEqual(links.store.links.map(({ id }) => id), [link.id])

        const sessions = yield* both(state, server, token, Output.Sessions, "sessions", "list")
        assert.deepStrictEqual(
          sessions.store.sessions.map(({ id }) => id),
          sessions.remote.sessions.map(({ id }) => id)
        )
        assert.deepStrictEqual(sessions.remote.sessions.map(({ current }) => current), [true])

        const status = yield* both(state, server, token, Output.Status, "status")
        // Only the server that runs knows whose identities it takes.
        assert.deepStrictEqual(status.store, { ...status.remote, identities: null })
        assert.deepStrictEqual(status.remote.identities, [])
        assert.deepInclude(status.store, { sessions: 1, links: 1, waitingClients: 0 })

        // A token of the first, from a file, may read runs and nothing else.
        const issued = yield* run(
          ["sessions", "issue", "--label", "reader", "--scope", "runs:read", "--url", server.url],
          { SALLYPORT_TOKEN: token }
        )
        assert.strictEqual(issued.code, 0, issued.stderr)
        assert.match(issued.stdout.trim(), new RegExp(`^${MachineToken.pattern}$`))
        const file = NPath.join(state, "reader-token")
        NFS.writeFileSync(file, issued.stdout, { mode: 0o600 })
        const refused = yield* run(["sessions", "list", "--url", server.url, "--token-file", file])
        assert.deepInclude(refused, { code: exitCodes.NotAllowed, stdout: "" })

        for (
          const [name, args, env] of [
            ["SignedOut", ["links", "list", "--url", server.url], { SALLYPORT_TOKEN: "wrong" }],
            ["Usage", ["links", "list", "--url", server.url], { SALLYPORT_TOKEN: "" }],
            ["Unavailable", ["links", "list", "--url", "http://127.0.0.1:1"], { SALLYPORT_TOKEN: token }],
            ["NotFound", ["links", "revoke", "nothing", "--url", server.url], { SALLYPORT_TOKEN: token }],
            ["NotConfirmed", ["sessions", "revoke-others", "--url", server.url], { SALLYPORT_TOKEN: token }]
          ] as const
        ) {
          const failed = yield* run(args, env)
          assert.deepInclude(failed, { code: exitCodes[name], stdout: "" }, `${name}: ${failed.stderr}`)
          assert.match(failed.stderr, /^sallyport: [^\n]+\n$/)
          assert.notInclude(failed.stderr, token)
        }
      }).pipe(Effect.scoped),
    timeout
  )

  it.live(
    "RUN-08 RUN-12 FEED-02: starts, follows and aborts a run, and follows the feed, from a store and from a server",
    () =>
      Effect.gen(function*() {
        const state = yield* freshState
        const server = yield* serve(state)
        const env = { SALLYPORT_TOKEN: yield* pair(server) }
        const feed = yield* sallyport(["feed", "tail", "--after", "0", "--json", "--url", server.url], env)
        yield* feed.printed(/"event":"sessionUpserted".*\n/)
        for (const line of feed.stdout().trimEnd().split("\n")) decode(Output.FeedEvent, line)

        const started = yield* run(
          ["runs", "start", "thread", "--input", `{"to":2,"everyMillis":0}`, "--json", "--url", server.url],
          env
        )
        const { run: { runId } } = decode(Output.Run, started.stdout)
        const lines = Effect.fnUntraced(function*(...args: ReadonlyArray<string>) {
          const { code, stderr, stdout } = yield* run(["runs", "tail", runId, "--json", ...args], env)
          assert.strictEqual(code, 0, stderr)
          return stdout.trimEnd().split("\n").map((line) => decode(Output.RunEvent, line))
        })
        const remote = yield* lines("--url", server.url)
        assert.deepStrictEqual(remote.map(({ kind, seq }) => [seq, kind]), [[1, "data"], [2, "data"], [3, "end"]])
        assert.deepStrictEqual(yield* lines("--state-dir", state, "--after", "1"), remote.slice(1))
        const aborted = yield* run(["runs", "abort", runId, "--state-dir", state, "--json"])
        assert.strictEqual(decode(Output.Run, aborted.stdout).run.status, "succeeded")
        yield* feed.stop("SIGINT")
      }).pipe(Effect.scoped),
    timeout
  )
})
