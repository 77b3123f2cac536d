/**
 * Runs a client: `node src/client.ts <state directory> <relay> <environment id> [one-time code of the relay]`.
 *
 * It signs in at the relay with its own key, asks for the environment, shows the verification code while it waits for
 * the owner, and goes on by itself: it follows the environment's access feed until its session ends. Every step is a
 * line of JSON. Exits with 3 if it was rejected, 4 if it is blocked, 5 if its approval was revoked or its session
 * ended, 6 if the owner did not decide in time, 7 if too many devices wait.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Access from "@sallyport/client/Access"
import * as Connect from "@sallyport/client/Connect"
import * as Connection from "@sallyport/client/Connection"
import * as Credentials from "@sallyport/client/Credentials"
import * as DeviceKey from "@sallyport/client/DeviceKey"
import * as SallyportClient from "@sallyport/client/SallyportClient"
import * as TokenStorage from "@sallyport/client/TokenStorage"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { join } from "node:path"

const [directory = "./client-state", relayUrl = "", environmentId = "", code] = process.argv.slice(2)

const tell = (step: Readonly<Record<string, unknown>>) => Console.log(JSON.stringify(step))

const tokenName = "relay-token"

/** Returns the token of the relay: a new one for a code, or the one of the last run. The relay uses no refresh tokens. */
const signIn = Effect.gen(function*() {
  const secrets = yield* SecretStore.SecretStore
  if (code === undefined) {
    const kept = Option.getOrUndefined(yield* secrets.get(tokenName))
    if (kept === undefined) return yield* Effect.die("Not signed in at the relay yet: give one of its one-time codes")
    return { token: Redacted.make(new TextDecoder().decode(Redacted.value(kept))) }
  }
  const tokens = yield* Connect.exchange({ url: relayUrl, credential: Redacted.make(code) })
  yield* secrets.set(tokenName, Redacted.make(new TextEncoder().encode(Redacted.value(tokens.token))))
  return tokens
})

/** Uses the session at the environment until it ends. */
const follow = Effect.gen(function*() {
  const { thumbprint } = yield* DeviceKey.DeviceKey
  const access = yield* Access.Access
  const { httpClient } = yield* Connection.Connection
  const { authenticated } = yield* access.state
  yield* tell({ step: "connected", thumbprint, authenticated })
  const feed = yield* httpClient.get("/api/auth/access")
  yield* tell({ step: "following", status: feed.status })
  yield* Effect.ignore(Stream.runDrain(feed.stream))
  const { reason } = yield* Effect.flip(access.sessions)
  yield* tell({ step: "ended", reason: reason._tag })
})

const exitCodes: Readonly<Partial<Record<Connect.ConnectErrorReason["_tag"], number>>> = {
  Rejected: 3,
  Blocked: 4,
  Revoked: 5,
  RequestExpired: 6,
  TooManyPending: 7
}

const program = Effect.gen(function*() {
  const { thumbprint } = yield* DeviceKey.DeviceKey
  const connected = yield* Connect.connect({
    relayUrl,
    environmentId,
    label: "The example's client",
    deviceType: "terminal",
    onWaiting: ({ verificationCode }) => tell({ step: "waiting", thumbprint, verificationCode })
  }).pipe(Effect.provide(Layer.provide(Credentials.layerDpop, TokenStorage.layerHolding(yield* signIn))))
  yield* Effect.provide(
    follow,
    SallyportClient.layer({
      baseUrl: connected.environmentUrl,
      credentials: Layer.provide(Credentials.layerDpop, TokenStorage.layerHolding(connected.tokens))
    })
  )
  return 5
}).pipe(
  Effect.catchTag(
    "ConnectError",
    ({ message, reason }) =>
      Effect.as(tell({ step: "failed", reason: reason._tag, message }), exitCodes[reason._tag] ?? 1)
  ),
  Effect.provide(DeviceKey.layerSecretStore),
  Effect.provide([FetchHttpClient.layer, SecretStore.layerFileSystem(join(directory, "secrets"))]),
  Effect.provide(Layer.merge(NodeCrypto.layer, NodeServices.layer))
)

NodeRuntime.runMain(
  Effect.flatMap(program, (exitCode) =>
    Effect.sync(() => {
      process.exitCode = exitCode
    }))
)
