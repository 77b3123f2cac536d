import { assert, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { fileURLToPath } from "node:url"
import { program, timeout } from "../../../test-support/programs.ts"
import { network, start } from "./support.ts"

it.live(
  "L-85 BOOT-10: without WebCrypto, EventSource, Web Locks and storage, a phone pairs and follows a run on its own layers",
  () =>
    Effect.gen(function*() {
      const cut = yield* Deferred.make<void>()
      const wire = yield* network(1)
      const server = yield* start({
        dpop: {},
        publicUrl: wire.url,
        program: ({ run }) =>
          Effect.gen(function*() {
            for (let n = 1; n <= 5; n++) {
              yield* run.append({ n })
              if (n === 2) yield* Deferred.await(cut)
            }
            return "done"
          })
      })
      wire.lead(server.port)
      const phone = yield* program(
        fileURLToPath(new URL("./programs/phone.ts", import.meta.url)),
        [wire.url, Redacted.value(yield* server.code())]
      )
      yield* Effect.orDie(phone.printed(/"n":2/))
      // It waits for minutes, unless it is told that the network is back.
      wire.lead(1)
      wire.cutAll()
      yield* Deferred.succeed(cut, undefined)
      wire.lead(server.port)
      assert.strictEqual((yield* phone.exit).code, 0, phone.stderr())
      assert.deepStrictEqual(phone.stdout().trim().split("\n").map((line) => JSON.parse(line)), [
        { left: [] },
        { authenticated: true },
        ...[1, 2, 3, 4, 5].map((n) => ({ n })),
        { status: "succeeded", result: "done" }
      ])
    }),
  timeout
)
