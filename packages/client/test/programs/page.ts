/**
 * A page that pairs with the code in its fragment, starts a run and follows it, and shows what it sees as JSON.
 *
 * The intent of the run is kept across reloads, as an application would keep it.
 */
import * as Access from "@sallyport/client/Access"
import * as Credentials from "@sallyport/client/Credentials"
import * as Runs from "@sallyport/client/Runs"
import * as SallyportClient from "@sallyport/client/SallyportClient"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"

const seen: Array<unknown> = []
const show = (what: unknown) =>
  Effect.sync(() => {
    seen.push(what)
    document.body.dataset.seen = JSON.stringify(seen)
  })

const Kept = Schema.fromJsonString(Runs.RunIntent)

const intent = Effect.gen(function*() {
  const kept = sessionStorage.getItem("intent")
  if (kept !== null) return yield* Schema.decodeEffect(Kept)(kept)
  const runs = yield* Runs.Runs
  const fresh = yield* runs.intent({ threadId: "thread", input: 40 })
  sessionStorage.setItem("intent", yield* Schema.encodeEffect(Kept)(fresh))
  return fresh
})

const program = Effect.gen(function*() {
  const access = yield* Access.Access
  const runs = yield* Runs.Runs
  const before = yield* access.state
  if (!before.authenticated) {
    yield* access.pair({ code: Redacted.make(decodeURIComponent(location.hash.slice("#token=".length))) })
  }
  const after = yield* access.state
  yield* show([before.authenticated, after.authenticated])
  yield* Stream.runForEach(
    runs.run(yield* intent),
    (event) => show(event._tag === "Data" ? event.data : event.end.status)
  )
}).pipe(
  Effect.catch((error) => show([error._tag, error.message])),
  Effect.provide(
    SallyportClient.layer({
      baseUrl: location.origin,
      credentials: Credentials.layerCookie,
      runs: location.pathname === "/waiting"
        // Waits that only a hint of the browser ends: each is as long as chance says, up to this.
        ? { baseDelay: "10 days", maxDelay: "10 days", maxDuration: "365 days" }
        : { baseDelay: "50 millis", maxDelay: "200 millis", maxAttempts: 100 }
    }).pipe(Layer.provide([FetchHttpClient.layer, SecureRandom.layerWebCrypto]))
  )
)

Effect.runFork(program)
