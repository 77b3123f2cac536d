/**
 * A page that connects through a relay of another origin to an environment of a third one, with a key that it keeps.
 *
 * What it needs is in its fragment, as JSON; what it sees it shows as JSON. The relay's token is kept across reloads, as an
 * application would keep it: without the key it is worth nothing.
 */
import * as Access from "@sallyport/client/Access"
import * as Connect from "@sallyport/client/Connect"
import * as Credentials from "@sallyport/client/Credentials"
import * as DeviceKey from "@sallyport/client/DeviceKey"
import * as Runs from "@sallyport/client/Runs"
import * as SallyportClient from "@sallyport/client/SallyportClient"
import * as TokenStorage from "@sallyport/client/TokenStorage"
import * as Digest from "effect/crypto/Digest"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"

const show = (what: Readonly<Record<string, unknown>>) =>
  Effect.sync(() => {
    document.body.dataset.seen = JSON.stringify({ ...JSON.parse(document.body.dataset.seen ?? "{}"), ...what })
  })

const Order = Schema.fromJsonString(Schema.Struct({
  /** Whether to wait until another page stores something. */
  held: Schema.optionalKey(Schema.Boolean),
  /** Without these the page only has its key. */
  relayUrl: Schema.optionalKey(Schema.String),
  environmentId: Schema.optionalKey(Schema.String),
  code: Schema.optionalKey(Schema.String)
}))

const signIn = Effect.fnUntraced(function*(relayUrl: string, code: string | undefined) {
  const kept = localStorage.getItem("relay-token")
  if (kept !== null || code === undefined) return { token: Redacted.make(kept ?? "") }
  const tokens = yield* Connect.exchange({ url: relayUrl, credential: Redacted.make(code) })
  localStorage.setItem("relay-token", Redacted.value(tokens.token))
  return tokens
})

const use = Effect.gen(function*() {
  const access = yield* Access.Access
  const runs = yield* Runs.Runs
  const state = yield* access.state
  const intent = yield* runs.intent({ threadId: crypto.randomUUID(), input: 3 })
  const events = yield* Stream.runCollect(runs.run(intent))
  yield* show({ method: state.authenticated ? state.session.method : null, events: events.length })
})

const go = Effect.promise(() =>
  new Promise<unknown>((resolve) => {
    addEventListener("storage", resolve, { once: true })
    document.body.dataset.seen = JSON.stringify({ held: true })
  })
)

const connect = Effect.fnUntraced(function*({ code, environmentId, relayUrl }: typeof Order.Type) {
  const { thumbprint } = yield* DeviceKey.DeviceKey
  yield* show({ thumbprint })
  if (relayUrl === undefined || environmentId === undefined) return
  const connected = yield* Connect.connect({
    relayUrl,
    environmentId,
    deviceType: "browser",
    onWaiting: ({ verificationCode }) => show({ verificationCode }),
    retry: { baseDelay: "50 millis", maxAttempts: 3 }
  }).pipe(
    Effect.provide(Layer.provide(Credentials.layerDpop, TokenStorage.layerHolding(yield* signIn(relayUrl, code))))
  )
  yield* Effect.provide(
    use,
    SallyportClient.layer({
      baseUrl: connected.environmentUrl,
      credentials: Layer.provide(Credentials.layerDpop, TokenStorage.layerHolding(connected.tokens))
    })
  )
})

const program = Effect.gen(function*() {
  const order = yield* Schema.decodeEffect(Order)(decodeURIComponent(location.hash.slice(1)))
  if (order.held === true) yield* go
  yield* Effect.provide(connect(order), DeviceKey.layerIndexedDb())
}).pipe(
  Effect.catch((error) => show({ error: "reason" in error ? error.reason._tag : error._tag, message: error.message })),
  Effect.provide([FetchHttpClient.layer, SecureRandom.layerWebCrypto, Digest.layerWebCrypto])
)

Effect.runFork(program)
