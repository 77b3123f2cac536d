/**
 * Where a client that uses a bearer token keeps it.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as KeyValueStore from "effect/persistence/KeyValueStore"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"

/**
 * Reports that the place where the token is kept does not answer. It is never taken for "there is no token".
 *
 * @category errors
 * @since 0.1.0
 */
export class TokenStorageError extends Schema.TaggedError<TokenStorageError>()("TokenStorageError", {
  operation: Schema.Literals(["read", "write", "remove"]),
  cause: Schema.Defect()
}) {
  override get message() {
    return `The session token could not be ${past[this.operation]}; check that this device's storage can be used`
  }
}

const past = { read: "read", write: "stored", remove: "removed" }

/**
 * Keeps one token, that of the server which the client is made for.
 *
 * @category services
 * @since 0.1.0
 */
export class TokenStorage extends Context.Service<TokenStorage, {
  /** Returns the token, or none where none was stored. */
  readonly get: Effect.Effect<Option.Option<Redacted.Redacted>, TokenStorageError>
  /** Stores a token in the place of the one before. */
  readonly set: (token: Redacted.Redacted) => Effect.Effect<void, TokenStorageError>
  /** Removes the token. There being none is success. */
  readonly remove: Effect.Effect<void, TokenStorageError>
}>()("@sallyport/client/TokenStorage") {}

const redact = (token: string) => Redacted.make(token, { label: "session-token" })

const inMemory = (initial: Option.Option<Redacted.Redacted>) => () => {
  let token = initial
  return TokenStorage.of({
    get: Effect.sync(() => token),
    set: (next) =>
      Effect.sync(() => {
        token = Option.some(next)
      }),
    remove: Effect.sync(() => {
      token = Option.none()
    })
  })
}

/**
 * Keeps the token for as long as the layer lives.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMemory: Layer.Layer<TokenStorage> = Layer.sync(TokenStorage, inMemory(Option.none()))

/**
 * Keeps a token that is there from the beginning, such as that of `Connect.connect`, for as long as the layer lives.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerHolding = (token: Redacted.Redacted): Layer.Layer<TokenStorage> =>
  Layer.sync(TokenStorage, inMemory(Option.some(token)))

/**
 * Keeps the token in a `KeyValueStore`, under `key`, by default `sallyport-session`; two servers need two keys.
 *
 * The store holds the token in the clear: whoever can read the store is signed in. In a browser that is every script of the
 * page, so use the cookie there.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerKeyValueStore = (options?: {
  readonly key?: string | undefined
}): Layer.Layer<TokenStorage, never, KeyValueStore.KeyValueStore> =>
  Layer.effect(
    TokenStorage,
    Effect.gen(function*() {
      const key = options?.key ?? "sallyport-session"
      const store = yield* KeyValueStore.KeyValueStore
      const failing = (operation: TokenStorageError["operation"]) =>
        Effect.mapError((cause: KeyValueStore.KeyValueStoreError) => new TokenStorageError({ operation, cause }))
      return TokenStorage.of({
        get: store.get(key).pipe(
          Effect.map((token) => Option.map(Option.fromUndefinedOr(token), redact)),
          failing("read")
        ),
        set: (token) => failing("write")(store.set(key, Redacted.value(token))),
        remove: failing("remove")(store.remove(key))
      })
    })
  )
