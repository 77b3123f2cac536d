import { assert, describe, it } from "@effect/vitest"
import * as Output from "@sallyport/cli/Output"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { spawn } from "node:child_process"
import { once } from "node:events"
import * as NFS from "node:fs"
import * as NPath from "node:path"
import { fileURLToPath } from "node:url"
import * as Sallyport from "../../../test-support/backend.ts"
import * as Programs from "../../../test-support/programs.ts"
import { argumentsOf } from "../../../test-support/programs.ts"
import { commandLine } from "./commandLine.ts"

const bin = fileURLToPath(new URL("../src/bin.ts", import.meta.url))

/** Runs a command to its end, with its standard input. */
const run = (state: string, args: ReadonlyArray<string>, input = "") =>
  Effect.map(
    commandLine(["credentials", ...args, "--state-dir", state], { input }),
    (ended) => ({ ...ended, json: (): unknown => JSON.parse(ended.stdout) })
  )

/** Does the same in a process of its own. */
const runProcess = (state: string, args: ReadonlyArray<string>, input: string) =>
  Effect.promise(async () => {
    const child = spawn(
      process.execPath,
      [...argumentsOf(bin), "credentials", ...args, "--state-dir", state],
      { stdio: ["pipe", "pipe", "pipe"] }
    )
    let stdout = ""
    let stderr = ""
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => stdout += chunk)
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => stderr += chunk)
    child.stdin.on("error", () => undefined).end(input)
    const [code] = await once(child, "close")
    return { code, stdout, stderr }
  })

/** Reads every byte below a directory. */
const bytesBelow = (directory: string) =>
  Effect.sync(() =>
    NFS.readdirSync(directory, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => NFS.readFileSync(NPath.join(entry.parentPath, entry.name)).toString("latin1"))
      .join("\n")
  )

describe("sallyport credentials", () => {
  it.live(
    "SCOPE-01 SCOPE-03 SCOPE-07 SCOPE-12: sets, lists, shows, tests and removes, with the value from standard input, and none of it in the clear on disk",
    () =>
      Effect.gen(function*() {
        const state = yield* Sallyport.freshState
        const secret = "sk-s3cret-0123456789"
        const set = yield* run(state, ["set", "anthropic.api-key", "--json"], `${secret}\n`)
        assert.strictEqual(set.code, 0, set.stderr)
        assert.deepInclude(set.json(), { shadowedBy: null })
        const ofOrg = yield* run(state, ["set", "anthropic.api-key", "--org", "acme", "--scope", "org"], secret)
        assert.strictEqual(ofOrg.code, 0, ofOrg.stderr)
        assert.include(ofOrg.stdout, "Set anthropic.api-key of the org acme.")
        assert.include(ofOrg.stderr, "The user's own credential is read first and stays in use.")

        const pair = JSON.stringify({ accessKeyId: "AKIA-s3cret", secretAccessKey: secret })
        assert.strictEqual((yield* run(state, ["set", "aws.access-key"], pair)).code, 0)
        const half = yield* run(state, ["set", "aws.access-key"], JSON.stringify({ accessKeyId: "AKIA-s3cret" }))
        assert.deepStrictEqual([half.code, half.stdout], [15, ""])
        assert.notInclude(half.stderr, "s3cret")

        const listed = yield* run(state, ["list", "--org", "acme", "--json"])
        const { credentials } = Schema.decodeUnknownSync(Output.Credentials)(listed.json())
        assert.deepStrictEqual(
          credentials.map(({ key, owner, scope }) => [scope, owner, key]),
          [
            ["user", "owner", "anthropic.api-key"],
            ["user", "owner", "aws.access-key"],
            ["org", "acme", "anthropic.api-key"]
          ]
        )
        assert.match(
          (yield* run(state, ["list"])).stdout,
          /^CREDENTIAL .*\nanthropic\.api-key +user owner .*\naws\.access-key +user owner/
        )
        const status = yield* run(state, ["status", "--org", "acme"])
        assert.match(status.stdout, /anthropic\.api-key +set +user +org/)
        assert.match(status.stdout, /github\.token +unset/)

        const unchecked = yield* run(state, ["test", "aws.access-key", "--json"])
        assert.deepStrictEqual([unchecked.code, unchecked.json()], [0, { verdict: { _tag: "Unchecked" } }])
        const unset = yield* run(state, ["test", "github.token", "--json"])
        assert.deepStrictEqual([unset.code, unset.json()], [13, { verdict: { _tag: "NeedsToken" } }])
        assert.deepInclude(yield* run(state, ["test", "github.token"]), {
          code: 13,
          stdout: "",
          stderr: "sallyport: github.token is not set\n"
        })
        const shown = yield* run(state, ["test", "aws.access-key"])
        assert.deepInclude(shown, { stdout: "aws.access-key is set; there is no way to check it.\n", stderr: "" })

        const removed = yield* run(state, ["remove", "anthropic.api-key", "--org", "acme", "--yes"])
        assert.include(removed.stdout, "Removed anthropic.api-key of the user owner.")
        const org = yield* run(state, ["remove", "anthropic.api-key", "--org", "acme", "--json", "--yes"])
        assert.include(org.stdout, `"scope":"org"`)
        assert.strictEqual((yield* run(state, ["remove", "anthropic.api-key", "--yes"])).code, 3)

        assert.notInclude(yield* bytesBelow(state), "s3cret")
      }),
    Programs.timeout
  )

  it.live(
    "SCOPE-06: refuses unknown keys, empty values and organisations that are not named, each with its exit code",
    () =>
      Effect.gen(function*() {
        const state = yield* Sallyport.freshState
        for (
          const [code, args, input] of [
            [3, ["set", "unknown.key"], "x"],
            [3, ["test", "unknown.key"], ""],
            [15, ["set", "github.token"], "\n"],
            [15, ["set", "github.token"], "x".repeat(70_000)],
            [12, ["set", "github.token", "--scope", "org"], "x"],
            [12, ["remove", "github.token", "--scope", "workspace", "--yes"], ""],
            [3, ["remove", "github.token", "--yes"], ""],
            [14, ["remove", "github.token"], ""],
            [2, ["set", "github.token", "--scope", "solo"], "x"],
            [2, ["set", "github.token", "s3cret-as-argument"], ""]
          ] as const
        ) {
          const refused = yield* run(state, args, input)
          assert.strictEqual(refused.code, code, `${args.join(" ")}: ${refused.stderr}`)
          if (args[1] === "unknown.key") {
            assert.include(
              refused.stderr,
              `No credential "unknown.key" is declared; "sallyport credentials status" lists those that are\n`
            )
          }
        }
        assert.deepStrictEqual((yield* run(state, ["list", "--json"])).json(), { credentials: [] })
      }),
    Programs.timeout
  )

  it.live(
    "SCOPE-08 L-50: a running backend shows what a command has connected",
    () =>
      Effect.gen(function*() {
        const state = yield* Sallyport.freshState
        const server = yield* Sallyport.serve(state)
        const token = yield* Sallyport.pair(server)
        const before = yield* Sallyport.get(server, "/api/credentials/status", token)
        assert.strictEqual(before.status, 200)
        const set = yield* runProcess(state, ["set", "anthropic.api-key"], "sk-s3cret")
        assert.strictEqual(set.code, 0, set.stderr)
        const { credentials } = (yield* Sallyport.get(server, "/api/credentials/status", token)).json<{
          readonly credentials: ReadonlyArray<{ readonly key: string; readonly state: string }>
        }>()
        assert.deepStrictEqual(credentials.map(({ key, state: found }) => `${key} ${found}`), [
          "anthropic.api-key set",
          "aws.access-key unset",
          "github.token unset"
        ])
        yield* server.stop("SIGTERM")
      }),
    Programs.timeout
  )
})
