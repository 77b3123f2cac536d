/**
 * Answers an environment's relay: mints a credential for a client that may connect, says that another has to wait, and
 * waits with it.
 *
 * A mint request is verified, then taken to the mode and the client, and only then are its `jti` and `nonce` spent: a
 * failure of ours before that leaves the request good for another try. If the store fails between the two, another try is
 * refused as replayed, and the client asks with a new request. A request that turns out to have been spent has its grant
 * revoked, whose code no caller was told.
 */
import type { HealthProof, MintProof, RelayKeyProof, WaitProof } from "@sallyport/contract/ConnectProtocol"
import {
  ConnectEnvironmentApi,
  ConnectLinkApi,
  HealthRequest,
  type MintAnswer,
  MintRequest,
  RelayKeyRequest,
  typ,
  WaitRequest
} from "@sallyport/contract/ConnectProtocol"
import type * as WireError from "@sallyport/contract/WireError"
import type { RepositoryError } from "@sallyport/core/RepositoryError"
import * as AccessScope from "@sallyport/core/access/AccessScope"
import { BootstrapCredentialService, makeGrants } from "@sallyport/core/access/BootstrapCredentialService"
import { type ConnectClientError, ConnectClientStore, grantedBy } from "@sallyport/core/connect/ConnectClientStore"
import { ReplayRepository } from "@sallyport/core/access/ReplayRepository"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import { Stopping } from "@sallyport/core/Stopping"
import * as Clock from "effect/Clock"
import * as Digest from "effect/crypto/Digest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type * as Schema from "effect/Schema"
import * as EnvironmentLink from "./EnvironmentLink.ts"
import * as Identity from "./Identity.ts"
import { type Options, type Settings, settings } from "./internal/environmentOptions.ts"
import * as Jwt from "./internal/jwt.ts"
import * as Seldom from "./internal/seldom.ts"
import * as Wire from "./internal/wire.ts"

export { InvalidEnvironmentOptions, type Options } from "./internal/environmentOptions.ts"

const encoder = new TextEncoder()

/** How long a minted credential can be redeemed. */
const credentialLifetimeMillis = 60_000

type Proof =
  | typeof MintProof.Type
  | typeof WaitProof.Type
  | typeof HealthProof.Type
  | typeof RelayKeyProof.Type
type Claims<P> = P extends unknown ? Omit<P, "iss" | "aud" | "iat" | "exp"> : never

const provide = <E>(read: Effect.Effect<Settings, E>) =>
  HttpApiBuilder.group(
    ConnectEnvironmentApi,
    "environment",
    Effect.fn(function*(handlers) {
      const { scopes: asked, subject } = yield* read
      const clients = yield* ConnectClientStore
      const bootstrap = yield* BootstrapCredentialService
      const replays = yield* ReplayRepository
      const withSecrets = Effect.provideService(SecretStore.SecretStore, yield* SecretStore.SecretStore)
      const digest = yield* Digest.Digest
      const scopes = asked ?? AccessScope.missing(AccessScope.widening, yield* AccessScope.Vocabulary)
      const makeGrant = yield* makeGrants
      const logRefusal = Seldom.make("Refused a request in the name of the relay", Effect.logInfo)
      const stopping = yield* Stopping

      /** Verifies a request of the relay that the environment is linked to, and returns how to answer it. */
      const open = Effect.fnUntraced(function*<A extends { readonly jti: string; readonly nonce: string }, E>(
        request: string,
        kind: string,
        claims: Schema.Codec<A, E>
      ) {
        const linked = yield* withSecrets(EnvironmentLink.get)
        if (Option.isNone(linked)) return yield* Wire.notFound({ message: "This environment is linked to no relay" })
        const link = linked.value
        const nowMillis = yield* Clock.currentTimeMillis
        const found = Option.flatMap(Jwt.keyIdOf(request), (kid) => EnvironmentLink.findRelayKey(link, kid, nowMillis))
        if (Option.isNone(found)) return yield* new Jwt.JwtRefused({ problem: "unknown key" })
        const key = found.value
        const verified = yield* Jwt.verify(request, {
          key,
          typ: kind,
          issuer: link.relayId,
          audience: link.environmentId,
          claims
        })
        yield* withSecrets(EnvironmentLink.endOlderRelayKeys(link, key.kid, nowMillis))
        const identity = yield* withSecrets(Identity.load(Identity.environmentKeyName))
        const answer = <P extends Claims<Proof>>(kind: string, fields: P) =>
          Effect.map(
            identity.sign(kind, { ...fields, iss: link.environmentId, aud: link.relayId }),
            (proof) => ({ ...fields, proof })
          )
        const ofRequest = { nonce: verified.nonce, requestId: verified.jti }
        return { link, relayKey: key, claims: verified, answer, ofRequest }
      })

      /** Spends what is good once, and tells whether it was. */
      const spend = Effect.fnUntraced(function*(claims: { readonly jti: string; readonly nonce: string }) {
        const nowMillis = yield* Clock.currentTimeMillis
        for (const [kind, value] of [["connect-jti", claims.jti], ["connect-nonce", claims.nonce]] as const) {
          const spent = yield* digest.digestHex(Digest.sha256, encoder.encode(value))
          if (
            !(yield* replays.spend({ kind, digest: spent, expiresAtMillis: nowMillis + Jwt.spentMillis }, nowMillis))
          ) {
            return false
          }
        }
        return true
      })

      const mint = Effect.fnUntraced(function*(request: string) {
        const { answer, claims, link, ofRequest } = yield* open(request, typ.mintRequest, MintRequest)
        const fields = { ...ofRequest, account: claims.sub, clientProofKeyThumbprint: claims.cnf.jkt }
        // An environment is one account's; the relay is not to have any other caller ask for it.
        if (claims.sub !== link.account) return yield* new Jwt.JwtRefused({ problem: "wrong account" })
        const grant = yield* makeGrant({
          scopes,
          subject,
          label: claims.label,
          proofKeyThumbprint: claims.cnf.jkt,
          createdBy: grantedBy,
          lifetimeMillis: credentialLifetimeMillis
        })
        const outcome = yield* clients.request({
          proofKeyThumbprint: claims.cnf.jkt,
          account: claims.sub,
          label: claims.label ?? undefined,
          deviceType: claims.deviceType,
          grant: grant.row
        })
        const revokeGrant = outcome._tag === "Granted"
          ? Effect.ignore(bootstrap.revoke(grant.row.id, "operator"))
          : Effect.void
        const fresh = yield* Effect.tapError(spend(claims), () => revokeGrant)
        if (!fresh) {
          yield* revokeGrant
          return yield* new Jwt.JwtRefused({ problem: "replayed" })
        }
        switch (outcome._tag) {
          case "Granted": {
            const code = Redacted.value(grant.code)
            const answered = yield* answer(typ.mintAnswer, {
              ...fields,
              status: "credential" as const,
              credentialDigest: yield* digest.digestHex(Digest.sha256, encoder.encode(code)),
              credentialExpiresAt: grant.row.expiresAtMillis
            })
            return { ...answered, credential: grant.code } satisfies MintAnswer
          }
          case "Pending":
            return yield* answer(typ.mintAnswer, {
              ...fields,
              status: "pending_approval" as const,
              approvalStatus: "pending" as const,
              requestedAt: outcome.client.requestedAt.epochMilliseconds,
              requestExpiresAt: outcome.client.pendingUntil?.epochMilliseconds ??
                outcome.client.requestedAt.epochMilliseconds
            })
          case "Refused":
            return yield* answer(typ.mintAnswer, {
              ...fields,
              status: "refused" as const,
              approvalStatus: outcome.status,
              askAgainAt: outcome.askAgainAtMillis
            })
          case "TooMany":
            return yield* answer(typ.mintAnswer, {
              ...fields,
              status: "refused" as const,
              approvalStatus: "too_many" as const,
              askAgainAt: null
            })
        }
      })

      const wait = Effect.fnUntraced(function*(request: string) {
        const { answer, claims, link, ofRequest } = yield* open(request, typ.waitRequest, WaitRequest)
        if (claims.sub !== link.account) return yield* new Jwt.JwtRefused({ problem: "wrong account" })
        if (!(yield* spend(claims))) return yield* new Jwt.JwtRefused({ problem: "replayed" })
        const decision = clients.awaitDecision({
          proofKeyThumbprint: claims.cnf.jkt,
          account: claims.sub,
          requestedAtMillis: claims.requestedAt,
          timeout: Duration.seconds(claims.waitSeconds)
        })
        // A server that stops knows of no decision yet.
        const stopped = Effect.as(Effect.andThen(stopping, Wire.lastAnswer), "pending" as const)
        const approvalStatus = yield* Effect.raceFirst(decision, stopped)
        return yield* answer(typ.waitAnswer, {
          ...ofRequest,
          account: claims.sub,
          clientProofKeyThumbprint: claims.cnf.jkt,
          status: "decision" as const,
          approvalStatus,
          requestedAt: claims.requestedAt
        })
      })

      const health = Effect.fnUntraced(function*(request: string) {
        const { answer, claims, ofRequest } = yield* open(request, typ.healthRequest, HealthRequest)
        if (!(yield* spend(claims))) return yield* new Jwt.JwtRefused({ problem: "replayed" })
        return yield* answer(typ.healthAnswer, { ...ofRequest, status: "healthy" as const })
      })

      const relayKey = Effect.fnUntraced(function*(request: string) {
        const { answer, claims, link, ofRequest, relayKey } = yield* open(request, typ.relayKeyRequest, RelayKeyRequest)
        yield* Jwt.checkName(claims.key)
        if (!(yield* spend(claims))) return yield* new Jwt.JwtRefused({ problem: "replayed" })
        const added = { relayId: link.relayId, by: relayKey.kid, key: claims.key }
        if (!(yield* withSecrets(EnvironmentLink.addRelayKey(added)))) {
          return yield* new Jwt.JwtRefused({ problem: "told of by a key that was replaced" })
        }
        return yield* answer(typ.relayKeyAnswer, {
          ...ofRequest,
          status: "key_known" as const,
          keyId: claims.key.kid
        })
      })

      const settle = <A, R>(
        effect: Effect.Effect<
          A,
          | Jwt.JwtRefused
          | ConnectClientError
          | SecretStore.SecretStoreError
          | RepositoryError
          | WireError.NotFound,
          R
        >
      ): Effect.Effect<A, WireError.Unauthorized | WireError.Unavailable | WireError.NotFound, R> =>
        Effect.catchTags(effect, {
          JwtRefused: (error) =>
            Effect.andThen(
              logRefusal({ problem: error.problem }),
              Wire.unauthorized(error)
            ),
          ConnectClientError: (error) => Wire.unavailable(error),
          SecretStoreError: (error) => Wire.unavailable(error),
          RepositoryError: () => Wire.unavailable({ message: "The request cannot be taken at the moment" })
        })

      return handlers.handleAll({
        mint: ({ payload }) => settle(mint(payload.request)),
        wait: ({ payload }) => settle(wait(payload.request)),
        health: ({ payload }) => settle(health(payload.request)),
        relayKey: ({ payload }) => settle(relayKey(payload.request))
      })
    })
  )

/**
 * Provides the handlers of an environment with given options.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: Options) => provide(settings.fromObject(options))

/**
 * Provides the handlers with the options of the configuration, in variables that begin with `SALLYPORT_ENVIRONMENT_`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = provide(settings.fromConfig)

/**
 * Provides the handlers with the defaults of {@link Options}.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = provide(settings.defaults)

/**
 * Provides the handler that tells an owner which relay the environment is linked to.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerLink = HttpApiBuilder.group(
  ConnectLinkApi,
  "connectLink",
  Effect.fn(function*(handlers) {
    const secrets = yield* SecretStore.SecretStore
    return handlers.handle("link", () =>
      EnvironmentLink.get.pipe(
        Effect.map((link) => ({ link: Option.getOrNull(Option.map(link, EnvironmentLink.view)) })),
        Effect.catchTag("SecretStoreError", Wire.unavailable),
        Effect.provideService(SecretStore.SecretStore, secrets)
      ))
  })
)
