/**
 * Identities that are exchanged at two servers on one database, on every database.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it } from "@effect/vitest"
import { ReplayRepository } from "@sallyport/core/access/ReplayRepository"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as SqlRepositories from "@sallyport/core/SqlRepositories"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { audience, exchange, startIssuer, startServer } from "./identitySupport.ts"
import { bearer } from "./support.ts"
import { databases } from "../../../test-support/databases.ts"

describe("identities at two servers on one database", () => {
  for (const { layer, name } of databases) {
    it.live(
      `AGENT-06: a token is good once at all of them, and its session says who let it in (${name})`,
      () =>
        Effect.gen(function*() {
          const store = yield* Layer.build(
            Layer.merge(Layer.provide(SqlRepositories.layer, layer), SecretStore.layerMemory).pipe(
              Layer.provide(NodeCrypto.layer)
            )
          )
          const issuer = yield* startIssuer()
          const node = startServer(
            { issuers: [{ issuer: issuer.issuer, audiences: [audience] }] },
            {
              repositories: Layer.succeedContext(store),
              replays: Layer.succeed(ReplayRepository, Context.get(store, ReplayRepository))
            }
          )
          const [one, other] = [yield* node, yield* node]
          for (const claims of [{}, { jti: undefined }]) {
            const token = yield* issuer.sign(claims)
            const answers = yield* Effect.all(
              Array.from({ length: 6 }, (_, n) => exchange(n % 2 === 0 ? one : other, token)),
              { concurrency: "unbounded" }
            )
            assert.deepStrictEqual(answers.map(({ status }) => status).sort(), [200, 400, 400, 400, 400, 400])
            const access = String(answers.find(({ status }) => status === 200)?.json.access_token)
            for (const server of [one, other]) {
              const { json } = yield* server.send({ path: "/api/auth/session", headers: bearer(access) })
              assert.deepStrictEqual(Object(json.session).letInBy, {
                actor: `issuer:${issuer.issuer}`,
                sessionId: null,
                linkId: null
              })
            }
          }
        }),
      120_000
    )
  }
})
