/**
 * Answers what environments and clients ask of a relay. The account is the subject of the session; a client's session is
 * bound to its key, and speaks for that key alone.
 */
import { LinkProof, RelayApi, typ } from "@sallyport/contract/ConnectProtocol"
import { CurrentSession } from "@sallyport/core/CurrentSession"
import { RelayEnvironmentRepository } from "@sallyport/core/RelayEnvironmentRepository"
import { SessionCredentialService } from "@sallyport/core/SessionCredentialService"
import { Stopping } from "@sallyport/core/Stopping"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as Option from "effect/Option"
import { type ConnectorError, EnvironmentConnector } from "./EnvironmentConnector.ts"
import * as DecisionStream from "./internal/decisionStream.ts"
import * as Jwt from "./internal/jwt.ts"
import * as Wire from "./internal/wire.ts"

/** Who a proof of a link is for, before the two sides know each other. */
export const linkAudience = "sallyport-relay"

/** Tells whether a relay may send requests to an address: HTTPS, or this machine. */
export const isEnvironmentUrl = (text: string): boolean => {
  const url = URL.parse(text)
  if (url === null || url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "") return false
  return url.protocol === "https:" ||
    (url.protocol === "http:" && ["127.0.0.1", "[::1]", "localhost"].includes(url.hostname))
}

/** Provides the handlers of a relay. */
export const layer = HttpApiBuilder.group(
  RelayApi,
  "relay",
  Effect.fn(function*(handlers) {
    const environments = yield* RelayEnvironmentRepository
    const connector = yield* EnvironmentConnector
    const sessions = yield* SessionCredentialService
    const stopping = yield* Stopping
    const wire = yield* Wire.make
    const storeFailed = () => wire.unavailable({ message: "The relay's store cannot be reached at the moment" })

    const find = Effect.fnUntraced(function*(id: string) {
      const session = yield* CurrentSession
      const found = yield* environments.find({ id, account: session.subject })
      if (Option.isNone(found)) return yield* wire.notFound({ message: `You have no environment ${id} at this relay` })
      return found.value
    })
    const currentClient = Effect.gen(function*() {
      const session = yield* CurrentSession
      if (session.proofKeyThumbprint === null) {
        return yield* wire.invalidRequest({ message: "Sign in with a DPoP proof, so that the client has a key" })
      }
      return { account: session.subject, proofKeyThumbprint: session.proofKeyThumbprint }
    })
    const connectorFailed = (error: ConnectorError) => wire.unavailable(error)
    const unavailable = ({ message }: { readonly message: string }) =>
      Effect.fail<DecisionStream.Failure>({ code: "unavailable", message, retryable: true })
    const sessionEnded: DecisionStream.Failure = {
      code: "session_ended",
      message: "Your session at the relay has ended; sign in again to go on",
      retryable: false
    }

    return handlers.handleAll({
      link: Effect.fn(
        function*({ payload }) {
          const session = yield* CurrentSession
          const { environmentId, key, proof, url } = payload
          if (!isEnvironmentUrl(url)) {
            return yield* wire.invalidRequest({ message: "The address of an environment must begin with https://" })
          }
          const claims = yield* Jwt.verify(proof, {
            key,
            typ: typ.link,
            issuer: environmentId,
            audience: linkAudience,
            claims: LinkProof
          })
          if (claims.url !== url) return yield* new Jwt.JwtRefused({ problem: "another address" })
          const linked = yield* environments.link({
            id: environmentId,
            account: session.subject,
            url,
            keyX: key.x,
            keyId: key.kid,
            linkedAtMillis: yield* Clock.currentTimeMillis
          })
          if (!linked) {
            return yield* wire.notFound({ message: `You have no environment ${environmentId} at this relay` })
          }
          return { relayId: connector.relayId, keys: [connector.publicKey], account: session.subject }
        },
        Effect.catchTags({
          JwtRefused: (error: Jwt.JwtRefused) => wire.invalidRequest(error),
          AccessRepositoryError: storeFailed
        })
      ),
      environments: Effect.fn(function*() {
        const session = yield* CurrentSession
        const rows = yield* environments.list({ account: session.subject, limit: 1_000 })
        return {
          environments: rows.map((row) => ({ environmentId: row.id, url: row.url, linkedAt: row.linkedAtMillis }))
        }
      }, Effect.catchTag("AccessRepositoryError", storeFailed)),
      unlink: Effect.fn(function*({ payload }) {
        const session = yield* CurrentSession
        if (!(yield* environments.unlink({ id: payload.environmentId, account: session.subject }))) {
          return yield* wire.notFound({ message: `You have no environment ${payload.environmentId} at this relay` })
        }
      }, Effect.catchTag("AccessRepositoryError", storeFailed)),
      connect: Effect.fn(
        function*({ payload }) {
          const client = yield* currentClient
          const environment = yield* find(payload.environmentId)
          const answer = yield* connector.mint(environment, {
            ...client,
            label: payload.label ?? null,
            deviceType: payload.deviceType ?? "unknown"
          })
          return { environmentUrl: environment.url, answer }
        },
        Effect.catchTags({ AccessRepositoryError: storeFailed, ConnectorError: connectorFailed })
      ),
      wait: Effect.fn(
        function*({ payload }) {
          const client = yield* currentClient
          const environment = yield* find(payload.environmentId)
          const { approvalStatus } = yield* connector.wait(environment, {
            ...client,
            requestedAtMillis: payload.requestedAt,
            waitSeconds: payload.waitSeconds
          })
          return { approvalStatus }
        },
        Effect.catchTags({ AccessRepositoryError: storeFailed, ConnectorError: connectorFailed })
      ),
      decisions: Effect.fn(
        function*({ query }) {
          const session = yield* CurrentSession
          const client = yield* currentClient
          const environment = yield* find(query.environmentId)
          const { waitSeconds } = DecisionStream
          return DecisionStream.respond({
            ask: connector.wait(environment, { ...client, requestedAtMillis: query.requestedAt, waitSeconds }).pipe(
              Effect.map(({ approvalStatus }) => approvalStatus),
              Effect.catch(unavailable)
            ),
            until: sessions.awaitEnd(session).pipe(
              Effect.catch(unavailable),
              Effect.andThen(Effect.fail(sessionEnded)),
              Effect.raceFirst(stopping)
            )
          })
        },
        Effect.catchTags({ AccessRepositoryError: storeFailed })
      )
    })
  })
)
