import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { fuzz, streamNames, streamRoutes } from "../../../test-support/fuzz.ts"
import { persistences, start } from "./support.ts"

describe.each(persistences)("requests of any bytes ($name)", ({ layer }) => {
  it.live(
    "BOOT-11 C-06 C-24: get an answer from every endpoint of streams, which is never a defect",
    () =>
      Effect.gen(function*() {
        const server = yield* start({ repositories: layer })
        const authorization = `authorization: Bearer ${yield* server.token("fuzz")}`
        const lifetimes = ["4320000000000", "4320000000001", "9007199254740", "9".repeat(400)]
        const created = yield* Effect.forEach(lifetimes, (ttl) =>
          Effect.promise(async () => {
            const headers = { authorization: authorization.slice(15), "content-type": "text/plain", "stream-ttl": ttl }
            return (await fetch(`${server.url}/streams/owner`, { method: "PUT", headers, body: "x" })).status
          }))
        assert.deepStrictEqual(created, [201, 400, 400, 400])
        yield* fuzz({
          port: Number(new URL(server.url).port),
          surface: { routes: streamRoutes, names: streamNames },
          credentials: Effect.succeed([authorization]),
          runs: 600
        })
      }),
    120_000
  )
})
