/**
 * A page that pairs with the code in its fragment, if there is one, and keeps its tokens in the storage that all tabs
 * share. For each event `ask` it asks for the sessions, and shows as JSON how that ended.
 */
import * as Access from "@sallyport/client/Access"
import * as Credentials from "@sallyport/client/Credentials"
import * as DeviceKey from "@sallyport/client/DeviceKey"
import * as SallyportClient from "@sallyport/client/SallyportClient"
import * as TokenStorage from "@sallyport/client/TokenStorage"
import * as Digest from "effect/crypto/Digest"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as KeyValueStore from "effect/persistence/KeyValueStore"
import * as Redacted from "effect/Redacted"

const seen: Array<unknown> = []
const show = (what: unknown) =>
  Effect.sync(() => {
    seen.push(what)
    document.body.dataset.seen = JSON.stringify(seen)
  })

const program = Effect.gen(function*() {
  const access = yield* Access.Access
  const code = location.hash.slice("#token=".length)
  if (code !== "") yield* access.pair({ code: Redacted.make(decodeURIComponent(code)) })
  const ask = access.sessions.pipe(
    Effect.flatMap((sessions) => show(sessions.length)),
    Effect.catch((error) => show(error.message))
  )
  document.addEventListener("ask", () => void Effect.runFork(ask))
  yield* show("ready")
  yield* Effect.never
}).pipe(
  Effect.catch((error) => show(error.message)),
  Effect.provide(
    SallyportClient.layer({
      baseUrl: location.origin,
      credentials: Layer.provide(Credentials.layerDpop, [
        Layer.provide(TokenStorage.layerKeyValueStore(), KeyValueStore.layerStorage(() => localStorage)),
        DeviceKey.layerIndexedDb()
      ])
    }).pipe(Layer.provide([FetchHttpClient.layer, SecureRandom.layerWebCrypto, Digest.layerWebCrypto]))
  )
)

Effect.runFork(program)
