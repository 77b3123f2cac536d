/**
 * A server of runs and streams, to measure the latency of its writers and readers and their cost.
 *
 * The argument is an SQLite file, or `memory`.
 */
import * as Access from "@sallyport/core/access/AccessRepository"
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as AccessScope from "@sallyport/core/access/AccessScope"
import * as AuthPolicy from "@sallyport/core/access/AuthPolicy"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import type { RunOwner } from "@sallyport/core/runs/Run"
import * as ConnectionEnd from "@sallyport/core/access/ConnectionEnd"
import * as NodeDigest from "@sallyport/node/NodeDigest"
import * as NodeMac from "@sallyport/node/NodeMac"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as RunEventRepository from "@sallyport/core/runs/RunEventRepository"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as DurableStreamRepository from "@sallyport/durable-streams/DurableStreamRepository"
import * as DurableStreams from "@sallyport/durable-streams/DurableStreams"
import * as DurableStreamsRoutes from "@sallyport/durable-streams/DurableStreamsRoutes"
import * as SqlDurableStreamRepository from "@sallyport/durable-streams/SqlDurableStreamRepository"
import * as NodeWriter from "@sallyport/node/NodeWriter"
import * as RunProgram from "@sallyport/http/RunProgram"
import * as Sallyport from "@sallyport/http/Sallyport"
import * as SqlRunEventRepository from "@sallyport/core/runs/SqlRunEventRepository"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { createServer } from "node:http"
import { createInterface } from "node:readline"
import type { Hello } from "./processes.ts"
import { heap, usage } from "./usage.ts"

/** The commands of the server. */
export type Command =
  /** Starts a run and answers its id. */
  | { readonly start: string }
  /** Appends `count` events to a run, one every `everyMillis`, each holding the time before its append. */
  | { readonly append: string; readonly count: number; readonly everyMillis: number }
  /** Starts a run with `fill` events of `bytes` each, ends it and answers its id. */
  | { readonly fill: number; readonly bytes: number }
  /** Follows a run `follow` times in process, and answers the bytes of heap for each reader. */
  | { readonly follow: number; readonly of: string }
  /** Answers the bytes of heap in use after a collection, and those of the process. */
  | { readonly memory: true }

const [filename = "memory"] = process.argv.slice(2)
const owner: RunOwner = { subject: "owner" }
const scopes = [...AccessScope.builtin, ...DurableStreamsRoutes.scopes]

const Logs = filename === "memory"
  ? Layer.merge(RunEventRepository.layerMemory, DurableStreamRepository.layerMemory)
  : Layer.provide(
    Layer.merge(SqlRunEventRepository.layer, SqlDurableStreamRepository.layer),
    SqliteClient.layer({ filename })
  )

// All readers have the same session.
const routes = Layer.merge(Sallyport.layer(), DurableStreamsRoutes.layer()).pipe(
  Layer.provide(Layer.succeed(ConnectionEnd.PerSession, 100_000))
)

const layer = HttpRouter.serve(routes, { disableLogger: true, disableListenLog: true }).pipe(
  Layer.provideMerge(Layer.mergeAll(
    SessionCredentialService.layer,
    BootstrapCredentialService.layer,
    RunEventLog.layer,
    DurableStreams.layer,
    AuthPolicy.layer({ host: "127.0.0.1" }),
    RunProgram.layer(() => Effect.void)
  )),
  Layer.provideMerge(Layer.mergeAll(
    Access.layerMemory,
    SecretStore.layerMemory,
    Logs,
    Layer.succeed(AccessScope.Vocabulary, scopes)
  )),
  // As in the reference backend.
  Layer.provideMerge(Layer.mergeAll(NodeCrypto.layer, NodeDigest.layer, NodeMac.layer, NodeWriter.layer)),
  Layer.provideMerge(
    NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0, gracefulShutdownTimeout: "100 millis" })
  )
)
const runtime = ManagedRuntime.make(layer)
const log = await runtime.runPromise(RunEventLog.RunEventLog)
const { token } = await runtime.runPromise(
  SessionCredentialService.SessionCredentialService.use((sessions) =>
    sessions.issue({ subject: owner.subject, scopes, method: "bearer-access-token" })
  )
)
const { address } = await runtime.runPromise(HttpServer.HttpServer)

const start = (key: string) =>
  Effect.map(log.start({ threadId: key, idempotencyKey: key, request: null, owner }), ({ run }) => run)

const perform = (command: Command): Effect.Effect<unknown, unknown> => {
  if ("start" in command) return Effect.map(start(command.start), ({ runId }) => runId)
  if ("append" in command) {
    return Effect.gen(function*() {
      for (let index = 0; index < command.count; index++) {
        const next = yield* Effect.forkChild(Effect.sleep(command.everyMillis))
        // The monotonic clock is one for all processes of a machine.
        yield* log.append({
          runId: command.append,
          epoch: 1,
          events: [{ at: Number(process.hrtime.bigint() / 1_000n) }]
        })
        yield* Fiber.join(next)
      }
    })
  }
  if ("fill" in command) {
    return Effect.gen(function*() {
      const run = yield* start(`fill ${command.fill} ${process.hrtime.bigint()}`)
      const event = "x".repeat(command.bytes - 2)
      for (let left = command.fill; left > 0; left -= 1_000) {
        const events = Array.from({ length: Math.min(left, 1_000) }, () => event)
        yield* log.append({ runId: run.runId, epoch: 1, events })
      }
      yield* log.finish({ runId: run.runId, epoch: 1, end: { status: "succeeded" } })
      return run.runId
    })
  }
  if ("follow" in command) {
    return Effect.gen(function*() {
      const before = heap()
      const readers = Array.from(
        { length: command.follow },
        () => Stream.runDrain(Stream.unwrap(log.eventsEncoded({ runId: command.of })))
      )
      const fibers = yield* Effect.forEach(readers, (reader) => Effect.forkChild(reader))
      yield* Effect.sleep("500 millis")
      const used = heap() - before
      for (const fiber of fibers) fiber.interruptUnsafe()
      return used / command.follow
    })
  }
  return Effect.sync(usage)
}

const hello: Hello = {
  port: "port" in address ? address.port : 0,
  token: Redacted.value(token),
  streams: "/streams"
}
process.stdout.write(`${JSON.stringify(hello)}\n`)
for await (const line of createInterface(process.stdin)) {
  const answer = await runtime.runPromise(perform(JSON.parse(line)))
  process.stdout.write(`${JSON.stringify(answer ?? null)}\n`)
}
process.exit(0)
