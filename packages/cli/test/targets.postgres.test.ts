/** Each command on each target that it has: a state directory, a database, and a server by its address. */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import { exitCodes } from "@sallyport/cli/ExitCode"
import * as Output from "@sallyport/cli/Output"
import * as Persistence from "@sallyport/cli/Persistence"
import * as StateDirectory from "@sallyport/cli/StateDirectory"
import { defaultSubject } from "@sallyport/core/access/BootstrapCredentialService"
import * as ConnectClientStore from "@sallyport/core/connect/ConnectClientStore"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as NFS from "node:fs"
import * as SqlClient from "effect/sql/SqlClient"
import { PgClient } from "@effect/sql-pg"
import * as Sallyport from "../../../test-support/backend.ts"
import * as Databases from "../../../test-support/databases.ts"
import { pooler } from "../../../test-support/pooler.ts"
import { timeout } from "../../../test-support/programs.ts"
import { commandLine, type Options } from "./commandLine.ts"

const clients = ["first", "second", "third", "fourth"].map((name) => name.padEnd(43, "a"))

/** Starts a backend with a session, a run that has ended, and clients that wait. */
const backend = Effect.fnUntraced(function*(onPostgres: boolean) {
  const state = yield* Sallyport.freshState
  const database = onPostgres ? Option.some(yield* Databases.url) : Option.none()
  const env: Record<string, string> = Option.match(database, {
    onNone: () => ({}),
    onSome: (url) => ({ SALLYPORT_DATABASE_URL: url })
  })
  const server = yield* Sallyport.serveWith(env, state)
  const token = yield* Sallyport.pair(server)
  const { run } = yield* Sallyport.startRun(server, token, { to: 2, everyMillis: 0 })
  yield* Effect.flatMap(Sallyport.follow(server, token, run.runId), (reader) => reader.rest)
  const asking = yield* Effect.gen(function*() {
    const layer = Persistence.layer({
      database: Option.getOrUndefined(Option.map(database, (url) => ({ url: Redacted.make(url) }))),
      state: yield* StateDirectory.open(state)
    })
    yield* Effect.flatMap(
      ConnectClientStore.ConnectClientStore,
      (store) =>
        Effect.forEach(
          clients,
          // In a millisecond of its own: those of one are listed by their keys.
          (proofKeyThumbprint) =>
            Effect.delay(store.request({ proofKeyThumbprint, account: "ada", label: "Ada's 電話" }), "2 millis")
        )
    ).pipe(Effect.provide(Layer.provide(ConnectClientStore.layer, layer)))
    // The program lives in this process until the test is over.
    const runs = Context.get(
      yield* Layer.build(Layer.provide(RunEventLog.layer, layer)),
      RunEventLog.RunEventLog
    )
    const { run } = yield* runs.execute(
      { owner: { subject: defaultSubject }, threadId: "asks", idempotencyKey: "asks", request: null },
      (writer) => writer.ask("deploy", { text: "Deploy?", choices: [true, "Later"] })
    )
    yield* Stream.runHead(yield* runs.events({ runId: run.runId, after: "0" }))
    return run
  }).pipe(Effect.provide([NodeServices.layer, NodeCrypto.layer]))
  return {
    runId: run.runId,
    asking: asking.runId,
    store: { flags: ["--state-dir", state], env },
    server: { flags: ["--url", server.url], env: { SALLYPORT_TOKEN: token } }
  }
})

/**
 * What rightly differs: with `--url` the holder of the token does it and not the operator, so that a session that is issued
 * descends from the token's, and has the address of a client; and the list says which session is the caller's own.
 */
const ofCaller = new Set([
  "actor",
  "createdBy",
  "decidedBy",
  // Told by servers alone.
  "identities",
  "updatedBy",
  "current",
  "sessionId",
  "descendants",
  "userAgent",
  "address"
])

/** Replaces what differs from one backend to the next: ids, times, codes and addresses. */
const normal = (text: string) =>
  text
    .replaceAll(/http:\/\/127\.0\.0\.1:\d+/g, "<url>")
    .replaceAll(/(?:\d{4}-)?\d\d-\d\d[T ]\d\d:\d\d(?::[\d.]+Z)?/g, "<time>")
    .replaceAll(/\b\d\d:\d\d UTC/g, "<time>")
    // Whole, or cut to what a table shows of them.
    .replaceAll(/\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b[0-9a-f]{8}-[0-9a-f]{4}\b/g, "<id>")
    .replaceAll(/\b(?:[0-9A-Z]{4}-)+[0-9A-Z]{4}\b/g, "<code>")
    .replaceAll(/\b(?:sallyport_|sp[a-z]*_|eyJ)[\w.-]+/g, "<token>")
    .replaceAll(/[▀▄█ ]{20,}\n/g, "")
    .replaceAll(/ {2,}/g, " ")

interface Done {
  readonly args: string
  readonly code: number
  readonly json: unknown
}

/** Does the same on a target: what reads, what changes, and what fails. */
const script = Effect.fnUntraced(function*(
  { env, flags }: { readonly flags: ReadonlyArray<string>; readonly env: Record<string, string> },
  runId: string,
  asking: string
) {
  const done: Array<Done> = []
  const texts: Array<string> = []
  const line = (args: ReadonlyArray<string>, options: Options = {}) =>
    commandLine([...args, ...flags], { ...options, env })

  /** Runs a command as a script does, and decodes its lines by the published schema. */
  const json = Effect.fnUntraced(function*<S extends Schema.ConstraintCodec<unknown, unknown>>(
    schema: S,
    args: ReadonlyArray<string>,
    options: Options = {}
  ) {
    const { code, stderr, stdout } = yield* line([...args, "--json"], options)
    const values = stdout.split("\n").filter((one) => one !== "").map((one): S["Type"] =>
      Schema.decodeUnknownSync(schema)(JSON.parse(one), { onExcessProperty: "error" })
    )
    if (code === 0) assert.isNotEmpty(values, `${args.join(" ")}: ${stderr}`)
    done.push({
      args: normal(args.slice(0, 2).join(" ")),
      code,
      json: JSON.parse(
        normal(JSON.stringify(values.map((value) => Schema.encodeUnknownSync(schema)(value)))),
        (name, value) => ofCaller.has(name) ? "of the caller" : value
      )
    })
    return values
  })
  /** Runs a command as a person does. */
  const text = Effect.fnUntraced(function*(...args: ReadonlyArray<string>) {
    const { code, stderr, stdout } = yield* line(args)
    texts.push(normal(`$ sallyport ${args.join(" ")}\n${stdout}${stderr}exit ${code}`))
  })

  yield* json(Output.Status, ["status"])
  yield* text("status")
  yield* json(Output.Sessions, ["sessions", "list"])
  yield* json(Output.Links, ["links", "list"])
  yield* json(Output.ConnectClients, ["connect", "clients"])
  yield* text("connect", "clients")
  yield* json(Output.Security, ["connect", "security"])
  yield* json(Output.ConnectStatus, ["connect", "status"])
  yield* text("connect", "status")
  yield* json(Output.Credentials, ["credentials", "list"])
  yield* json(Output.CredentialStates, ["credentials", "status"])
  yield* text("credentials", "status")
  yield* json(Output.Runs, ["runs", "list"])
  yield* json(Output.Runs, ["runs", "list", "--status", "running"])
  yield* json(Output.Runs, ["runs", "list", "--thread", "thread"])
  yield* text("runs", "list")
  yield* json(Output.RunEvent, ["runs", "tail", runId])
  yield* json(Output.RunEvent, ["runs", "tail", runId, "--after", "1"])
  yield* text("runs", "tail", runId)
  yield* json(Output.Runs, ["runs", "list", "--status", "waiting"])
  yield* json(Output.RunEvent, ["runs", "tail", asking], { lines: 1 })
  yield* text("runs", "answer", asking, "size", "--value", "1")
  yield* text("runs", "answer", asking, "deploy")
  yield* text("runs", "answer", asking, "deploy", "--value", "1", "--text", "1")
  yield* text("runs", "answer", asking, "deploy", "--value", "yes")
  yield* json(Output.Run, ["runs", "answer", asking, "deploy", "--value", "true"])
  yield* text("runs", "tail", asking)
  yield* text("runs", "answer", asking, "deploy", "--text", "Later")
  yield* json(Output.Run, ["runs", "abort", runId])
  yield* text("runs", "abort", runId)
  yield* json(Output.FeedEvent, ["feed", "tail", "--after", "0"], { lines: 3 })

  const [made] = yield* json(Output.Pairing, [
    "pair",
    "--label",
    "phone",
    "--scope",
    "runs:read",
    "--public-url",
    "https://a.example"
  ])
  yield* text("pair", "--public-url", "https://a.example", "--lifetime", "1 minute", "--session-lifetime", "2 days")
  yield* json(Output.Links, ["links", "list"])
  yield* json(Output.Revoked, ["links", "revoke", made?.link.id ?? ""])
  yield* json(Output.IssuedToken, ["sessions", "issue", "--label", "a", "--scope", "runs:read"])
  yield* json(Output.IssuedToken, ["sessions", "issue", "--label", "b", "--lifetime", "1 hour"])
  const [listed] = yield* json(Output.Sessions, ["sessions", "list"])
  const [first, other] = listed?.sessions ?? []
  yield* json(Output.Revoked, ["sessions", "revoke", other?.id ?? "", "--descendants"])
  const keep = flags.includes("--url") ? [] : ["--keep", first?.id ?? ""]
  yield* json(Output.RevokedCount, ["sessions", "revoke-others", "--yes", ...keep])

  yield* json(Output.RevokedCount, ["sessions", "revoke", "--all", "--yes", "--issued-before", "2020-01-01T00:00:00Z"])

  yield* json(Output.ConnectChange, ["connect", "watch"], { lines: clients.length })
  yield* json(Output.Decision, ["connect", "approve", "first"])
  yield* json(Output.Decision, ["connect", "reject", "second", "--reason", "not mine"])
  yield* json(Output.Decision, ["connect", "block", "third"])
  yield* json(Output.Decision, ["connect", "revoke", "first"])
  yield* json(Output.Security, ["connect", "security", "account"])
  yield* json(Output.Security, ["connect", "security", "client-approval", "--trust-all"])
  yield* text("connect", "security", "account")

  yield* json(Output.CredentialSet, ["credentials", "set", "anthropic.api-key"], { input: "sk-1234567890\n" })
  yield* json(Output.Credentials, ["credentials", "list"])
  yield* text("credentials", "list")
  yield* json(Output.CredentialVerdict, ["credentials", "test", "aws.access-key"])
  yield* json(Output.CredentialRemoved, ["credentials", "remove", "anthropic.api-key", "--yes"])

  for (
    const args of [
      ["links", "revoke", "nothing"],
      ["links", "revoke", ""],
      ["sessions", "revoke", "nothing"],
      ["sessions", "issue", "--label", "a", "--scope", "nothing"],
      ["sessions", "issue", "--label", "a", "--scope", "no:thing"],
      ["pair", "--lifetime", "400 days"],
      ["pair", "--public-url", "nonsense"],
      ["connect", "approve", "nothing"],
      ["connect", "approve", "f"],
      ["connect", "approve", "fourth", "--code", "0000-0000"],
      ["credentials", "set", "no.such"],
      ["credentials", "remove", "anthropic.api-key", "--yes"],
      ["credentials", "remove", "anthropic.api-key"],
      ["credentials", "test", "no.such"],
      ["runs", "tail", "nothing"],
      ["runs", "tail", runId, "--after", "100"],
      ["runs", "abort", "nothing"],
      ["runs", "list", "--status", "lost"]
    ]
  ) yield* text(...args)
  // The sentence of the contract names the field, and the service's the rule.
  for (const args of [["sessions", "issue", "--label", "a\u202Eb"], ["runs", "list", "--thread", ""]]) {
    const { code, stderr } = yield* line(args)
    assert.match(stderr, /^sallyport: [^\n]+\n$/)
    texts.push(`${args.join(" ")}: ${code}`)
  }
  yield* json(Output.FeedEvent, ["feed", "tail", "--after", "100000"], { lines: 1 })
  return { done, texts }
})

describe("sallyport on each of its targets", () => {
  it.live(
    "L-18: does the same on a state directory, on PostgreSQL, and on a server by its address",
    () =>
      Effect.gen(function*() {
        const outcomes = yield* Effect.forEach(
          [[false, "store"], [false, "server"], [true, "store"], [true, "server"]] as const,
          ([onPostgres, target]) =>
            Effect.gen(function*() {
              const made = yield* backend(onPostgres)
              return yield* script(made[target], made.runId, made.asking)
            })
        )
        const [directory, ...others] = outcomes
        for (const other of others) {
          assert.deepStrictEqual(other.done, directory?.done)
          assert.deepStrictEqual(other.texts, directory?.texts)
        }
      }),
    timeout
  )

  it.live(
    "C-55: doctor looks whether hints come back through a pooler, and compares the clocks",
    () =>
      Effect.gen(function*() {
        const url = yield* Databases.url
        const state = yield* Sallyport.freshState
        yield* Sallyport.serveWith({ SALLYPORT_DATABASE_URL: url }, state)
        const pool = yield* pooler({ port: Number(new URL(url).port), size: 3 })
        const pooled = new URL(url)
        pooled.port = String(pool.port)
        const checks = Effect.fnUntraced(function*(url: string) {
          const { code, stderr, stdout } = yield* commandLine(["doctor", "--json", "--state-dir", state], {
            env: { SALLYPORT_DATABASE_URL: url }
          })
          assert.strictEqual(code, 0, stderr)
          const { checks } = Schema.decodeUnknownSync(Output.Doctor)(JSON.parse(stdout))
          return new Map(checks.map(({ check, remedy, state }) => [check, `${state} ${remedy}`]))
        })
        const direct = yield* checks(url)
        assert.deepStrictEqual([...direct.keys()], [
          "files",
          "database",
          "clock",
          "hints",
          "secrets",
          "signing keys",
          "access feed",
          "who may connect"
        ])
        for (const found of direct.values()) assert.strictEqual(found, "good null")
        const behind = yield* checks(`${pooled.href}?prepare=false`)
        assert.strictEqual(
          behind.get("hints"),
          "doubtful Name the server itself, or a pooler that hands connections out by session"
        )
        const stopped = yield* commandLine(["doctor", "--state-dir", state], {
          env: { SALLYPORT_DATABASE_URL: url.replace(/:\d+\//, ":1/") }
        })
        assert.strictEqual(stopped.code, exitCodes.Unhealthy)
        assert.match(stopped.stdout, /^bad +database +.*Nothing listens there.*start PostgreSQL/s)
      }).pipe(Effect.scoped),
    timeout
  )

  it.live("C-64: a command that only reads creates nothing, neither files nor tables", () =>
    Effect.gen(function*() {
      const url = yield* Databases.url
      const state = yield* Sallyport.freshState
      const tables = SqlClient.SqlClient.use((sql) =>
        sql`SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'`
      ).pipe(Effect.provide(Layer.fresh(PgClient.layer({ url: Redacted.make(url), maxConnections: 1 }))))
      const key = Buffer.alloc(32, 7).toString("base64url")
      for (
        const args of [
          ["status"],
          ["pair"],
          ["links", "list"],
          ["links", "revoke", "x"],
          ["sessions", "list"],
          ["sessions", "issue", "--label", "x"],
          ["connect", "status"],
          ["connect", "clients"],
          ["connect", "security"],
          ["credentials", "list"],
          ["secrets", "list"],
          ["secrets", "verify"],
          ["secrets", "rotate"],
          ["runs", "list"],
          ["runs", "tail", "x"],
          ["runs", "sweep", "--yes"],
          ["feed", "tail"]
        ]
      ) {
        const onDatabase = { SALLYPORT_DATABASE_URL: url }
        for (const env of [{}, onDatabase, { ...onDatabase, SALLYPORT_SECRET_KEY: key }]) {
          const { code, stderr, stdout } = yield* commandLine([...args, "--state-dir", state], { env })
          assert.deepStrictEqual([code, stdout], [exitCodes.NoState, ""], args.join(" "))
          assert.match(stderr, /^sallyport: No backend has kept state in [^\n]*Nothing was created; [^\n]*\n$/)
        }
        assert.isFalse(NFS.existsSync(state))
        assert.deepStrictEqual(yield* tables, [])
      }
    }).pipe(Effect.scoped), timeout)
})
