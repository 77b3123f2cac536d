/**
 * Starts real servers on real sockets, in memory and on SQLite, a network that breaks when a test asks for it, and a
 * server that answers what a test tells it.
 */
import * as AccessRepository from "@sallyport/core/access/AccessRepository"
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Access from "@sallyport/client/Access"
import * as Connection from "@sallyport/client/Connection"
import * as Credentials from "@sallyport/client/Credentials"
import * as Runs from "@sallyport/client/Runs"
import type { RunsError } from "@sallyport/client/RunsError"
import * as SallyportClient from "@sallyport/client/SallyportClient"
import * as TokenStorage from "@sallyport/client/TokenStorage"
import * as AccessScope from "@sallyport/core/access/AccessScope"
import * as AuthPolicy from "@sallyport/core/access/AuthPolicy"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as DpopProof from "@sallyport/core/access/DpopProof"
import * as ReplayRepository from "@sallyport/core/access/ReplayRepository"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as RunEventRepository from "@sallyport/core/runs/RunEventRepository"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as ConnectClientStore from "@sallyport/core/connect/ConnectClientStore"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as EventStream from "@sallyport/http/EventStream"
import * as RunProgram from "@sallyport/http/RunProgram"
import * as Sallyport from "@sallyport/http/Sallyport"
import * as Shutdown from "@sallyport/http/Shutdown"
import * as SqlRepositories from "@sallyport/core/SqlRepositories"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import * as Context from "effect/Context"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { spawn } from "node:child_process"
import { once } from "node:events"
import * as NFS from "node:fs"
import * as Http from "node:http"
import * as Net from "node:net"
import * as OS from "node:os"
import * as NPath from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { argumentsOf } from "../../../test-support/programs.ts"

export const temporaryDirectory: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => NFS.mkdtempSync(NPath.join(OS.tmpdir(), "sallyport-client-"))),
  (directory) => Effect.sync(() => NFS.rmSync(directory, { recursive: true, force: true }))
)

// -----------------------------------------------------------------------------
// Servers
// -----------------------------------------------------------------------------

const Memory = Layer.mergeAll(
  AccessRepository.layerMemory,
  ReplayRepository.layerMemory,
  RunEventRepository.layerMemory
)

/** Names the storages of a server of this process. */
export const storages = { memory: "memory", SQLite: "sqlite" } as const

export interface ServerOptions {
  readonly storage?: "memory" | "sqlite" | undefined
  readonly prefix?: `/${string}` | undefined
  readonly program?: (request: RunProgram.RunProgramRequest) => Effect.Effect<Schema.Json | void, unknown>
  readonly heartbeat?: Duration.Input | undefined
  readonly sessions?: SessionCredentialService.Options | undefined
  /** The address that clients use, if it is not the server's own. */
  readonly publicUrl?: string | undefined
  /** The policy, if it is not the one of an address of this machine. */
  readonly policy?: AuthPolicy.Kind | undefined
  /** What it requires of proofs; it takes none by default. */
  readonly dpop?: DpopProof.Options | undefined
  /** What the host serves beside it, in place of our pages. */
  readonly routes?: Layer.Layer<never, never, HttpRouter.HttpRouter> | undefined
}

/** A program that appends the numbers from 1 to the input, which is a number, and returns it. */
export const counting = ({ input, run }: RunProgram.RunProgramRequest) =>
  Effect.gen(function*() {
    for (let n = 1; n <= Number(input); n++) yield* run.append({ n })
    return Number(input)
  })

export interface Server {
  readonly port: number
  readonly url: string
  readonly log: RunEventLog.RunEventLog["Service"]
  readonly sessions: SessionCredentialService.SessionCredentialService["Service"]
  readonly clients: ConnectClientStore.ConnectClientStore["Service"]
  /** Returns a fresh pairing code. */
  readonly code: (
    scopes?: ReadonlyArray<AccessScope.AccessScope>,
    subject?: string
  ) => Effect.Effect<Redacted.Redacted>
  /** Returns the token of a new session. */
  readonly token: (scopes?: ReadonlyArray<AccessScope.AccessScope>) => Effect.Effect<Redacted.Redacted>
}

/** Starts a server, which stops with the scope. */
export const start = Effect.fnUntraced(function*(options: ServerOptions = {}): Effect.fn.Return<
  Server,
  never,
  Scope.Scope
> {
  const repositories = options.storage === "sqlite"
    ? SqlRepositories.layer.pipe(
      Layer.provide(SqliteClient.layer({ filename: NPath.join(yield* temporaryDirectory, "sallyport.db") }))
    )
    : Memory
  const services = Layer.mergeAll(
    SessionCredentialService.layerWith(options.sessions ?? {}),
    BootstrapCredentialService.layer,
    ConnectClientStore.layer,
    RunEventLog.layer,
    options.dpop === undefined ? Layer.empty : DpopProof.layerWith(options.dpop),
    AuthPolicy.layer({
      host: "127.0.0.1",
      kind: options.policy,
      ...(options.publicUrl === undefined ? {} : { publicUrl: new URL(options.publicUrl) })
    }),
    RunProgram.layer(options.program ?? counting)
  ).pipe(
    Layer.provideMerge(repositories),
    Layer.provideMerge(SecretStore.layerMemory),
    Layer.provideMerge(NodeCrypto.layer)
  )
  const context = yield* Layer.build(
    HttpRouter.serve(
      Layer.merge(
        Sallyport.layer({ prefix: options.prefix, pages: options.routes === undefined ? {} : false }),
        options.routes ?? Layer.empty
      ),
      {
        disableLogger: true,
        disableListenLog: true
      }
    ).pipe(
      Shutdown.graceful,
      Layer.provideMerge(services),
      Layer.provideMerge(
        NodeHttpServer.layer(Http.createServer, {
          host: "127.0.0.1",
          port: 0,
          gracefulShutdownTimeout: "1 second"
        })
      ),
      Layer.provide([
        Layer.succeed(EventStream.HeartbeatInterval, Duration.fromInputUnsafe(options.heartbeat ?? "15 seconds")),
        Logger.layer([])
      ])
    )
  ).pipe(Effect.orDie)
  const { address } = Context.get(context, HttpServer.HttpServer)
  const port = "port" in address ? address.port : 0
  const sessions = Context.get(context, SessionCredentialService.SessionCredentialService)
  const links = Context.get(context, BootstrapCredentialService.BootstrapCredentialService)
  return {
    port,
    url: `http://127.0.0.1:${port}`,
    log: Context.get(context, RunEventLog.RunEventLog),
    sessions,
    clients: Context.get(context, ConnectClientStore.ConnectClientStore),
    code: (scopes = AccessScope.builtin, subject = "owner") =>
      Effect.orDie(Effect.map(links.issue({ issuedBy: "operator", scopes, subject }), ({ code }) => code)),
    token: (scopes = AccessScope.builtin) =>
      Effect.orDie(Effect.map(
        sessions.issue({ subject: "owner", scopes, method: "bearer-access-token" }),
        ({ token }) => token
      ))
  }
})

export interface Process {
  readonly port: number
  readonly token: Redacted.Redacted
  /** Kills the process as a power cut would. */
  readonly kill: Effect.Effect<void>
}

/** Starts a server as a process of its own, on a file that outlives it. */
export const startProcess = (
  filename: string,
  options: { readonly leaseMillis: number }
): Effect.Effect<Process, never, Scope.Scope> =>
  Effect.gen(function*() {
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(
          process.execPath,
          [
            ...argumentsOf(fileURLToPath(new URL("./programs/server.ts", import.meta.url))),
            filename,
            String(options.leaseMillis)
          ],
          { stdio: ["ignore", "pipe", "inherit"] }
        )
      ),
      (child) =>
        Effect.promise(async () => {
          if (child.exitCode !== null || child.signalCode !== null) return
          child.kill("SIGKILL")
          await once(child, "exit")
        })
    )
    const line = yield* Effect.promise(() => createInterface(child.stdout)[Symbol.asyncIterator]().next())
    const { port, token } = Schema.decodeUnknownSync(
      Schema.fromJsonString(Schema.Struct({ port: Schema.Int, token: Schema.String }))
    )(line.value)
    return {
      port,
      token: Redacted.make(token),
      kill: Effect.promise(async () => {
        child.kill("SIGKILL")
        if (child.signalCode === null) await once(child, "exit")
      })
    }
  })

/** Answers a request by hand. */
export type Respond = (request: Http.IncomingMessage & { readonly body: string }, response: Http.ServerResponse) => void

export interface Pretender {
  readonly url: string
  /** What was asked, as `POST /api/runs`. */
  readonly requests: ReadonlyArray<string>
  /** The idempotency keys that came, in their order. */
  readonly keys: ReadonlyArray<string | undefined>
}

/** Starts a server that answers as it is told. */
export const pretend = (respond: Respond): Effect.Effect<Pretender, never, Scope.Scope> =>
  Effect.gen(function*() {
    const requests: Array<string> = []
    const keys: Array<string | undefined> = []
    const server = Http.createServer((request, response) => {
      requests.push(`${request.method} ${request.url}`)
      const key = request.headers["idempotency-key"]
      keys.push(typeof key === "string" ? key : undefined)
      let body = ""
      request.setEncoding("utf8")
      request.on("data", (chunk: string) => {
        body += chunk
      })
      request.on("end", () => respond(Object.assign(request, { body }), response))
    })
    const port = yield* listening(server)
    yield* Effect.addFinalizer(() => Effect.sync(() => server.closeAllConnections()))
    return { url: `http://127.0.0.1:${port}`, requests, keys }
  })

const listening = (server: Net.Server): Effect.Effect<number, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      server.listen(0, "127.0.0.1")
      await once(server, "listening")
      const address = server.address()
      return typeof address === "object" && address !== null ? address.port : 0
    }),
    () => Effect.sync(() => server.close())
  )

/** Writes a typed error of the contract. */
export const refuse = (
  response: Http.ServerResponse,
  status: number,
  error: { readonly _tag: string; readonly code: string; readonly message?: string; readonly retryable?: boolean },
  headers: Http.OutgoingHttpHeaders = {}
) => {
  response.writeHead(status, { "content-type": "application/json", ...headers })
  response.end(
    JSON.stringify({ message: sentence, retryable: error._tag === "Unavailable", traceId: "0".repeat(32), ...error })
  )
}

export const sentence = "The server says what happened, and what to do next"

// -----------------------------------------------------------------------------
// Networks
// -----------------------------------------------------------------------------

export interface Network {
  readonly port: number
  readonly url: string
  /** How many connections were made. */
  readonly connections: () => number
  /** How many of them were cut. */
  readonly cuts: () => number
  /** Leads new connections to another server. */
  readonly lead: (port: number) => void
  /** Cuts every open connection. */
  readonly cutAll: () => void
}

/** Says what happens to a connection, the nth from 1. */
export interface Fate {
  /** Is cut as soon as this many bytes of the answer have passed. */
  readonly answerBytes?: number | undefined
  /** Is cut before anything of the request gets through. */
  readonly refused?: boolean | undefined
  /** Lets so many bytes of the answer through, and then nothing more, without closing. */
  readonly stallAfter?: number | undefined
}

/** Forwards connections to a server, and breaks them as their fate says. */
export const network = (
  target: number,
  fate: (nth: number) => Fate = () => ({})
): Effect.Effect<Network, never, Scope.Scope> =>
  Effect.gen(function*() {
    const sockets = new Set<Net.Socket>()
    let port = target
    let connections = 0
    let cuts = 0
    const hold = (socket: Net.Socket) => {
      sockets.add(socket)
      socket.on("error", () => socket.destroy())
      socket.on("close", () => sockets.delete(socket))
      return socket.setNoDelay()
    }
    const server = Net.createServer((incoming) => {
      hold(incoming)
      const { answerBytes, refused, stallAfter } = fate(++connections)
      if (refused === true) {
        cuts++
        incoming.resetAndDestroy()
        return
      }
      const outgoing = hold(Net.connect(port, "127.0.0.1"))
      incoming.pipe(outgoing)
      incoming.on("close", () => outgoing.destroy())
      outgoing.on("close", () => incoming.destroy())
      let left = answerBytes ?? stallAfter ?? Infinity
      outgoing.on("data", (chunk: Buffer) => {
        if (left <= 0) return
        const part = chunk.subarray(0, Math.min(chunk.length, left))
        left -= chunk.length
        if (left > 0 || stallAfter !== undefined) {
          incoming.write(part)
          return
        }
        cuts++
        // Data written before must arrive, so the connection ends normally; only the answer is incomplete.
        incoming.end(part, () => incoming.destroy())
        outgoing.destroy()
      })
    })
    const own = yield* listening(server)
    const cutAll = () => {
      for (const socket of sockets) socket.destroy()
    }
    yield* Effect.addFinalizer(() => Effect.sync(cutAll))
    return {
      port: own,
      url: `http://127.0.0.1:${own}`,
      connections: () => connections,
      cuts: () => cuts,
      lead: (next) => {
        port = next
      },
      cutAll
    }
  })

// -----------------------------------------------------------------------------
// Clients
// -----------------------------------------------------------------------------

/** Waits that are over at once, so that a test spends its time on the connections. */
export const impatient: Runs.Options = { baseDelay: "1 millis", maxDelay: "1 millis" }

/** Keeps a given token. */
export const having = (token: Redacted.Redacted): Layer.Layer<Credentials.Credentials> =>
  Layer.provide(
    Credentials.layerBearer,
    Layer.effect(
      TokenStorage.TokenStorage,
      Effect.gen(function*() {
        const storage = yield* TokenStorage.TokenStorage
        yield* Effect.orDie(storage.set({ token }))
        return storage
      })
    ).pipe(Layer.provide(TokenStorage.layerMemory))
  )

export interface Client {
  readonly connection: Connection.Connection["Service"]
  readonly access: Access.Access["Service"]
  readonly runs: Runs.Runs["Service"]
}

/** Connects to a server as an application does, through `fetch`. */
export const connect = (
  baseUrl: string,
  credentials: Layer.Layer<Credentials.Credentials>,
  runs: Runs.Options = impatient
): Effect.Effect<Client, never, Scope.Scope> =>
  Effect.map(
    Effect.orDie(Layer.build(
      SallyportClient.layer({ baseUrl, credentials, runs }).pipe(
        Layer.provide([FetchHttpClient.layer, SecureRandom.layerWebCrypto])
      )
    )),
    (context) => ({
      connection: Context.get(context, Connection.Connection),
      access: Context.get(context, Access.Access),
      runs: Context.get(context, Runs.Runs)
    })
  )

/** Collects events, and how they ended. */
export const collect = (stream: Stream.Stream<Runs.RunEvent, RunsError>) =>
  Effect.gen(function*() {
    const events: Array<Runs.RunEvent> = []
    const error = yield* stream.pipe(
      Stream.runForEach((event) => Effect.sync(() => void events.push(event))),
      Effect.as(undefined),
      Effect.catch((error) => Effect.succeed(error))
    )
    return { events, error }
  })

/** Waits until a condition holds, by polling. */
export const eventually = (condition: () => boolean): Effect.Effect<void> =>
  Effect.asVoid(Effect.repeat(Effect.void, { until: condition, schedule: Schedule.spaced("5 millis") }))
