/**
 * Replaces the key with which a relay signs.
 *
 * An environment knows the relay by its key, so it is told of the next one by a request that is signed with the one it knows,
 * and confirms it with a proof. From then on the relay signs with the next one to that environment, and goes on with the old
 * one to the others. When all have confirmed, or have had the time to, the old key is dropped. All of it is kept: by the keys
 * in the `SecretStore` and by a column of each environment's row.
 */
import { RelayEnvironmentRepository, type RelayEnvironmentRow } from "./RelayEnvironmentRepository.ts"
import * as Outage from "@sallyport/core/Outage"
import type { RepositoryError } from "@sallyport/core/RepositoryError"
import type * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as Clock from "effect/Clock"
import type * as Config from "effect/Config"
import type * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { EnvironmentConnector } from "./EnvironmentConnector.ts"
import * as Identity from "./Identity.ts"
import {
  type InvalidRelayKeyRotationOptions,
  type Options,
  type Settings,
  settings
} from "./internal/rotationOptions.ts"

export { InvalidRelayKeyRotationOptions, type Options } from "./internal/rotationOptions.ts"

/**
 * Tells how far a rotation is.
 *
 * @category models
 * @since 0.1.0
 */
export interface Progress {
  /** The thumbprint of the next key, which is the relay's key once the rotation has finished. */
  readonly keyId: string
  readonly finished: boolean
  /** The environments, at most 100 of them, that did not confirm the key, and why. */
  readonly unconfirmed: ReadonlyArray<{ readonly environmentId: string; readonly problem: string }>
}

/**
 * Names what a rotation needs.
 *
 * @category models
 * @since 0.1.0
 */
export type Requirements =
  | EnvironmentConnector
  | RelayEnvironmentRepository
  | SecretStore.SecretStore
  | SecureRandom.SecureRandom

const pageSize = 100

const step = Effect.fn("RelayKeyRotation.rotate")(function*({ limitMillis }: Settings): Effect.fn.Return<
  Progress,
  SecretStore.SecretStoreError | RepositoryError,
  Requirements
> {
  const environments = yield* RelayEnvironmentRepository
  const connector = yield* EnvironmentConnector
  const { next, sinceMillis } = yield* Identity.begin(Identity.relayKeyName)
  const relayKeyId = next.publicKey.kid

  const tell = (environment: RelayEnvironmentRow) =>
    connector.tellKey(environment, next.publicKey).pipe(
      Effect.andThen(
        environments.confirmRelayKey({ id: environment.id, from: environment.relayKeyId, to: relayKeyId })
      ),
      Effect.as(Option.none()),
      // One that knew no key before is not waited for.
      Effect.catchTag("EnvironmentConnectorError", ({ message, reason }) =>
        Effect.succeed(
          Option.some({ environmentId: environment.id, problem: message, awaited: reason._tag !== "RelayKeyUnknown" })
        ))
    )
  const unconfirmed: Array<Progress["unconfirmed"][number]> = []
  let awaited = 0
  let afterId = ""
  while (true) {
    const page = yield* environments.listUnconfirmed({ relayKeyId, afterId, limit: pageSize })
    for (const found of yield* Effect.forEach(page, tell, { concurrency: 8 })) {
      if (Option.isNone(found)) continue
      const { environmentId, problem } = found.value
      if (found.value.awaited) awaited++
      if (unconfirmed.length < pageSize) unconfirmed.push({ environmentId, problem })
    }
    afterId = page.at(-1)?.id ?? ""
    if (page.length < pageSize) break
  }
  const finished = awaited === 0 || (yield* Clock.currentTimeMillis) >= sinceMillis + limitMillis
  if (finished) yield* Identity.finish(Identity.relayKeyName, relayKeyId)
  return { keyId: relayKeyId, finished, unconfirmed }
})

/**
 * Begins to replace the relay's key, or goes on where that stands: tells each environment that does not know the next key of
 * it, and finishes when all know it or the limit has passed. May be interrupted anywhere and made again, and several
 * processes may do it at once.
 *
 * @category combinators
 * @since 0.1.0
 */
export const rotate = (options?: Options): Effect.Effect<
  Progress,
  InvalidRelayKeyRotationOptions | SecretStore.SecretStoreError | RepositoryError,
  Requirements
> => Effect.flatMap(settings.fromObject(options ?? {}), step)

const follow = <E>(found: Effect.Effect<Settings, E>): Layer.Layer<never, E, Requirements> =>
  Layer.effectDiscard(Effect.flatMap(found, (settings) => {
    const outage = Outage.make({
      of: "key rotation",
      begins: "The rotation of the relay's key failed; it goes on later",
      ends: "The rotation of the relay's key goes on"
    })()
    return Identity.ring(Identity.relayKeyName).pipe(
      Effect.flatMap(({ next }) => Option.isSome(next) ? step(settings) : Effect.void),
      Effect.matchCauseEffect({ onFailure: outage.failed, onSuccess: () => outage.worked }),
      Effect.andThen(Effect.sleep(settings.intervalMillis)),
      Effect.forever,
      Effect.ensuring(outage.left),
      Effect.forkScoped
    )
  }))

/**
 * Goes on with a rotation that was begun, again and again, until it has finished; begins none. A failure is logged, and
 * tried again. Building the layer fails if the options cannot work.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: Options): Layer.Layer<never, InvalidRelayKeyRotationOptions, Requirements> =>
  follow(settings.fromObject(options))

/**
 * Does what {@link layerWith} does, with the defaults of {@link Options}.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<never, never, Requirements> = follow(settings.defaults)

/**
 * Does what {@link layerWith} does, with the options of the configuration: `SALLYPORT_RELAY_KEY_LIMIT` and
 * `SALLYPORT_RELAY_KEY_INTERVAL`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig: Layer.Layer<
  never,
  Config.ConfigError | InvalidRelayKeyRotationOptions,
  Requirements
> = follow(settings.fromConfig)
