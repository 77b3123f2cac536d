import * as NodeServices from "@effect/platform-node/NodeServices"
import * as NodeSdk from "@effect/opentelemetry/NodeSdk"
import { assert, describe, it } from "@effect/vitest"
import { InMemoryLogRecordExporter, SimpleLogRecordProcessor } from "@opentelemetry/sdk-logs"
import { MetricReader } from "@opentelemetry/sdk-metrics"
import { InMemorySpanExporter, SimpleSpanProcessor } from "@opentelemetry/sdk-trace-base"
import * as Backend from "@sallyport/cli/Backend"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as ConnectClientStore from "@sallyport/core/connect/ConnectClientStore"
import * as CredentialScopeResolver from "@sallyport/core/credentials/CredentialScopeResolver"
import * as Metrics from "@sallyport/core/Metrics"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import * as NFS from "node:fs"
import * as NPath from "node:path"
import { DatabaseSync } from "node:sqlite"
import { inspect } from "node:util"
import * as Sallyport from "../../../test-support/backend.ts"
import * as Programs from "../../../test-support/programs.ts"

class Reader extends MetricReader {
  protected override onForceFlush = () => Promise.resolve()
  protected override onShutdown = () => Promise.resolve()
}

const variables = {
  SALLYPORT_SESSION_REFRESH_TOKEN_LIFETIME: "1 hour",
  SALLYPORT_SESSION_REFRESH_GRACE_WINDOW: "1 milli",
  SALLYPORT_RUNS_HEARTBEAT_INTERVAL: "1 second",
  SALLYPORT_RUNS_LEASE: "6 seconds"
}

/** Starts the backend on a real socket and a real file, with OpenTelemetry's own exporters beside it. */
const start = Effect.fnUntraced(function*() {
  const state = yield* Sallyport.freshState
  const spans = new InMemorySpanExporter()
  const logs = new InMemoryLogRecordExporter()
  const reader = new Reader()
  const registry: Metric.MetricRegistry = new Map()
  const telemetry = NodeSdk.layer(() => ({
    resource: { serviceName: "sallyport" },
    spanProcessor: new SimpleSpanProcessor(spans),
    logRecordProcessor: new SimpleLogRecordProcessor({ exporter: logs }),
    loggerMergeWithExisting: false,
    metricReader: reader
  }))
  const services = yield* Layer.build(
    Backend.layer({ host: "127.0.0.1", port: 0, stateDirectory: state }).pipe(
      Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnvRecord(variables))),
      Layer.provide([NodeServices.layer, telemetry]),
      Layer.provide([
        Layer.succeed(Metric.MetricRegistry, registry),
        Layer.succeed(References.MinimumLogLevel, "Trace")
      ])
    )
  )
  /** Returns the sum of what a metric has counted: values of counters and gauges, how many values a histogram has. */
  const valueOf = (id: string, attributes: Readonly<Record<string, string>>) =>
    Effect.promise(async () => {
      const { resourceMetrics } = await reader.collect()
      return resourceMetrics.scopeMetrics.flatMap(({ metrics }) => metrics)
        .filter(({ descriptor }) => descriptor.name === id)
        .flatMap(({ dataPoints }): ReadonlyArray<{ readonly attributes: object; readonly value: unknown }> =>
          dataPoints
        )
        .filter((point) =>
          Object.entries(attributes).every(([key, value]) => Reflect.get(point.attributes, key) === value)
        )
        .reduce((sum, { value }) => {
          const count = typeof value === "object" && value !== null && "count" in value ? value.count : value
          return sum + Number(count)
        }, 0)
    })
  return {
    url: HttpServer.formatAddress(Context.get(services, HttpServer.HttpServer).address),
    state,
    services,
    spans,
    logs,
    registry,
    valueOf,
    /** The attributes of every series. */
    attributes: Effect.promise(async () =>
      (await reader.collect()).resourceMetrics.scopeMetrics.flatMap(({ metrics }) => metrics).flatMap((
        { dataPoints }
      ) => dataPoints.map(({ attributes }) => attributes))
    ),
    /** All that has been exported, as text. */
    exported: Effect.promise(async () =>
      inspect([
        spans.getFinishedSpans().map(({ attributes, events, links, name, status }) => [
          JSON.stringify(name),
          attributes,
          events,
          links,
          status
        ]),
        logs.getFinishedLogRecords().map(({ attributes, body }) => [attributes, body]),
        (await reader.collect()).resourceMetrics.scopeMetrics
      ], { depth: null, maxArrayLength: null, maxStringLength: null, breakLength: Infinity })
    )
  }
})

type Backend = Effect.Success<ReturnType<typeof start>>

const form = { "content-type": "application/x-www-form-urlencoded" }

/** Returns how to rename a table of the store and back, as another process on the same file. */
const withoutTable = (state: string, table: string) => <A, E, R>(self: Effect.Effect<A, E, R>) => {
  const run = (statement: string) =>
    Effect.sync(() => {
      const database = new DatabaseSync(NPath.join(state, "sallyport.db"), { timeout: 10_000 })
      database.exec(`PRAGMA legacy_alter_table = ON; PRAGMA busy_timeout = 10000; ${statement}`)
      database.close()
    })
  return Effect.acquireUseRelease(
    run(`ALTER TABLE ${table} RENAME TO away`),
    () => self,
    () => run(`ALTER TABLE away RENAME TO ${table}`)
  )
}

/** Signs in each time from the beginning, and keeps all that proves something. */
const signer = (backend: Backend) => {
  const secrets: Array<string> = []
  const keep = (text: string | undefined): string => {
    assert.isAbove(String(text).length, 12, "a secret is long enough to search for")
    secrets.push(String(text))
    return String(text)
  }
  const code = Effect.gen(function*() {
    const bootstrap = yield* BootstrapCredentialService.BootstrapCredentialService
    return keep(Redacted.value((yield* bootstrap.issue({ issuedBy: "operator", scopes: "all" })).code))
  }).pipe(Effect.provide(backend.services))
  const tokens = Effect.gen(function*() {
    const answer = yield* Sallyport.exchange(backend, yield* code)
    const { access_token, refresh_token } = answer.json<
      { readonly access_token: string; readonly refresh_token: string }
    >()
    return { token: keep(access_token), refreshToken: keep(refresh_token) }
  })
  const token = Effect.map(tokens, ({ token }) => token)
  return { secrets, keep, code, tokens, token }
}

interface Step {
  readonly metric: { readonly id: string }
  readonly attributes: Readonly<Record<string, string>>
  /** What moves it. What is measured after a while may be waited for. */
  readonly act: Effect.Effect<unknown, unknown, never>
  /** By how much; by at least one unless it is said. */
  readonly by?: number
}

describe("metrics, spans and logs", () => {
  it.live(
    "OPS-10 OPS-06: each metric moves with what it names, and nothing that is exported holds a secret",
    () =>
      Effect.scoped(Effect.gen(function*() {
        const backend = yield* start()
        const { code, keep, secrets, token, tokens } = signer(backend)
        const { url } = backend
        const owner = yield* token
        const stream = (path: string, bearer: string) =>
          Effect.acquireRelease(
            Effect.promise(async () => {
              const abort = new AbortController()
              const response = await fetch(url + path, {
                headers: { authorization: `Bearer ${bearer}` },
                signal: abort.signal
              })
              return { abort, body: response.text().catch(() => "cut") }
            }),
            ({ abort }) => Effect.sync(() => abort.abort())
          )
        const refresh = (refreshToken: string) =>
          Sallyport.request(`${url}/oauth/token`, {
            method: "POST",
            headers: form,
            body: new URLSearchParams({ grant_type: "refresh_token", refresh_token: refreshToken }).toString()
          })
        const inBackend = <A, E>(self: Effect.Effect<A, E, Layer.Success<ReturnType<typeof Backend.layer>>>) =>
          Effect.provide(self, Context.add(backend.services, Metric.MetricRegistry, backend.registry))
        const thumbprint = "iQ0Oy0Yd8hVb3sRfZ7e0Ww9tL7v5mJ2kq1xXc4uAbCd"
        const request = inBackend(
          ConnectClientStore.ConnectClientStore.use((clients) =>
            clients.request({ proofKeyThumbprint: thumbprint, account: "someone@example.com" })
          )
        )
        let keys = 0
        const run = (to: number) =>
          Effect.suspend(() => {
            const id = `observed-${keys++}`
            return Sallyport.startRun(backend, owner, { to, everyMillis: to > 5 ? 1_000 : 1 }, {
              threadId: id,
              key: id
            })
          })
        const runToItsEnd = Effect.flatMap(run(3), ({ run }) =>
          Programs.eventually(
            Sallyport.get(backend, `/api/runs/${run.runId}`, owner),
            (answer) => answer.json<Sallyport.RunView>().status !== "running"
          ))
        const abort = (runId: string) => Sallyport.post(backend, `/api/runs/${runId}/abort`, owner)

        const steps: ReadonlyArray<Step> = [
          {
            metric: Metrics.requests,
            attributes: { method: "GET", status: "200" },
            act: Sallyport.request(`${url}/api/health/live`),
            by: 1
          },
          {
            metric: Metrics.requests,
            attributes: { method: "other", status: "404" },
            act: Sallyport.request(`${url}/nowhere`, { method: "PROPFIND" }),
            by: 1
          },
          {
            metric: Metrics.failures,
            attributes: { code: "unauthorized" },
            act: Sallyport.request(`${url}/api/auth/sessions`),
            by: 1
          },
          {
            metric: Metrics.connections,
            attributes: {},
            act: Effect.gen(function*() {
              const before = yield* backend.valueOf(Metrics.connections.id, {})
              yield* Effect.scoped(Effect.andThen(
                stream("/api/auth/access", owner),
                Programs.eventually(backend.valueOf(Metrics.connections.id, {}), (now) => now === before + 1)
              ))
              yield* Programs.eventually(backend.valueOf(Metrics.connections.id, {}), (now) => now === before)
            }),
            by: 0
          },
          {
            metric: Metrics.connectionEnds,
            attributes: { reason: "session-ended" },
            act: Effect.scoped(Effect.gen(function*() {
              const mine = yield* token
              const { body } = yield* stream("/api/auth/access", mine)
              yield* Sallyport.post(backend, "/api/auth/logout", mine)
              assert.include(yield* Effect.promise(() => body), "session_ended")
            })),
            by: 1
          },
          { metric: Metrics.pairingAttempts, attributes: { result: "redeemed" }, act: token, by: 1 },
          {
            metric: Metrics.pairingAttempts,
            attributes: { result: "exhausted" },
            act: Effect.gen(function*() {
              const used = yield* code
              keep((yield* Sallyport.exchange(backend, used)).json<{ readonly access_token: string }>().access_token)
              assert.strictEqual((yield* Sallyport.exchange(backend, used)).status, 400)
            }),
            by: 1
          },
          {
            metric: Metrics.pairingAttempts,
            attributes: { result: "malformed" },
            act: Sallyport.exchange(backend, "no code"),
            by: 1
          },
          {
            metric: Metrics.sessionsIssued,
            attributes: { method: "bearer-access-token" },
            act: token,
            by: 1
          },
          {
            metric: Metrics.sessionsRevoked,
            attributes: {},
            act: Effect.flatMap(token, (mine) => Sallyport.post(backend, "/api/auth/logout", mine)),
            by: 1
          },
          {
            metric: Metrics.sessionLookups,
            attributes: { result: "found" },
            act: Effect.flatMap(
              token,
              (mine) => Effect.repeat(Sallyport.get(backend, "/api/auth/session", mine), { times: 2 })
            ),
            by: 1
          },
          {
            metric: Metrics.sessionLookups,
            attributes: { result: "malformed" },
            act: Sallyport.get(backend, "/api/auth/session", keep("no-token-of-this-server")),
            by: 1
          },
          {
            metric: Metrics.refreshes,
            attributes: { result: "refreshed" },
            act: Effect.flatMap(tokens, ({ refreshToken }) => refresh(refreshToken)),
            by: 1
          },
          {
            metric: Metrics.refreshes,
            attributes: { result: "reused" },
            act: Effect.gen(function*() {
              const { refreshToken } = yield* tokens
              const first = (yield* refresh(refreshToken)).json<Readonly<Record<string, string>>>()
              keep(first["access_token"])
              keep(
                (yield* refresh(keep(first["refresh_token"]))).json<Readonly<Record<string, string>>>()["access_token"]
              )
              yield* Effect.sleep("5 millis")
              assert.strictEqual((yield* refresh(refreshToken)).status, 400)
            }),
            by: 1
          },
          { metric: Metrics.connectRequests, attributes: { result: "pending" }, act: request, by: 1 },
          {
            metric: Metrics.connectDecisions,
            attributes: { decision: "blocked" },
            act: inBackend(
              ConnectClientStore.ConnectClientStore.use((clients) =>
                clients.decide({ by: "operator", client: thumbprint, decision: "blocked" })
              )
            ),
            by: 1
          },
          { metric: Metrics.connectRequests, attributes: { result: "refused" }, act: request, by: 1 },
          {
            metric: Metrics.credentialReads,
            attributes: { source: "user" },
            act: inBackend(CredentialScopeResolver.CredentialScopeResolver.use((credentials) =>
              Effect.andThen(
                credentials.write({ subject: "owner" }, {
                  key: "anthropic.api-key",
                  values: new Map([["value", Redacted.make(keep("sk-ant-0123456789abcdef"))]])
                }),
                credentials.resolve({ subject: "owner" }, "anthropic.api-key")
              )
            )),
            by: 1
          },
          { metric: Metrics.runsStarted, attributes: {}, act: runToItsEnd, by: 1 },
          { metric: Metrics.runEvents, attributes: {}, act: runToItsEnd, by: 3 },
          {
            metric: Metrics.runsEnded,
            attributes: { end: "succeeded" },
            act: runToItsEnd,
            by: 1
          },
          {
            metric: Metrics.runsExecuting,
            attributes: {},
            act: Effect.gen(function*() {
              yield* Programs.eventually(backend.valueOf(Metrics.runsExecuting.id, {}), (now) => now === 0)
              const { run: { runId } } = yield* run(100)
              yield* Programs.eventually(backend.valueOf(Metrics.runsExecuting.id, {}), (now) => now === 1)
              yield* abort(runId)
              yield* Programs.eventually(backend.valueOf(Metrics.runsExecuting.id, {}), (now) => now === 0)
            }),
            by: 0
          },
          {
            metric: Metrics.runsEnded,
            attributes: { end: "aborted" },
            act: Effect.flatMap(run(100), ({ run }) => abort(run.runId)),
            by: 1
          },
          {
            metric: Metrics.runsEnded,
            attributes: { end: "stale" },
            act: Effect.andThen(
              // No program executes it, as if its process had died.
              inBackend(
                RunEventLog.RunEventLog.use((log) =>
                  log.start({ threadId: "dead", idempotencyKey: "dead", request: null, owner: { subject: "owner" } })
                )
              ),
              Programs.eventually(backend.valueOf(Metrics.runsEnded.id, { end: "stale" }), (now) => now > 0)
            )
          },
          {
            metric: Metrics.storeOperations,
            attributes: { store: "access", operation: "countDescendants", result: "ok" },
            act: Sallyport.get(backend, "/api/auth/sessions", owner),
            by: 1
          },
          {
            metric: Metrics.storeOperations,
            attributes: { store: "access", operation: "list", result: "failed" },
            act: withoutTable(backend.state, "sallyport_pairing_links")(
              Sallyport.get(backend, "/api/auth/pairing-links", owner)
            )
          },
          {
            metric: Metrics.outages,
            attributes: { of: "access feed" },
            act: Effect.gen(function*() {
              const outages = backend.valueOf(Metrics.outages.id, { of: "access feed" })
              yield* withoutTable(backend.state, "sallyport_access_feed_head")(
                Programs.eventually(outages, (now) => now === 1)
              )
              yield* Programs.eventually(outages, (now) => now === 0)
            }),
            by: 0
          },
          {
            metric: Metrics.swept,
            attributes: { of: "ended sessions" },
            act: Effect.scoped(Effect.gen(function*() {
              yield* Sallyport.post(backend, "/api/auth/logout", yield* token)
              yield* Layer.build(SessionCredentialService.layerSweeper({ interval: "50 millis", retention: "1 milli" }))
              yield* Programs.eventually(
                backend.valueOf(Metrics.swept.id, { of: "ended sessions" }),
                (now) => now > 0
              )
            })).pipe(inBackend)
          }
        ]
        for (const { act, attributes, by, metric } of steps) {
          const name = `${metric.id} ${JSON.stringify(attributes)}`
          const before = yield* backend.valueOf(metric.id, attributes)
          yield* act
          const after = yield* backend.valueOf(metric.id, attributes)
          if (by === undefined) assert.isAbove(after, before, name)
          else assert.strictEqual(after - before, by, name)
        }
        assert.deepStrictEqual(
          Array.from(new Set(steps.map(({ metric }) => metric.id))).toSorted(),
          Object.values(Metrics).map(({ id }) => id).toSorted(),
          "every metric has a step"
        )
        // A ticket in a query is the one secret that an address has to hold.
        const ticket = keep(
          (yield* Sallyport.post(backend, "/api/auth/websocket-ticket", owner)).json<{ readonly ticket: string }>()
            .ticket
        )
        yield* Effect.callback<void>((resume) => {
          const socket = new WebSocket(`${url.replace("http:", "ws:")}/api/auth/access?ticket=${ticket}`)
          socket.addEventListener("open", () => socket.close())
          socket.addEventListener("close", () => resume(Effect.void))
        })
        const paired = yield* Sallyport.request(`${url}/api/auth/bootstrap`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({ credential: yield* code })
        })
        const cookie = String(paired.headers["set-cookie"]).split(";")[0] ?? ""
        keep(cookie.slice(cookie.indexOf("=") + 1))
        assert.strictEqual((yield* Sallyport.request(`${url}/api/auth/session`, { headers: { cookie } })).status, 200)

        const exported = yield* backend.exported
        for (const name of ["RunEventLog.execute", "BootstrapCredentialService.redeem", "GET", "sql.transaction"]) {
          assert.include(exported, `"${name}"`)
        }
        assert.include(exported, "Refused a bootstrap credential")
        for (const secret of secrets) assert.notInclude(exported, secret)
        // Attributes have values that are known beforehand: none is an id, an owner, a client, or what a request names.
        for (const attributes of yield* backend.attributes) {
          for (const value of Object.values(attributes)) assert.match(String(value), /^[A-Za-z0-9_ -]{1,40}$/)
        }
      })),
    Programs.timeout
  )

  it.live(
    "OPS-10 OPS-06: the trace id of a failed request is in its answer, its span, its line of the log, and the client's trace",
    () =>
      Effect.scoped(Effect.gen(function*() {
        const backend = yield* start()
        const { token } = signer(backend)
        const owner = yield* token
        const traceId = "0af7651916cd43dd8448eb211c80319c"
        const traceparent = `00-${traceId}-b7ad6b7169203331-01`
        const answer = yield* withoutTable(backend.state, "sallyport_pairing_links")(
          Sallyport.request(`${backend.url}/api/auth/pairing-links`, {
            headers: { authorization: `Bearer ${owner}`, traceparent }
          })
        )
        assert.strictEqual(answer.status, 503, answer.text)
        assert.strictEqual(answer.json<{ readonly traceId: string }>().traceId, traceId)

        const spans = backend.spans.getFinishedSpans().filter((span) => span.spanContext().traceId === traceId)
        const server = spans.find((span) => span.attributes["http.response.status_code"] === 503)
        assert.isDefined(server)
        assert.strictEqual(server.parentSpanContext?.spanId, "b7ad6b7169203331")
        assert.strictEqual(server.attributes["http.route"], "/api/auth/pairing-links")
        const isError = 2
        assert.strictEqual(server.status.code, isError)
        assert.include(spans.map(({ name }) => name), "BootstrapCredentialService.list")

        const lines = backend.logs.getFinishedLogRecords().filter(({ attributes }) => attributes["traceId"] === traceId)
        assert.deepStrictEqual(lines.map(({ body, severityText }) => [severityText, String(body).split("\n", 1)[0]]), [
          ["Warn", "Answered unavailable"]
        ])
        assert.strictEqual(lines[0]?.spanContext?.traceId, traceId)
      })),
    Programs.timeout
  )
})

// -----------------------------------------------------------------------------
// What is written of it
// -----------------------------------------------------------------------------

const root = NPath.join(import.meta.dirname, "../../..")
const page = NFS.readFileSync(NPath.join(root, "docs/observability.md"), "utf8")

/** Returns the cells of the rows of a table that begin with a name in code. */
const rows = Array.from(page.matchAll(/^\| `([^`]+)` +\|(.*)\|$/gm), ([, name = "", rest = ""]) => ({
  name,
  cells: rest.split("|").map((cell) => cell.trim())
}))

const codes = (cell: string | undefined) => Array.from(String(cell).matchAll(/`([^`]+)`/g), ([, code]) => String(code))

describe("docs/observability.md", () => {
  it("OPS-10: has each metric with its kind, its unit and its attributes, and no other", () => {
    assert.deepStrictEqual(
      rows.filter(({ name }) => name.startsWith("sallyport.")).map(({ cells: [kind, unit, attributes], name }) => ({
        name,
        kind,
        unit,
        attributes: codes(attributes)
      })),
      Object.values(Metrics).map(({ attributes, id, kind, unit }) => ({
        name: id,
        kind,
        unit,
        attributes: Array.from<string>(attributes)
      }))
    )
  })

  it("OPS-10: has each span of the sources, and no other", () => {
    const named = NFS.globSync(
      "packages/{core,http,contract,connect,durable-streams,interop,pg,node,cli}/src/**/*.ts",
      {
        cwd: root
      }
    ).flatMap((path) => {
      const text = NFS.readFileSync(NPath.join(root, path), "utf8").replaceAll(/^ *(\*|\/\/).*$/gm, "")
      return Array.from(text.matchAll(/\b(?:Effect\.fn|withSpan)\("([\w.]+)"/g), ([, name]) => String(name))
    })
    const written = rows.filter(({ name }) => /^[A-Z]\w+$/.test(name)).flatMap(({ cells: [methods], name }) =>
      codes(methods).map((method) => `${name}.${method}`)
    )
    assert.deepStrictEqual(written.toSorted(), Array.from(new Set(named)).toSorted())
  })
})
