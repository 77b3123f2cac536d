import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Backend from "@sallyport/cli/Backend"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as EventStream from "@sallyport/http/EventStream"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { spawn } from "node:child_process"
import { once } from "node:events"
import * as Http from "node:http"
import * as Sallyport from "../../../test-support/backend.ts"
import * as Programs from "../../../test-support/programs.ts"

const holder = `
  const { DatabaseSync } = require("node:sqlite")
  const db = new DatabaseSync(process.argv[1], { timeout: 20000 })
  db.exec("BEGIN " + process.argv[2])
  process.stdout.write("held")
  process.stdin.once("data", () => { db.exec("COMMIT"); db.close(); process.exit(0) })
`

/** Has another process take the write lock, and returns how it gives it back. */
const hold = (filename: string, mode: string) =>
  Effect.acquireRelease(
    Effect.sync(() => spawn(process.execPath, ["-e", holder, filename, mode], { stdio: ["pipe", "pipe", "inherit"] })),
    (child) => Effect.sync(() => void child.kill())
  ).pipe(
    Effect.tap((child) => Effect.promise(() => once(child.stdout, "data"))),
    Effect.map((child) =>
      Effect.promise(() => {
        child.stdin.write("go")
        return once(child, "exit")
      })
    )
  )

/** Counts what comes on a stream that stays open. */
const countChunks = (url: string, token: string) =>
  Effect.gen(function*() {
    let count = 0
    const outgoing = yield* Effect.acquireRelease(
      Effect.sync(() => Http.get(url, { agent: false, headers: { authorization: `Bearer ${token}` } })),
      (outgoing) => Effect.sync(() => outgoing.destroy())
    )
    outgoing.on("error", () => {})
    outgoing.on("response", (response) => response.on("error", () => {}).on("data", () => count++))
    return Effect.sync(() => count)
  })

const server = Effect.fnUntraced(function*(state: string) {
  const services = yield* Layer.build(
    Backend.layer({ host: "127.0.0.1", port: 0, stateDirectory: state }).pipe(
      Layer.provide(Layer.succeed(EventStream.HeartbeatInterval, Duration.millis(50))),
      Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnvRecord({
        SALLYPORT_SESSION_RENEWAL_INTERVAL: "100 millis"
      }))),
      Layer.provide(NodeServices.layer)
    )
  )
  return yield* Effect.gen(function*() {
    const { address } = yield* HttpServer.HttpServer
    const bootstrap = yield* BootstrapCredentialService.BootstrapCredentialService
    const { code } = yield* bootstrap.issue({ issuedBy: "operator", scopes: "all" })
    return { url: HttpServer.formatAddress(address), code: Redacted.value(code) }
  }).pipe(Effect.provide(services))
})

describe("a backend whose database another process has locked", () => {
  for (const mode of ["EXCLUSIVE", "IMMEDIATE"]) {
    it.live(
      `OPS-03 C-53: BEGIN ${mode}: answers pages and reads, sends heartbeats, and answers writes by 503 or when the lock is gone`,
      () =>
        Effect.gen(function*() {
          const state = yield* Sallyport.freshState
          const backend = yield* server(state)
          const exchanged = yield* Sallyport.exchange(backend, backend.code)
          const token = exchanged.json<{ readonly access_token: string }>().access_token
          const { run } = yield* Sallyport.startRun(backend, token, { to: 1, everyMillis: 1 })
          const heartbeats = yield* countChunks(`${backend.url}/api/auth/access`, token)
          yield* Programs.eventually(heartbeats, (count) => count > 2)

          const release = yield* hold(`${state}/sallyport.db`, mode)
          const write = Sallyport.post(backend, "/api/auth/pairing-links", token, {})
          for (const inTime of [false, true]) {
            const writes = yield* Effect.forEach(
              Array.from({ length: 20 }),
              () => Effect.forkChild(write, { startImmediately: true })
            )
            const before = yield* heartbeats
            for (
              const path of [
                "/",
                "/pair",
                "/api/auth/session",
                "/api/auth/sessions",
                "/api/auth/pairing-links",
                `/api/runs/${run.runId}`,
                `/api/runs/${run.runId}/events`
              ]
            ) {
              assert.strictEqual((yield* Sallyport.get(backend, path, token)).status, 200, path)
            }
            yield* Programs.eventually(heartbeats, (count) => count >= before + 3)
            for (const fiber of writes) assert.isUndefined(fiber.pollUnsafe())
            if (inTime) yield* release
            for (const fiber of writes) {
              const answer = yield* Fiber.join(fiber)
              assert.strictEqual(answer.status, inTime ? 201 : 503, answer.text)
              if (!inTime) assert.isTrue(answer.json<{ readonly retryable: boolean }>().retryable)
            }
          }
          const listed = yield* Sallyport.get(backend, "/api/auth/pairing-links?limit=200", token)
          assert.lengthOf(listed.json<{ readonly links: ReadonlyArray<unknown> }>().links, 20)
        }),
      Programs.timeout
    )
  }
})
