/**
 * What an environment knows of the relay that it is linked to, kept in the `SecretStore`: one process links, and every
 * other one of the environment answers the relay from then on.
 */
import { Identifier, PublicKey } from "@sallyport/contract/ConnectProtocol"
import { Account } from "@sallyport/core/ConnectClient"
import * as SecretStore from "@sallyport/core/SecretStore"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"

/** Describes a link. */
export const EnvironmentLink = Schema.Struct({
  environmentId: Identifier,
  /** The account that the environment belongs to at the relay. */
  account: Account,
  relayUrl: Schema.String,
  relayId: Identifier,
  relayKeys: Schema.Array(PublicKey)
})
/** @see {@link EnvironmentLink} */
export type EnvironmentLink = typeof EnvironmentLink.Type

/** The name of the secret that holds the link. */
export const linkName = "connect-link"

const codec = Schema.fromJsonString(EnvironmentLink)

const unreadable = new SecretStore.SecretStoreError({
  reason: new SecretStore.Corrupt({
    location: `"${linkName}"`,
    problem: "it is not a link that this version knows",
    remedy: "Link the environment to its relay anew."
  })
})

/** Returns the link, or none where the environment is linked to no relay. */
export const get: Effect.Effect<
  Option.Option<EnvironmentLink>,
  SecretStore.SecretStoreError,
  SecretStore.SecretStore
> = Effect.gen(function*() {
  const secrets = yield* SecretStore.SecretStore
  const bytes = yield* secrets.get(linkName)
  if (Option.isNone(bytes)) return Option.none()
  return yield* Schema.decodeEffect(codec)(new TextDecoder().decode(Redacted.value(bytes.value))).pipe(
    Effect.mapError(() => unreadable),
    Effect.asSome
  )
})

/** Stores a link, whatever was there. */
export const set = Effect.fnUntraced(function*(link: EnvironmentLink): Effect.fn.Return<
  void,
  SecretStore.SecretStoreError,
  SecretStore.SecretStore
> {
  const secrets = yield* SecretStore.SecretStore
  const text = yield* Effect.orDie(Schema.encodeEffect(codec)(link))
  yield* secrets.set(linkName, Redacted.make(new TextEncoder().encode(text)))
})

/** Forgets the link: from then on no request of the relay is answered. */
export const remove: Effect.Effect<void, SecretStore.SecretStoreError, SecretStore.SecretStore> = SecretStore
  .SecretStore
  .use((secrets) => secrets.remove(linkName))
