/**
 * Servers with streams on a real socket, on every persistence.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as AccessFeedRepository from "@sallyport/core/AccessFeedRepository"
import * as AccessScope from "@sallyport/core/AccessScope"
import * as AuthPolicy from "@sallyport/core/AuthPolicy"
import * as SecretStore from "@sallyport/core/SecretStore"
import * as SessionCredentialRepository from "@sallyport/core/SessionCredentialRepository"
import * as SessionCredentialService from "@sallyport/core/SessionCredentialService"
import * as DurableStreamRepository from "@sallyport/durable-streams/DurableStreamRepository"
import * as DurableStreams from "@sallyport/durable-streams/DurableStreams"
import * as DurableStreamsRoutes from "@sallyport/durable-streams/DurableStreamsRoutes"
import * as SqlDurableStreamRepository from "@sallyport/durable-streams/SqlDurableStreamRepository"
import * as Shutdown from "@sallyport/http/Shutdown"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Http from "node:http"
import { databases } from "../../sql/test/databases.ts"

/** Lists what streams are kept in, by name. */
export const persistences = [
  { name: "memory", layer: DurableStreamRepository.layerMemory },
  ...databases.map(({ layer, name }) => ({
    name,
    layer: Layer.orDie(Layer.provide(SqlDurableStreamRepository.layer, layer))
  }))
] as const

export type Repository = Layer.Layer<DurableStreamRepository.DurableStreamRepository>

export interface ServerOptions extends DurableStreamsRoutes.Options {
  readonly repository?: Repository | undefined
  readonly streams?: DurableStreams.DurableStreamsOptions | undefined
  readonly policy?: AuthPolicy.Kind | undefined
}

export interface Server {
  readonly url: string
  readonly streams: DurableStreams.DurableStreams["Service"]
  readonly sessions: SessionCredentialService.SessionCredentialService["Service"]
  /** Returns the token of a new bearer session. */
  readonly token: (
    subject: string,
    scopes?: ReadonlyArray<AccessScope.AccessScope>
  ) => Effect.Effect<string>
}

/** Starts a server, which stops with the scope. */
export const start = Effect.fnUntraced(function*(
  options: ServerOptions = {}
): Effect.fn.Return<Server, never, Scope.Scope> {
  const services = Layer.mergeAll(
    DurableStreams.layerWith(options.streams ?? {}).pipe(
      Layer.provide(options.repository ?? DurableStreamRepository.layerMemory)
    ),
    SessionCredentialService.layerWith({}).pipe(
      Layer.provide(SessionCredentialRepository.layerMemory),
      Layer.provide(AccessFeedRepository.layerMemory)
    ),
    AuthPolicy.layer({ host: "127.0.0.1", kind: options.policy })
  ).pipe(Layer.provideMerge(SecretStore.layerMemory), Layer.provideMerge(NodeCrypto.layer))
  const layer = HttpRouter.serve(DurableStreamsRoutes.layer(options), {
    disableLogger: true,
    disableListenLog: true
  }).pipe(
    Shutdown.graceful,
    Layer.provideMerge(services),
    Layer.provideMerge(
      NodeHttpServer.layer(() => Http.createServer(), {
        host: "127.0.0.1",
        port: 0,
        gracefulShutdownTimeout: "2 seconds"
      })
    ),
    Layer.provide(
      Layer.succeed(AccessScope.Vocabulary, [...AccessScope.builtin, ...DurableStreamsRoutes.scopes])
    )
  )
  const context = yield* Effect.orDie(Layer.build(layer))
  const { address } = Context.get(context, HttpServer.HttpServer)
  const sessions = Context.get(context, SessionCredentialService.SessionCredentialService)
  return {
    url: `http://127.0.0.1:${"port" in address ? address.port : 0}`,
    streams: Context.get(context, DurableStreams.DurableStreams),
    sessions,
    token: (subject, scopes = DurableStreamsRoutes.scopes) =>
      Effect.orDie(Effect.map(
        sessions.issue({ subject, scopes, method: "bearer-access-token" }),
        ({ token }) => Redacted.value(token)
      ))
  }
})
