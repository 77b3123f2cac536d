/**
 * What an environment knows of the relay that it is linked to, kept in the `SecretStore`: one process links, and every
 * other one of the environment answers the relay from then on.
 */
import { type EnvironmentLinkView, Identifier, PublicKey } from "@sallyport/contract/ConnectProtocol"
import { Account } from "@sallyport/core/access/ConnectClient"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"

/**
 * Says for how many milliseconds a side of a link believes a key of the other after that one has begun to use another. It is
 * longer than any answer may take, so that what was on its way when the keys changed still counts.
 *
 * @category constants
 * @since 0.1.0
 */
export const overlapMillis = 600_000

/**
 * Describes a link.
 *
 * @category models
 * @since 0.1.0
 */
export const EnvironmentLink = Schema.Struct({
  environmentId: Identifier,
  /** The account that the environment belongs to at the relay. */
  account: Account,
  relayUrl: Schema.String,
  relayId: Identifier,
  /** The relay's keys, in the order in which it told of them. One with an end is not believed after it. */
  relayKeys: Schema.Array(Schema.Struct({ ...PublicKey.fields, untilMillis: Schema.optionalKey(Schema.Natural) })),
  /** Where the relay was told to reach the environment. */
  url: Schema.String
})
/**
 * @see {@link EnvironmentLink}
 *
 * @category models
 * @since 0.1.0
 */
export type EnvironmentLink = typeof EnvironmentLink.Type

/**
 * Leaves out of a link what its owner need not see: the relay's keys.
 *
 * @category operations
 * @since 0.1.0
 */
export const view = (
  { account, environmentId, relayId, relayUrl, url }: EnvironmentLink
): typeof EnvironmentLinkView.Type => ({ environmentId, account, relayUrl, relayId, url })

/**
 * Names the secret that holds the link.
 *
 * @category constants
 * @since 0.1.0
 */
export const linkName = "connect-link"

const codec = Schema.fromJsonString(EnvironmentLink)

const unreadable = new SecretStore.SecretStoreError({
  reason: new SecretStore.Corrupt({
    location: `"${linkName}"`,
    problem: "it is not a link that this version knows",
    remedy: "Link the environment to its relay again."
  })
})

const decode = (secret: Redacted.Redacted<Uint8Array>) =>
  Effect.mapError(Schema.decodeEffect(codec)(new TextDecoder().decode(Redacted.value(secret))), () => unreadable)
const encode = (link: EnvironmentLink) =>
  Effect.map(
    Effect.orDie(Schema.encodeEffect(codec)(link)),
    (text) => Redacted.make(new TextEncoder().encode(text))
  )

/**
 * Returns the link, or none if the environment is linked to no relay.
 *
 * @category operations
 * @since 0.1.0
 */
export const get: Effect.Effect<
  Option.Option<EnvironmentLink>,
  SecretStore.SecretStoreError,
  SecretStore.SecretStore
> = Effect.gen(function*() {
  const secrets = yield* SecretStore.SecretStore
  const secret = yield* secrets.get(linkName)
  return Option.isNone(secret) ? Option.none() : Option.some(yield* decode(secret.value))
})

/**
 * Stores a link, whatever was there.
 *
 * @category operations
 * @since 0.1.0
 */
export const set = Effect.fnUntraced(function*(link: EnvironmentLink): Effect.fn.Return<
  void,
  SecretStore.SecretStoreError,
  SecretStore.SecretStore
> {
  const secrets = yield* SecretStore.SecretStore
  yield* secrets.set(linkName, yield* encode(link))
})

/** Replaces the relay's keys in one atomic step by what is made of them, and returns those of the link to `relayId`. */
const updateKeys = Effect.fnUntraced(function*(
  relayId: string,
  change: (keys: EnvironmentLink["relayKeys"]) => EnvironmentLink["relayKeys"]
): Effect.fn.Return<EnvironmentLink["relayKeys"], SecretStore.SecretStoreError, SecretStore.SecretStore> {
  const secrets = yield* SecretStore.SecretStore
  return yield* secrets.modify(
    linkName,
    Effect.fnUntraced(function*(secret) {
      if (Option.isNone(secret)) return [[], Option.none()] as const
      const link = yield* decode(secret.value)
      if (link.relayId !== relayId) return [[], Option.none()] as const
      const relayKeys = change(link.relayKeys)
      return [
        relayKeys,
        relayKeys === link.relayKeys ? Option.none() : Option.some(yield* encode({ ...link, relayKeys }))
      ] as const
    })
  )
})

/**
 * Returns the relay's key of a name; none if it is not believed at that time.
 *
 * @category operations
 * @since 0.1.0
 */
export const findRelayKey = (
  link: EnvironmentLink,
  keyId: string,
  nowMillis: number
): Option.Option<EnvironmentLink["relayKeys"][number]> =>
  Option.fromUndefinedOr(
    link.relayKeys.find(({ kid, untilMillis = Infinity }) => kid === keyId && nowMillis < untilMillis)
  )

/**
 * Adds a key that the relay told of by the key `by`, and tells whether it is known now. `by` has to be one that the relay goes
 * on using: a key that was replaced brings no other.
 *
 * @category operations
 * @since 0.1.0
 */
export const addRelayKey = (options: {
  readonly relayId: string
  readonly by: string
  readonly key: PublicKey
}): Effect.Effect<boolean, SecretStore.SecretStoreError, SecretStore.SecretStore> => {
  const isKnown = (keys: EnvironmentLink["relayKeys"]) => keys.some(({ kid }) => kid === options.key.kid)
  return Effect.map(
    updateKeys(options.relayId, (keys) => {
      const by = keys.find(({ kid, untilMillis }) => kid === options.by && untilMillis === undefined)
      return by === undefined || isKnown(keys) ? keys : [by, options.key]
    }),
    isKnown
  )
}

/**
 * Ends the keys that the relay told of before the one that it has now used, a while from now. Does nothing if they have
 * an end already.
 *
 * @category operations
 * @since 0.1.0
 */
export const endOlderRelayKeys = Effect.fnUntraced(function*(
  link: EnvironmentLink,
  usedKeyId: string,
  nowMillis: number
): Effect.fn.Return<void, SecretStore.SecretStoreError, SecretStore.SecretStore> {
  const change = (keys: EnvironmentLink["relayKeys"]): EnvironmentLink["relayKeys"] => {
    const used = keys.findIndex(({ kid }) => kid === usedKeyId)
    return keys.some(({ untilMillis }, index) => index < used && untilMillis === undefined)
      ? keys.map((key, index) => index < used ? { untilMillis: nowMillis + overlapMillis, ...key } : key)
      : keys
  }
  if (change(link.relayKeys) !== link.relayKeys) yield* updateKeys(link.relayId, change)
})

/**
 * Forgets the link: from then on no request of the relay is answered.
 *
 * @category operations
 * @since 0.1.0
 */
export const remove: Effect.Effect<void, SecretStore.SecretStoreError, SecretStore.SecretStore> = SecretStore
  .SecretStore
  .use((secrets) => secrets.remove(linkName))
