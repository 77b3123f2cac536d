/**
 * Grants sessions to clients by consent: the authorization code grant (RFC 6749 section 4.1) with PKCE (RFC 7636), without
 * its HTTP.
 *
 * A person who is signed in consents to what a client asks for. The client exchanges the code that it gets for the tokens of
 * a session, which descends from the one that consented, stands in the list of sessions, and ends there.
 */
import * as Clock from "effect/Clock"
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Digest from "effect/crypto/Digest"
import * as Mac from "effect/crypto/Mac"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as SecretStore from "../secrets/SecretStore.ts"
import * as Sweeper from "../Sweeper.ts"
import { AccessRepository } from "./AccessRepository.ts"
import * as AccessScope from "./AccessScope.ts"
import { CodeRefusal, codeRefusal, maxOpenCodes } from "./AuthorizationCodeRepository.ts"
import { AuthPolicy } from "./AuthPolicy.ts"
import { anyKey } from "./BootstrapCredentialRepository.ts"
import { ClientDocuments } from "./ClientDocuments.ts"
import {
  type InvalidAuthorizationServerOptions,
  type Options,
  type Resource,
  type Settings,
  settings,
  settingsFromConfig
} from "./internal/authorizationOptions.ts"
import { storedMacKey } from "./internal/storedMacKey.ts"
import { isRedirectUri, matchesRedirectUri, type OAuthClient } from "./OAuthClient.ts"
import type { Device, Session } from "./Session.ts"
import {
  type IssuedSession,
  type KeyProof,
  SessionCredentialError,
  SessionCredentialService
} from "./SessionCredentialService.ts"

export { InvalidAuthorizationServerOptions, type Options, type Resource } from "./internal/authorizationOptions.ts"

// -----------------------------------------------------------------------------
// Errors
// -----------------------------------------------------------------------------

/**
 * Reports a client that is not known here, or whose document cannot be used.
 *
 * @category errors
 * @since 0.1.0
 */
export class UnknownClient extends Schema.TaggedError<UnknownClient>()("UnknownClient", { problem: Schema.String }) {
  override get message() {
    return `This program cannot sign in here: ${this.problem}`
  }
}

/**
 * Reports a code that gives no session. `problem` is for the log: a caller learns that the grant is not valid.
 *
 * @category errors
 * @since 0.1.0
 */
export class CodeRefused extends Schema.TaggedError<CodeRefused>()("CodeRefused", {
  problem: CodeRefusal
}) {
  override get message() {
    return this.problem === "resource-mismatch"
      ? "The code was not issued for this resource; leave resource out"
      : "The code is not valid, or not any more, or not for this request; ask for consent again"
  }
}

/**
 * Reports a session that may not consent: it has ended, was granted to a client itself, may not let others in, has as many
 * codes open as it may, or has let in as many sessions.
 *
 * @category errors
 * @since 0.1.0
 */
export class ConsentRefused extends Schema.TaggedError<ConsentRefused>()("ConsentRefused", {
  problem: Schema.Literals(["issuer-ended", "not-allowed", "too-many-open", "too-many-let-in"])
}) {
  override get message() {
    switch (this.problem) {
      case "issuer-ended":
        return "Your session has ended; sign in again"
      case "not-allowed":
        return "Your session may not let programs in; sign in with a pairing code that grants access:write"
      case "too-many-open":
        return `At most ${maxOpenCodes} programs can wait for their first sign-in; try again in a minute`
      case "too-many-let-in":
        return "Your session has let in as many others as it may; end one of them first"
    }
  }
}

/**
 * Reports that the store cannot be reached: nothing can be granted until it is back.
 *
 * @category errors
 * @since 0.1.0
 */
export class AuthorizationStoreUnavailable
  extends Schema.TaggedError<AuthorizationStoreUnavailable>()("AuthorizationStoreUnavailable", {
    cause: Schema.Defect()
  })
{
  override get message() {
    return "Grants cannot be stored or looked up at the moment; try again later"
  }
}

/**
 * Fails what the authorization server does.
 *
 * @category errors
 * @since 0.1.0
 */
export class AuthorizationServerError
  extends Schema.TaggedError<AuthorizationServerError>()("AuthorizationServerError", {
    reason: Schema.Union([UnknownClient, CodeRefused, ConsentRefused, AuthorizationStoreUnavailable])
  })
{
  override get message(): string {
    return this.reason.message
  }
}

const fail = (reason: AuthorizationServerError["reason"]) => new AuthorizationServerError({ reason })
const unavailable = (cause: unknown) => fail(new AuthorizationStoreUnavailable({ cause }))

// -----------------------------------------------------------------------------
// Service
// -----------------------------------------------------------------------------

/**
 * Describes what a person consents to.
 *
 * @category models
 * @since 0.1.0
 */
export interface Consent {
  readonly client: OAuthClient
  readonly redirectUri: string
  /** The `S256` challenge. */
  readonly codeChallenge: string
  /** See `SessionClient`. */
  readonly resource: string | null
  /** What is granted of what the client asks for. What the session lacks is left out. */
  readonly scopes: ReadonlyArray<AccessScope.AccessScope>
  /** The key that the client named (`dpop_jkt`). */
  readonly proofKeyThumbprint: string | null
  /** The session that consents. */
  readonly by: Session
}

/**
 * Describes a request to exchange a code. The `proof` is asked for only if the code is one that was issued here, and spent
 * before the code is.
 *
 * @category models
 * @since 0.1.0
 */
export interface Exchange<E = never, R = never> {
  readonly code: Redacted.Redacted
  readonly clientId: string
  readonly redirectUri: string
  readonly verifier: Redacted.Redacted
  /** The resource that is asked for; undefined stands for the one that was consented to. */
  readonly resource: string | null | undefined
  readonly device?: Partial<typeof Device.Type> | undefined
  readonly proof?: Effect.Effect<KeyProof<E>, E, R> | undefined
}

/**
 * Provides what clients and people do at an authorization server. A host that provides it beside `Sallyport.layer` has one.
 *
 * @category services
 * @since 0.1.0
 */
export class AuthorizationServer extends Context.Service<AuthorizationServer, {
  /** The path below which the endpoints are mounted, or an empty text. */
  readonly prefix: string
  /** The resources beside the API. */
  readonly resources: ReadonlyArray<Resource>
  /** What a client can be granted of the API. */
  readonly scopes: ReadonlyArray<AccessScope.AccessScope>
  /** Whether clients describe themselves by documents. */
  readonly takesDocuments: boolean
  /** Tells whether an id can be that of a client: it is registered, or the address of a document. */
  readonly isClientId: (id: string) => boolean
  /** Returns a client, as `ClientDocuments` reads it if it is not registered. Fails with {@link UnknownClient}. */
  readonly client: (
    id: string,
    by?: { readonly signedIn: boolean }
  ) => Effect.Effect<OAuthClient, AuthorizationServerError>
  /** Tells whether a client may be redirected to an address. */
  readonly mayRedirect: (client: OAuthClient, redirectUri: string) => boolean
  /** Signs what a form carries, so that it can be told to be one that was shown. */
  readonly sealForm: (text: string) => Effect.Effect<string>
  /** Tells whether a form carries what was signed. */
  readonly isSealed: (text: string, seal: string) => Effect.Effect<boolean>
  /** Stores a consent and returns its code, which is shown here once. Fails with {@link ConsentRefused}. */
  readonly consent: (consent: Consent) => Effect.Effect<Redacted.Redacted, AuthorizationServerError>
  /**
   * Exchanges a code for a session, which lasts no longer than the one that consented: its lifetime and its absolute end are
   * cut to those. Fails with {@link CodeRefused}; a code that was used before ends the session that it gave.
   */
  readonly exchange: <E = never, R = never>(
    exchange: Exchange<E, R>
  ) => Effect.Effect<IssuedSession, AuthorizationServerError | E, R>
}>()("@sallyport/core/access/AuthorizationServer") {}

/**
 * Names what the service is built on. `ClientDocuments` is looked for beside it.
 *
 * @category models
 * @since 0.1.0
 */
export type Requirements =
  | AccessRepository
  | AuthPolicy
  | SessionCredentialService
  | SecretStore.SecretStore
  | SecureRandom.SecureRandom
  | Digest.Digest
  | Mac.Mac

const encoder = new TextEncoder()

/** What a verifier is written with (RFC 7636 section 4.1). */
const verifierForm = /^[A-Za-z0-9._~-]{43,128}$/

const build = Effect.fnUntraced(function*(
  { clients, codeMillis, maxLetIn, prefix, redirectSchemes, resources, scopes }: Settings
): Effect.fn.Return<AuthorizationServer["Service"], SecretStore.SecretStoreError, Requirements> {
  const { codes: repository, sessions: sessionRows } = yield* AccessRepository
  const sessions = yield* SessionCredentialService
  const random = yield* SecureRandom.SecureRandom
  const digest = yield* Digest.Digest
  const mac = yield* Mac.Mac
  const documents = yield* Effect.serviceOption(ClientDocuments)
  const formKey = yield* storedMacKey("authorization-form-key", "open consent forms must be opened again")
  const digestOf = (code: Redacted.Redacted) =>
    digest.digestHex(Digest.sha256, encoder.encode(`authorization-code:${Redacted.value(code)}`))

  const refuse = Effect.fnUntraced(function*(problem: CodeRefusal): Effect.fn.Return<never, AuthorizationServerError> {
    yield* Effect.annotateLogs(Effect.logInfo("Refused an authorization code"), { problem })
    return yield* fail(new CodeRefused({ problem }))
  })

  return AuthorizationServer.of({
    prefix,
    resources,
    scopes,
    takesDocuments: Option.isSome(documents),
    isClientId: (id) =>
      clients.some((client) => client.id === id) || (Option.isSome(documents) && documents.value.isAddress(id)),
    client: Effect.fn("AuthorizationServer.client")(function*(id, by) {
      const registered = clients.find((client) => client.id === id)
      if (registered !== undefined) return registered
      if (Option.isNone(documents)) return yield* fail(new UnknownClient({ problem: "it is not registered" }))
      return yield* Effect.mapError(
        documents.value.read(id, by),
        ({ message }) => fail(new UnknownClient({ problem: /^https?:/.test(id) ? message : "it is not registered" }))
      )
    }),
    mayRedirect: (client, redirectUri) =>
      isRedirectUri(redirectUri, redirectSchemes) &&
      client.redirectUris.some((registered) => matchesRedirectUri(registered, redirectUri)),
    // The key is of our own making and of the right length, so signing with it cannot fail.
    sealForm: (text) => Effect.map(Effect.orDie(mac.sign(formKey, encoder.encode(text))), Base64Url.encode),
    isSealed: (text, seal) =>
      Result.match(Base64Url.decode(seal), {
        onFailure: () => Effect.succeed(false),
        onSuccess: (tag) => Effect.orDie(mac.verify(formKey, tag, encoder.encode(text)))
      }),
    consent: Effect.fn("AuthorizationServer.consent")(function*({ by, client, ...granted }) {
      if (by.method !== "browser-session-cookie" || by.client !== null || !by.scopes.includes("access:write")) {
        return yield* fail(new ConsentRefused({ problem: "not-allowed" }))
      }
      const code = Redacted.make(Base64Url.encode(yield* random.randomBytes(32)), { label: "authorization-code" })
      const nowMillis = yield* Clock.currentTimeMillis
      const outcome = yield* Effect.mapError(
        repository.insert(
          {
            ...granted,
            proofKeyThumbprint: granted.proofKeyThumbprint ?? (client.alwaysProves === true ? anyKey : null),
            codeDigest: yield* digestOf(code),
            clientId: client.id,
            subject: by.subject,
            scopes: granted.scopes.filter((scope) => by.scopes.includes(scope)),
            label: client.name,
            issuedBy: by.id,
            createdAtMillis: nowMillis,
            expiresAtMillis: nowMillis + codeMillis,
            sessionId: null
          },
          { actor: by.subject, nowMillis },
          maxLetIn
        ),
        unavailable
      )
      return outcome === "inserted" ? code : yield* fail(new ConsentRefused({ problem: outcome }))
    }),
    exchange: Effect.fn("AuthorizationServer.exchange")(function*<E, R>(request: Exchange<E, R>) {
      const verifier = Redacted.value(request.verifier)
      if (Redacted.value(request.code).length > 128) return yield* refuse("unknown")
      const presented = {
        codeDigest: yield* digestOf(request.code),
        clientId: request.clientId,
        redirectUri: request.redirectUri,
        // A malformed verifier has no challenge.
        codeChallenge: verifierForm.test(verifier)
          ? Base64Url.encode(yield* digest.digest(Digest.sha256, encoder.encode(verifier)))
          : "",
        resource: request.resource
      }
      const row = Option.getOrUndefined(
        yield* Effect.mapError(repository.findByDigest(presented.codeDigest), unavailable)
      )
      if (row === undefined) return yield* refuse("unknown")
      const proof = request.proof === undefined ? undefined : yield* request.proof
      const proofKeyThumbprint = proof?.proofKeyThumbprint
      const problem = codeRefusal(row, {
        ...presented,
        proofKeyThumbprint: proofKeyThumbprint ?? null,
        nowMillis: yield* Clock.currentTimeMillis
      })
      if (problem !== undefined && problem !== "used") return yield* refuse(problem)
      // No session lets another in for longer than itself. If this one has ended, the step below refuses the code.
      const issuer = Option.getOrUndefined(
        yield* Effect.mapError(sessionRows.findById(row.issuedBy), unavailable)
      )
      const lifetimeMillis = issuer?.lifetimeMillis ?? null
      const endsAtMillis = issuer?.absoluteExpiresAtMillis ?? null
      return yield* sessions.issueBy(
        {
          subject: row.subject,
          scopes: row.scopes,
          method: proofKeyThumbprint === undefined ? "bearer-access-token" : "dpop-access-token",
          proofKeyThumbprint,
          client: { id: row.clientId, resource: row.resource },
          device: { kind: "program", ...request.device },
          label: row.label ?? undefined,
          lifetime: lifetimeMillis === null
            ? undefined
            : Duration.min(Duration.millis(lifetimeMillis), sessions.lifetime),
          notAfter: endsAtMillis === null ? undefined : DateTime.makeUnsafe(endsAtMillis),
          link: { linkId: null, issuedBy: row.issuedBy }
        },
        Effect.fnUntraced(function*(session, change) {
          if (proof !== undefined) yield* proof.spend
          const outcome = yield* Effect.mapError(repository.redeem({ ...presented, session }, change), unavailable)
          switch (outcome._tag) {
            case "Redeemed":
              return session
            case "Refused":
              return yield* refuse(outcome.reason)
            case "Reused":
              yield* Effect.logWarning("An authorization code was used again, so its session was revoked").pipe(
                Effect.annotateLogs({ session: outcome.sessionId, subject: row.subject })
              )
              // It has ended by now; this process is told at once.
              yield* Effect.ignore(sessions.revoke(outcome.sessionId, "operator"))
              return yield* refuse("used")
          }
        })
      ).pipe(
        Effect.catchIf(
          (error) => error instanceof SessionCredentialError,
          (error) => Effect.fail(unavailable(error))
        )
      )
    })
  })
})

/**
 * Creates the service; {@link layerWith} is what most hosts want.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options): Effect.Effect<
  AuthorizationServer["Service"],
  InvalidAuthorizationServerOptions | SecretStore.SecretStoreError,
  Requirements
> =>
  Effect.gen(function*() {
    return yield* build(yield* settings(options, yield* AuthPolicy, yield* AccessScope.Vocabulary))
  })

/**
 * Provides the service with given options. Fails if they cannot work, or if the key of the forms cannot be read or made.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: Options): Layer.Layer<
  AuthorizationServer,
  InvalidAuthorizationServerOptions | SecretStore.SecretStoreError,
  Requirements
> => Layer.effect(AuthorizationServer, make(options))

/**
 * Provides the service with its defaults: the API is the one resource, and only documents name clients.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<
  AuthorizationServer,
  InvalidAuthorizationServerOptions | SecretStore.SecretStoreError,
  Requirements
> = layerWith({})

/**
 * Provides the service with the options of the configuration, in variables that begin with `SALLYPORT_AUTHORIZATION_`. The
 * API is the one resource: others stand in code, beside the routes that they name.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig: Layer.Layer<
  AuthorizationServer,
  Config.ConfigError | InvalidAuthorizationServerOptions | SecretStore.SecretStoreError,
  Requirements
> = Layer.effect(
  AuthorizationServer,
  Effect.gen(function*() {
    return yield* build(yield* settingsFromConfig(yield* AuthPolicy, yield* AccessScope.Vocabulary))
  })
)

/**
 * Deletes authorization codes that have expired, again and again, in batches. Several processes may do this at once.
 *
 * `retention` is how long a code is kept after its end, by default 1 day: for so long a second use ends the session that the
 * first one gave. `interval` defaults to 10 minutes, `batchSize` to 500 codes. A failure is logged, and tried again.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerSweeper = (
  options?: Sweeper.RetentionOptions
): Layer.Layer<never, Sweeper.InvalidSweeperOptions, AccessRepository> =>
  Sweeper.layer({
    name: "expired authorization codes",
    options,
    defaults: { interval: "10 minutes", batchSize: 500, retention: "1 day" },
    sweep: Effect.map(AccessRepository, ({ codes }) => (limit, _nowMillis, endedBeforeMillis) =>
      codes.sweep({ endedBeforeMillis, limit }))
  })
