import { afterAll, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { randomBytes } from "node:crypto"
import { connect, createServer, type Socket } from "node:net"
import { inject } from "vitest"
import * as Sallyport from "../../../test-support/backend.ts"
import { database, environment } from "./postgres.ts"
import { refusalsOf } from "./refusals.ts"

const { everyRow, refuses } = refusalsOf("On PostgreSQL")

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

const scope = Effect.runSync(Scope.make())
afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

/** The database of a server that has kept secrets in it. */
const keyed = Effect.runSync(Effect.cached(
  Effect.gen(function*() {
    const { url } = yield* database
    const server = yield* Sallyport.serveWith(
      { ...environment(url), SALLYPORT_SECRET_KEY: randomBytes(32).toString("base64url") },
      yield* Sallyport.freshState
    )
    yield* server.stop("SIGTERM")
    return url
  }).pipe(Scope.provide(scope))
))

describe("sallyport serve on PostgreSQL refuses to start, and says why and what to do, on", () => {
  for (
    const [row, url] of [
      ["a wrong user or password (password)", Effect.succeed(at({ user: `${username}:wr0ng` }))],
      ["a user who is not let in (no password)", Effect.succeed(at({ user: username }))],
      [
        "a wrong user or password (user)",
        Effect.succeed(at({ user: `no-such-user:${password}` }))
      ],
      ["a user who is not let in (no login)", changed((name) => [`ALTER ROLE ${name} NOLOGIN`])],
      [
        "an address where nothing listens",
        Effect.succeed(at({ address: `${host}:1` }))
      ],
      [
        "a directory without a socket",
        Effect.succeed(at({ address: "", name: `postgres?host=${socketDirectory}&port=1` }))
      ],
      ["a host that does not exist", Effect.succeed(at({ address: "db.invalid" }))],
      ["a missing database", Effect.succeed(at({ name: "missing" }))],
      [
        "no right on the schema",
        changed(() => [])
      ],
      [
        "no schema",
        changed((name) => [`ALTER ROLE ${name} SET search_path = missing`])
      ],
      ["a server without TLS", Effect.succeed(at({ name: "postgres?sslmode=require" }))],
      [
        "too many connections (of the user)",
        changed((name) => [`ALTER ROLE ${name} CONNECTION LIMIT 0`])
      ],
      [
        "a database that is read only",
        changed((name) => [`ALTER DATABASE ${name} SET default_transaction_read_only = on`])
      ],
      [
        "a database that is not in UTF-8",
        Effect.gen(function*() {
          const { administer, name } = yield* database
          yield* administer(`DROP DATABASE ${name}`)
          yield* administer(`CREATE DATABASE ${name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0`)
          return at({ name })
        })
      ],
      [
        "a server that is starting",
        Effect.map(answering("57P03", "the database system is starting up"), faked)
      ],
      [
        "too many connections (of the server)",
        Effect.map(answering("53300", "sorry, too many clients already"), faked)
      ],
      [
        "a pooler that knows no such database",
        Effect.map(answering("08P01", "no such database: acme"), faked)
      ],
      [
        "a server that is no PostgreSQL",
        Effect.map(listen((socket) => void socket.end("HTTP/1.1 400 Bad Request\r\n\r\n")), faked)
      ],
      ["a host that is silent", Effect.map(listen(() => {}), faked)],
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
        )
      ]
    ] as const
  ) {
    refuses(
      `C-56 SEC-08 OPS-06: ${row}`,
      Effect.gen(function*() {
        return {
          ...(row === "a host that is silent" ? { through: [] } : {}),
          args: ["--port", "0", "--state-dir", yield* Sallyport.freshState],
          env: environment(yield* url),
          names: ["postgres://"],
          secrets: [password, "wr0ng"]
        }
      })
    )
  }

  for (const url of [at({}).replace("postgres://", "mysql://"), `x:${password}`]) {
    refuses(
      `SEC-08 OPS-06: a URL of another form (${url.split(":", 1).join()}:)`,
      Effect.map(Sallyport.freshState, (state) => ({
        args: ["--port", "0", "--state-dir", state],
        env: environment(url),
        secrets: [password]
      }))
    )
  }

  for (
    const [row, key] of [
      ["another key than the secrets have (given)", randomBytes(32).toString("base64url")],
      ["another key than the secrets have (empty, which is none: one in a file is made)", ""],
      ["a key that cannot be used (too short)", randomBytes(16).toString("base64url")],
      ["a key that cannot be used (no base64)", "not a key, but a sentence of a person"],
      ["a key that cannot be used (not random)", Buffer.alloc(32, 7).toString("base64url")]
    ] as const
  ) {
    refuses(
      `SEC-06 OPS-06: ${row}`,
      Effect.gen(function*() {
        const url = yield* keyed
        return {
          args: ["--port", "0", "--state-dir", yield* Sallyport.freshState],
          env: { ...environment(url), SALLYPORT_SECRET_KEY: key },
          secrets: key === "" ? [] : [key]
        }
      })
    )
  }

  everyRow()
})
