/**
 * A whole server on a real socket, over repositories in memory that can be watched and made to fail, and clients that send
 * what no well-behaved one would.
 */
import { AccessRepository, layerMemory } from "@sallyport/core/access/AccessRepository"
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { assert } from "@effect/vitest"
import { RepositoryError } from "@sallyport/core/RepositoryError"
import * as AccessScope from "@sallyport/core/access/AccessScope"
import * as AuthPolicy from "@sallyport/core/access/AuthPolicy"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as RunEventRepository from "@sallyport/core/runs/RunEventRepository"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as EventStream from "@sallyport/http/EventStream"
import * as RunProgram from "@sallyport/http/RunProgram"
import * as Sallyport from "@sallyport/http/Sallyport"
import * as Shutdown from "@sallyport/http/Shutdown"
import * as NodeWriter from "@sallyport/node/NodeWriter"
import * as WebSockets from "@sallyport/node/WebSockets"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import * as Http from "node:http"
import * as Net from "node:net"

// -----------------------------------------------------------------------------
// Server
// -----------------------------------------------------------------------------

/** Watches the repositories: counts each operation as `sessions.insert`, and fails those that a test names. */
export class Probe extends Context.Service<Probe, {
  readonly calls: Map<string, number>
  readonly failing: Set<string>
  /** What dies of a fault of ours. */
  readonly dying: Set<string>
  /** What fails late, as a database does whose connections are silent. */
  readonly hanging: Set<string>
  /** What some operations answer instead of doing their work. */
  readonly answers: Map<string, unknown>
}>()("@sallyport/http/test/Probe") {
  static readonly layer = Layer.sync(
    Probe,
    () => Probe.of({ calls: new Map(), failing: new Set(), dying: new Set(), hanging: new Set(), answers: new Map() })
  )
}

/** Tells whether PostgreSQL would store all the text in a value, which the repositories in memory here would not notice. */
const isStorable = (value: unknown): boolean =>
  typeof value === "string"
    ? !/[\0\p{Cs}]/u.test(value)
    : typeof value !== "object" || value === null || Object.entries(value).every((entry) => entry.every(isStorable))

const probed = <S extends object>(
  probe: Probe["Service"],
  name: string,
  error: (operation: string) => unknown,
  service: S
): S =>
  new Proxy(service, {
    get(target, key) {
      const member: unknown = Reflect.get(target, key)
      if (typeof member !== "function") return member
      const operation = `${name}.${String(key)}`
      return (...args: ReadonlyArray<unknown>) =>
        Effect.suspend(() => {
          probe.calls.set(operation, (probe.calls.get(operation) ?? 0) + 1)
          if (!isStorable(args)) return Effect.die(new Error(`${operation} got text that no store could keep`))
          if (probe.answers.has(operation)) return Effect.succeed(probe.answers.get(operation))
          if (probe.hanging.has(operation)) return Effect.delay(Effect.fail(error(operation)), "3 seconds")
          if (probe.dying.has(operation)) return Effect.die(error(operation))
          return probe.failing.has(operation) ? Effect.fail(error(operation)) : Reflect.apply(member, target, args)
        })
    }
  })

const failed = (operation: string) =>
  new RepositoryError({
    operation,
    reason: "Failed",
    outcome: "unchanged",
    cause: new Error("the disk is on fire at /var/lib/secret-path")
  })

const Repositories = Layer.mergeAll(
  Layer.effect(
    AccessRepository,
    Effect.gen(function*() {
      const probe = yield* Probe
      const store = yield* AccessRepository
      return AccessRepository.of({
        ...store,
        sessions: probed(probe, "sessions", failed, store.sessions),
        links: probed(probe, "links", failed, store.links),
        clients: probed(probe, "clients", failed, store.clients),
        codes: probed(probe, "codes", failed, store.codes)
      })
    })
  ).pipe(Layer.provide(layerMemory)),
  Layer.effect(
    RunEventRepository.RunEventRepository,
    Effect.gen(function*() {
      return probed(yield* Probe, "runs", failed, yield* RunEventRepository.RunEventRepository)
    })
  ).pipe(Layer.provide(RunEventRepository.layerMemory)),
  SecretStore.layerMemory
)

type Services =
  | AccessRepository
  | AuthPolicy.AuthPolicy
  | SecretStore.SecretStore
  | BootstrapCredentialService.BootstrapCredentialService
  | SessionCredentialService.SessionCredentialService
  | RunEventLog.RunEventLog
  | RunProgram.RunProgram
  | Probe
  | SecretStore.SecretStore
  | Layer.Success<typeof NodeCrypto.layer>

/** What a host may mount: anything that the router and our services suffice for. */
export type Routes = Layer.Layer<
  never,
  never,
  Services | HttpRouter.HttpRouter | Layer.Success<typeof NodeHttpServer.layerHttpServices>
>

export interface ServerOptions {
  /** Whether streams of events are written to the connection by what appends the event; by default they are. */
  readonly directly?: boolean | undefined
  /** Is given each response before the server is, as a host's own middleware below it. */
  readonly onResponse?: ((response: Http.ServerResponse) => void) | undefined
  /** Logs each request, as Effect's server does by default. */
  readonly logRequests?: boolean | undefined
  readonly policy?: AuthPolicy.Kind | undefined
  readonly publicUrl?: string | undefined
  /** The address that the server listens on. Default 127.0.0.1. */
  readonly host?: string | undefined
  readonly tracer?: Tracer.Tracer | undefined
  /** What is mounted; the whole surface by default. */
  readonly routes?: Routes | undefined
  /** What state is kept in; in memory, and watched by the probe, by default. */
  readonly repositories?: Layer.Layer<Layer.Success<typeof Repositories>> | undefined
  readonly program?: (request: RunProgram.RunProgramRequest) => ReturnType<RunProgram.RunProgram["Service"]["execute"]>
  /** What runs are executed by, in place of `program`. */
  readonly runProgram?: Layer.Layer<RunProgram.RunProgram, never, RunEventLog.RunEventLog> | undefined
  readonly sessions?: SessionCredentialService.Options | undefined
  readonly links?: BootstrapCredentialService.Options | undefined
  readonly runs?: RunEventLog.Options | undefined
  readonly heartbeat?: Duration.Input | undefined
  readonly gracefulShutdownTimeout?: Duration.Input | undefined
}

/** A program that appends the numbers from 1 to the input, which is a number, and returns it. */
export const counting = ({ input, run }: RunProgram.RunProgramRequest) =>
  Effect.gen(function*() {
    const count = typeof input === "number" ? input : 0
    for (let n = 1; n <= count; n++) yield* run.append({ n })
    return count
  })

export interface Server {
  readonly port: number
  readonly probe: Probe["Service"]
  readonly links: BootstrapCredentialService.BootstrapCredentialService["Service"]
  readonly sessions: SessionCredentialService.SessionCredentialService["Service"]
  readonly log: RunEventLog.RunEventLog["Service"]
  readonly runs: RunEventRepository.RunEventRepository["Service"]
  readonly send: (request: Request) => Effect.Effect<Answer>
  /** Returns the token of a new bearer session. */
  readonly token: (options?: {
    readonly subject?: string
    readonly scopes?: ReadonlyArray<AccessScope.AccessScope>
  }) => Effect.Effect<string>
  /** Returns the `Cookie` header of a new browser session, as a browser would send it. */
  readonly cookie: Effect.Effect<string>
  /** Returns a fresh pairing code. */
  readonly code: (options?: {
    readonly scopes?: ReadonlyArray<AccessScope.AccessScope>
    readonly uses?: number
    readonly sessionLifetime?: Duration.Input
  }) => Effect.Effect<string>
  /** What the server has logged, at every level, one line of JSON each. */
  readonly logged: ReadonlyArray<string>
  /** How many connections are open. */
  readonly connections: () => number
  /** Breaks every open connection, as a network does. */
  readonly cut: Effect.Effect<void>
  /** Stops the server, as a host does. */
  readonly stop: Effect.Effect<void>
}

/** Starts a server, which stops with the scope at the latest. */
export const start = Effect.fnUntraced(function*(options: ServerOptions = {}): Effect.fn.Return<
  Server,
  never,
  Scope.Scope
> {
  const services = Layer.mergeAll(
    SessionCredentialService.layerWith(options.sessions ?? {}),
    BootstrapCredentialService.layerWith(options.links ?? {}),
    Layer.provideMerge(
      options.runProgram ?? RunProgram.layer(options.program ?? counting),
      RunEventLog.layerWith(options.runs ?? {})
    ),
    AuthPolicy.layer({
      host: "127.0.0.1",
      kind: options.policy,
      publicUrl: options.publicUrl === undefined ? undefined : new URL(options.publicUrl)
    })
  ).pipe(
    Layer.provideMerge(options.repositories ?? Repositories),
    Layer.provideMerge(Layer.mergeAll(Probe.layer, NodeCrypto.layer))
  )
  const logged: Array<string> = []
  const sockets = new Set<Net.Socket>()
  const layer = HttpRouter.serve(options.routes ?? Sallyport.layer(), {
    disableLogger: options.logRequests !== true,
    disableListenLog: true
  }).pipe(
    Shutdown.graceful,
    Layer.provideMerge(services),
    Layer.provideMerge(
      NodeHttpServer.layer(() =>
        Http.createServer().on("connection", (socket) => {
          sockets.add(socket)
          socket.on("close", () => sockets.delete(socket))
        }).on("request", (_request, response) => options.onResponse?.(response)), {
        host: options.host ?? "127.0.0.1",
        port: 0,
        gracefulShutdownTimeout: options.gracefulShutdownTimeout ?? "2 seconds",
        websocket: WebSockets.serverOptions
      })
    ),
    Layer.provide([
      Layer.succeed(EventStream.HeartbeatInterval, Duration.fromInputUnsafe(options.heartbeat ?? "15 seconds")),
      Logger.layer([Logger.map(Logger.formatJson, (line) => void logged.push(line))]),
      Layer.succeed(References.MinimumLogLevel, "Trace"),
      options.directly === false ? Layer.empty : NodeWriter.layer,
      options.tracer === undefined ? Layer.empty : Layer.succeed(Tracer.Tracer, options.tracer)
    ])
  )
  const scope = yield* Effect.flatMap(Scope.Scope, (outer) => Scope.fork(outer))
  const context = yield* Effect.orDie(Layer.buildWithScope(layer, scope))
  const { address } = Context.get(context, HttpServer.HttpServer)
  const port = "port" in address ? address.port : 0
  const links = Context.get(context, BootstrapCredentialService.BootstrapCredentialService)
  const sessions = Context.get(context, SessionCredentialService.SessionCredentialService)
  const secure = options.policy === "remote-reachable"
  const issue = (method: "browser-session-cookie" | "bearer-access-token") =>
  (
    session: { readonly subject?: string; readonly scopes?: ReadonlyArray<AccessScope.AccessScope> } = {}
  ) =>
    Effect.orDie(Effect.map(
      sessions.issue({ subject: session.subject ?? "owner", scopes: session.scopes ?? AccessScope.builtin, method }),
      ({ token }) => Redacted.value(token)
    ))
  return {
    port,
    links,
    sessions,
    logged,
    probe: Context.get(context, Probe),
    log: Context.get(context, RunEventLog.RunEventLog),
    runs: Context.get(context, RunEventRepository.RunEventRepository),
    send: (request) => send(port, request),
    token: issue("bearer-access-token"),
    cookie: Effect.map(
      issue("browser-session-cookie")(),
      (token) => `${secure ? "__Host-sallyport_session" : `sallyport_session_${port}`}=${token}`
    ),
    code: (link) =>
      Effect.orDie(Effect.map(
        links.issue({ issuedBy: "operator", ...link, scopes: link?.scopes ?? AccessScope.builtin }),
        ({ code }) => Redacted.value(code)
      )),
    connections: () => sockets.size,
    cut: Effect.sync(() => {
      for (const socket of sockets) socket.destroy()
    }),
    stop: Scope.close(scope, Exit.void)
  }
})

// -----------------------------------------------------------------------------
// Clients
// -----------------------------------------------------------------------------

export interface Request {
  readonly method?: string | undefined
  readonly path: string
  readonly headers?: Http.OutgoingHttpHeaders | undefined
  /** Text is sent as it stands; several parts go in chunks, without a content length; anything else is sent as JSON. */
  readonly body?: unknown
  readonly parts?: ReadonlyArray<string | Uint8Array> | undefined
}

export interface Answer {
  readonly status: number
  readonly headers: Http.IncomingHttpHeaders
  readonly text: string
  /** The body as JSON, without claims on its form. */
  readonly json: Record<string, unknown>
}

const parse = (text: string): Record<string, unknown> => {
  try {
    const json: unknown = JSON.parse(text)
    return typeof json === "object" && json !== null ? { ...json } : {}
  } catch {
    return {}
  }
}

const begin = (port: number, request: Request): Http.ClientRequest => {
  const { body } = request
  const text = body === undefined || typeof body === "string" ? body : JSON.stringify(body)
  const req = Http.request({
    host: "127.0.0.1",
    port,
    method: request.method ?? (body === undefined && request.parts === undefined ? "GET" : "POST"),
    path: request.path,
    agent: false,
    headers: {
      ...(body !== undefined && typeof body !== "string" ? { "content-type": "application/json" } : {}),
      ...(text === undefined ? {} : { "content-length": Buffer.byteLength(text) }),
      ...request.headers
    }
  })
  for (const part of request.parts ?? []) req.write(part)
  req.end(text)
  return req
}

/** Sends a request and reads the whole answer. */
export const send = (port: number, request: Request): Effect.Effect<Answer> =>
  Effect.callback((resume) => {
    const req = begin(port, request)
    let answered = false
    req.on("response", (response) => {
      answered = true
      const chunks: Array<Buffer> = []
      response.on("data", (chunk: Buffer) => chunks.push(chunk))
      response.on("close", () => {
        const text = Buffer.concat(chunks).toString("utf8")
        resume(Effect.succeed({
          status: response.statusCode ?? 0,
          headers: response.headers,
          text,
          json: parse(text)
        }))
      })
    })
    req.on("error", (error) => {
      // A server that has answered may close the connection while the rest of a body is on its way.
      if (!answered) resume(Effect.die(error))
    })
    return Effect.sync(() => req.destroy())
  })

/** Writes bytes as they stand to a connection of its own, and returns all that comes back until the server closes it. */
export const raw = (port: number, text: string): Effect.Effect<string> =>
  Effect.callback((resume) => {
    let answer = ""
    const socket = Net.connect({ host: "127.0.0.1", port }, () => socket.write(text, "latin1"))
    socket.setEncoding("utf8")
    socket.on("data", (chunk: string) => {
      answer += chunk
    })
    socket.on("error", () => undefined)
    socket.on("close", () => resume(Effect.succeed(answer)))
    return Effect.sync(() => socket.destroy())
  })

export interface Following {
  readonly status: number
  readonly headers: Http.IncomingHttpHeaders
  /** Waits until what has arrived satisfies a condition, and returns it. Dies if the stream ends before. */
  readonly until: (condition: (text: string) => boolean) => Effect.Effect<string>
  /** Waits for the end: `complete` if the server ended the answer, `cut` if the connection broke. */
  readonly ended: Effect.Effect<{ readonly how: "complete" | "cut"; readonly text: string }>
  readonly socket: Net.Socket
  readonly response: Http.IncomingMessage
}

/** Sends a request and reads the answer as it comes. */
export const follow = (port: number, request: Request): Effect.Effect<Following, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<{ readonly req: Http.ClientRequest; readonly following: Following }>((resume) => {
      const req = begin(port, request)
      req.on("error", () => undefined)
      req.on("response", (response) => {
        let text = ""
        let how: "complete" | "cut" | undefined
        const listeners = new Set<() => void>()
        const tell = () => {
          for (const listener of listeners) listener()
        }
        response.setEncoding("utf8")
        response.on("error", () => undefined)
        response.on("data", (chunk: string) => {
          text += chunk
          tell()
        })
        response.on("close", () => {
          how = response.complete ? "complete" : "cut"
          tell()
        })
        const wait = <A>(look: () => Effect.Effect<A> | undefined) =>
          Effect.callback<A>((resume) => {
            const listener = () => {
              const found = look()
              if (found === undefined) return
              listeners.delete(listener)
              resume(found)
            }
            listeners.add(listener)
            listener()
            return Effect.sync(() => listeners.delete(listener))
          })
        resume(Effect.succeed({
          req,
          following: {
            status: response.statusCode ?? 0,
            headers: response.headers,
            response,
            socket: response.socket,
            until: (condition) =>
              wait(() =>
                condition(text)
                  ? Effect.succeed(text)
                  : how === undefined
                  ? undefined
                  : Effect.die(new Error(`The stream ended with: ${text}`))
              ),
            ended: wait(() => how === undefined ? undefined : Effect.succeed({ how, text }))
          }
        }))
      })
    }),
    ({ req }) => Effect.sync(() => req.destroy())
  ).pipe(Effect.map(({ following }) => following))

export interface ServerSentEvent {
  readonly id: string | undefined
  readonly event: string | undefined
  readonly data: string
}

/** Splits the text of a stream into its events, without comments. */
export const eventsOf = (text: string): ReadonlyArray<ServerSentEvent> =>
  text.split("\n\n").slice(0, -1).flatMap((block) => {
    const fields = new Map(
      block.split("\n").filter((line) => !line.startsWith(":")).map((line) => {
        const colon = line.indexOf(": ")
        return [line.slice(0, colon), line.slice(colon + 2)] as const
      })
    )
    const data = fields.get("data")
    return data === undefined ? [] : [{ id: fields.get("id"), event: fields.get("event"), data }]
  })

export const bearer = (token: string): { readonly authorization: string } => ({ authorization: `Bearer ${token}` })

/** Asserts that an answer is a typed error of the contract, and returns it. */
export const assertError = (
  answer: Answer,
  expected: { readonly status: number; readonly tag: string; readonly code: string; readonly retryable?: boolean }
): void => {
  assert.deepStrictEqual(
    { status: answer.status, tag: answer.json._tag, code: answer.json.code, retryable: answer.json.retryable },
    { retryable: false, ...expected },
    answer.text
  )
  assert.match(String(answer.headers["content-type"]), /^application\/json/)
  assert.deepStrictEqual(
    Object.keys(answer.json).toSorted(),
    [
      "_tag",
      "code",
      ...("ended" in answer.json ? ["ended"] : []),
      "message",
      ...(answer.status === 429 ? ["retryAfterSeconds"] : []),
      "retryable",
      "traceId"
    ]
      .toSorted()
  )
  assert.match(String(answer.json.message), /^\S.{10,}\S$/)
  assert.match(String(answer.json.traceId), /^(?!0{32})[0-9a-f]{32}$/)
  assert.notInclude(answer.text, "secret-path")
}
