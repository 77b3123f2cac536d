/** Mounts Sallyport in each of the other ways, and checks over real sockets what is where. */
import { NodeCrypto, NodeHttpServer, NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import {
  AuthPolicy,
  BootstrapCredentialService,
  PairingCode,
  Repositories,
  RunEventLog,
  SecretStore,
  SessionCredentialService
} from "@sallyport/core"
import { RunProgram } from "@sallyport/http"
import { SqliteClient } from "@sallyport/sqlite-node"
import { ConfigProvider, Context, Effect, FileSystem, Layer, Logger, Redacted } from "effect"
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
  it.live("AGENT-06: identities are taken at the token endpoint of the API, from the issuers that are named", () =>
    Effect.gen(function*() {
      const base = HttpServer.formatAddress((yield* HttpServer.HttpServer).address)
      const descriptionOf = (fields: Readonly<Record<string, string>>) =>
        Effect.promise(async () => {
          const answer = await fetch(`${base}/oauth/token`, {
            method: "POST",
            headers: { connection: "close", "x-forwarded-user": "ada" },
            body: new URLSearchParams({
              grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
              ...fields
            })
          })
          return String(Object(await answer.json()).error_description)
        })
      const stranger = `${btoa(JSON.stringify({ alg: "RS256" }))}.${
        btoa(JSON.stringify({ iss: "https://b.example" }))
      }.AA`
      assert.include(
        yield* descriptionOf({
          subject_token: stranger.replaceAll("=", ""),
          subject_token_type: "urn:ietf:params:oauth:token-type:id_token"
        }),
        "no such issuer"
      )
      assert.include(
        yield* descriptionOf({
          subject_token: "x-forwarded-user",
          subject_token_type: "urn:sallyport:token-type:proxy-header"
        }),
        "did not come from its proxy"
      )
    }).pipe(
      Effect.provide(HttpRouter.serve(Variants.withIdentities, { disableListenLog: true, disableLogger: true })),
      Effect.provide(layerServices),
      Effect.provide(layerPlatform)
    ))

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

  it.live("with strict sessions, a token is refreshed, and its session ends an hour after its last use", () =>
    Effect.gen(function*() {
      const sessions = yield* SessionCredentialService.SessionCredentialService
      const issued = yield* sessions.issue({ subject: "ada", scopes: [], method: "bearer-access-token" })
      const { createdAt, expiresAt } = issued.session
      assert.strictEqual(expiresAt.epochMilliseconds - createdAt.epochMilliseconds, 3_600_000)
      assert.strictEqual(issued.tokenExpiresAt.epochMilliseconds - createdAt.epochMilliseconds, 600_000)
      const refreshed = yield* sessions.refresh(issued.refreshToken ?? Redacted.make(""))
      assert.strictEqual(refreshed.session.id, issued.session.id)
    }).pipe(
      Effect.provide(Variants.strictSessions),
      Effect.provide(layerServices),
      Effect.provide(layerPlatform)
    ))

  it.live("from variables, everything is where they say", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const directory = yield* fs.makeTempDirectoryScoped()
      const context = yield* Layer.build(Variants.fromVariables).pipe(
        Effect.provideService(
          ConfigProvider.ConfigProvider,
          ConfigProvider.fromUnknown({
            SALLYPORT_POLICY: "desktop-managed-local",
            SALLYPORT_SECRETS_DIRECTORY: `${directory}/secrets`,
            SALLYPORT_SQLITE_FILENAME: `${directory}/app.db`,
            SALLYPORT_SESSION_LIFETIME: "2 hours"
          })
        )
      )
      const { session } = yield* Context.get(context, SessionCredentialService.SessionCredentialService).issue({
        subject: "ada",
        scopes: [],
        method: "bearer-access-token"
      })
      assert.strictEqual(session.expiresAt.epochMilliseconds - session.createdAt.epochMilliseconds, 7_200_000)
      assert.strictEqual(Context.get(context, AuthPolicy.AuthPolicy).kind, "desktop-managed-local")
      assert.includeMembers(yield* fs.readDirectory(directory), ["app.db", "secrets"])
    }).pipe(Effect.scoped, Effect.provide([NodeServices.layer, NodeCrypto.layer])))

  it.live("with limits in the database, two nodes count together", () =>
    Effect.gen(function*() {
      const node = Effect.map(
        Layer.build(Layer.fresh(Variants.sharedLimits)),
        (context) => Context.get(context, BootstrapCredentialService.BootstrapCredentialService)
      )
      const nodes = [yield* node, yield* node] as const
      const attempt = (index: number) =>
        Effect.flatMap(PairingCode.generate("device"), (credential) =>
          Effect.map(
            Effect.flip(
              (nodes[index % 2] ?? nodes[0]).redeem({
                credential,
                method: "bearer-access-token",
                source: "198.51.100.7"
              })
            ),
            ({ reason }) => reason._tag
          ))
      const answers = yield* Effect.forEach([0, 1, 2, 3, 4, 5], attempt)
      assert.deepStrictEqual(answers, [...Array.from({ length: 5 }, () => "InvalidCredential"), "TooManyAttempts"])
    }).pipe(
      Effect.scoped,
      Effect.provide(SqliteClient.layer({ filename: ":memory:" })),
      Effect.provide(layerServices),
      Effect.provide(layerPlatform),
      Effect.provide(Logger.layer([]))
    ))

  it.live("behind proxies, with RPCs beside it, every route is the same", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(
        yield* statuses(Variants.behindProxies, ["/pair", "/api/auth/session", "/api/auth/sessions"]),
        [200, 200, 401]
      )
      const answer = yield* Effect.gen(function*() {
        const base = HttpServer.formatAddress((yield* HttpServer.HttpServer).address)
        return yield* HttpClient.post(`${base}/rpc`)
      }).pipe(
        Effect.provide(HttpRouter.serve(Variants.noteRpcs, { disableListenLog: true, disableLogger: true })),
        Effect.provide(layerServices),
        Effect.provide(layerPlatform)
      )
      assert.strictEqual(answer.status, 401)
    }))

  it.live("as a web-standard handler it answers requests that came over no socket", () =>
    Effect.gen(function*() {
      const { dispose, handler } = Variants.toWebHandler(
        Layer.provide(layerServices, NodeCrypto.layer).pipe(
          Layer.merge(NodeCrypto.layer)
        )
      )
      yield* Effect.addFinalizer(() => Effect.promise(dispose))
      const status = (path: string) =>
        Effect.map(
          Effect.promise(() => handler(new Request(`https://notes.example${path}`))),
          (answer) => answer.status
        )
      assert.deepStrictEqual(
        yield* Effect.forEach(["/pair", "/api/auth/session", "/api/auth/sessions"], status),
        [200, 200, 401]
      )
    }).pipe(Effect.scoped))

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
