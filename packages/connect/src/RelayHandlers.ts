/**
 * Answers what environments and clients ask of a relay. The account is the subject of the session; a client's session is
 * bound to its key, and speaks for that key alone.
 */
import {
  type EnvironmentHealth,
  KeyPossessionProof,
  LinkProof,
  type MintAnswer,
  RelayApi,
  RotateKeyProof,
  typ,
  UnlinkProof,
  type WaitAnswer
} from "@sallyport/contract/ConnectProtocol"
import { AuthPolicy } from "@sallyport/core/access/AuthPolicy"
import * as ConnectionEnd from "@sallyport/core/access/ConnectionEnd"
import { CurrentSession } from "@sallyport/core/access/CurrentSession"
import { believedKeys, RelayEnvironmentRepository, type RelayEnvironmentRow } from "./RelayEnvironmentRepository.ts"
import { RelayProofRepository } from "./RelayProofRepository.ts"
import { SessionCredentialService } from "@sallyport/core/access/SessionCredentialService"
import { ReplayRepository } from "@sallyport/core/access/ReplayRepository"
import * as PublicHttp from "@sallyport/node/PublicHttp"
import * as Clock from "effect/Clock"
import * as Digest from "effect/crypto/Digest"
import type * as WireError from "@sallyport/contract/WireError"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type * as Schema from "effect/Schema"
import { EnvironmentConnector, type EnvironmentConnectorError } from "./EnvironmentConnector.ts"
import { overlapMillis } from "./EnvironmentLink.ts"
import * as DecisionStream from "./internal/decisionStream.ts"
import * as Jwt from "./internal/jwt.ts"
import * as OpenRequests from "./internal/openRequests.ts"
import { type Options, type Settings, settings } from "./internal/relayOptions.ts"
import * as Seldom from "./internal/seldom.ts"
import * as Wire from "./internal/wire.ts"

export { InvalidRelayHandlersOptions, type Options } from "./internal/relayOptions.ts"

const encoder = new TextEncoder()

/** Finds the token that a request presents. */
const presented = /^(?:Bearer|DPoP) +(\S+) *$/i

/** How many proofs a page of an account's list has. */
const proofsPerPage = 100

/** Names the keys on both sides that a row says to use, so that a change of them is seen. */
const keysOf = (row: RelayEnvironmentRow): string =>
  [row.relayKeyId, row.keyId, row.nextKeyId, row.previousKeyId].join(" ")

const provide = <E>(found: Effect.Effect<Settings, E>) =>
  HttpApiBuilder.group(
    RelayApi,
    "relay",
    Effect.fn(function*(handlers) {
      const environments = yield* RelayEnvironmentRepository
      const proofs = yield* RelayProofRepository
      const connector = yield* EnvironmentConnector
      const replays = yield* ReplayRepository
      const digest = yield* Digest.Digest
      const awaitEnd = yield* ConnectionEnd.make
      const {
        callsPerAccount,
        callsPerClient,
        environmentsPerAccount,
        proofsPerAccount,
        waitsPerAccount,
        waitsPerClient
      } = yield* found
      const publicUrl = Option.getOrUndefined(yield* Effect.serviceOption(AuthPolicy))?.publicUrl
      /** Lists where an environment that links reaches this relay: a host that names no public URL believes the request. */
      const originsOf = ({ headers }: { readonly headers: Readonly<Record<string, string | undefined>> }) =>
        publicUrl === undefined
          ? ["https", "http"].map((scheme) => URL.parse(`${scheme}://${headers.host}`)?.origin ?? "")
          : [publicUrl.origin]
      const sessions = yield* SessionCredentialService
      const openWait = OpenRequests.make({ perClient: waitsPerClient, perAccount: waitsPerAccount })
      const openCall = OpenRequests.make({ perClient: callsPerClient, perAccount: callsPerAccount })
      const logRefusal = Seldom.make("Refused what was said in the name of an environment", Effect.logInfo)
      const storeFailed = () => Wire.unavailable({ message: "The relay's store cannot be reached at the moment" })

      const noEnvironment = (id: string) => Wire.notFound({ message: `You have no environment ${id} at this relay` })
      const find = Effect.fnUntraced(function*(id: string) {
        const session = yield* CurrentSession
        const found = yield* environments.find({ id, account: session.subject })
        return Option.isSome(found) ? found.value : yield* noEnvironment(id)
      })
      const currentClient = Effect.gen(function*() {
        const session = yield* CurrentSession
        if (session.proofKeyThumbprint === null) {
          return yield* Wire.invalidRequest({ message: "Sign in with a DPoP proof, so that the client has a key" })
        }
        return { account: session.subject, proofKeyThumbprint: session.proofKeyThumbprint }
      })
      /** Counts a call of an environment until the answer has been sent, and refuses one too many. */
      const countCall = Effect.gen(function*() {
        const { id, proofKeyThumbprint, subject } = yield* CurrentSession
        if (yield* openCall({ account: subject, proofKeyThumbprint: proofKeyThumbprint ?? id })) return
        return yield* Wire.busy({
          message: "This client, or its account, has as many requests open as it may at once; try again later"
        })
      })
      const connectorFailed = ({ reason }: EnvironmentConnectorError) => Wire.unavailable(reason)

      /** Makes the announced key of an environment, which it has used, the one that it has. */
      const adoptKey = Effect.fnUntraced(function*(id: string, keyId: string) {
        const previousUntilMillis = (yield* Clock.currentTimeMillis) + overlapMillis
        yield* environments.adoptKey({ id, keyId, previousUntilMillis })
      })

      /**
       * Asks an environment. If the answer was none because of a key, and a key was replaced since the row was read, it is
       * asked once more.
       */
      const ask = <A extends { readonly proof: string }>(
        environment: RelayEnvironmentRow,
        request: (environment: RelayEnvironmentRow) => Effect.Effect<A, EnvironmentConnectorError>
      ) =>
        request(environment).pipe(
          Effect.map((answer) => ({ answer, row: environment })),
          Effect.catchTag(
            "EnvironmentConnectorError",
            Effect.fnUntraced(function*(error) {
              if (error.reason._tag === "EnvironmentUnreachable") return yield* error
              const row = Option.getOrUndefined(yield* environments.find(environment))
              if (row === undefined || keysOf(row) === keysOf(environment)) return yield* error
              return { answer: yield* request(row), row }
            })
          ),
          Effect.tap(({ answer, row }) => {
            const keyId = Option.filter(Jwt.keyIdOf(answer.proof), (kid) => kid === row.nextKeyId)
            return Option.isSome(keyId) ? adoptKey(row.id, keyId.value) : Effect.void
          }),
          Effect.map(({ answer }) => answer)
        )

      /** Finds an environment by what it has signed with a key that it has, and returns what it says. */
      const verifyOwn = Effect.fnUntraced(function*<A, E>(
        { environmentId, proof }: { readonly environmentId: string; readonly proof: string },
        kind: string,
        claims: Schema.Codec<A, E>
      ) {
        const row = Option.getOrUndefined(yield* environments.findById(environmentId))
        if (row === undefined) {
          return yield* Wire.notFound({ message: `This relay has no environment ${environmentId}` })
        }
        const kid = Option.getOrUndefined(Jwt.keyIdOf(proof))
        // Not one that comes to an end: it is believed for what was on its way, and for nothing new.
        const key = believedKeys(row, Infinity).find((believed) => believed.kid === kid)
        if (key === undefined) return yield* new Jwt.JwtRefused({ problem: "unknown key" })
        const verified = yield* Jwt.verify(proof, {
          key,
          typ: kind,
          issuer: environmentId,
          audience: connector.relayId,
          claims
        })
        return { row, key, claims: verified }
      })

      /** Keeps an answer, which no caller is told before. That nothing was decided yet is none. */
      const record = Effect.fnUntraced(function*(
        environment: RelayEnvironmentRow,
        answer: MintAnswer | typeof WaitAnswer.Type
      ) {
        if (answer.status === "decision" && answer.approvalStatus === "pending") return
        yield* proofs.record({
          requestId: answer.requestId,
          environmentId: environment.id,
          account: environment.account,
          proofKeyThumbprint: answer.clientProofKeyThumbprint,
          status: answer.status,
          requestedAtMillis: "requestedAt" in answer ? answer.requestedAt : null,
          proof: answer.proof,
          keyId: Option.getOrElse(Jwt.keyIdOf(answer.proof), () => environment.keyId),
          receivedAtMillis: yield* Clock.currentTimeMillis
        }, { keep: proofsPerAccount })
      })

      /**
       * Finds the environment of a request that it answered to be pending: about any other it is not asked. The wait that
       * follows counts as open until the answer has been sent.
       */
      const findPending = Effect.fnUntraced(function*(request: {
        readonly environmentId: string
        readonly requestedAt: number
      }) {
        const client = { ...(yield* currentClient), requestedAtMillis: request.requestedAt }
        if (!(yield* openWait(client))) {
          return yield* Wire.busy({
            message: "This client, or its account, waits for as many decisions as it may at once; try again later"
          })
        }
        yield* sessions.connect(yield* CurrentSession)
        const environment = yield* find(request.environmentId)
        if (!(yield* proofs.hasPending({ ...client, environmentId: environment.id }))) {
          return yield* Wire.notFound(
            { message: "The relay knows of no such request of this client; connect to ask again" },
            "connect_client_not_found"
          )
        }
        return Effect.fnUntraced(function*(waitSeconds: number) {
          // A stream asks for minutes, and the link may have ended since it began.
          const row = Option.getOrUndefined(yield* environments.find(environment))
          if (row === undefined) return yield* noEnvironment(environment.id)
          const answer = yield* ask(row, (row) => connector.wait(row, { ...client, waitSeconds }))
          yield* record(row, answer)
          return answer.approvalStatus
        })
      })
      const proofRefused = (error: Jwt.JwtRefused) =>
        Effect.andThen(
          logRefusal({ problem: error.problem }),
          Wire.unauthorized(error)
        )
      const unavailable = ({ message }: { readonly message: string }) =>
        Effect.fail<DecisionStream.Failure>({ code: "unavailable", message, retryable: true })
      const sessionEnded: DecisionStream.Failure = {
        code: "session_ended",
        message: "Your session at the relay has ended; sign in again to go on",
        retryable: false
      }

      return handlers.handleAll({
        link: Effect.fn(
          function*({ payload, request }) {
            const session = yield* CurrentSession
            const { environmentId, key, proof, url } = payload
            yield* connector.checkAddress(url)
            if (/[?#]/.test(url)) {
              return yield* new PublicHttp.AddressRefused({ host: url, problem: "it has a query or a fragment" })
            }
            const claims = yield* Jwt.verify(proof, {
              key,
              typ: typ.link,
              issuer: environmentId,
              audience: originsOf(request),
              claims: LinkProof
            })
            if (claims.url !== url) return yield* new Jwt.JwtRefused({ problem: "another address" })
            const token = presented.exec(request.headers.authorization ?? "")?.[1] ?? ""
            if (claims.ath !== (yield* Jwt.tokenDigest(Redacted.make(token)))) {
              return yield* new Jwt.JwtRefused({ problem: "another token" })
            }
            yield* Jwt.checkName(key)
            let relayKey = yield* connector.newestKey
            while (true) {
              const linked = yield* environments.link({
                id: environmentId,
                account: session.subject,
                url,
                keyX: key.x,
                keyId: key.kid,
                relayKeyId: relayKey.kid,
                linkedAtMillis: yield* Clock.currentTimeMillis
              }, { limit: environmentsPerAccount })
              if (!linked) {
                if (Option.isSome(yield* environments.findById(environmentId))) {
                  return yield* noEnvironment(environmentId)
                }
                return yield* Wire.invalidRequest({
                  message:
                    `You have ${environmentsPerAccount} environments at this relay already; unlink one of them first`
                })
              }
              // A rotation that began before the row was there may not have seen it.
              const newest = yield* connector.newestKey
              if (newest.kid === relayKey.kid) break
              relayKey = newest
            }
            return { relayId: connector.relayId, keys: [relayKey], account: session.subject }
          },
          Effect.catchTags({
            AddressRefused: ({ message }: PublicHttp.AddressRefused) =>
              Wire.invalidRequest({
                message: "The address of an environment must begin with https:// and be a public one, or one of this " +
                  `machine over plain HTTP if the relay sets loopbackEnvironments. ${message}`
              }),
            JwtRefused: ({ message, problem }: Jwt.JwtRefused) =>
              Wire.invalidRequest({
                message: `${message} (${problem}); link at the address that the relay gives as its own` +
                  (publicUrl === undefined ? "" : `, ${publicUrl.origin}`)
              }),
            RepositoryError: storeFailed,
            EnvironmentConnectorError: connectorFailed
          })
        ),
        environments: Effect.fn(function*() {
          const session = yield* CurrentSession
          const rows = yield* environments.list({ account: session.subject, limit: environmentsPerAccount })
          return {
            environments: rows.map((row) => ({ environmentId: row.id, url: row.url, linkedAt: row.linkedAtMillis }))
          }
        }, Effect.catchTag("RepositoryError", storeFailed)),
        unlink: Effect.fn(function*({ payload }) {
          const session = yield* CurrentSession
          if (!(yield* environments.unlink({ id: payload.environmentId, account: session.subject }))) {
            return yield* noEnvironment(payload.environmentId)
          }
        }, Effect.catchTag("RepositoryError", storeFailed)),
        leave: Effect.fn(
          function*({ payload }) {
            const { claims, row } = yield* verifyOwn(payload, typ.unlink, UnlinkProof)
            const spent = yield* digest.digestHex(Digest.sha256, encoder.encode(claims.jti))
            const nowMillis = yield* Clock.currentTimeMillis
            const spending = { kind: "connect-unlink", digest: spent, expiresAtMillis: nowMillis + Jwt.spentMillis }
            // One that was taken before must not end a link that was made since.
            if (!(yield* replays.spend(spending, nowMillis))) return yield* new Jwt.JwtRefused({ problem: "replayed" })
            yield* environments.unlink(row)
          },
          Effect.catchTags({ JwtRefused: proofRefused, RepositoryError: storeFailed })
        ),
        rotateKey: Effect.fn(
          function*({ payload }) {
            const { claims, key, row } = yield* verifyOwn(payload, typ.rotateKey, RotateKeyProof)
            const { environmentId, possession } = payload
            yield* Jwt.checkName(claims.key)
            yield* Jwt.verify(possession, {
              key: claims.key,
              typ: typ.keyPossession,
              issuer: environmentId,
              audience: connector.relayId,
              claims: KeyPossessionProof
            })
            if (key.kid === row.nextKeyId) yield* adoptKey(environmentId, key.kid)
            if (claims.key.kid !== key.kid) {
              const announced = yield* environments.announceKey({
                id: environmentId,
                presentKeyId: key.kid,
                keyX: claims.key.x,
                keyId: claims.key.kid
              })
              if (!announced) {
                return yield* Wire.unavailable({ message: "The environment's key has just changed; try again" })
              }
            }
            const after = Option.getOrElse(yield* environments.findById(environmentId), () => row)
            return { keyId: after.keyId, previousUntil: after.previousUntilMillis }
          },
          Effect.catchTags({ JwtRefused: proofRefused, RepositoryError: storeFailed })
        ),
        health: Effect.fn(
          function*({ params }) {
            const environment = yield* find(params.environmentId)
            yield* countCall
            return yield* ask(environment, connector.health).pipe(
              Effect.map((): EnvironmentHealth => ({ status: "healthy", message: null })),
              Effect.catchTag("EnvironmentConnectorError", ({ message, reason }) => {
                const found = (status: EnvironmentHealth["status"]) =>
                  Effect.succeed<EnvironmentHealth>({ status, message })
                switch (reason._tag) {
                  case "EnvironmentUnreachable":
                    return found("unreachable")
                  case "AnswerRefused":
                    return found("refused")
                  case "RelayKeyUnknown":
                    return found("link_anew")
                  case "RelayKeyUnreadable":
                    return Wire.unavailable(reason)
                }
              })
            )
          },
          Effect.catchTag("RepositoryError", storeFailed)
        ),
        proofs: Effect.fn(function*({ query }) {
          const session = yield* CurrentSession
          const [receivedAt, requestId] = query.after?.split(".") ?? []
          const rows = yield* proofs.list({
            account: session.subject,
            limit: proofsPerPage,
            after: requestId === undefined ? undefined : { receivedAtMillis: Number(receivedAt), requestId }
          })
          const last = rows.at(proofsPerPage - 1)
          return {
            proofs: rows.map((row) => ({
              requestId: row.requestId,
              environmentId: row.environmentId,
              clientProofKeyThumbprint: row.proofKeyThumbprint,
              status: row.status,
              requestedAt: row.requestedAtMillis,
              proof: row.proof,
              keyId: row.keyId,
              receivedAt: row.receivedAtMillis
            })),
            next: last === undefined ? null : `${last.receivedAtMillis}.${last.requestId}`
          }
        }, Effect.catchTag("RepositoryError", storeFailed)),
        connect: Effect.fn(
          function*({ payload }) {
            const client = yield* currentClient
            const environment = yield* find(payload.environmentId)
            yield* countCall
            const answer = yield* ask(environment, (row) =>
              connector.mint(row, {
                ...client,
                label: payload.label ?? null,
                deviceType: payload.deviceType ?? "unknown"
              }))
            yield* record(environment, answer)
            return { environmentUrl: environment.url, answer }
          },
          Effect.catchTags({ RepositoryError: storeFailed, EnvironmentConnectorError: connectorFailed })
        ),
        wait: Effect.fn(
          function*({ payload }) {
            const wait = yield* findPending(payload)
            const cut = Effect.flatMap(
              Effect.tap(awaitEnd(yield* CurrentSession), Wire.lastAnswer),
              (end): Effect.Effect<
                "pending",
                WireError.Unauthorized | WireError.Unavailable
              > => {
                switch (end._tag) {
                  case "SessionEnded":
                    return Wire.unauthorized(sessionEnded)
                  case "SessionUnknown":
                    return Wire.unavailable(end.error)
                  case "ServerStopping":
                  case "HostEnded":
                    // The client asks again, elsewhere if this relay stops.
                    return Effect.succeed("pending" as const)
                }
              }
            )
            return { approvalStatus: yield* Effect.raceFirst(wait(payload.waitSeconds), cut) }
          },
          Effect.catchTags({ RepositoryError: storeFailed, EnvironmentConnectorError: connectorFailed })
        ),
        decisions: Effect.fn(
          function*({ query }) {
            const session = yield* CurrentSession
            const wait = yield* findPending(query)
            return DecisionStream.respond({
              ask: wait(DecisionStream.waitSeconds).pipe(Effect.catch(unavailable)),
              until: Effect.flatMap(awaitEnd(session), (end): Effect.Effect<void, DecisionStream.Failure> => {
                switch (end._tag) {
                  case "SessionEnded":
                    return Effect.fail(sessionEnded)
                  case "SessionUnknown":
                    return unavailable(end.error)
                  case "ServerStopping":
                  case "HostEnded":
                    return Effect.void
                }
              })
            })
          },
          Effect.catchTags({ RepositoryError: storeFailed })
        )
      })
    })
  )

/**
 * Provides the handlers of a relay with given options. Fails if they cannot work.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: Options) => provide(settings.fromObject(options))

/**
 * Provides the handlers with the options of the configuration, in variables that begin with `SALLYPORT_RELAY_`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = provide(settings.fromConfig)

/**
 * Provides the handlers with the defaults of {@link Options}.
 *
 * **Example** (Serving a relay)
 *
 * ```ts
 * import { NodeCrypto, NodeHttpServer } from "@effect/platform-node"
 * import { EnvironmentConnector, RelayEnvironmentRepository, RelayHandlers, RelayProofRepository } from "@sallyport/connect"
 * import { ConnectProtocol } from "@sallyport/contract"
 * import { AuthPolicy, Repositories, SecretStore, SessionCredentialService } from "@sallyport/core"
 * import { Authentication } from "@sallyport/http"
 * import { Console, Effect, Layer } from "effect"
 * import { HttpRouter, HttpServer } from "effect/http"
 * import { HttpApiBuilder } from "effect/http-api"
 * import { createServer } from "node:http"
 *
 * const Routes = HttpApiBuilder.layer(ConnectProtocol.RelayApi).pipe(
 *   Layer.provide(RelayHandlers.layer),
 *   Layer.provide([Authentication.layer, Authentication.layerRequestErrors()])
 * )
 *
 * const Server = HttpRouter.serve(Routes, { disableListenLog: true, disableLogger: true }).pipe(
 *   Layer.provide([EnvironmentConnector.layer, SessionCredentialService.layer, AuthPolicy.layer({ host: "127.0.0.1" })]),
 *   Layer.provide([RelayEnvironmentRepository.layerMemory, RelayProofRepository.layerMemory]),
 *   Layer.provide([Repositories.layerMemory, SecretStore.layerMemory]),
 *   Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 })),
 *   Layer.provide(NodeCrypto.layer)
 * )
 *
 * const program = Effect.gen(function*() {
 *   const { address } = yield* HttpServer.HttpServer
 *   const answer = yield* Effect.promise(() => fetch(`${HttpServer.formatAddress(address)}/api/relay/environments`))
 *   yield* Console.log(answer.status)
 *   // => 401
 * })
 *
 * Effect.runPromise(Effect.provide(program, Server))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = provide(settings.defaults)
