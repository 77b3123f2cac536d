/**
 * A client: `node src/client.ts <state directory> <relay> <environment id> [one-time code of the relay]`.
 *
 * It signs in at the relay with a key of its own, asks for the environment, shows the verification code while it waits for
 * the owner, and goes on by itself: it follows the environment's access feed until its session ends. Every step is a line
 * of JSON. Exits with 3 where it was rejected, 4 where it is blocked, 5 where its approval was revoked or its session ended.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Client from "@sallyport/connect/Client"
import * as SecretStore from "@sallyport/core/SecretStore"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { join } from "node:path"

const [directory = "./client-state", relayUrl = "", environmentId = "", code] = process.argv.slice(2)

const tell = (step: Readonly<Record<string, unknown>>) => Console.log(JSON.stringify(step))

const tokenName = "relay-token"

/** Returns the token of the relay: a new one for a code, or the one of the last run. */
const signIn = Effect.fnUntraced(function*(key: Client.DeviceKey) {
  const secrets = yield* SecretStore.SecretStore
  if (code === undefined) {
    const kept = yield* secrets.get(tokenName)
    return Redacted.make(new TextDecoder().decode(Redacted.value(Option.getOrThrow(kept))))
  }
  const token = yield* Client.exchange({ key, url: relayUrl, credential: Redacted.make(code) })
  yield* secrets.set(tokenName, Redacted.make(new TextEncoder().encode(Redacted.value(token))))
  return token
})

/** Makes a request of the environment with a proof of the key. */
const get = Effect.fnUntraced(function*(key: Client.DeviceKey, connected: Client.Connected, path: string) {
  const url = `${connected.environmentUrl.replace(/\/+$/, "")}${path}`
  const http = yield* HttpClient.HttpClient
  const proof = yield* key.prove({ method: "GET", url, accessToken: connected.token })
  return yield* http.execute(HttpClientRequest.get(url, {
    headers: { authorization: `DPoP ${Redacted.value(connected.token)}`, dpop: proof }
  }))
})

const program = Effect.gen(function*() {
  const key = yield* Client.deviceKey
  const relayToken = yield* signIn(key)
  const connected = yield* Client.connect({
    key,
    relayUrl,
    relayToken,
    environmentId,
    label: "The example's client",
    deviceType: "terminal",
    onWaiting: ({ verificationCode }) => tell({ step: "waiting", thumbprint: key.thumbprint, verificationCode })
  })
  const session = yield* get(key, connected, "/api/auth/session")
  yield* tell({ step: "connected", thumbprint: key.thumbprint, status: session.status })
  const feed = yield* get(key, connected, "/api/auth/access")
  yield* tell({ step: "following", status: feed.status })
  yield* Effect.ignore(Stream.runDrain(feed.stream))
  const refused = yield* get(key, connected, "/api/auth/sessions")
  yield* tell({ step: "ended", status: refused.status })
  return 5
}).pipe(
  Effect.catchTag("ConnectError", (error) =>
    Effect.as(
      tell({ step: "failed", reason: error.reason._tag, message: error.message }),
      { Rejected: 3, Blocked: 4, Revoked: 5, RequestExpired: 6, TooManyPending: 7, RequestFailed: 1 }[error.reason._tag]
    )),
  Effect.provide([FetchHttpClient.layer, SecretStore.layerFileSystem(join(directory, "secrets"))]),
  Effect.provide(Layer.merge(NodeCrypto.layer, NodeServices.layer))
)

NodeRuntime.runMain(
  Effect.flatMap(program, (exitCode) =>
    Effect.sync(() => {
      process.exitCode = exitCode
    }))
)
