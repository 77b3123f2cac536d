import { assert, describe, it } from "@effect/vitest"
import { SallyportApi } from "@sallyport/contract/SallyportApi"
import * as Effect from "effect/Effect"
import { fuzz, surfaceOf } from "../../../test-support/fuzz.ts"
import { start } from "./support.ts"

describe("requests of any bytes", () => {
  it.live(
    "BOOT-11 C-01 C-02: get an answer from every endpoint, which is never a defect, and sign no one in",
    () =>
      Effect.gen(function*() {
        const server = yield* start()
        const surface = surfaceOf(SallyportApi)
        assert.isAbove(surface.routes.length, 20)
        yield* fuzz({
          port: server.port,
          surface,
          credentials: Effect.map(server.token({ subject: "fuzz" }), (token) => [`authorization: Bearer ${token}`]),
          runs: 1_500
        })
        assert.deepStrictEqual(server.logged.filter((line) => /"level":"(?:ERROR|FATAL)"/.test(line)), [])
        assert.deepStrictEqual((yield* server.sessions.list()).filter(({ session }) => session.subject !== "fuzz"), [])
      }),
    120_000
  )
})
