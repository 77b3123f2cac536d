import { afterAll, assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as NFS from "node:fs"
import * as OS from "node:os"
import * as NPath from "node:path"
import * as Sallyport from "../../../test-support/backend.ts"
import * as Programs from "../../../test-support/programs.ts"
import { commandLine } from "./commandLine.ts"

const { timeout } = Programs

const thumbprint = "A".repeat(43)

/** The commands that work on what is there. */
const commands: ReadonlyArray<ReadonlyArray<string>> = [
  ["connect", "status"],
  ["connect", "clients"],
  ["connect", "security"],
  ["connect", "watch"],
  ["connect", "approve", thumbprint],
  ["connect", "reject", thumbprint],
  ["connect", "revoke", thumbprint],
  ["connect", "block", thumbprint],
  ["connect", "unlink", "--yes"],
  ["connect", "rotate-key"],
  ["credentials", "list"],
  ["credentials", "status"],
  ["credentials", "test", "github.token"],
  ["credentials", "remove", "github.token", "--yes"],
  ["sessions", "list"],
  ["links", "list"],
  ["links", "revoke", "link"],
  ["pair"],
  ["status"],
  ["secrets", "list"],
  ["secrets", "verify"],
  ["secrets", "rotate"],
  ["feed", "tail"],
  ["runs", "tail", "run"],
  ["runs", "abort", "run"],
  ["runs", "sweep", "--yes"],
  ["sessions", "issue", "--label", "x"],
  ["sessions", "revoke-others", "--keep", "x", "--yes"],
  ["sessions", "revoke", "--all", "--yes"],
  ["sessions", "revoke", "session"]
]

describe("a command on a state directory that no backend has used", () => {
  for (const command of commands) {
    it.live(
      `OPS-07 C-64: ${command.join(" ")} creates nothing and has an exit code of its own`,
      () =>
        Effect.gen(function*() {
          const state = yield* Sallyport.freshState
          const { code, stderr, stdout } = yield* commandLine([...command, "--state-dir", state])
          assert.strictEqual(code, 11, stderr)
          assert.strictEqual(stdout, "")
          assert.match(stderr, /^sallyport: [^\n]+\n$/)
          assert.include(stderr, `No backend has kept state in ${state} yet`)
          assert.isFalse(NFS.existsSync(state))
        }),
      timeout
    )
  }

  it.live(
    "OPS-07 C-64: nor is anything created where the directory is empty, or a database beside no secrets",
    () =>
      Effect.gen(function*() {
        const state = yield* Sallyport.freshState
        NFS.mkdirSync(state, { mode: 0o700 })
        assert.strictEqual((yield* commandLine(["sessions", "list", "--state-dir", state])).code, 11)
        assert.deepStrictEqual(NFS.readdirSync(state), [])
        NFS.writeFileSync(NPath.join(state, "sallyport.db"), "")
        assert.strictEqual((yield* commandLine(["connect", "status", "--state-dir", state])).code, 11)
        NFS.writeFileSync(NPath.join(state, "sallyport.db"), "something")
        const without = yield* commandLine(["credentials", "list", "--state-dir", state])
        assert.strictEqual(without.code, 11)
        assert.include(without.stderr, `${NPath.join(state, "secrets")} is not there`)
        assert.deepStrictEqual(NFS.readdirSync(state), ["sallyport.db"])
      }),
    timeout
  )
})

describe("a backend whose state has vanished", () => {
  const template = NFS.mkdtempSync(NPath.join(OS.tmpdir(), "sallyport-cli-template-"))
  afterAll(() => NFS.rmSync(template, { recursive: true, force: true }))
  const usedOnce = Effect.runSync(Effect.cached(Effect.scoped(Effect.gen(function*() {
    const state = NPath.join(template, "state")
    const server = yield* Sallyport.serve(state)
    const token = yield* Sallyport.pair(server)
    yield* server.stop("SIGTERM")
    return { state, token }
  }))))
  const used = Effect.gen(function*() {
    const { state: original, token } = yield* usedOnce
    const state = yield* Sallyport.freshState
    NFS.cpSync(original, state, { recursive: true })
    // A copy keeps the modes of files, but not those of directories.
    for (const directory of [state, NPath.join(state, "secrets")]) NFS.chmodSync(directory, 0o700)
    return { state, token }
  })

  const database = (state: string) => NPath.join(state, "sallyport.db")
  for (
    const [what, says, change] of [
      ["the database is gone", (state: string) => `${database(state)} is gone`, (state: string) => {
        for (const name of NFS.readdirSync(state)) {
          if (name.startsWith("sallyport.db")) NFS.rmSync(NPath.join(state, name))
        }
      }],
      ["the database is empty", (state: string) => `${database(state)} is empty`, (state: string) => {
        NFS.truncateSync(database(state))
      }],
      ["the keys that sign sessions are gone", () => "The keys that sign sessions are gone", (state: string) => {
        NFS.rmSync(NPath.join(state, "secrets", "session-signing-keys~1"))
      }],
      ["all secrets are gone", () => "The keys that sign sessions are gone", (state: string) => {
        NFS.rmSync(NPath.join(state, "secrets"), { recursive: true })
      }]
    ] as const
  ) {
    it.live(`OPS-07 C-65: ${what}: it starts, says so in one warning, and once`, () =>
      Effect.gen(function*() {
        const { state, token } = yield* used
        change(state)
        const first = yield* Sallyport.serve(state)
        assert.strictEqual((yield* Sallyport.get(first, "/api/auth/session", token)).status, 401)
        yield* Sallyport.pair(first)
        yield* first.stop("SIGTERM")
        assert.lengthOf(first.stderr().trim().split("\n"), 1, first.stderr())
        assert.match(first.stderr(), /level=WARN/)
        assert.include(first.stderr(), says(state))
        const second = yield* Sallyport.serve(state)
        yield* second.stop("SIGTERM")
        assert.strictEqual(second.stderr(), "")
      }), timeout)
  }

  it.live(
    "OPS-07 C-65: its database is replaced while it runs: it says so in one warning",
    () =>
      Effect.gen(function*() {
        const { state } = yield* used
        const server = yield* Sallyport.serve(state)
        const file = database(state)
        NFS.copyFileSync(file, `${file}.new`)
        NFS.renameSync(`${file}.new`, file)
        yield* Programs.eventually(Effect.sync(server.stderr), (text) => text.includes("was replaced"))
        assert.strictEqual((yield* Sallyport.exchange(server, server.code)).status, 200)
        yield* server.stop("SIGTERM")
        assert.lengthOf(server.stderr().trim().split("\n"), 1, server.stderr())
        assert.include(server.stderr(), file)
      }),
    timeout
  )
})

describe("a new state directory", () => {
  it.live(
    "OPS-08 C-60: four backends that start on it at once are all let in, share its keys, and find nothing lost",
    () =>
      Effect.gen(function*() {
        for (let round = 0; round < 3; round++) {
          const state = yield* Sallyport.freshState
          const servers = yield* Effect.all(Array.from({ length: 4 }, () => Sallyport.serve(state)), {
            concurrency: "unbounded"
          })
          const [first] = servers
          const token = first === undefined ? "" : yield* Sallyport.pair(first)
          for (const server of servers) {
            assert.strictEqual((yield* Sallyport.get(server, "/api/auth/session", token)).status, 200)
            yield* server.stop("SIGTERM")
            assert.strictEqual(server.stderr(), "")
          }
        }
      }),
    timeout
  )
})
