/**
 * Runs the client as a phone does: without WebCrypto and the other objects of browsers, on layers that take their place. It
 * pairs with the code that it is given, follows a run, and prints what it sees as JSON, one value in a line.
 *
 * `node:crypto` stands for `expo-crypto` and `@noble/*` here.
 */
import { left, streamingFetch } from "./withoutBrowser.ts"
import { Access, Credentials, DeviceKey, ReconnectHints, Runs, SallyportClient, TokenStorage } from "@sallyport/client"
import * as Console from "effect/Console"
import * as Digest from "effect/crypto/Digest"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as KeyValueStore from "effect/persistence/KeyValueStore"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as Crypto from "node:crypto"

const [baseUrl = "", code = ""] = process.argv.slice(2)

const { privateKey, publicKey } = Crypto.generateKeyPairSync("ed25519")
const { x = "" } = publicKey.export({ format: "jwk" })

const digest = (algorithm: Digest.Algorithm, data: Uint8Array) =>
  Effect.sync(() => Crypto.createHash(algorithm.name.replace("-", "").toLowerCase()).update(data).digest())

const Phone = Layer.mergeAll(
  Layer.succeed(FetchHttpClient.Fetch, streamingFetch),
  Layer.succeed(SecureRandom.SecureRandom, SecureRandom.make((size) => new Uint8Array(Crypto.randomBytes(size)))),
  Layer.succeed(Digest.Digest, {
    digest,
    digestHex: (algorithm, data) => Effect.map(digest(algorithm, data), (bytes) => bytes.toString("hex"))
  }),
  // The operating system says each half second that the network is back.
  ReconnectHints.layer(Stream.map(Stream.tick("500 millis"), () => "online"))
)

const Key = DeviceKey.layerSigner({
  publicKey: { crv: "Ed25519", x },
  sign: (input) => Effect.sync(() => new Uint8Array(Crypto.sign(null, input, privateKey)))
})

const Client = SallyportClient.layer({
  baseUrl,
  credentials: Layer.provide(Credentials.layerDpop, [Key, TokenStorage.layerKeyValueStore()]),
  // Waits that only a hint ends.
  runs: { baseDelay: "10 days", maxDelay: "10 days", maxDuration: "365 days" }
}).pipe(
  Layer.provide([FetchHttpClient.layer, KeyValueStore.layerMemory]),
  Layer.provide(Phone)
)

const show = (what: unknown) => Console.log(JSON.stringify(what))

const program = Effect.gen(function*() {
  yield* show({ left })
  const access = yield* Access.Access
  yield* access.pair({ code: Redacted.make(code) })
  const state = yield* access.state
  yield* show({ authenticated: state.authenticated })
  const runs = yield* Runs.Runs
  const intent = yield* runs.intent({ threadId: "thread", input: 5 })
  yield* Stream.runForEach(
    runs.run(intent),
    (event) => show(event._tag === "Data" ? event.data : event.end)
  )
})

Effect.runPromise(Effect.provide(program, Client)).then(() => process.exit(0))
