import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import { randomUUID } from "node:crypto"
import * as NFS from "node:fs"
import * as NPath from "node:path"
import { connect, createServer, type Socket } from "node:net"
import { inject } from "vitest"
import * as Sallyport from "../../../test-support/backend.ts"
import { timeout } from "../../../test-support/programs.ts"

/** Makes a database that goes away with the scope, and returns its URL and a client of it. */
const database = Effect.gen(function*() {
  const { host, password, port, username } = inject("postgres")
  const name = `cli_${randomUUID().replaceAll("-", "")}`
  const connect = (to: string) =>
    PgClient.layer({ host, port, username, password: Redacted.make(password), database: to, maxConnections: 1 })
  const administer = (statement: string) =>
    SqlClient.SqlClient.use((sql) => sql.unsafe(statement)).pipe(Effect.provide(connect("postgres")), Effect.orDie)
  yield* Effect.acquireRelease(
    administer(`CREATE DATABASE ${name}`),
    () => administer(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`)
  )
  return {
    name,
    administer,
    url: `postgres://${username}:${password}@${host}:${port}/${name}`,
    password,
    client: Layer.fresh(connect(name))
  }
})

const environment = (url: string) => ({ SALLYPORT_DATABASE_URL: url })

/** Starts a node with the key of another one, as an operator sets one up. */
const join = Effect.fnUntraced(
  function*(url: string, firstState: string, variables: Readonly<Record<string, string>> = {}) {
    const state = yield* Sallyport.freshState
    NFS.mkdirSync(state, { mode: 0o700 })
    NFS.copyFileSync(NPath.join(firstState, "secret-key"), NPath.join(state, "secret-key"))
    return yield* Sallyport.serveWith({ ...environment(url), ...variables }, state)
  }
)

describe("sallyport serve on PostgreSQL", () => {
  it.live(
    "BOOT-03 SESS-05 SESS-08 SESS-12 FEED-02 L-22: two nodes on one database behave as one",
    () =>
      Effect.gen(function*() {
        const { client, url } = yield* database
        const state = yield* Sallyport.freshState
        const one = yield* Sallyport.serveWith(environment(url), state)
        const other = yield* join(url, state)

        // The code of one node is redeemed at both nodes: it is accepted once, whichever node is first.
        const attempts = Array.from({ length: 500 }, () => [one, other]).flat()
        const answers = yield* Effect.forEach(attempts, (node) => Sallyport.exchange(node, one.code), {
          concurrency: 50
        })
        const winners = answers.filter(({ status }) => status === 200)
        assert.lengthOf(winners, 1)
        const token = winners[0]?.json<{ readonly access_token: string }>().access_token ?? ""

        // A run that one node executes is followed on the other, until the session is ended on the first.
        const { run } = yield* Sallyport.startRun(one, token, { to: 10_000, everyMillis: 20 })
        const reader = yield* Sallyport.follow(other, token, run.runId)
        assert.deepInclude(yield* reader.next, { id: "1", event: "data" })
        assert.strictEqual((yield* Sallyport.get(other, "/api/auth/sessions", token)).status, 200)
        assert.strictEqual((yield* Sallyport.post(one, "/api/auth/logout", token)).status, 204)
        const rest = yield* reader.rest
        assert.deepInclude(rest.at(-1), { event: "failure" })
        assert.strictEqual((yield* Sallyport.get(other, "/api/auth/sessions", token)).status, 401)

        // The data at rest gives no access: the database holds neither the issued credentials nor the keys.
        const dump = yield* SqlClient.SqlClient.use((sql) =>
          Effect.gen(function*() {
            const tables = yield* sql<{ name: string }>`
              SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'public'`
            const texts = yield* Effect.forEach(tables, ({ name }) => sql`SELECT t::text AS row FROM ${sql(name)} AS t`)
            return JSON.stringify(texts)
          })
        ).pipe(Effect.provide(client))
        assert.include(dump, "session-signing-keys", "the dump holds the secrets' names")
        const key = NFS.readFileSync(NPath.join(state, "secret-key"), "utf8").trim()
        for (const secret of [token, one.code, one.code.replaceAll("-", ""), other.code, key, "\"kty\""]) {
          assert.notInclude(dump, secret)
        }
      }),
    timeout
  )

  it.live(
    "C-33 OPS-05: a node whose clock is 5 minutes ahead takes what the other has issued, and gives what it takes",
    () =>
      Effect.gen(function*() {
        const { url } = yield* database
        const state = yield* Sallyport.freshState
        const one = yield* Sallyport.serveWith(environment(url), state)
        const program = "const now = Date.now.bind(Date); Date.now = () => now() + 300_000"
        const ahead = yield* join(url, state, {
          NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(program)}`
        })
        for (const [here, there] of [[one, ahead], [ahead, one]] as const) {
          const exchanged = yield* Sallyport.exchange(there, here.code)
          assert.strictEqual(exchanged.status, 200)
          const { access_token } = exchanged.json<{ readonly access_token: string }>()
          assert.strictEqual((yield* Sallyport.get(here, "/api/auth/sessions", access_token)).status, 200)
          const links = "/api/auth/pairing-links"
          const issued = yield* Sallyport.post(here, links, access_token, { lifetimeSeconds: 60 })
          const { code } = issued.json<{ readonly code: string }>()
          assert.strictEqual((yield* Sallyport.exchange(there, code)).status, 200)
        }
      }),
    timeout
  )

  it.live("SEC-06: a node with another key does not start, and names the missing key", () =>
    Effect.gen(function*() {
      const { url } = yield* database
      yield* Sallyport.serveWith(environment(url), yield* Sallyport.freshState)
      const node = yield* Sallyport.sallyport(
        ["serve", "--port", "0", "--state-dir", yield* Sallyport.freshState],
        environment(url)
      )
      assert.strictEqual((yield* node.exit).code, 1)
      assert.match(node.stderr(), /cannot be decrypted.*previous/s)
      assert.strictEqual(node.stdout(), "")
    }), timeout)

  it.live("SEC-08: a database that cannot be reached is named without its password", () =>
    Effect.gen(function*() {
      const { password, url } = yield* database
      for (const wrong of [url.replace(/:\d+\//, ":1/"), url.replace("postgres://", "mysql://"), `x:${password}`]) {
        const node = yield* Sallyport.sallyport(
          ["serve", "--port", "0", "--state-dir", yield* Sallyport.freshState],
          environment(wrong)
        )
        assert.strictEqual((yield* node.exit).code, 1)
        assert.notInclude(node.stderr(), password)
        assert.match(node.stderr(), /postgres:\/\//)
        assert.notInclude(node.stderr(), "    at ")
      }
    }), timeout)

  /** Listens, and does something with each connection. */
  const listen = (serve: (socket: Socket) => void) =>
    Effect.acquireRelease(
      Effect.callback<{ readonly port: number; readonly close: () => void }>((resume) => {
        const sockets = new Set<Socket>()
        const server = createServer((socket) => {
          sockets.add(socket.on("error", () => socket.destroy()))
          serve(socket)
        })
        server.listen(0, "127.0.0.1", () => {
          const address = server.address()
          resume(Effect.succeed({
            port: typeof address === "object" && address !== null ? address.port : 0,
            close: () => {
              server.close()
              for (const socket of sockets) socket.destroy()
            }
          }))
        })
      }),
      ({ close }) => Effect.sync(close)
    )

  /** Answers the first message of each connection with an error of PostgreSQL. */
  const answering = (code: string, message: string) =>
    listen((socket) =>
      socket.once("data", () => {
        const body = `SFATAL\0VFATAL\0C${code}\0M${message}\0\0`
        const head = Buffer.from([0x45, 0, 0, 0, 0])
        head.writeUInt32BE(body.length + 4, 1)
        socket.end(Buffer.concat([head, Buffer.from(body)]))
      })
    )

  const { host, password, port, socketDirectory, username } = inject("postgres")
  const at = (options: { readonly user?: string; readonly address?: string; readonly name?: string }) =>
    `postgres://${options.user ?? `${username}:${password}`}@${options.address ?? `${host}:${port}`}/${
      options.name ?? "postgres"
    }`
  const faked = (answer: { readonly port: number }) => at({ address: `127.0.0.1:${answer.port}` })

  /** Makes a database and a role of its name, and does something to them. */
  const changed = (change: (name: string) => ReadonlyArray<string>) =>
    Effect.gen(function*() {
      const { administer, name } = yield* database
      yield* Effect.acquireRelease(
        administer(`CREATE ROLE ${name} LOGIN PASSWORD '${password}'`),
        () => administer(`DROP ROLE ${name}`)
      )
      yield* Effect.forEach(change(name), administer)
      return at({ user: `${name}:${password}`, name })
    })

  for (
    const [title, url, says] of [
      ["a wrong password", Effect.succeed(at({ user: `${username}:wr0ng` })), "refuses the user or the password"],
      ["no password", Effect.succeed(at({ user: username })), "correct the user and the password in the URL"],
      [
        "a user that does not exist",
        Effect.succeed(at({ user: `no-such-user:${password}` })),
        "refuses the user or the password"
      ],
      ["a user who is not let in", changed((name) => [`ALTER ROLE ${name} NOLOGIN`]), "pg_hba.conf"],
      [
        "a refused connection",
        Effect.succeed(at({ address: `${host}:1` })),
        "start PostgreSQL, or correct the host and the port"
      ],
      [
        "a missing socket",
        Effect.succeed(at({ address: "", name: `postgres?host=${socketDirectory}&port=1` })),
        "There is no socket"
      ],
      ["a host that does not exist", Effect.succeed(at({ address: "db.invalid" })), "correct the host in the URL"],
      ["a missing database", Effect.succeed(at({ name: "missing" })), "create it with CREATE DATABASE"],
      [
        "no right on the schema",
        changed(() => []),
        "may not create tables in the schema \"public\"; GRANT CREATE ON SCHEMA"
      ],
      [
        "no schema",
        changed((name) => [`ALTER ROLE ${name} SET search_path = missing`]),
        "finds no schema for the tables"
      ],
      ["a server without TLS", Effect.succeed(at({ name: "postgres?sslmode=require" })), "say sslmode=disable"],
      [
        "too many connections",
        changed((name) => [`ALTER ROLE ${name} CONNECTION LIMIT 0`]),
        "close some, or raise max_connections"
      ],
      [
        "a database that is read only",
        changed((name) => [`ALTER DATABASE ${name} SET default_transaction_read_only = on`]),
        "name the primary"
      ],
      [
        "a database that is not in UTF-8",
        Effect.gen(function*() {
          const { administer, name } = yield* database
          yield* administer(`DROP DATABASE ${name}`)
          yield* administer(`CREATE DATABASE ${name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0`)
          return at({ name })
        }),
        "keeps text as LATIN1"
      ],
      [
        "a server that starts",
        Effect.map(answering("57P03", "the database system is starting up"), faked),
        "start again when it is ready"
      ],
      [
        "a full server",
        Effect.map(answering("53300", "sorry, too many clients already"), faked),
        "raise max_connections"
      ],
      [
        "a pooler that knows no such database",
        Effect.map(answering("08P01", "no such database: acme"), faked),
        "no such database: acme"
      ],
      [
        "a server that is no PostgreSQL",
        Effect.map(listen((socket) => void socket.end("HTTP/1.1 400 Bad Request\r\n\r\n")), faked),
        "look whether it is PostgreSQL"
      ],
      ["a host that is silent", Effect.map(listen(() => {}), faked), "does not answer"],
      [
        "a server that is too old",
        Effect.map(
          listen((socket) => {
            const upstream = connect(port, host)
            socket.on("data", (chunk) => upstream.write(chunk)).on("close", () => upstream.destroy())
            upstream.on(
              "data",
              (chunk) => socket.write(Buffer.from(chunk.toString("latin1").replace(/18\d{4}/, "120004"), "latin1"))
            )
          }),
          faked
        ),
        "PostgreSQL 12; Sallyport needs 13 or newer"
      ]
    ] as const
  ) {
    it.live(`C-56 SEC-08: refuses to start on ${title}, and says what to do`, () =>
      Effect.gen(function*() {
        const node = yield* Sallyport.sallyport(
          ["serve", "--port", "0", "--state-dir", yield* Sallyport.freshState, "--json"],
          environment(yield* url)
        )
        const { code } = yield* node.exit
        assert.strictEqual(code, 1, node.stderr())
        assert.match(node.stderr(), /^sallyport: [^\n]+\n$/)
        assert.include(node.stderr(), "postgres://")
        assert.include(node.stderr(), says)
        for (const secret of [password, "wr0ng"]) assert.notInclude(node.stderr(), secret)
        assert.strictEqual(node.stdout(), "")
      }), timeout)
  }
})
