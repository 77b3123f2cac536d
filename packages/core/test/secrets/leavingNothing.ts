/** What a suite leaves behind in the store that it tests. */
import { assert } from "@effect/vitest"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

/** Fails the test file if a store has a secret at its end. */
export const leavingNothing = <E, R>(
  store: Layer.Layer<SecretStore.SecretStore, E, R>
): Layer.Layer<SecretStore.SecretStore, E, R> =>
  Layer.provideMerge(
    Layer.effectDiscard(
      Effect.acquireRelease(SecretStore.SecretStore, (secrets) =>
        Effect.map(Effect.orDie(secrets.list), (names) => {
          assert.deepStrictEqual(names, [])
        }))
    ),
    store
  )
