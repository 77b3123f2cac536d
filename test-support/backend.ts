/**
 * Runs the reference backend as a separate process, and sends requests to it with a plain HTTP client.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Http from "node:http"
import * as NPath from "node:path"
import { fileURLToPath } from "node:url"
import { program, type Running, temporaryDirectory } from "./programs.ts"

const bin = fileURLToPath(new URL("../packages/cli/src/bin.ts", import.meta.url))

/** A state directory that does not exist yet, in a directory that goes away with the scope. */
export const freshState = Effect.map(temporaryDirectory, (directory) => NPath.join(directory, "state"))

/** Runs the command from its source, and kills it when the scope closes. */
export const sallyport = (
  args: ReadonlyArray<string>,
  env?: Record<string, string>,
  through?: ReadonlyArray<string>
) => program(bin, args, env, through)

export interface Server extends Running {
  readonly url: string
  readonly pairingUrl: string
  readonly code: string
}

/** Starts a server on a port that the system chooses, and waits for the line that announces it. */
export const serve = (stateDirectory: string, ...args: ReadonlyArray<string>) => serveWith({}, stateDirectory, ...args)

/** Does what {@link serve} does, with some variables set. */
export const serveWith = (
  env: Record<string, string>,
  stateDirectory: string,
  ...args: ReadonlyArray<string>
) => serveThrough([], env, stateDirectory, ...args)

/** Does what {@link serveWith} does, by another command. */
export const serveThrough = Effect.fnUntraced(function*(
  through: ReadonlyArray<string>,
  env: Record<string, string>,
  stateDirectory: string,
  ...args: ReadonlyArray<string>
) {
  const running = yield* sallyport(
    ["serve", "--port", "0", "--state-dir", stateDirectory, "--json", ...args],
    env,
    through
  )
  const line = yield* Effect.orDie(running.printed(/^.*\n/))
  const announced: Pick<Server, "url" | "pairingUrl" | "code"> = JSON.parse(line)
  const server: Server = { ...running, ...announced }
  return server
})

// -----------------------------------------------------------------------------
// HTTP
// -----------------------------------------------------------------------------

export interface Answer {
  readonly status: number
  readonly headers: Http.IncomingHttpHeaders
  readonly text: string
  /** The body as JSON, assumed to have the form that the test expects. */
  readonly json: <A>() => A
}

export interface RequestOptions {
  readonly method?: string
  readonly headers?: Record<string, string>
  readonly body?: string
}

/** Sends one request on a new connection. */
export const request = (url: string, options: RequestOptions = {}): Effect.Effect<Answer, Error> =>
  Effect.callback((resume) => {
    const { body, headers = {}, method = "GET" } = options
    const outgoing = Http.request(url, { method, headers, agent: false }, (response) => {
      let text = ""
      response.setEncoding("utf8")
      response.on("data", (chunk: string) => text += chunk)
      response.on("end", () =>
        resume(Effect.succeed({
          status: response.statusCode ?? 0,
          headers: response.headers,
          text,
          json: <A>(): A => JSON.parse(text)
        })))
      response.on("error", (error) => resume(Effect.fail(error)))
    })
    outgoing.on("error", (error) => resume(Effect.fail(error)))
    outgoing.end(body)
    return Effect.sync(() => outgoing.destroy())
  })

const bearer = (token: string) => ({ authorization: `Bearer ${token}` })

export const get = (server: { readonly url: string }, path: string, token: string) =>
  request(server.url + path, { headers: bearer(token) })

export const post = (
  server: { readonly url: string },
  path: string,
  token: string,
  payload?: unknown,
  headers?: Record<string, string>
) =>
  request(server.url + path, {
    method: "POST",
    headers: {
      ...bearer(token),
      ...(payload === undefined ? {} : { "content-type": "application/json" }),
      ...headers
    },
    ...(payload === undefined ? {} : { body: JSON.stringify(payload) })
  })

/** Exchanges a pairing code for a bearer token, in the form of RFC 8693. */
export const exchange = (server: { readonly url: string }, code: string) =>
  request(`${server.url}/oauth/token`, {
    method: "POST",
    headers: { "content-type": "application/x-www-form-urlencoded" },
    body: new URLSearchParams({
      grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
      subject_token: code,
      subject_token_type: "urn:sallyport:token-type:bootstrap-credential"
    }).toString()
  })

/** Pairs with the code that a server printed, and returns the bearer token. */
export const pair = Effect.fnUntraced(function*(server: Server, code: string = server.code) {
  const answer = yield* exchange(server, code)
  if (answer.status !== 200) return yield* Effect.die(new Error(`${answer.status}: ${answer.text}`))
  return answer.json<{ readonly access_token: string }>().access_token
})

export interface RunView {
  readonly runId: string
  readonly status: string
  readonly endReason: string | null
  readonly lastSeq: number
}

export const startRun = Effect.fnUntraced(function*(
  server: { readonly url: string },
  token: string,
  input: { readonly to: number; readonly everyMillis: number },
  options?: { readonly threadId?: string; readonly key?: string }
) {
  const answer = yield* post(server, "/api/runs", token, { threadId: options?.threadId ?? "thread", input }, {
    "idempotency-key": options?.key ?? "key"
  })
  return { status: answer.status, ...answer.json<{ readonly created: boolean; readonly run: RunView }>() }
})

export interface ServerSentEvent {
  readonly id: string | undefined
  readonly event: string
  readonly data: unknown
}

export interface Reader {
  readonly status: number
  /** Returns the next event, or nothing once the stream has ended or was cut. */
  readonly next: Effect.Effect<ServerSentEvent | undefined>
  /** Returns the rest of the stream when it has ended. */
  readonly rest: Effect.Effect<ReadonlyArray<ServerSentEvent>>
  /** Tells whether the stream was cut, rather than ended by the server. */
  readonly wasCut: () => boolean
}

const parse = (block: string): ServerSentEvent | undefined => {
  const fields = new Map<string, string>()
  for (const line of block.split("\n")) {
    const [, name, value] = /^(\w+): ?(.*)$/.exec(line) ?? []
    if (name !== undefined && value !== undefined) fields.set(name, value)
  }
  const data = fields.get("data")
  return data === undefined ? undefined : {
    id: fields.get("id"),
    event: fields.get("event") ?? "message",
    data: JSON.parse(data)
  }
}

async function* eventsOf(response: Http.IncomingMessage, onCut: () => void) {
  let text = ""
  try {
    for await (const chunk of response.setEncoding("utf8")) {
      text += String(chunk)
      const blocks = text.split("\n\n")
      text = blocks.pop() ?? ""
      for (const block of blocks) {
        const event = parse(block)
        if (event !== undefined) yield event
      }
    }
  } catch {
    onCut()
  }
}

/** Reads a run's events on a connection that ends with the scope. */
export const follow = (
  server: { readonly url: string },
  token: string,
  runId: string,
  lastEventId?: string
): Effect.Effect<Reader, Error, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<{ readonly outgoing: Http.ClientRequest; readonly response: Http.IncomingMessage }, Error>(
      (resume) => {
        const outgoing = Http.request(`${server.url}/api/runs/${runId}/events`, {
          agent: false,
          headers: { ...bearer(token), ...(lastEventId === undefined ? {} : { "last-event-id": lastEventId }) }
        }, (response) => resume(Effect.succeed({ outgoing, response })))
        outgoing.on("error", (error) => resume(Effect.fail(error)))
        outgoing.end()
      }
    ),
    ({ outgoing }) => Effect.sync(() => outgoing.destroy())
  ).pipe(Effect.map(({ response }) => {
    let cut = false
    const events = eventsOf(response, () => {
      cut = true
    })
    const next = Effect.map(Effect.promise(() => events.next()), ({ value }) => value ?? undefined)
    return {
      status: response.statusCode ?? 0,
      next,
      wasCut: () => cut,
      rest: Effect.promise(async () => {
        const rest: Array<ServerSentEvent> = []
        for await (const event of events) rest.push(event)
        return rest
      })
    }
  }))
