/** What `sallyport doctor` finds, and what it says to do about it. */
import { assert, describe, it } from "@effect/vitest"
import { exitCodes } from "@sallyport/cli/ExitCode"
import * as Output from "@sallyport/cli/Output"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { once } from "node:events"
import * as NFS from "node:fs"
import * as Http from "node:http"
import * as Https from "node:https"
import * as Net from "node:net"
import * as NPath from "node:path"
import { DatabaseSync } from "node:sqlite"
import * as Sallyport from "../../../test-support/backend.ts"
import * as Certificates from "../../../test-support/certificates.ts"
import { timeout } from "../../../test-support/programs.ts"
import { commandLine } from "./commandLine.ts"

type Check = typeof Output.Doctor.Type["checks"][number]

const checksOf = (stdout: string): ReadonlyArray<Check> =>
  Schema.decodeUnknownSync(Output.Doctor)(JSON.parse(stdout)).checks

/** Listens on a port of this machine until the scope closes. */
const listen = <S extends Net.Server>(server: S) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      server.listen(0, "127.0.0.1")
      await once(server, "listening")
      const address = server.address()
      return typeof address === "object" && address !== null ? address.port : 0
    }),
    () => Effect.sync(() => void server.close())
  )

/** Puts a server with a certificate before a backend, as a proxy that terminates TLS. */
const proxy = (issued: Certificates.Issued, backend: string) =>
  listen(Https.createServer(issued, (request, response) => {
    Http.get(backend + (request.url ?? ""), { agent: false }, (answer) => {
      response.writeHead(answer.statusCode ?? 500, answer.headers)
      answer.pipe(response)
    })
  }))

const doctor = Effect.fnUntraced(function*(...args: ReadonlyArray<string>) {
  const { code, stderr, stdout } = yield* commandLine(["doctor", "--json", ...args])
  const checks = checksOf(stdout)
  const faults = checks.filter(({ state }) => state === "bad")
  assert.strictEqual(code, faults.length === 0 ? 0 : exitCodes.Unhealthy, stderr)
  if (faults.length > 0) {
    assert.strictEqual(
      stderr,
      `sallyport: ${faults.length} of ${checks.length} checks found a fault: ${
        faults.map(({ check }) => check).join(", ")
      }\n`
    )
  }
  return checks
})

const sentence = ({ detail, remedy }: Check) => `${detail}${remedy === null ? "" : `. ${remedy}`}`

const breaks: ReadonlyArray<readonly [string, string, (state: string) => void, RegExp]> = [
  [
    "a directory that others may read",
    "files",
    (state) => NFS.chmodSync(state, 0o755),
    /is open to other users \(mode 0755\)\. Run: chmod 700 /
  ],
  [
    "a database that is gone",
    "files",
    (state) => NFS.rmSync(NPath.join(state, "sallyport.db")),
    /sallyport\.db is not there\. Nothing was created; name the directory with --state-dir/
  ],
  [
    "a symbolic link in the place of the database",
    "files",
    (state) => {
      NFS.renameSync(NPath.join(state, "sallyport.db"), `${state}.db`)
      NFS.symlinkSync(`${state}.db`, NPath.join(state, "sallyport.db"))
    },
    /holds a symbolic link, sallyport\.db\. Put what it leads to in its place, or run: rm /
  ],
  [
    "a file that is no database",
    "database",
    (state) => NFS.writeFileSync(NPath.join(state, "sallyport.db"), "not a database, ".repeat(1_000)),
    /is not a database.*restore it from a backup/
  ],
  [
    "a database without the tables of a backend",
    "database",
    (state) => {
      NFS.rmSync(NPath.join(state, "sallyport.db"))
      const database = new DatabaseSync(NPath.join(state, "sallyport.db"), { timeout: 10_000 })
      database.exec("CREATE TABLE something (other TEXT)")
      database.close()
    },
    /No backend has kept state in .*sallyport\.db yet/
  ],
  [
    "a database of a newer version",
    "database",
    (state) => {
      const database = new DatabaseSync(NPath.join(state, "sallyport.db"), { timeout: 10_000 })
      database.exec("INSERT INTO sallyport_access_migrations (migration_id, name) VALUES (9000, 'later')")
      database.close()
    },
    /holds schema version 9000.*upgrade Sallyport, or restore a backup/
  ],
  [
    "a secret that others may read",
    "secrets",
    (state) => NFS.chmodSync(NPath.join(state, "secrets", "session-signing-keys~1"), 0o644),
    /0644.*chmod 600 /
  ],
  [
    "a secret that was cut off",
    "secrets",
    (state) => NFS.truncateSync(NPath.join(state, "secrets", "pairing-code-key~1"), 5),
    /is corrupt.*rm '/
  ],
  [
    "a mode that no version knows",
    "who may connect",
    (state) => {
      const database = new DatabaseSync(NPath.join(state, "sallyport.db"), { timeout: 10_000 })
      database.exec("PRAGMA ignore_check_constraints = ON")
      database.exec("UPDATE sallyport_connect_settings SET mode = 'everyone'")
      database.close()
    },
    /security/
  ]
]

describe("sallyport doctor", () => {
  it.live("finds what is broken in a state directory, and says how to mend it", () =>
    Effect.gen(function*() {
      const used = yield* Sallyport.freshState
      const server = yield* Sallyport.serve(used)
      yield* Sallyport.pair(server)
      yield* server.stop("SIGTERM")
      const well = yield* doctor("--state-dir", used)
      assert.deepStrictEqual(well.map(({ check, state }) => [check, state]), [
        ["files", "good"],
        ["database", "good"],
        ["secrets", "good"],
        ["signing keys", "good"],
        ["access feed", "good"],
        ["who may connect", "good"]
      ])
      for (const [title, name, damage, says] of breaks) {
        const state = yield* Sallyport.freshState
        NFS.cpSync(used, state, { recursive: true })
        for (const directory of [state, NPath.join(state, "secrets")]) NFS.chmodSync(directory, 0o700)
        damage(state)
        const found = (yield* doctor("--state-dir", state)).filter(({ state }) => state === "bad")
        assert.include(found.map(({ check }) => check), name, `${title}: ${JSON.stringify(found)}`)
        assert.match(found.map(sentence).join("\n"), says, title)
      }
      const nothing = yield* doctor("--state-dir", `${used}-misspelt`)
      assert.deepStrictEqual(nothing.map(({ check, state }) => [check, state]), [["files", "bad"]])
      assert.isFalse(NFS.existsSync(`${used}-misspelt`))
    }).pipe(Effect.scoped), timeout)

  it.live(
    "tells what is wrong with an address from a certificate that no client accepts, and a wrong clock",
    () =>
      Effect.gen(function*() {
        const state = yield* Sallyport.freshState
        const { url } = yield* Sallyport.serve(state)
        const known = Certificates.authority()
        const unused = yield* Effect.scoped(listen(Net.createServer()))
        const at = (port: number) => `https://localhost:${port}`
        const answering = (handler: Http.RequestListener) =>
          Effect.map(listen(Http.createServer(handler)), (port) => `http://127.0.0.1:${port}`)

        for (
          const [title, address, name, says] of [
            [
              "signed by itself",
              at(yield* proxy(Certificates.certificate("localhost"), url)),
              "certificate",
              /signed by itself.*Let's Encrypt/
            ],
            [
              "of an unknown authority",
              at(yield* proxy(Certificates.certificate("localhost", known), url)),
              "certificate",
              /authority that this machine does not know.*NODE_EXTRA_CA_CERTS/
            ],
            ["http", `${url.replace("127.0.0.1", "localhost")}`, "none", /./],
            [
              "http where https is meant",
              url.replace("http:", "https:"),
              "address",
              /speaks no TLS.*proxy that terminates TLS/
            ],
            ["nothing", at(unused), "address", /nothing listens there.*Start the server/],
            ["no such host", "https://no-such-host.invalid", "address", /no such host|cannot be looked up/],
            [
              "not a backend",
              yield* answering((_, response) => response.end("<h1>hello</h1>")),
              "address",
              /not as a backend.*path that the proxy passes on/
            ],
            [
              "a gateway without its server",
              yield* answering((_, response) => response.writeHead(502).end("bad gateway")),
              "address",
              /answers 502, and not as a backend/
            ],
            [
              "a redirect",
              yield* answering((_, response) => response.writeHead(301, { location: "https://a.example/" }).end()),
              "address",
              /sends its clients to https:\/\/a\.example\//
            ],
            [
              "a clock that is wrong",
              yield* answering((request, response) => {
                Http.get(url + (request.url ?? ""), { agent: false }, (answer) => {
                  response.writeHead(answer.statusCode ?? 500, {
                    ...answer.headers,
                    date: new Date(Date.now() - 600_000).toUTCString()
                  })
                  answer.pipe(response)
                })
              }),
              "clock",
              /\d{3} seconds apart.*NTP/
            ]
          ] as const
        ) {
          const found = (yield* doctor("--state-dir", state, "--public-url", address)).filter(({ state }) =>
            state !== "good"
          )
          assert.deepStrictEqual(
            found.map(({ check }) => check),
            name === "none" ? [] : [name],
            `${title}: ${JSON.stringify(found)}`
          )
          if (name !== "none") assert.match(found.map(sentence).join("\n"), says, title)
        }

        // Programs know an authority of the operator's by this variable.
        const file = NPath.join(state, "authority.pem")
        NFS.writeFileSync(file, known.certificate)
        for (
          const [issued, state, says] of [
            [Certificates.certificate("localhost", known), "good", /^good until \d{4}-/],
            [Certificates.certificate("localhost", known, -1, 24 * 3), "doubtful", /it ends at \d{4}-.*Renew it/],
            [Certificates.certificate("localhost", known, -48, -24), "bad", /has expired.*Renew it/],
            [Certificates.certificate("localhost", known, 24, 48), "bad", /not valid yet.*clock of this machine/],
            [Certificates.certificate("other.example", known), "bad", /for another name.*correct the address/]
          ] as const
        ) {
          const address = at(yield* proxy(issued, url))
          const running = yield* Sallyport.sallyport(
            ["doctor", "--json", "--state-dir", NPath.dirname(file), "--public-url", address],
            { NODE_EXTRA_CA_CERTS: file }
          )
          const { code } = yield* running.exit
          const checks = checksOf(running.stdout())
          assert.strictEqual(code, state === "bad" ? exitCodes.Unhealthy : 0, running.stderr())
          const certificate = checks.filter(({ check }) => check === "certificate")
          assert.deepStrictEqual(certificate.map((one) => one.state), [state])
          assert.match(certificate.map(sentence).join(), says)
          // No client asks a server whose certificate it does not accept.
          assert.strictEqual(checks.some(({ check }) => check === "address"), state !== "bad")
        }
      }).pipe(Effect.scoped),
    timeout
  )

  it.live("checks a server by its address, with a token", () =>
    Effect.gen(function*() {
      const server = yield* Sallyport.serve(yield* Sallyport.freshState)
      const env = { SALLYPORT_TOKEN: yield* Sallyport.pair(server) }
      const well = yield* commandLine(["doctor", "--url", server.url], { env })
      assert.deepStrictEqual([well.code, well.stderr], [0, ""])
      assert.match(well.stdout, /^good +address +[^\n]+\ngood +clock +[^\n]+\ngood +token +accepted, for owner\n$/)
      const refused = yield* commandLine(["doctor", "--url", server.url], { env: { SALLYPORT_TOKEN: "wrong" } })
      assert.strictEqual(refused.code, exitCodes.Unhealthy)
      assert.match(refused.stdout, /bad +token +.*sallyport sessions\s+issue/s)
      assert.strictEqual((yield* commandLine(["doctor", "--url", server.url])).code, exitCodes.Usage)
    }).pipe(Effect.scoped), timeout)
})
