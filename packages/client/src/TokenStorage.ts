/**
 * Keeps the token of a client that does not use a cookie, with the refresh token for the next one.
 */
import * as Input from "@sallyport/core/Input"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as KeyValueStore from "effect/persistence/KeyValueStore"
import * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import * as WebLock from "./internal/webLock.ts"

/**
 * Reports that the token's storage does not answer. It never means "there is no token".
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
 * Describes what is kept of a session: its token, and how to get the next one.
 *
 * @category models
 * @since 0.1.0
 */
export const Tokens = Schema.Struct({
  token: Schema.RedactedFromValue(Schema.String, { label: "session-token" }),
  /** What the token is exchanged by; missing if the server uses no refresh tokens. */
  refresh: Schema.optionalKey(Schema.Struct({
    token: Schema.RedactedFromValue(Schema.String, { label: "refresh-token" }),
    /** When the exchange is due, by this device's clock: a little before the token ends. */
    dueAtMillis: Schema.Int
  }))
})
/**
 * @see {@link Tokens}
 *
 * @category models
 * @since 0.1.0
 */
export type Tokens = typeof Tokens.Type

/**
 * Keeps the tokens of one session, for the server of the client.
 *
 * @category services
 * @since 0.1.0
 */
export class TokenStorage extends Context.Service<TokenStorage, {
  /** Returns what is stored, which one `set` has written. */
  readonly tokens: Effect.Effect<Option.Option<Tokens>, TokenStorageError>
  /** Stores the tokens in one step, and replaces those before. */
  readonly set: (tokens: Tokens) => Effect.Effect<void, TokenStorageError>
  /** Removes the tokens. Missing tokens are success. */
  readonly remove: Effect.Effect<void, TokenStorageError>
  /**
   * Runs an effect while no other client of the same storage runs one. It keeps two clients from exchanging the same
   * refresh token.
   */
  readonly exclusive: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}>()("@sallyport/client/TokenStorage") {}

const make = (
  storage: Omit<TokenStorage["Service"], "exclusive">,
  shared: TokenStorage["Service"]["exclusive"] = (effect) => effect
) => {
  const own = Semaphore.makeUnsafe(1)
  return TokenStorage.of({
    ...storage,
    exclusive: (effect) => own.withPermits(1)(shared(effect))
  })
}

const inMemory = (initial: Option.Option<Tokens>) => () => {
  let tokens = initial
  return make({
    tokens: Effect.sync(() => tokens),
    set: (next) =>
      Effect.sync(() => {
        tokens = Option.some(next)
      }),
    remove: Effect.sync(() => {
      tokens = Option.none()
    })
  })
}

/**
 * Keeps the tokens for as long as the layer lives.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMemory: Layer.Layer<TokenStorage> = Layer.sync(TokenStorage, inMemory(Option.none()))

/**
 * Keeps given tokens, such as those from `Connect.connect`, and the later ones for as long as the layer lives.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerHolding = (tokens: Tokens): Layer.Layer<TokenStorage> =>
  Layer.sync(TokenStorage, () => {
    Input.demand("TokenStorage.layerHolding", { token: Input.required(Input.redacted) }, { token: tokens?.token })
    return inMemory(Option.some(tokens))()
  })

/**
 * Keeps the tokens in a `KeyValueStore` under `key`, as JSON. Default `sallyport-session`; two servers need two keys.
 *
 * **Details**
 *
 * Clients may share the store. In a browser, tabs with `KeyValueStore.layerStorage(() => localStorage)` refresh once
 * for all of them, by a Web Lock named after the key. Without Web Locks two tabs may refresh at the same time: the
 * server gives both the same tokens.
 *
 * **Gotchas**
 *
 * The store holds the tokens in the clear: a program that can read the store is signed in. In a browser that is every
 * script of the page, so use the cookie there, or tokens that are bound to the device's key.
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
      Input.demand("TokenStorage.layerKeyValueStore", { key: Input.text }, options ?? {})
      const key = options?.key ?? "sallyport-session"
      const store = yield* KeyValueStore.KeyValueStore
      const failing = (operation: TokenStorageError["operation"]) =>
        Effect.mapError((cause: unknown) => new TokenStorageError({ operation, cause }))
      return make({
        tokens: store.get(key).pipe(
          Effect.flatMap((stored) => stored === undefined ? Effect.succeedNone : Effect.asSome(readTokens(stored))),
          failing("read")
        ),
        set: (tokens) => failing("write")(Effect.flatMap(encodeTokens(tokens), (text) => store.set(key, text))),
        remove: failing("remove")(store.remove(key))
      }, WebLock.hold(`@sallyport/client/TokenStorage/${key}`))
    })
  )

const StoredTokens = Schema.fromJsonString(Tokens)
const encodeTokens = Schema.encodeEffect(StoredTokens)
/** Reads what is stored. The schema's error is not kept, because it holds the tokens. */
const readTokens = (stored: string) =>
  Effect.mapError(
    Schema.decodeUnknownEffect(StoredTokens)(stored),
    () => new Error("What is stored are no tokens of this client")
  )
