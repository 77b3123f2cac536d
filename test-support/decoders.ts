/**
 * The decoders that meet the network, each with inputs of the largest size that is let in: the functions that read one text,
 * and whole requests to a server with every route. Tests count their work, and `npm run decoders` measures their time.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as EnvironmentConnector from "@sallyport/connect/EnvironmentConnector"
import * as EnvironmentHandlers from "@sallyport/connect/EnvironmentHandlers"
import * as RelayEnvironmentRepository from "@sallyport/connect/RelayEnvironmentRepository"
import * as RelayHandlers from "@sallyport/connect/RelayHandlers"
import * as RelayProofRepository from "@sallyport/connect/RelayProofRepository"
import * as TokenStorage from "@sallyport/client/TokenStorage"
import * as AccessGroup from "@sallyport/contract/AccessGroup"
import { ConnectEnvironmentApi, decisionData, RelayApi } from "@sallyport/contract/ConnectProtocol"
import * as RunGroup from "@sallyport/contract/RunGroup"
import { SallyportApi } from "@sallyport/contract/SallyportApi"
import * as AccessScope from "@sallyport/core/access/AccessScope"
import * as AuthorizationServer from "@sallyport/core/access/AuthorizationServer"
import * as AuthPolicy from "@sallyport/core/access/AuthPolicy"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import { CurrentSession } from "@sallyport/core/access/CurrentSession"
import * as DpopProof from "@sallyport/core/access/DpopProof"
import * as OAuthClient from "@sallyport/core/access/OAuthClient"
import * as PairingCode from "@sallyport/core/access/PairingCode"
import * as PairingUrl from "@sallyport/core/access/PairingUrl"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as ConnectClientStore from "@sallyport/core/connect/ConnectClientStore"
import * as Input from "@sallyport/core/Input"
import * as Repositories from "@sallyport/core/Repositories"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as Text from "@sallyport/core/Text"
import * as DurableStreamRepository from "@sallyport/durable-streams/DurableStreamRepository"
import * as DurableStreams from "@sallyport/durable-streams/DurableStreams"
import * as DurableStreamsRoutes from "@sallyport/durable-streams/DurableStreamsRoutes"
import * as StreamSubscriptionRepository from "@sallyport/durable-streams/StreamSubscriptionRepository"
import * as StreamSubscriptions from "@sallyport/durable-streams/StreamSubscriptions"
import * as StreamSubscriptionsRoutes from "@sallyport/durable-streams/StreamSubscriptionsRoutes"
import * as Authentication from "@sallyport/http/Authentication"
import * as RunProgram from "@sallyport/http/RunProgram"
import * as Sallyport from "@sallyport/http/Sallyport"
import * as SessionCookie from "@sallyport/http/SessionCookie"
import * as TrustedProxies from "@sallyport/http/TrustedProxies"
import * as AgUi from "@sallyport/interop/AgUi"
import * as AiSdk from "@sallyport/interop/AiSdk"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Sse from "effect/encoding/Sse"
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import type * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as IpNetwork from "effect/net/IpNetwork"
import * as KeyValueStore from "effect/persistence/KeyValueStore"
import * as Predicate from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import * as RpcSerialization from "effect/rpc/RpcSerialization"
import * as Schema from "effect/Schema"
import * as Answer from "../packages/client/src/internal/answer.ts"
import * as Jwt from "../packages/connect/src/internal/jwt.ts"
import * as UserCode from "../packages/core/src/connect/internal/userCode.ts"
import * as Attempts from "../packages/core/src/access/internal/attempts.ts"
import * as CompactJws from "../packages/core/src/access/internal/compactJws.ts"
import * as RunFeedCursor from "../packages/core/src/runs/internal/runFeedCursor.ts"
import * as RunJson from "../packages/core/src/runs/internal/runJson.ts"
import * as RpcMessages from "../packages/http/src/internal/rpcMessages.ts"
import * as Glob from "../packages/durable-streams/src/internal/glob.ts"
import * as JsonText from "../packages/durable-streams/src/internal/jsonText.ts"
import * as Position from "../packages/interop/src/internal/position.ts"
import { authentication as believing } from "../packages/connect/test/world.ts"
import { streamNames, streamRoutes, type Surface, surfaceOf } from "./fuzz.ts"

/** A decoder of one text. */
export interface Decoder {
  readonly name: string
  /** The largest size that it is given, in characters. */
  readonly largest: number
  /** What its inputs are made of. */
  readonly units: ReadonlyArray<string>
  readonly decode: (text: string) => unknown
}

const decoder = (
  name: string,
  largest: number,
  decode: (text: string) => unknown,
  units: ReadonlyArray<string>
): Decoder => ({ name, largest, units, decode })

/** Tells the schema of a body from a stream's, and from that of an answer without a body. */
const isAnswerSchema = (schema: Schema.Top): schema is Schema.Codec<unknown, unknown> =>
  !HttpApiSchema.isNoContent(schema.ast) && !Predicate.hasProperty(schema, "_tag")

const encoder = new TextEncoder()
const isJson = Schema.is(Input.json)
/** How many characters the headers and the address of a request have together at most. */
const headerSize = 16_384

/** Lists what clients read of the answers of an API, each by the schema of an endpoint. */
const answersOf = <Id extends string, Groups extends HttpApiGroup.Constraint>(api: HttpApi.HttpApi<Id, Groups>) => {
  const found: Array<readonly [name: string, schema: Schema.Codec<unknown, unknown>]> = []
  HttpApi.reflect(api, {
    onGroup: () => {},
    onEndpoint: ({ endpoint, group, successes }) => {
      for (const [schema] of successes.values()) {
        if (isAnswerSchema(schema)) found.push([`${group.identifier}.${endpoint.identifier}`, schema])
      }
    }
  })
  return found
}

/** The longest answer that a client takes, but for the brackets around. */
const largestAnswer = 1_048_570
/** How much of an event is measured. It may be longer, and what it takes is linear (docs/decisions/0039). */
const largestEvent = 262_140
/** What comes of a stream at once at most. */
const largestChunk = 65_536

const readStored = (text: string) =>
  TokenStorage.TokenStorage.use(({ tokens }) => tokens).pipe(
    Effect.provide(TokenStorage.layerKeyValueStore()),
    Effect.provideService(
      KeyValueStore.KeyValueStore,
      KeyValueStore.makeStringOnly({
        get: () => Effect.succeed(text),
        set: () => Effect.void,
        remove: () => Effect.void,
        clear: Effect.void,
        size: Effect.succeed(1),
        keys: Effect.succeed([])
      })
    ),
    Effect.exit,
    Effect.runPromise
  )

const ofJson = (decode: (text: string) => unknown) => (text: string) => decode(`[${text}1]`)
/**
 * Lists the parts of hostile JSON of a size, which stand between `[` and `1]`: as many as are taken, each with a string that
 * makes the text as long as it may be; and strings alone.
 */
const jsonUnits = (largest: number) => {
  const filled = (before: string, after: string, times: number) =>
    `${before}${"a".repeat(Math.ceil(largest / times) - before.length - after.length)}${after}`
  return [
    filled(`"`, `",`, Input.maxJson.entries),
    filled(`{"a":"`, `"},`, Input.maxJson.parts),
    filled(`["`, `"],`, Input.maxJson.parts),
    `"${String.raw`\"`.repeat(510)}",`
  ]
}

/** The decoders of what a client meets: answers, events, messages and stored state. */
const clientDecoders: ReadonlyArray<Decoder> = [
  ...[...answersOf(SallyportApi), ...answersOf(RelayApi)].map(([name, schema]) =>
    decoder(
      `an answer of ${name}`,
      largestAnswer,
      ofJson((text) =>
        Effect.runPromise(Effect.exit(Answer.call(
          Effect.succeed(HttpClientResponse.fromWeb(HttpClientRequest.get("http://a"), new Response(text))),
          schema,
          Duration.minutes(1)
        )))
      ),
      jsonUnits(largestAnswer)
    )
  ),
  decoder(
    "an answer that is an error",
    largestAnswer,
    ofJson((text) =>
      Effect.runPromise(Effect.exit(Answer.failureOf(
        HttpClientResponse.fromWeb(HttpClientRequest.get("http://a"), new Response(text, { status: 404 }))
      )))
    ),
    jsonUnits(largestAnswer)
  ),
  decoder("stored tokens", 131_000, ofJson(readStored), ["1,", `"aaaa",`, `{"aaaaa":0},`]),
  decoder(
    "a message of the feed",
    largestEvent,
    ofJson(Schema.decodeUnknownOption(AccessGroup.AccessMessage)),
    jsonUnits(largestEvent)
  ),
  ...Object.keys(AccessGroup.feedData).map((event) =>
    decoder(
      `an event ${event}`,
      largestEvent,
      ofJson((data) => Schema.decodeUnknownOption(AccessGroup.KnownEvent)({ id: "1", event, data })),
      jsonUnits(largestEvent)
    )
  ),
  ...["run", "data", "end"].map((event) =>
    decoder(
      `an event ${event} of runs`,
      largestEvent,
      ofJson((data) => Schema.decodeUnknownOption(RunGroup.RunsStreamEvent)({ id: "1", event, data })),
      jsonUnits(largestEvent)
    )
  ),
  ...Object.entries(decisionData).map(([event, schema]) =>
    decoder(
      `an event ${event} of a relay`,
      largestEvent,
      ofJson(Schema.decodeUnknownOption(Schema.fromJsonString(schema))),
      jsonUnits(largestEvent)
    )
  ),
  decoder("a chunk of a stream of events", largestChunk, (text) => {
    const events: Array<unknown> = []
    const parser = Sse.makeParser((event) => events.push(event), { maxEventSize: largestEvent })
    parser.feed(text)
    return events
  }, ["a", "data:a\n", "\n", "data:a\n\n", "id:1\nevent:a\n", ":\n", "\r", "\ufeff"])
]

/** The decoders of a text. */
export const decoders: ReadonlyArray<Decoder> = [
  ...clientDecoders,
  decoder("a line", headerSize, (text) => Text.isLine(text, text.length), ["a", "\u0301", "👩\u200d", " "]),
  decoder("a header", headerSize, (text) => Text.fromHeader(text, text.length), ["a", "\u00c3\u00a9", "\u00f0", " \t"]),
  decoder("a pairing code", headerSize, PairingCode.parse, ["A", "-", "\u200b", "#token="]),
  decoder("a pairing address", headerSize, PairingUrl.httpBase, ["/", "http://a@", "/ws", "a://"]),
  decoder("a code of a device", headerSize, UserCode.parse, ["B", "\ufdfa", "-"]),
  decoder("a token", headerSize, (text) => CompactJws.parse(text, text.length), ["A", ".", "A.", "="]),
  decoder("a token of a relay", 65_536, Jwt.keyIdOf, ["A", ".", "e30", "="]),
  decoder(
    "cookies",
    headerSize,
    (text) =>
      SessionCookie.read(
        HttpServerRequest.fromWeb(new Request("http://localhost/", { headers: { cookie: text } })),
        false
      ),
    ["sallyport_session_80=a;", ";", "a=\"", " ; ="]
  ),
  decoder("an address", headerSize, Attempts.networksOf, ["1.", "::", "ffff:", "%"]),
  decoder("a network", headerSize, TrustedProxies.parse, ["1.", "::", "/", "%"]),
  decoder("a redirect URI", headerSize, (text) => OAuthClient.isRedirectUri(text), [
    "http://[",
    "a.",
    "/",
    "https://a"
  ]),
  decoder("a client's address", headerSize, (text) => OAuthClient.isDocumentUrl(text), ["https://a/", "%2e", "../"]),
  decoder(
    "a client's document",
    5 * 1024,
    (text) => OAuthClient.readDocument("a", { client_id: "a", client_name: text, redirect_uris: text.split("") }),
    ["a", "\u200d", " "]
  ),
  decoder("a cursor of runs", headerSize, (text) => RunFeedCursor.parse("owner", `o1${text}`), ["-1.1", "-", "a"]),
  decoder("a position of a library", headerSize, Position.parsePosition, [".", "1", "a.1"]),
  decoder("a path", 8_192, (text) => Glob.matcher("**/a*a*/**/b")(text), ["a", "a/", "aa/b/", "%2a"]),
  decoder("a pattern", 8_192, (text) => Glob.matcher(text)("a/b/c"), ["*", "**/", "%2a", "a/"]),
  decoder(
    "JSON to append",
    262_144,
    (text) => {
      const messages = JsonText.messagesOf(encoder.encode(`[${text}1]`))
      return messages === undefined ? undefined : JsonText.slice(messages.list, messages.count - 1, messages.count)
    },
    ["1,", "[],", "[[],[[]]],", String.raw`"\"\\",`, `{"a":[1]},`]
  ),
  decoder(
    "a frame of RPCs",
    262_144,
    (text) => {
      const frame = `[${text}1]\n`
      return RpcMessages.makeLimit(RpcSerialization.ndjson)(frame)
        ? RpcSerialization.ndjson.makeUnsafe().decode(frame)
        : undefined
    },
    ["1,", "[],", `{"_tag":"Ping"},`, `{"a":[1]},`]
  ),
  decoder("the input of a run", 262_144, (text) => {
    const input = `[${text}1]`
    return Input.isBoundedJson(input) && isJson(JSON.parse(input))
  }, [
    "1,",
    `"aaaaaa",`,
    "[],",
    `{"a":"aaaaaaaaaaaaaaaaaaaaaaaaaa"},`,
    `{"a":[1],"b":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},`
  ]),
  decoder("JSON of a run", 524_288, RunJson.utf8Length, ["a", "é", "😀", "\ud800"])
]

// -----------------------------------------------------------------------------
// Whole requests
// -----------------------------------------------------------------------------

/** A request, as large as it may be. */
export interface LargeRequest {
  readonly name: string
  readonly path: string
  readonly init: RequestInit
}

const scopes = [...AccessScope.builtin, ...DurableStreamsRoutes.scopes]

const owner = Effect.map(CurrentSession, ({ subject }) => ({ subject }))

/** A relay, whose clients are who they say, and an environment. */
const layerRelay = Layer.merge(
  HttpApiBuilder.layer(RelayApi).pipe(Layer.provide(RelayHandlers.layer), Layer.provide(believing)),
  HttpApiBuilder.layer(ConnectEnvironmentApi).pipe(Layer.provide(EnvironmentHandlers.layer))
).pipe(Layer.provide(Authentication.layerRequestErrors()), Layer.orDie)

const layerRoutes = Layer.mergeAll(
  layerRelay,
  Sallyport.layer(),
  DurableStreamsRoutes.layer(),
  StreamSubscriptionsRoutes.layer(),
  TrustedProxies.layer([IpNetwork.fromStringUnsafe("10.0.0.0/8")]),
  Layer.mergeAll(
    HttpRouter.add("POST", "/agui", Effect.flatMap(owner, (owner) => AgUi.handle(owner, () => Effect.void))),
    HttpRouter.add("POST", "/chat", Effect.flatMap(owner, (owner) => AiSdk.handle(owner, () => Effect.void)))
  ).pipe(Layer.provide(Authentication.guard(null).layer))
).pipe(
  Layer.provide(AuthorizationServer.layerWith({
    clients: [{ id: "registered", name: "Registered", redirectUris: ["http://127.0.0.1/callback"] }]
  })),
  Layer.orDie
)

const layerServices = Layer.mergeAll(
  SessionCredentialService.layer,
  BootstrapCredentialService.layer,
  RunEventLog.layer,
  AuthPolicy.layer({ host: "127.0.0.1", kind: "remote-reachable", publicUrl: new URL("https://app.example") }),
  DpopProof.layer,
  RunProgram.layer(() => Effect.void),
  EnvironmentConnector.layer.pipe(Layer.provide(FetchHttpClient.layer)),
  ConnectClientStore.layer,
  StreamSubscriptions.layer.pipe(
    Layer.provideMerge(DurableStreams.layer),
    Layer.provide([DurableStreamRepository.layerMemory, StreamSubscriptionRepository.layerMemory])
  )
).pipe(
  Layer.provideMerge(Layer.mergeAll(
    Repositories.layerMemory,
    RelayEnvironmentRepository.layerMemory,
    RelayProofRepository.layerMemory,
    SecretStore.layerMemory
  )),
  Layer.provideMerge(NodeCrypto.layer),
  Layer.provide(Layer.succeed(AccessScope.Vocabulary, scopes))
)

/** Creates a server with every route, which holds its state in memory and is called without a socket. */
export const makeServer = Effect.gen(function*() {
  const context = yield* Layer.build(layerServices)
  const { dispose, handler } = HttpRouter.toWebHandler(
    layerRoutes.pipe(
      Layer.provide(Layer.succeedContext(context)),
      Layer.provide(HttpServer.layerServices),
      Layer.provideMerge(Logger.layer([]))
    ),
    { disableLogger: true }
  )
  yield* Effect.addFinalizer(() => Effect.promise(dispose))
  const sessions = Context.get(context, SessionCredentialService.SessionCredentialService)
  const issue = Effect.orDie(sessions.issue({ subject: "large", scopes, method: "bearer-access-token" }))
  return {
    /** Returns what lets a request in, and names a key to the relay. Some requests end the session that they are made with. */
    credentials: Effect.map(issue, ({ token }) => ({
      authorization: `Bearer ${Redacted.value(token)}`,
      "x-key": "k".repeat(43)
    })),
    /** Sends a request and returns the status of the answer, without waiting for the end of a stream. */
    send: async ({ init, path }: LargeRequest, headers: Readonly<Record<string, string>> = {}): Promise<number> => {
      const all = { host: "app.example", ...headers, ...Object.fromEntries(new Headers(init.headers)) }
      const response = await handler(
        new Request(`https://app.example${path}`, { ...init, headers: all }),
        context
      )
      await response.body?.cancel()
      return response.status
    }
  }
})

const { names, routes } = surfaceOf(SallyportApi)

const allRoutes: Surface["routes"] = [
  ...routes,
  ...surfaceOf(RelayApi).routes,
  ...surfaceOf(ConnectEnvironmentApi).routes,
  ...streamRoutes.map((route) => ({ ...route, names: streamNames })),
  { method: "POST", path: "/agui", names: ["threadId", "runId", "state", "messages", "tools", "context"] },
  { method: "POST", path: "/chat", names: ["id", "messages", "trigger", "messageId"] }
]

/** Lists for each name of an endpoint a value of about a length: by this kind of content alone. */
const contents: Readonly<Record<string, (length: number) => string>> = {
  text: (length) => JSON.stringify("a".repeat(length)),
  marks: (length) => JSON.stringify("\u0301".repeat(length / 2)),
  lists: (length) => `[${"[],".repeat(length / 3)}[]]`,
  objects: (length) => `[${`{"a":{}},`.repeat(length / 9)}1]`,
  strings: (length) => `[${`"a",`.repeat(length / 4)}"a"]`,
  keys: (length) => `{${Array.from({ length: length / 10 }, (_, index) => `"k${index}":0`).join(",")}}`,
  // An engine keeps more of an object for each name that it has not met.
  members: (length) => `[${Array.from({ length: length / 13 }, (_, index) => `{"m${index}":0}`).join(",")}]`
}

const agent = (fields: object) => ({
  threadId: crypto.randomUUID(),
  runId: crypto.randomUUID(),
  state: {},
  messages: [],
  tools: [],
  context: [],
  forwardedProps: {},
  ...fields
})
const chat = (messages: ReadonlyArray<unknown>) => ({ id: crypto.randomUUID(), messages, trigger: "submit-message" })
const said = (parts: ReadonlyArray<unknown>) => chat([{ id: "a", role: "user", parts }])

/** Lists what the schemas of other libraries look at part by part: parts as they should be, and others. */
const libraryBodies: ReadonlyArray<
  readonly [path: string, name: string, part: unknown, of: (parts: ReadonlyArray<unknown>) => object]
> = [
  ["/agui", "good messages", { id: "", role: "user", content: "" }, (messages) => agent({ messages })],
  ["/agui", "bad messages", 0, (messages) => agent({ messages })],
  ["/agui", "good tools", { name: "", description: "" }, (tools) => agent({ tools })],
  ["/agui", "good context", { description: "", value: "" }, (context) => agent({ context })],
  ["/agui", "bad resumptions", {}, (resume) => agent({ resume })],
  ["/agui", "bad calls", {}, (toolCalls) => agent({ messages: [{ id: "", role: "assistant", toolCalls }] })],
  ["/agui", "bad contents", {}, (content) => agent({ messages: [{ id: "", role: "user", content }] })],
  [
    "/agui",
    "good contents",
    { type: "text", text: "" },
    (content) => agent({ messages: [{ id: "", role: "user", content }] })
  ],
  ["/chat", "good messages", { id: "a", role: "user", parts: [{ type: "text", text: "" }] }, chat],
  ["/chat", "bad messages", {}, chat],
  ["/chat", "good texts", { type: "text", text: "" }, said],
  ["/chat", "good data", { type: "data-a", data: 0 }, said],
  ["/chat", "steps", { type: "step-start" }, said],
  ["/chat", "calls", { type: "tool-a", toolCallId: "", state: "input-streaming", input: 0 }, said],
  ["/chat", "bad parts", {}, said],
  ["/chat", "bad numbers", 0, said],
  ["/chat", "unknown parts", { type: "x" }, said]
]

/** Makes requests of many parts to the routes of other libraries, of about `part` of the largest size, from 0 to 1. */
export const largeChats = (part: number): ReadonlyArray<LargeRequest> =>
  libraryBodies.flatMap(([path, name, each, of]) =>
    // As many as fit, and as many as are let in.
    [Infinity, 1_000].map((most) => {
      const perPart = JSON.stringify(each).length + 1
      const count = Math.min(Math.floor((part * 262_144 - 1_024) / perPart), part * most)
      const body = encoder.encode(JSON.stringify(of(Array.from({ length: count }, () => each))))
      return {
        name: `POST ${path} of ${count} ${name}`,
        path,
        init: {
          method: "POST",
          body,
          headers: { "content-type": "application/json", "content-length": String(body.length) }
        }
      }
    })
  )

/** Makes requests to every endpoint whose bodies, or addresses, have about `part` of the largest size, from 0 to 1. */
export const largeBodies = (part: number): ReadonlyArray<LargeRequest> =>
  allRoutes.flatMap(({ method, names: known = [], path }) => {
    const target = path.replaceAll(/[:{*]\w*\}?/g, "x")
    const fields = known.length === 0 ? names.slice(0, 8) : known
    if (["GET", "HEAD", "DELETE", "OPTIONS"].includes(method)) {
      const text = "a".repeat(part * headerSize / 2 / fields.length)
      return [{
        name: `${method} ${path} of long values`,
        path: `${target}?${fields.map((name) => `${name}=${text}`).join("&")}`,
        init: { method }
      }]
    }
    return [65_536, 262_144].flatMap((largest) =>
      Object.entries(contents).map(([kind, content]) => {
        const text = fields.map((name) => `"${name}":${content((part * largest - 1_024) / fields.length)}`).join(",")
        const body = encoder.encode(`{${text}}`)
        return {
          name: `${method} ${path} of ${largest / 1024} KiB of ${kind}`,
          path: target,
          init: {
            method,
            body,
            headers: { "content-type": "application/json", "content-length": String(body.length) }
          }
        }
      })
    )
  })

const formRoutes = ["token", "device_authorization", "revoke", "introspect", "authorize?client_id=registered"]

/** Lists forms by what their fields are called. */
const forms: Readonly<Record<string, (length: number) => string>> = {
  "many names": (length) => Array.from({ length: length / 6 }, (_, index) => `${index.toString(36)}=`).join("&"),
  "one name": (length) => "scope=a&".repeat(length / 8),
  "one value": (length) => `scope=${"a%20".repeat(length / 4)}`
}

/** Makes forms to the endpoints that take any, of about `part` of the largest size, from 0 to 1. */
export const largeForms = (part: number): ReadonlyArray<LargeRequest> =>
  formRoutes.flatMap((route) =>
    [16_384, 32_768].flatMap((largest) =>
      Object.entries(forms).map(([kind, form]) => {
        const body = `token=a&client_id=registered&grant_type=authorization_code&code=a&${form(part * largest - 256)}`
        return {
          name: `POST /oauth/${route} of ${largest / 1024} KiB of ${kind}`,
          path: `/oauth/${route}`,
          init: {
            method: "POST",
            body,
            headers: {
              "content-type": "application/x-www-form-urlencoded",
              "content-length": String(body.length),
              origin: "https://app.example"
            }
          }
        }
      })
    )
  )

const headerNames = [
  "accept",
  "authorization",
  "content-type",
  "cookie",
  "dpop",
  "forwarded",
  "idempotency-key",
  "if-none-match",
  "last-event-id",
  "origin",
  "user-agent",
  "x-forwarded-for"
]
const headerUnits = ["a", ",", "a.", ";", "=", " \t a", "%", "\u00e9", "a=\"", "Bearer "]
const headedRoutes = [
  ["GET", "/api/auth/session"],
  ["POST", "/api/auth/bootstrap"],
  ["POST", "/oauth/token"],
  ["GET", "/api/runs/x/events"],
  ["POST", "/api/runs"],
  ["PUT", "/streams/x"],
  ["GET", "/pair"]
] as const

/** Makes requests to a few endpoints of which one header has about `part` of the largest size, from 0 to 1. */
export const largeHeaders = (part: number): ReadonlyArray<LargeRequest> =>
  headedRoutes.flatMap(([method, path]) => {
    const body = method === "GET" ? {} : { body: "{}" }
    const of = (name: string, headers: Readonly<Record<string, string>>) => ({
      name: `${method} ${path} with ${name}`,
      path,
      init: { method, headers, ...body }
    })
    const repeated = (unit: string, size: number) => unit.repeat(part * size / unit.length)
    return [
      ...headerNames.flatMap((name) =>
        headerUnits.map((unit) =>
          of(`${name} of ${JSON.stringify(unit)}`, { [name]: `x${repeated(unit, headerSize)}x` })
        )
      ),
      of("many proxies and a long host", {
        "x-forwarded-for": `1.2.3.4${repeated(",1", headerSize / 2)}`,
        "x-forwarded-host": repeated("a", headerSize / 2)
      })
    ]
  })
