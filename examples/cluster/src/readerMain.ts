/** Pairs with the link that a node has printed, starts a run, and prints each of its events with the node that did it. */
import { NodeRuntime } from "@effect/platform-node"
import { Access, Credentials, Runs, SallyportClient, TokenStorage } from "@sallyport/client"
import { Console, Effect, Layer, Redacted, Stream } from "effect"
import { SecureRandom } from "effect/crypto"
import { FetchHttpClient } from "effect/http"

const link = new URL(process.argv[2] ?? "")

const program = Effect.gen(function*() {
  const access = yield* Access.Access
  yield* access.pair({ code: Redacted.make(link.hash.slice("#token=".length)) })
  const runs = yield* Runs.Runs
  const intent = yield* runs.intent({ threadId: "thread", input: { stages: 30 } })
  yield* Stream.runForEach(
    runs.run(intent),
    (event) => Console.log(event._tag === "Data" ? JSON.stringify(event.data) : event.end.status)
  )
})

const Client = SallyportClient.layer({ baseUrl: link.origin, credentials: Credentials.layerBearer }).pipe(
  Layer.provide([TokenStorage.layerMemory, FetchHttpClient.layer, SecureRandom.layerWebCrypto])
)

NodeRuntime.runMain(Effect.provide(program, Client))
