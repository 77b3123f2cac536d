/**
 * Mounts Sallyport in each of the other ways, and asks over real sockets what is where.
 */
import { NodeCrypto, NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import {
  AuthPolicy,
  BootstrapCredentialService,
  Repositories,
  RunEventLog,
  SecretStore,
  SessionCredentialService
} from "@sallyport/core"
import { RunProgram } from "@sallyport/http"
import { SqliteClient } from "@sallyport/sqlite-node"
import { Effect, Layer } from "effect"
import { FetchHttpClient, HttpClient, HttpRouter, HttpServer } from "effect/http"
import { SqlClient } from "effect/sql"
import { createServer } from "node:http"
import * as Variants from "../src/Variants.ts"

const layerServices = Layer.mergeAll(
  BootstrapCredentialService.layer,
  SessionCredentialService.layer,
  RunEventLog.layer,
  RunProgram.layer(({ input }) => Effect.succeed(input))
).pipe(
  Layer.provideMerge(Layer.merge(Repositories.layerMemory, SecretStore.layerMemory)),
  Layer.provideMerge(AuthPolicy.layer({ host: "127.0.0.1" }))
)

/** Returns the status that each request gets from a server with these routes. */
const statuses = <E>(
  routes: Layer.Layer<
    never,
    E,
    HttpRouter.HttpRouter | Layer.Success<typeof layerServices> | Layer.Success<typeof layerPlatform>
  >,
  paths: ReadonlyArray<string>
) =>
  Effect.gen(function*() {
    const base = HttpServer.formatAddress((yield* HttpServer.HttpServer).address)
    return yield* Effect.forEach(paths, (path) => Effect.map(HttpClient.get(`${base}${path}`), ({ status }) => status))
  }).pipe(
    Effect.provide(HttpRouter.serve(routes, { disableListenLog: true, disableLogger: true })),
    Effect.provide(layerServices),
    Effect.provide(layerPlatform)
  )

const layerPlatform = Layer.mergeAll(
  NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 }),
  NodeCrypto.layer,
  FetchHttpClient.layer
)

describe("variants of the mount", () => {
  it.live("below a prefix everything moves, the pairing page included", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(
        yield* statuses(Variants.underPrefix, [
          "/sallyport/pair",
          "/sallyport/api/auth/session",
          "/sallyport/api/auth/sessions",
          "/sallyport/api/openapi.json",
          "/pair",
          "/api/auth/session"
        ]),
        [200, 200, 401, 200, 404, 404]
      )
    }))

  it.live("by group, only what was asked for is there", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(
        yield* statuses(Variants.withoutPairing, [
          "/api/auth/session",
          "/api/threads/one/active-run",
          "/api/auth/pairing-links",
          "/pair"
        ]),
        [200, 401, 404, 404]
      )
    }))

  it.live("with a prefix of its own, every table has it", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* Effect.provide(Effect.void, Variants.ownTables)
      const tables = yield* sql<{ readonly name: string }>`SELECT name FROM sqlite_master WHERE type = 'table'`
      const names = tables.map(({ name }) => name).filter((name) => !name.startsWith("sqlite_"))
      assert.include(names, "acme_sessions")
      assert.deepStrictEqual(names.filter((name) => !name.startsWith("acme_")), [])
    }).pipe(Effect.provide(SqliteClient.layer({ filename: ":memory:" }))))
})
