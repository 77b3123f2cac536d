/**
 * Starts a relay and an environment on separate sockets, which a test can stop, start again and cut off.
 */
import * as IdleConnections from "@sallyport/node/IdleConnections"
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as EnvironmentConnector from "@sallyport/connect/EnvironmentConnector"
import * as EnvironmentHandlers from "@sallyport/connect/EnvironmentHandlers"
import * as Linking from "@sallyport/connect/Linking"
import * as RelayHandlers from "@sallyport/connect/RelayHandlers"
import { ConnectEnvironmentApi, RelayApi } from "@sallyport/contract/ConnectProtocol"
import { SallyportApi } from "@sallyport/contract/SallyportApi"
import { SessionGroup } from "@sallyport/contract/SessionGroup"
import * as AccessScope from "@sallyport/core/access/AccessScope"
import * as AuthPolicy from "@sallyport/core/access/AuthPolicy"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as ConnectClientStore from "@sallyport/core/connect/ConnectClientStore"
import * as DpopProof from "@sallyport/core/access/DpopProof"
import * as RelayEnvironmentRepository from "@sallyport/connect/RelayEnvironmentRepository"
import * as RelayProofRepository from "@sallyport/connect/RelayProofRepository"
import * as Repositories from "@sallyport/core/Repositories"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as Authentication from "@sallyport/http/Authentication"
import * as RunProgram from "@sallyport/http/RunProgram"
import * as Sallyport from "@sallyport/http/Sallyport"
import * as SessionHandlers from "@sallyport/http/SessionHandlers"
import * as Shutdown from "@sallyport/http/Shutdown"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import type * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as Http from "node:http"
import { counting, type Fate, type Network, network } from "./support.ts"

const account = "ada"

export interface WorldOptions {
  readonly clients?: ConnectClientStore.Options | undefined
  readonly relay?: RelayHandlers.Options | undefined
  /** How sessions last at the relay and at the environment. */
  readonly sessions?: SessionCredentialService.Options | undefined
  /** What the environment requires of proofs. */
  readonly dpop?: DpopProof.Options | undefined
  /** What becomes of connections to the environment. */
  readonly fate?: ((nth: number) => Fate) | undefined
  /** How long the relay waits for what it is sending when it stops. */
  readonly gracefulShutdownTimeout?: Duration.Input | undefined
  /** What both serve beside their own routes. */
  readonly routes?: Layer.Layer<never, never, HttpRouter.HttpRouter> | undefined
}

export interface World {
  readonly environmentId: string
  /** The way to the relay. */
  readonly relay: Network
  /** What the relay was asked, as `POST /oauth/token`. */
  readonly requests: ReadonlyArray<string>
  /** The way to the environment. */
  readonly environment: Network
  readonly environmentUrl: string
  readonly clients: ConnectClientStore.ConnectClientStore["Service"]
  readonly sessions: SessionCredentialService.SessionCredentialService["Service"]
  /** Returns a fresh code of the relay. */
  readonly code: Effect.Effect<Redacted.Redacted>
  /** Returns a fresh pairing code of the environment. */
  readonly environmentCode: Effect.Effect<Redacted.Redacted>
  /** Ends what the account has at the relay. */
  readonly revokeRelaySessions: Effect.Effect<void>
  /** Stops the relay, which keeps its state; then starts it again, on another port that {@link relay} leads to. */
  readonly stopRelay: Effect.Effect<void>
  readonly startRelay: Effect.Effect<void>
}

const server = (gracefulShutdownTimeout: Duration.Input = "1 second") =>
  Layer.fresh(
    NodeHttpServer.layer(() => IdleConnections.endWith(Http.createServer()), {
      host: "127.0.0.1",
      port: 0,
      gracefulShutdownTimeout
    })
  )

const portOf = (context: Context.Context<HttpServer.HttpServer>): number => {
  const { address } = Context.get(context, HttpServer.HttpServer)
  return "port" in address ? address.port : 0
}

const quiet = { disableLogger: true, disableListenLog: true } as const

const SignInApi = HttpApi.make(SallyportApi.identifier).add(SessionGroup)

/** Starts both, linked. They stop with the scope. */
export const start = Effect.fnUntraced(function*(options: WorldOptions = {}): Effect.fn.Return<
  World,
  never,
  Scope.Scope
> {
  const scope = yield* Scope.Scope
  const routes = options.routes ?? Layer.empty
  const silent = Logger.layer([])

  const way = yield* network(0, options.fate)
  const environmentServices = Layer.mergeAll(
    ConnectClientStore.layerWith(options.clients ?? {}),
    SessionCredentialService.layerWith(options.sessions ?? {}),
    BootstrapCredentialService.layer,
    RunEventLog.layer,
    DpopProof.layerWith(options.dpop ?? {}),
    AuthPolicy.layer({ host: "127.0.0.1", publicUrl: new URL(way.url) })
  ).pipe(
    Layer.provideMerge(Layer.fresh(Layer.merge(Repositories.layerMemory, SecretStore.layerMemory))),
    Layer.provideMerge(NodeCrypto.layer)
  )
  const environment = yield* Effect.orDie(Layer.build(
    HttpRouter.serve(
      Layer.mergeAll(
        Layer.provide(Sallyport.layer(), RunProgram.layer(counting)),
        HttpApiBuilder.layer(ConnectEnvironmentApi).pipe(
          Layer.provide(EnvironmentHandlers.layer),
          Layer.provide(Authentication.layerRequestErrors())
        ),
        routes
      ),
      quiet
    ).pipe(
      Shutdown.graceful,
      Layer.provideMerge(environmentServices),
      Layer.provideMerge(server()),
      Layer.provide(silent)
    )
  ))
  way.lead(portOf(environment))

  const relay = yield* network(0)
  const relayServices = yield* Effect.orDie(Layer.build(
    Layer.mergeAll(
      SessionCredentialService.layerWith(options.sessions ?? {}),
      BootstrapCredentialService.layer,
      DpopProof.layer,
      EnvironmentConnector.layerWith({ loopbackEnvironments: true }),
      AuthPolicy.layer({ host: "127.0.0.1", publicUrl: new URL(relay.url) })
    ).pipe(
      Layer.provideMerge(Layer.fresh(Layer.mergeAll(
        Repositories.layerMemory,
        RelayEnvironmentRepository.layerMemory,
        RelayProofRepository.layerMemory,
        SecretStore.layerMemory
      ))),
      Layer.provideMerge(NodeCrypto.layer),
      Layer.provide(silent)
    )
  ))
  const requests: Array<string> = []
  const notes = HttpRouter.middleware(
    (answer) =>
      Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ method, url }) => {
        requests.push(`${method} ${url.replace(/\?.*/, "")}`)
        return answer
      }),
    { global: true }
  )
  let running: Scope.Closeable | undefined
  const startRelay = Effect.gen(function*() {
    running = yield* Scope.fork(scope)
    const context = yield* Effect.orDie(
      Layer.buildWithScope(
        HttpRouter.serve(
          Layer.mergeAll(
            Layer.provide(HttpApiBuilder.layer(SignInApi), SessionHandlers.layer),
            Layer.provide(
              HttpApiBuilder.layer(RelayApi),
              RelayHandlers.layerWith(options.relay ?? {})
            )
          ).pipe(
            Layer.provide([Authentication.layer, Authentication.layerRequestErrors()]),
            Layer.merge(Layer.merge(notes, routes))
          ),
          quiet
        ).pipe(
          Shutdown.graceful,
          Layer.provideMerge(server(options.gracefulShutdownTimeout)),
          Layer.provide([Layer.succeedContext(relayServices), silent])
        ),
        running
      )
    )
    relay.lead(portOf(context))
  })
  yield* startRelay

  const codeFor = (scopes: ReadonlyArray<AccessScope.AccessScope>) =>
    Context.get(relayServices, BootstrapCredentialService.BootstrapCredentialService).issue({
      issuedBy: "operator",
      subject: account,
      scopes,
      kind: "machine"
    }).pipe(Effect.map(({ code }) => code), Effect.orDie)
  const code = codeFor([])
  const { environmentId } = yield* Effect.gen(function*() {
    const token = yield* Linking.exchangeCode({ relayUrl: relay.url, code: yield* codeFor(["connect:manage"]) })
    return yield* Linking.link({ relayUrl: relay.url, token, url: way.url })
  }).pipe(Effect.provide(environment), Effect.provide(FetchHttpClient.layer), Effect.orDie)

  return {
    environmentId,
    relay,
    requests,
    environment: way,
    environmentUrl: way.url,
    clients: Context.get(environment, ConnectClientStore.ConnectClientStore),
    sessions: Context.get(environment, SessionCredentialService.SessionCredentialService),
    environmentCode: Context.get(environment, BootstrapCredentialService.BootstrapCredentialService).issue({
      issuedBy: "operator",
      scopes: AccessScope.builtin
    }).pipe(Effect.map(({ code }) => code), Effect.orDie),
    revokeRelaySessions: Context.get(relayServices, SessionCredentialService.SessionCredentialService)
      .revokeBySubject(account, "operator").pipe(Effect.asVoid, Effect.orDie),
    code,
    stopRelay: Effect.suspend(() => running === undefined ? Effect.void : Scope.close(running, Exit.void)),
    startRelay
  }
})
