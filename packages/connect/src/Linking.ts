/**
 * Links an environment to a relay, replaces its key, and ends the link again: what the environment's side sends.
 */
import { type EnvironmentHealth, RelayApi, typ } from "@sallyport/contract/ConnectProtocol"
import { bootstrapTokenType, tokenExchange } from "@sallyport/contract/SessionGroup"
import type * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import * as HttpApiClient from "effect/http-api/HttpApiClient"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientError from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as EnvironmentLink from "./EnvironmentLink.ts"
import * as Identity from "./Identity.ts"
import { bounded } from "@sallyport/core/BoundedHttp"
import * as Jwt from "./internal/jwt.ts"

/**
 * Reports that a relay did not take what the environment asked for, or was not there to take it. `problem` is a sentence.
 *
 * @category errors
 * @since 0.1.0
 */
export class LinkFailed extends Schema.TaggedError<LinkFailed>()("LinkFailed", { problem: Schema.String }) {
  override get message() {
    return this.problem
  }
}

/**
 * Reports that the environment is linked to no relay.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotLinked extends Schema.TaggedError<NotLinked>()("NotLinked", {}) {
  override get message() {
    return "This environment is linked to no relay"
  }
}

/** Speaks to a relay, for an account if there is a token of it. */
const clientOf = (relayUrl: string, token?: Redacted.Redacted) =>
  HttpApiClient.make(RelayApi, {
    baseUrl: relayUrl.replace(/(?<!\/)\/+$/, ""),
    transformClient: (client) =>
      bounded(token === undefined ? client : HttpClient.mapRequest(client, HttpClientRequest.bearerToken(token)))
  })

/** A token of another type is not used (RFC 6749 section 7.1). */
const Token = Schema.Struct({
  access_token: Schema.RedactedFromValue(Schema.String),
  token_type: Schema.String.check(Schema.isPattern(/^bearer$/i))
})

/** The refusals of a token endpoint that say something of the code, or of the relay; any other says that it is no relay. */
const CodeRefused = Schema.Struct({ error: Schema.Literals(["invalid_grant", "temporarily_unavailable"]) })

/**
 * Exchanges a one-time code of a relay for a bearer token of the account that issued it.
 *
 * @category operations
 * @since 0.1.0
 */
export const exchangeCode = Effect.fnUntraced(function*(options: {
  readonly relayUrl: string
  readonly code: Redacted.Redacted
}): Effect.fn.Return<Redacted.Redacted, LinkFailed, HttpClient.HttpClient> {
  const http = bounded(yield* HttpClient.HttpClient)
  return yield* ask(
    options.relayUrl,
    Effect.gen(function*() {
      const response = yield* http.execute(
        HttpClientRequest.bodyUrlParams(
          HttpClientRequest.post(`${options.relayUrl.replace(/(?<!\/)\/+$/, "")}/oauth/token`),
          {
            grant_type: tokenExchange,
            subject_token: Redacted.value(options.code),
            subject_token_type: bootstrapTokenType
          }
        )
      )
      const decoded = <A>(codec: Schema.Codec<A, unknown>) =>
        Effect.option(Effect.flatMap(response.json, Schema.decodeUnknownEffect(codec)))
      if (response.status === 200) {
        const token = yield* decoded(Token)
        if (Option.isSome(token)) return token.value.access_token
      } else {
        const refused = Option.getOrUndefined(yield* decoded(CodeRefused))?.error
        if (response.status === 400 && refused === "invalid_grant") {
          return yield* new LinkFailed({
            problem: `The relay at ${options.relayUrl} did not take the code: it is wrong, used up or expired; ` +
              "ask the relay for a new one"
          })
        }
        if (refused === "temporarily_unavailable") {
          return yield* new LinkFailed({
            problem: `The relay at ${options.relayUrl} takes no code at the moment; try again shortly`
          })
        }
      }
      return yield* new LinkFailed({
        problem: `What is at ${options.relayUrl} does not answer as a relay does (status ${response.status} to the ` +
          "code); check the address"
      })
    })
  )
})

/** Returns what the system says of a connection that failed, which stands in the innermost error. */
const innermost = (error: unknown): string =>
  error instanceof Error ? error.cause === undefined ? error.message : innermost(error.cause) : ""

const failed = (relayUrl: string) => (error: unknown) => {
  if (error instanceof LinkFailed) return error
  if (HttpClientError.isHttpClientError(error) && error.reason._tag === "TransportError") {
    const why = innermost(error.reason.cause)
    return new LinkFailed({
      problem: `The relay at ${relayUrl} cannot be reached${why === "" ? "" : ` (${why})`}; check the address, and ` +
        "that the relay runs"
    })
  }
  const why = error instanceof Error ? error.message : String(error)
  return new LinkFailed({ problem: `The relay at ${relayUrl} did not take the request: ${why}` })
}

/** Turns what goes wrong with a request into {@link LinkFailed}, and gives up on a relay that says nothing. */
const ask = <A, E, R>(relayUrl: string, request: Effect.Effect<A, E, R>): Effect.Effect<A, LinkFailed, R> =>
  request.pipe(
    Effect.mapError(failed(relayUrl)),
    Effect.timeoutOrElse({
      duration: "30 seconds",
      orElse: () =>
        Effect.fail(
          new LinkFailed({ problem: `The relay at ${relayUrl} did not answer within 30 seconds; try again` })
        )
    })
  )

/**
 * Registers the environment's address and key with a relay, for the account whose bearer token it is, and stores what the
 * relay says of itself. An environment that is linked already keeps its id. The relay believes this key alone from then on:
 * with `newKey`, which makes one first, a key that was stolen ends here.
 *
 * @category operations
 * @since 0.1.0
 */
export const link = Effect.fnUntraced(function*(options: {
  readonly relayUrl: string
  readonly token: Redacted.Redacted
  /** Where the relay reaches the environment. */
  readonly url: string
  readonly newKey?: boolean | undefined
}): Effect.fn.Return<
  EnvironmentLink.EnvironmentLink,
  LinkFailed | SecretStore.SecretStoreError,
  HttpClient.HttpClient | SecretStore.SecretStore | SecureRandom.SecureRandom
> {
  const before = yield* EnvironmentLink.get
  if (options.newKey === true) yield* Identity.renew(Identity.environmentKeyName)
  const { current: identity, id } = yield* Identity.ring(Identity.environmentKeyName)
  const environmentId = Option.isSome(before) && before.value.relayUrl === options.relayUrl
    ? before.value.environmentId
    : id
  const proof = yield* identity.sign(typ.link, {
    iss: environmentId,
    aud: URL.parse(options.relayUrl)?.origin ?? options.relayUrl,
    url: options.url,
    ath: yield* Jwt.tokenDigest(options.token)
  })
  const relay = yield* clientOf(options.relayUrl, options.token)
  const answer = yield* ask(
    options.relayUrl,
    relay.relay.link({ payload: { environmentId, url: options.url, key: identity.publicKey, proof } })
  )
  const linked: EnvironmentLink.EnvironmentLink = {
    environmentId,
    account: answer.account,
    relayUrl: options.relayUrl,
    relayId: answer.relayId,
    relayKeys: answer.keys,
    url: options.url
  }
  yield* EnvironmentLink.set(linked)
  return linked
})

/**
 * Asks a relay how it finds an environment of the account whose bearer token it is.
 *
 * @category operations
 * @since 0.1.0
 */
export const health = Effect.fnUntraced(function*(options: {
  readonly relayUrl: string
  readonly token: Redacted.Redacted
  readonly environmentId: string
}): Effect.fn.Return<EnvironmentHealth, LinkFailed, HttpClient.HttpClient> {
  const relay = yield* clientOf(options.relayUrl, options.token)
  return yield* ask(
    options.relayUrl,
    relay.relay.health({ params: { environmentId: options.environmentId } })
  )
})

/**
 * Tells how a rotation of the environment's key has ended.
 *
 * @category models
 * @since 0.1.0
 */
export interface KeyRotation {
  /** The thumbprint of the key with which the environment signs from now on. */
  readonly keyId: string
  /** Until when the relay believes the key before it; null if it has yet to see the new one used, which begins that time. */
  readonly previousUntilMillis: number | null
}

/**
 * Replaces the environment's key. The next one is stored, then the relay is told of it by the key that it knows, and believes
 * both; from then on the environment signs with the next one, and tells the relay so. May be interrupted anywhere and made
 * again: it goes on with the key that it began with, and no answer of the environment is refused in between.
 *
 * @category operations
 * @since 0.1.0
 */
export const rotateKey: Effect.Effect<
  KeyRotation,
  LinkFailed | NotLinked | SecretStore.SecretStoreError,
  HttpClient.HttpClient | SecretStore.SecretStore | SecureRandom.SecureRandom
> = Effect.gen(function*() {
  const link = yield* EnvironmentLink.get
  if (Option.isNone(link)) return yield* new NotLinked()
  const { environmentId, relayId, relayUrl } = link.value
  const { current, next } = yield* Identity.begin(Identity.environmentKeyName)
  const relay = yield* clientOf(relayUrl)
  const tell = Effect.fnUntraced(function*(by: Identity.Identity) {
    const parties = { iss: environmentId, aud: relayId }
    return yield* ask(
      relayUrl,
      relay.relay.rotateKey({
        payload: {
          environmentId,
          proof: yield* by.sign(typ.rotateKey, { ...parties, key: next.publicKey }),
          possession: yield* next.sign(typ.keyPossession, parties)
        }
      })
    )
  })
  yield* tell(current)
  yield* Identity.finish(Identity.environmentKeyName, next.publicKey.kid)
  // The relay would see it by the next answer as well.
  const previousUntilMillis = yield* tell(next).pipe(
    Effect.map(({ previousUntil }) => previousUntil),
    Effect.orElseSucceed(() => null)
  )
  return { keyId: next.publicKey.kid, previousUntilMillis }
})

/**
 * Ends the link: the relay is told, then the environment forgets it. It forgets it also if the relay cannot be told, which
 * is then the answer; the relay asks it in vain from then on.
 *
 * @category operations
 * @since 0.1.0
 */
export const unlink: Effect.Effect<
  Option.Option<LinkFailed>,
  NotLinked | SecretStore.SecretStoreError,
  HttpClient.HttpClient | SecretStore.SecretStore | SecureRandom.SecureRandom
> = Effect.gen(function*() {
  const link = yield* EnvironmentLink.get
  if (Option.isNone(link)) return yield* new NotLinked()
  const { environmentId, relayId, relayUrl } = link.value
  const identity = yield* Identity.load(Identity.environmentKeyName)
  const jti = Base64Url.encode(yield* (yield* SecureRandom.SecureRandom).randomBytes(24))
  const relay = yield* clientOf(relayUrl)
  const told = yield* relay.relay.leave({
    payload: { environmentId, proof: yield* identity.sign(typ.unlink, { iss: environmentId, aud: relayId, jti }) }
  }).pipe(
    Effect.catchTag("NotFound", () => Effect.void),
    (telling) => ask(relayUrl, telling),
    Effect.match({ onSuccess: () => Option.none(), onFailure: Option.some })
  )
  yield* EnvironmentLink.remove
  return told
})
