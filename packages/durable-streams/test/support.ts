/**
 * Servers with streams on a real socket, on every persistence.
 */
import * as Access from "@sallyport/core/access/AccessRepository"
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as AccessScope from "@sallyport/core/access/AccessScope"
import * as NodeWriter from "@sallyport/node/NodeWriter"
import * as AuthPolicy from "@sallyport/core/access/AuthPolicy"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as DurableStreamRepository from "@sallyport/durable-streams/DurableStreamRepository"
import * as DurableStreams from "@sallyport/durable-streams/DurableStreams"
import * as DurableStreamsRoutes from "@sallyport/durable-streams/DurableStreamsRoutes"
import * as SqlDurableStreamRepository from "@sallyport/durable-streams/SqlDurableStreamRepository"
import * as SqlStreamSubscriptionRepository from "@sallyport/durable-streams/SqlStreamSubscriptionRepository"
import * as StreamSubscriptionRepository from "@sallyport/durable-streams/StreamSubscriptionRepository"
import * as StreamSubscriptions from "@sallyport/durable-streams/StreamSubscriptions"
import * as StreamSubscriptionsRoutes from "@sallyport/durable-streams/StreamSubscriptionsRoutes"
import * as Shutdown from "@sallyport/http/Shutdown"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Http from "node:http"
import { databases, withTables } from "../../../test-support/databases.ts"

export type Repositories = Layer.Layer<
  DurableStreamRepository.DurableStreamRepository | StreamSubscriptionRepository.StreamSubscriptionRepository
>

export const memory: Repositories = Layer.merge(
  DurableStreamRepository.layerMemory,
  StreamSubscriptionRepository.layerMemory
)

const tables = Layer.merge(SqlDurableStreamRepository.layer, SqlStreamSubscriptionRepository.layer)

/** Keeps streams and subscriptions in a database. */
export const sql = (database: typeof databases[number]["layer"]): Repositories =>
  Layer.orDie(withTables(database, tables))

/** Lists what streams are kept in, by name. */
export const persistences: ReadonlyArray<{ readonly name: string; readonly layer: Repositories }> = [
  { name: "memory", layer: memory },
  ...databases.map(({ layer, name }) => ({ name, layer: sql(layer) }))
]

export interface ServerOptions extends DurableStreamsRoutes.Options {
  readonly repositories?: Repositories | undefined
  readonly subscriptions?: StreamSubscriptions.Options | undefined
  readonly streams?: DurableStreams.Options | undefined
  readonly policy?: AuthPolicy.Kind | undefined
  readonly publicUrl?: string | undefined
  readonly gracefulShutdownTimeout?: Duration.Input | undefined
  /** Whether events are written to the connection by what appends them; by default they are. */
  readonly directly?: boolean | undefined
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
  { directly, gracefulShutdownTimeout, policy, publicUrl, repositories, streams, subscriptions, ...routes }:
    ServerOptions = {}
): Effect.fn.Return<Server, never, Scope.Scope> {
  const services = Layer.mergeAll(
    StreamSubscriptions.layerWith({ allowLoopback: true, ...subscriptions }).pipe(
      Layer.provideMerge(DurableStreams.layerWith(streams ?? {})),
      Layer.provide(repositories ?? memory)
    ),
    SessionCredentialService.layerWith({}).pipe(
      Layer.provide(Access.layerMemory),
      Layer.provide(Access.layerMemory)
    ),
    AuthPolicy.layer({ host: "127.0.0.1", kind: policy, publicUrl })
  ).pipe(Layer.provideMerge(SecretStore.layerMemory), Layer.provideMerge(NodeCrypto.layer))
  const layer = HttpRouter.serve(
    Layer.merge(DurableStreamsRoutes.layer(routes), StreamSubscriptionsRoutes.layer(routes)),
    {
      disableLogger: true,
      disableListenLog: true
    }
  ).pipe(
    Shutdown.graceful,
    Layer.provideMerge(services),
    Layer.provideMerge(
      // The protocol's suite asserts every byte of a large body one by one. A busy machine takes more than six seconds for that,
      // in which client and server, which share a process, stand still. With Node's 5 seconds the server then ends the
      // connection that the client's next request is on.
      NodeHttpServer.layer(() => Http.createServer({ keepAliveTimeout: 60_000 }), {
        host: "127.0.0.1",
        port: 0,
        gracefulShutdownTimeout: gracefulShutdownTimeout ?? "2 seconds"
      })
    ),
    Layer.provide([
      Layer.succeed(AccessScope.Vocabulary, [...AccessScope.builtin, ...DurableStreamsRoutes.scopes]),
      directly === false ? Layer.empty : NodeWriter.layer
    ])
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
