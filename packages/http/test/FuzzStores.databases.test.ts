/**
 * The same requests of any bytes as in `Fuzz.test.ts`, answered from databases, which have opinions of their own on text.
 */
import { assert, describe, it } from "@effect/vitest"
import { SallyportApi } from "@sallyport/contract/SallyportApi"
import * as Effect from "effect/Effect"
import { startNode } from "../../core/test/nodes.ts"
import { sharedDatabases } from "../../../test-support/databases.ts"
import { fuzz, probe, surfaceOf } from "../../../test-support/fuzz.ts"

describe("requests of any bytes to a server on a database", () => {
  for (const { database, name } of sharedDatabases) {
    it.live(
      `BOOT-11 RUN-24 C-01 C-02: get an answer from every endpoint, which is no fault of the store (${name})`,
      () =>
        Effect.gen(function*() {
          const node = yield* startNode(yield* database)
          const surface = surfaceOf(SallyportApi)
          assert.isAbove(surface.routes.length, 20)
          // Some requests end the session that they are made with.
          const credentials = Effect.map(node.issue("fuzz"), ({ token }) => [`authorization: Bearer ${token}`])
          assert.isAbove(yield* probe({ port: node.port, surface, credentials }), 500)
          yield* fuzz({ port: node.port, surface, credentials, runs: 300, anonymous: false })
        }),
      120_000
    )
  }
})
