/**
 * Builds the reference backend: Sallyport on SQLite or PostgreSQL, with a demonstration run.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as AccessFeed from "@sallyport/core/access/AccessFeed"
import * as AuthorizationServer from "@sallyport/core/access/AuthorizationServer"
import * as AuthPolicy from "@sallyport/core/access/AuthPolicy"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as ClientDocuments from "@sallyport/core/access/ClientDocuments"
import * as ConnectionEnd from "@sallyport/core/access/ConnectionEnd"
import * as ConnectClientStore from "@sallyport/core/connect/ConnectClientStore"
import * as DeviceAuthorization from "@sallyport/core/connect/DeviceAuthorization"
import * as DpopProof from "@sallyport/core/access/DpopProof"
import * as OrgMembership from "@sallyport/core/credentials/OrgMembership"
import * as ReplayRepository from "@sallyport/core/access/ReplayRepository"
import * as ServiceOptions from "@sallyport/core/ServiceOptions"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as CredentialHandlers from "@sallyport/http/CredentialHandlers"
import * as EventStream from "@sallyport/http/EventStream"
import * as IdentityProviders from "@sallyport/http/IdentityProviders"
import * as Sallyport from "@sallyport/http/Sallyport"
import * as Shutdown from "@sallyport/http/Shutdown"
import * as TrustedProxies from "@sallyport/http/TrustedProxies"
import * as ConnectWebhook from "@sallyport/node/ConnectWebhook"
import * as NodeDigest from "@sallyport/node/NodeDigest"
import * as NodeMac from "@sallyport/node/NodeMac"
import * as NodeWriter from "@sallyport/node/NodeWriter"
import * as NodeProofSignature from "@sallyport/node/NodeProofSignature"
import * as PublicHttp from "@sallyport/node/PublicHttp"
import type * as PgDatabase from "@sallyport/pg/PgDatabase"
import * as EarlyRequests from "@sallyport/node/EarlyRequests"
import * as IdleConnections from "@sallyport/node/IdleConnections"
import * as WebSockets from "@sallyport/node/WebSockets"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import type { IpNetwork } from "effect/net/IpNetwork"
import * as Schema from "effect/Schema"
import { createServer } from "node:http"
import * as BackendCredentials from "./BackendCredentials.ts"
import * as ConnectRoutes from "./ConnectRoutes.ts"
import * as CountingRun from "./CountingRun.ts"
import * as Persistence from "./Persistence.ts"
import * as StateDirectory from "./StateDirectory.ts"

/**
 * Configures a backend.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  readonly host: string
  /** The port to listen on; 0 lets the system choose one. */
  readonly port: number
  readonly stateDirectory: string
  /** A PostgreSQL database that other nodes share. Default: an SQLite file in the state directory. */
  readonly database?: PgDatabase.Options | undefined
  readonly policy?: AuthPolicy.Kind | undefined
  /** What people call the server. */
  readonly name?: string | undefined
  /** The colour of the pages. */
  readonly accent?: Sallyport.Accent | undefined
  /** The address under which clients reach the server. DPoP proofs must name it. */
  readonly publicUrl?: URL | undefined
  /** Whether programs, such as MCP clients, can sign in by a person's consent. Default false. */
  readonly authorizationServer?: boolean | undefined
  /** Who is told, signed, of each client and device that waits for a decision; none by default. */
  readonly webhook?: ConnectWebhook.Options | undefined
  /** The issuer whose ID tokens let people in, and which of its people under which name. Default none. */
  readonly identities?: {
    readonly issuer: string
    readonly audience: string
    /** The subjects here, by those of the issuer. */
    readonly subjects: Readonly<Record<string, string>>
  } | undefined
  /** The proxies whose `X-Forwarded` headers are trusted; none by default. */
  readonly trustedProxies?: ReadonlyArray<IpNetwork> | undefined
  /**
   * How long an idle connection stays open for the next request. Default 75 seconds: balancers keep one for 60 mostly, and
   * one that the server closes first costs them a request.
   */
  readonly keepAliveTimeout?: Duration.Duration | undefined
  /** How long a client may take to send the head of a request. Default 20 seconds. */
  readonly headersTimeout?: Duration.Duration | undefined
  /**
   * How long a client may take to send a whole request, after which it is answered 408, or its connection closed. Default 1
   * minute. Answers may take as long as they do.
   */
  readonly requestTimeout?: Duration.Duration | undefined
  /**
   * After which time a connection is cut on which nothing moves. Streams of events move at each heartbeat, so that this is
   * one whose client reads nothing, or is gone without a word. Longer than a heartbeat and any long-poll. Default 2 minutes.
   */
  readonly stalledTimeout?: Duration.Duration | undefined
}

/** The services, with the options that stand in variables: docs/mounting.md lists them. */
const layerServices = Layer.mergeAll(
  BootstrapCredentialService.layerConfig,
  SessionCredentialService.layerConfig,
  Layer.provideMerge(DeviceAuthorization.layerConfig, ConnectClientStore.layerConfig),
  ConnectClientStore.layerSweeper(),
  Layer.provide(DpopProof.layerConfig, NodeProofSignature.layer),
  // The backend has one owner, and no organisations.
  BackendCredentials.layer(OrgMembership.layerNone),
  AccessFeed.layerSweeperConfig,
  ReplayRepository.layerSweeper(),
  BootstrapCredentialService.layerSweeper(),
  Layer.provide(SessionCredentialService.layerSweeper(), SessionCredentialService.layerConfig),
  Layer.merge(RunEventLog.layerReaper(), RunEventLog.layerSweeper()).pipe(Layer.provideMerge(RunEventLog.layerConfig))
)

/** Lets programs sign in by consent: those whose documents are at public addresses, and those that variables name. */
const layerAuthorization = Layer.merge(
  Layer.provide(AuthorizationServer.layerConfig, Layer.provide(ClientDocuments.layer, PublicHttp.layer)),
  AuthorizationServer.layerSweeper()
)

/** Lets in the people of an issuer that are named, without what would let them let in others. */
const layerIdentities = ({ audience, issuer, subjects }: NonNullable<Options["identities"]>) =>
  IdentityProviders.layerWith({
    issuers: [{ issuer, audiences: [audience] }],
    admit: (identity) =>
      Object.hasOwn(subjects, identity.subject)
        ? Effect.succeed({ subject: subjects[identity.subject] ?? "" })
        : Effect.fail(new IdentityProviders.IdentityNotAdmitted({ problem: `${identity.subject} is not named` }))
  }).pipe(Layer.provide(PublicHttp.layerWith({ loopback: issuer.startsWith("http:") })))

/**
 * Reports options that cannot work, while the layer is built.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidBackendOptions extends Schema.TaggedError<InvalidBackendOptions>()("InvalidBackendOptions", {
  problem: Schema.String
}) {
  override get message() {
    return `The timeouts of the server cannot work: ${this.problem}`
  }
}

/** Decodes the timeouts to what `node:http` takes. It looks for connections that are over time twice within the shortest. */
const serverOptions = ({ headersTimeout, keepAliveTimeout, requestTimeout, stalledTimeout }: Options) =>
  ServiceOptions.decodeObject({ headersTimeout, keepAliveTimeout, requestTimeout, stalledTimeout }, {
    invalid: (problem) => new InvalidBackendOptions({ problem }),
    decode: Effect.fnUntraced(function*(read: ServiceOptions.Reader<Options, InvalidBackendOptions>) {
      const requestTimeout = yield* read.millis("requestTimeout", "1 minute")
      const headersTimeout = yield* read.millis("headersTimeout", `${Math.min(20_000, requestTimeout)} millis`)
      if (headersTimeout > requestTimeout) {
        return yield* read.refuse(
          "headersTimeout must be no longer than requestTimeout, which is for the head and the body"
        )
      }
      const stalledMillis = yield* read.millis("stalledTimeout", "2 minutes")
      const heartbeat = yield* EventStream.HeartbeatInterval
      if (stalledMillis <= Duration.toMillis(heartbeat)) {
        return yield* read.refuse(
          `stalledTimeout must be longer than ${Duration.format(heartbeat)}, the time between the heartbeats of ` +
            "streams, or it would cut them"
        )
      }
      return {
        stalledMillis,
        timeouts: {
          keepAliveTimeout: yield* read.millis("keepAliveTimeout", "75 seconds"),
          headersTimeout,
          requestTimeout,
          connectionsCheckingInterval: Math.ceil(headersTimeout / 2)
        }
      }
    })
  })

const layerServer = (options: Options) =>
  Layer.unwrap(Effect.map(serverOptions(options), ({ stalledMillis, timeouts }) => {
    const server = EarlyRequests.hold(IdleConnections.endWith(createServer(timeouts))).setTimeout(stalledMillis)
    // Connections that are still open after the graceful shutdown would keep the process alive.
    const cut = Layer.effectDiscard(
      Effect.acquireRelease(HttpServer.HttpServer, () => Effect.sync(() => server.closeAllConnections()))
    )
    return Layer.provideMerge(
      cut,
      NodeHttpServer.layer(() => server, {
        host: options.host,
        port: options.port,
        gracefulShutdownTimeout: "2 seconds",
        websocket: WebSockets.serverOptions
      })
    )
  }))

/**
 * Provides the backend. It listens when the layer is built, and stops when its scope closes.
 *
 * **Details**
 *
 * The services stay in the output, so that a caller can issue a pairing link, or read the address that the system
 * chose.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options) =>
  Layer.unwrap(Effect.map(
    StateDirectory.open(options.stateDirectory),
    (state) =>
      HttpRouter.serve(
        Layer.mergeAll(
          Sallyport.layer({ pages: { start: true, accent: options.accent } }),
          ConnectRoutes.layer,
          CredentialHandlers.layerRoutes(),
          TrustedProxies.layer(options.trustedProxies ?? [])
        ).pipe(
          Layer.provide([CountingRun.layer, ConnectionEnd.layerConfig])
        ),
        { disableListenLog: true, disableLogger: true }
      ).pipe(
        Shutdown.graceful,
        Layer.provide(options.authorizationServer === true ? layerAuthorization : Layer.empty),
        Layer.provide(
          options.webhook === undefined
            ? Layer.empty
            : Layer.provide(ConnectWebhook.layer(options.webhook), AccessFeed.layer)
        ),
        Layer.provide(options.identities === undefined ? Layer.empty : layerIdentities(options.identities)),
        Layer.provideMerge(layerServices),
        Layer.provideMerge(Persistence.layer({ database: options.database, state }))
      )
  )).pipe(
    // The port comes before the state, so that a second server on the same port changes nothing. The policy and the
    // webhook come before the port, so that a server that is refused for them is never reachable.
    Layer.provideMerge(layerServer(options)),
    Layer.provideMerge(
      options.webhook === undefined ? Layer.empty : Layer.effectDiscard(ConnectWebhook.check(options.webhook))
    ),
    Layer.provideMerge(
      AuthPolicy.layer({ host: options.host, kind: options.policy, name: options.name, publicUrl: options.publicUrl })
    ),
    Layer.provideMerge(Layer.mergeAll(NodeCrypto.layer, NodeDigest.layer, NodeMac.layer, NodeWriter.layer))
  )
