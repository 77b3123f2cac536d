/**
 * Runs the programs of every README as printed, but for those of packages that have a test for it.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Schema, Stream } from "effect"
import { ChildProcess } from "effect/process"
import * as NFS from "node:fs"
import * as NPath from "node:path"
import { address, type Driver, ends, programsOf, root, serves, start, suite } from "./readmes.ts"

/** Runs the server that a README mounts, in place of the one of the example. */
const mounts: Driver = (program) => {
  const copy = NPath.join(program.directory, "copy")
  NFS.cpSync(NPath.join(root, "examples/existing-server/src"), copy, { recursive: true })
  NFS.copyFileSync(program.file, NPath.join(copy, "Server.ts"))
  return serves("/notes.txt", 401, { command: ({ command }) => command.replace("program.ts", "copy/main.ts") })(program)
}

const PostgresAddress = Schema.fromJsonString(
  Schema.Struct({ port: Schema.Int, username: Schema.String, password: Schema.String })
)

/** Runs a program on a PostgreSQL server of its own. */
const endsOnPostgres: Driver = Effect.fnUntraced(function*(program) {
  const server = yield* ChildProcess.make(process.execPath, [NPath.join(root, "test-support/postgresServer.ts")])
  const line = yield* server.stdout.pipe(Stream.decodeText, Stream.splitLines, Stream.take(1), Stream.mkString)
  const { password, port, username } = yield* Schema.decodeEffect(PostgresAddress)(line)
  const url = `postgres://${username}:${password}@127.0.0.1:${port}/postgres`
  yield* ends({ env: { SALLYPORT_DATABASE_URL: url } })(program)
})

/** Runs a program that asks the server of another README. */
const asks = (readme: string): Driver => {
  const [other] = programsOf(readme)
  return Effect.fnUntraced(function*(program) {
    if (other === undefined) return assert.fail(`${readme} has no program`)
    const server = yield* start(other)
    const url = yield* server.printed(address)
    NFS.writeFileSync(program.file, NFS.readFileSync(program.file, "utf8").replace(address, url))
    yield* ends()(program)
    yield* server.stop
  })
}

const drivers: Readonly<Record<string, ReadonlyArray<Driver>>> = {
  "README.md": [
    serves("/api/auth/session", 200, {
      command: ({ command, directory }) => `${command} -- --port 0 --state-dir "${directory}/state"`
    }),
    mounts
  ],
  "examples/agent-run/README.md": [serves("/", 200)],
  "examples/chat/README.md": [serves("/", 200)],
  "examples/connect/README.md": [
    serves("/api/auth/session", 200, {
      command: ({ command, directory }) => command.replace("/tmp/connect", directory).replace(/\d+$/, "0")
    })
  ],
  "examples/desktop-backend/README.md": [serves("/", 200)],
  "examples/electron/README.md": [serves("/", 200)],
  "examples/github-import/README.md": [ends()],
  "examples/keyvalue-adapter/README.md": [ends()],
  "examples/mcp-server/README.md": [serves("/.well-known/oauth-protected-resource/mcp", 200)],
  "examples/react-host/README.md": [serves("/", 200)],
  "examples/react-router/README.md": [
    serves("/", 200, {
      command: ({ command, directory }) => `export GREENHOUSE_FILE="${directory}/state.db"; ${command}`
    })
  ],
  "examples/web-standard/README.md": [
    serves("/api/auth/session", 200, { command: ({ command, directory }) => `${command} -- "${directory}/state.db" 0` })
  ],
  "packages/cli/README.md": [serves("/api/auth/session", 200)],
  "packages/contract/README.md": [asks("packages/http/README.md")],
  "packages/core/README.md": [ends()],
  "packages/durable-streams/README.md": [serves("/streams/none", 401)],
  "packages/http/README.md": [serves("/whoami", 401)],
  "packages/node/README.md": [ends({ input: "0123456789abcdef0123456789abcdef" })],
  "packages/pg/README.md": [endsOnPostgres],
  "packages/sqlite-node/README.md": [ends()],
  "packages/web/README.md": [serves("/ops/connections", 200)]
}

it("C-82: every README has a test that runs its programs", () => {
  const own = (readme: string) =>
    NFS.globSync("test/readmePrograms*.test.ts", { cwd: NPath.join(root, NPath.dirname(readme)) }).length > 0
  const readmes = NFS.globSync(["README.md", "{packages,examples}/*/README.md"], { cwd: root })
  assert.deepStrictEqual(readmes.filter((readme) => !own(readme)).toSorted(), Object.keys(drivers).toSorted())
})

for (const [readme, each] of Object.entries(drivers)) suite(readme, ...each)
