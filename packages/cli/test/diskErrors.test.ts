/**
 * A disk that fails writes under a running server: the system refuses what would make a file larger than the limit of the
 * process, which SQLite sees as a failed write (`SQLITE_IOERR_WRITE`), until the limit is lifted.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { execFileSync } from "node:child_process"
import * as Sallyport from "../../../test-support/backend.ts"
import * as Programs from "../../../test-support/programs.ts"

/** Blocks of 512 bytes: room for the tables, and some changes. */
const limited = ["sh", "-c", `trap "" XFSZ; ulimit -S -f 4096; exec "$@"`, "sh"]

describe("a backend whose disk fails writes", () => {
  it.live(
    "OPS-02 OPS-06: answers them 503 with the trace id of a line with the reason, answers reads, and goes on when it is mended",
    () =>
      Effect.gen(function*() {
        const state = yield* Sallyport.freshState
        const server = yield* Sallyport.serveThrough(limited, {}, state)
        const token = yield* Sallyport.pair(server)
        let acknowledged = "client-approval"
        const change = Effect.suspend(() => {
          const mode = acknowledged === "account" ? "client-approval" : "account"
          return Effect.tap(
            Sallyport.request(`${server.url}/api/auth/connect-security-mode`, {
              method: "PUT",
              headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
              body: JSON.stringify({ mode })
            }),
            ({ status }) =>
              Effect.sync(() => {
                if (status === 200) acknowledged = mode
              })
          )
        })
        const mode = Effect.map(
          Sallyport.get(server, "/api/auth/connect-security-mode", token),
          (answer) => answer.json<{ readonly mode: string }>().mode
        )
        assert.strictEqual((yield* change).status, 200)
        const failed = yield* Effect.repeat(change, { until: ({ status }) => status !== 200 })
        assert.strictEqual(failed.status, 503, failed.text)
        const error = failed.json<{ readonly code: string; readonly retryable: boolean; readonly traceId: string }>()
        assert.deepInclude(error, { code: "unavailable", retryable: true })
        const line = yield* Programs.eventually(
          Effect.sync(() => server.stderr().split("\n").find((line) => line.includes(error.traceId)) ?? ""),
          (line) => line !== ""
        )
        assert.include(line, "level=WARN")
        assert.include(line, "Answered unavailable")
        assert.include(line, "disk I/O error")
        assert.strictEqual(yield* mode, acknowledged)
        assert.strictEqual((yield* Sallyport.get(server, "/api/auth/sessions", token)).status, 200)
        assert.strictEqual((yield* Sallyport.request(`${server.url}/api/health/ready`)).status, 200)

        execFileSync("prlimit", ["--pid", String(server.pid), "--fsize=unlimited:unlimited"])
        assert.strictEqual((yield* change).status, 200)
        assert.strictEqual(yield* mode, acknowledged)
        assert.strictEqual((yield* server.stop("SIGTERM")).code, 0)
      }),
    Programs.timeout
  )
})
