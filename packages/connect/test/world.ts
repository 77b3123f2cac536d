/**
 * A relay and environments that are linked to it, each with a store of its own, talking over HTTP.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as EnvironmentConnector from "@sallyport/connect/EnvironmentConnector"
import * as EnvironmentHandlers from "@sallyport/connect/EnvironmentHandlers"
import * as Linking from "@sallyport/connect/Linking"
import * as RelayHandlers from "@sallyport/connect/RelayHandlers"
import { layerAuthentication } from "@sallyport/contract/Authentication"
import { ConnectEnvironmentApi, RelayApi } from "@sallyport/contract/ConnectProtocol"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as ConnectClientStore from "@sallyport/core/connect/ConnectClientStore"
import { CurrentSession } from "@sallyport/core/access/CurrentSession"
import * as RelayEnvironmentRepository from "@sallyport/connect/RelayEnvironmentRepository"
import * as RelayProofRepository from "@sallyport/connect/RelayProofRepository"
import * as Repositories from "@sallyport/core/Repositories"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import { Device, endlessSessionId, Session, SessionId } from "@sallyport/core/access/Session"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as Authentication from "@sallyport/http/Authentication"
import * as Shutdown from "@sallyport/http/Shutdown"
import * as SqlRelayEnvironmentRepository from "@sallyport/connect/SqlRelayEnvironmentRepository"
import * as SqlRelayProofRepository from "@sallyport/connect/SqlRelayProofRepository"
import * as SqlRepositories from "@sallyport/core/SqlRepositories"
import * as SqlSecretStore from "@sallyport/core/secrets/SqlSecretStore"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as Http from "node:http"

/** What a test calls a client's key by one letter for. */
export const key = (name: string) => name.repeat(43)

const layerStore = {
  memory: Layer.mergeAll(
    Repositories.layerMemory,
    RelayEnvironmentRepository.layerMemory,
    RelayProofRepository.layerMemory,
    SecretStore.layerMemory
  ),
  SQLite: Layer.mergeAll(
    SqlRepositories.layer,
    SqlRelayEnvironmentRepository.layer,
    SqlRelayProofRepository.layer,
    SqlSecretStore.layer
  ).pipe(Layer.provide(SqliteClient.layer({ filename: ":memory:" })))
}
/** Names the stores that tests run on. */
export type Store = keyof typeof layerStore
/** @see {@link Store} */
export const stores: ReadonlyArray<Store> = ["memory", "SQLite"]

const layerServer = Layer.fresh(NodeHttpServer.layer(() => Http.createServer(), { host: "127.0.0.1", port: 0 }))

/** Believes whatever a request says of its session: signing in is tested elsewhere. */
export const authentication = layerAuthentication(
  Effect.succeed((httpEffect) =>
    Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ headers }) =>
      Effect.provideService(
        httpEffect,
        CurrentSession,
        new Session({
          // A session of its own would need a row: what ends a wait is tested where sessions are.
          id: headers["x-session"] === undefined ? endlessSessionId : SessionId.make(headers["x-session"]),
          subject: (headers.authorization ?? "").replace("Bearer ", ""),
          method: "bearer-access-token",
          scopes: [],
          scopeRequest: null,
          proofKeyThumbprint: headers["x-key"] ?? null,
          device: new Device({ label: null, kind: "browser", userAgent: null, address: null }),
          letInBy: { actor: "operator", sessionId: null, linkId: null },
          client: null,
          lifetime: null,
          createdAt: DateTime.makeUnsafe(0),
          lastSeenAt: DateTime.makeUnsafe(0),
          expiresAt: DateTime.makeUnsafe(0),
          absoluteExpiresAt: null
        })
      ))
  )
)

const quiet = { disableListenLog: true, disableLogger: true }

/** What a test does in the middle of a step of a relay, once. */
export interface Meanwhile {
  afterLink?: Effect.Effect<unknown> | undefined
}

const layerMeanwhile = (meanwhile: Meanwhile) =>
  Layer.effect(
    RelayEnvironmentRepository.RelayEnvironmentRepository,
    Effect.map(RelayEnvironmentRepository.RelayEnvironmentRepository, (environments) =>
      RelayEnvironmentRepository.RelayEnvironmentRepository.of({
        ...environments,
        link: (row, options) =>
          Effect.tap(environments.link(row, options), () => {
            const { afterLink } = meanwhile
            meanwhile.afterLink = undefined
            return afterLink ?? Effect.void
          })
      }))
  )

/** Lists the options of a relay of a test, which calls environments on this machine unless it is told not to. */
export type RelayOptions = RelayHandlers.Options & Pick<EnvironmentConnector.Options, "loopbackEnvironments">

const layerRelay = (
  store: Store,
  meanwhile: Meanwhile,
  logged: Array<string>,
  { loopbackEnvironments = true, ...options }: RelayOptions
) =>
  HttpRouter.serve(
    HttpApiBuilder.layer(RelayApi).pipe(
      Layer.provide(RelayHandlers.layerWith({ proofsPerAccount: 80, ...options })),
      Layer.provide(layerMeanwhile(meanwhile)),
      Layer.provide([authentication, Authentication.layerRequestErrors()])
    ),
    quiet
  ).pipe(
    Shutdown.graceful,
    Layer.provideMerge(Layer.merge(
      EnvironmentConnector.layerWith({
        timeout: "1 minute",
        loopbackEnvironments
      }),
      SessionCredentialService.layer
    )),
    Layer.provideMerge(Layer.fresh(layerStore[store])),
    Layer.provideMerge(Layer.merge(NodeCrypto.layer, layerServer)),
    Layer.provideMerge(FetchHttpClient.layer),
    Layer.provide(Logger.layer([Logger.map(Logger.formatJson, (line) => void logged.push(line))]))
  )

/** An environment on a real socket. */
export const layerEnvironment = (store: Store, options: EnvironmentHandlers.Options) =>
  HttpRouter.serve(
    HttpApiBuilder.layer(ConnectEnvironmentApi).pipe(
      Layer.provide(EnvironmentHandlers.layerWith(options)),
      Layer.provide(Authentication.layerRequestErrors())
    ),
    quiet
  ).pipe(
    Shutdown.graceful,
    Layer.provideMerge(Layer.merge(ConnectClientStore.layer, BootstrapCredentialService.layer)),
    Layer.provideMerge(Layer.fresh(layerStore[store])),
    Layer.provideMerge(Layer.merge(NodeCrypto.layer, layerServer)),
    Layer.provideMerge(FetchHttpClient.layer),
    Layer.provide(Logger.layer([]))
  )

/** What a server answered; the body is taken to have the form that a test expects. */
export interface Answer<A> {
  readonly status: number
  readonly body: A
}

/** Starts a relay, which stops with the scope. */
export const startRelay = Effect.fnUntraced(function*(store: Store, options: RelayOptions = {}) {
  const meanwhile: Meanwhile = {}
  const logged: Array<string> = []
  const services = yield* Layer.build(layerRelay(store, meanwhile, logged, options))
  const run = Effect.provideContext(services)
  const url = HttpServer.formatAddress((yield* run(HttpServer.HttpServer)).address)
  /** Calls the relay for an account, or for one of its clients. */
  const call = <A = Readonly<Record<string, unknown>>>(path: string, request?: {
    readonly account?: string
    readonly key?: string
    readonly session?: string | undefined
    readonly payload?: unknown
  }): Effect.Effect<Answer<A>> =>
    Effect.promise(async (signal) => {
      const response = await fetch(url + path, {
        signal,
        headers: {
          authorization: `Bearer ${request?.account ?? "ada"}`,
          "content-type": "application/json",
          ...(request?.key === undefined ? {} : { "x-key": key(request.key) }),
          ...(request?.session === undefined ? {} : { "x-session": request.session })
        },
        ...(request?.payload === undefined ? {} : { method: "POST", body: JSON.stringify(request.payload) })
      })
      const text = await response.text()
      return { status: response.status, body: JSON.parse(text === "" ? "null" : text) }
    })
  return { url, run, call, meanwhile, logged }
})
/** A relay of {@link startRelay}. */
export type Relay = Effect.Success<ReturnType<typeof startRelay>>

/** Starts an environment, which stops with the scope, and links it to a relay. */
export const startEnvironment = Effect.fnUntraced(function*(
  store: Store,
  relay: Relay,
  account = "ada",
  options: EnvironmentHandlers.Options = {}
) {
  const services = yield* Layer.build(layerEnvironment(store, options))
  const run = Effect.provideContext(services)
  const url = HttpServer.formatAddress((yield* run(HttpServer.HttpServer)).address)
  const linkWith = (options: { readonly newKey: boolean }) =>
    run(Linking.link({ relayUrl: relay.url, token: Redacted.make(account), url, ...options }))
  const link = linkWith({ newKey: false })
  const { environmentId } = yield* link
  /** Asks for a client to be let in. */
  const connect = (client: string) =>
    Effect.map(
      relay.call<{ readonly answer: Readonly<Record<string, unknown>> }>("/api/relay/connect", {
        account,
        key: client,
        payload: { environmentId }
      }),
      ({ body, status }) => ({ status, answer: body.answer ?? {}, body })
    )
  const decide = (client: string, decision: "approved" | "rejected") =>
    run(
      ConnectClientStore.ConnectClientStore.use((clients) =>
        clients.decide({ client: key(client), decision, by: "operator" })
      )
    )
  return { id: environmentId, url, run, link, linkWith, connect, decide }
})
/** An environment of {@link startEnvironment}. */
export type Environment = Effect.Success<ReturnType<typeof startEnvironment>>
