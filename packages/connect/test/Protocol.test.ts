/**
 * A relay whose environments answer with anything but an answer: it follows no redirect, waits only so long, and reads only
 * so much.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it } from "@effect/vitest"
import * as EnvironmentConnector from "@sallyport/connect/EnvironmentConnector"
import * as Identity from "@sallyport/connect/Identity"
import * as SecretStore from "@sallyport/core/SecretStore"
import { linked } from "@sallyport/core/RelayEnvironmentRepository"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Http from "node:http"

/** An environment of the test's own making, which answers as a test says. */
const fakeEnvironment = (answer: (response: Http.ServerResponse) => void) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly server: Http.Server; readonly url: string }>((resume) => {
      const server = Http.createServer((request, response) => {
        request.resume().on("end", () => answer(response))
      })
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        const port = typeof address === "object" ? address?.port : undefined
        resume(Effect.succeed({ server, url: `http://127.0.0.1:${port}` }))
      })
    }),
    ({ server }) =>
      Effect.promise(() => {
        server.closeAllConnections()
        return new Promise((resolve) => server.close(resolve))
      })
  )

const Relay = EnvironmentConnector.layerWith({ timeout: "300 millis" }).pipe(
  Layer.provideMerge(Layer.fresh(SecretStore.layerMemory)),
  Layer.provideMerge(NodeCrypto.layer)
)

describe("a relay's connector", () => {
  it.live("takes no redirect, no silence and no flood for an answer", () =>
    Effect.gen(function*() {
      const connector = yield* EnvironmentConnector.EnvironmentConnector
      const key = yield* Identity.load(Identity.environmentKeyName)
      let elsewhere = 0
      const target = yield* fakeEnvironment((response) => {
        elsewhere++
        response.end("{}")
      })
      const behaviours: ReadonlyArray<(response: Http.ServerResponse) => void> = [
        (response) => response.writeHead(307, { location: `${target.url}/` }).end(),
        (response) => response.writeHead(302, { location: `${target.url}/` }).end(),
        () => undefined,
        (response) => response.write("{"),
        (response) => {
          const flood = () => {
            while (response.write("x".repeat(65_536)));
            response.once("drain", flood)
          }
          flood()
        },
        (response) => response.writeHead(500).end("{}"),
        (response) => response.end("no json")
      ]
      for (const behave of behaviours) {
        const { url } = yield* fakeEnvironment((response) => behave(response))
        const error = yield* Effect.flip(connector.health(linked({
          id: "environment",
          account: "ada",
          url,
          keyX: key.publicKey.x,
          keyId: key.publicKey.kid,
          relayKeyId: null,
          linkedAtMillis: 0
        })))
        assert.strictEqual(error._tag, "ConnectorError")
      }
      assert.strictEqual(elsewhere, 0)
    }).pipe(Effect.scoped, Effect.provide(Relay)), 60_000)
})
