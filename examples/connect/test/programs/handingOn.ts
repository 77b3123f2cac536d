/**
 * Runs a client that hands on what it got: `node handingOn.ts <state directory> <relay> <environment id> [code]`.
 *
 * It connects as the example's client does. Then it issues a pairing link and redeems it as a plain bearer session, issues
 * a link from each of the two, and tells the bearer token and both codes.
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

const signIn = Effect.gen(function*() {
  const secrets = yield* SecretStore.SecretStore
  if (code === undefined) {
    const kept = Option.getOrThrow(yield* secrets.get(tokenName))
    return { token: Redacted.make(new TextDecoder().decode(Redacted.value(kept))) }
  }
  const tokens = yield* Connect.exchange({ url: relayUrl, credential: Redacted.make(code) })
  yield* secrets.set(tokenName, Redacted.make(new TextEncoder().encode(Redacted.value(tokens.token))))
  return tokens
})

const clientOf = <E, R>(baseUrl: string, credentials: Layer.Layer<Credentials.Credentials, E, R>) =>
  SallyportClient.layer({ baseUrl, credentials })

const handOn = Effect.fnUntraced(function*(baseUrl: string) {
  const { thumbprint } = yield* DeviceKey.DeviceKey
  const access = yield* Access.Access
  const { httpClient } = yield* Connection.Connection
  const first = yield* access.issueLink()
  const storage = TokenStorage.layerMemory
  const bearer = yield* Effect.gen(function*() {
    const child = yield* Access.Access
    yield* child.pair({ code: first.code })
    const { code } = yield* child.issueLink()
    const { token } = Option.getOrThrow(yield* (yield* TokenStorage.TokenStorage).tokens)
    return { code: Redacted.value(code), token: Redacted.value(token) }
  }).pipe(
    Effect.provide(
      clientOf(baseUrl, Credentials.layerBearer).pipe(Layer.provideMerge(storage)),
      { local: true }
    )
  )
  const { code } = yield* access.issueLink()
  yield* tell({ step: "handedOn", thumbprint, token: bearer.token, codes: [bearer.code, Redacted.value(code)] })
  const feed = yield* httpClient.get("/api/auth/access")
  yield* Effect.ignore(Stream.runDrain(feed.stream))
  yield* tell({ step: "ended" })
})

const program = Effect.gen(function*() {
  const { thumbprint } = yield* DeviceKey.DeviceKey
  const { environmentUrl, tokens } = yield* Connect.connect({
    relayUrl,
    environmentId,
    onWaiting: ({ verificationCode }) => tell({ step: "waiting", thumbprint, verificationCode })
  }).pipe(Effect.provide(Layer.provide(Credentials.layerDpop, TokenStorage.layerHolding(yield* signIn))))
  yield* Effect.provide(
    handOn(environmentUrl),
    clientOf(environmentUrl, Layer.provide(Credentials.layerDpop, TokenStorage.layerHolding(tokens)))
  )
}).pipe(
  Effect.provide(DeviceKey.layerSecretStore),
  Effect.provide([FetchHttpClient.layer, SecretStore.layerFileSystem(join(directory, "secrets"))]),
  Effect.provide(Layer.merge(NodeCrypto.layer, NodeServices.layer))
)

NodeRuntime.runMain(program)
