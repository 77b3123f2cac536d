/**
 * Links an environment to a relay, and ends that again: what the environment's side sends.
 */
import { RelayApi, typ } from "@sallyport/contract/ConnectProtocol"
import { bootstrapTokenType, tokenExchange } from "@sallyport/contract/SessionGroup"
import type * as SecretStore from "@sallyport/core/SecretStore"
import * as Effect from "effect/Effect"
import * as HttpApiClient from "effect/http-api/HttpApiClient"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as EnvironmentLink from "./EnvironmentLink.ts"
import * as Identity from "./Identity.ts"
import { linkAudience } from "./RelayHandlers.ts"

/** Reports that a relay did not link or unlink the environment, with what it answered. */
export class LinkFailed extends Schema.TaggedError<LinkFailed>()("LinkFailed", { problem: Schema.String }) {
  override get message() {
    return `The relay did not take the request: ${this.problem}`
  }
}

const clientOf = (relayUrl: string, token: Redacted.Redacted) =>
  HttpApiClient.make(RelayApi, {
    baseUrl: relayUrl.replace(/\/+$/, ""),
    transformClient: HttpClient.mapRequest(HttpClientRequest.bearerToken(token))
  })

const Token = Schema.Struct({ access_token: Schema.RedactedFromValue(Schema.String) })

/** Exchanges a one-time code of a relay for a bearer token of the account that issued it. */
export const exchangeCode = Effect.fnUntraced(function*(options: {
  readonly relayUrl: string
  readonly code: Redacted.Redacted
}): Effect.fn.Return<Redacted.Redacted, LinkFailed, HttpClient.HttpClient> {
  const http = yield* HttpClient.HttpClient
  return yield* Effect.gen(function*() {
    const response = yield* http.execute(
      HttpClientRequest.bodyUrlParams(HttpClientRequest.post(`${options.relayUrl.replace(/\/+$/, "")}/oauth/token`), {
        grant_type: tokenExchange,
        subject_token: Redacted.value(options.code),
        subject_token_type: bootstrapTokenType
      })
    )
    if (response.status !== 200) {
      return yield* new LinkFailed({
        problem: `it answered ${response.status} to the code; ask the relay for a new one`
      })
    }
    return (yield* Schema.decodeUnknownEffect(Token)(yield* response.json)).access_token
  }).pipe(Effect.catchTag(["HttpClientError", "SchemaError"], (error) => Effect.fail(failed(error))))
})

const failed = (error: unknown) => new LinkFailed({ problem: error instanceof Error ? error.message : String(error) })

/**
 * Registers the environment's address and key with a relay, for the account whose bearer token it is, and stores what the
 * relay says of itself. An environment that is linked already keeps its id: so does its key take the place of an older one.
 */
export const link = Effect.fnUntraced(function*(options: {
  readonly relayUrl: string
  readonly token: Redacted.Redacted
  /** Where the relay reaches the environment. */
  readonly url: string
}): Effect.fn.Return<
  EnvironmentLink.EnvironmentLink,
  LinkFailed | SecretStore.SecretStoreError,
  HttpClient.HttpClient | SecretStore.SecretStore
> {
  const before = yield* EnvironmentLink.get
  const identity = yield* Identity.load(Identity.environmentKeyName)
  const environmentId = Option.isSome(before) && before.value.relayUrl === options.relayUrl
    ? before.value.environmentId
    : identity.publicKey.kid
  const proof = yield* identity.sign(typ.link, { iss: environmentId, aud: linkAudience, url: options.url })
  const relay = yield* clientOf(options.relayUrl, options.token)
  const answer = yield* relay.relay.link({
    payload: { environmentId, url: options.url, key: identity.publicKey, proof }
  }).pipe(Effect.mapError(failed))
  const linked: EnvironmentLink.EnvironmentLink = {
    environmentId,
    account: answer.account,
    relayUrl: options.relayUrl,
    relayId: answer.relayId,
    relayKeys: answer.keys
  }
  yield* EnvironmentLink.set(linked)
  return linked
})
