/**
 * What a host without a compiler may do with any constructor of the public modules: call it with nothing, or with the wrong
 * thing. It is told so in words, or it works, but no error of the engine's comes from within.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Connection from "@sallyport/client/Connection"
import * as Credentials from "@sallyport/client/Credentials"
import * as RelayEnvironmentRepository from "@sallyport/connect/RelayEnvironmentRepository"
import * as RelayProofRepository from "@sallyport/connect/RelayProofRepository"
import * as Repositories from "@sallyport/core/Repositories"
import * as AccessFeed from "@sallyport/core/access/AccessFeed"
import * as AuthPolicy from "@sallyport/core/access/AuthPolicy"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as ConnectClientStore from "@sallyport/core/connect/ConnectClientStore"
import * as CredentialRequirements from "@sallyport/core/credentials/CredentialRequirements"
import * as CredentialScopeResolver from "@sallyport/core/credentials/CredentialScopeResolver"
import * as OrgMembership from "@sallyport/core/credentials/OrgMembership"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as SecretKeys from "@sallyport/core/secrets/SecretKeys"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as DurableStreamRepository from "@sallyport/durable-streams/DurableStreamRepository"
import * as DurableStreams from "@sallyport/durable-streams/DurableStreams"
import * as StreamSubscriptionRepository from "@sallyport/durable-streams/StreamSubscriptionRepository"
import * as StreamSubscriptions from "@sallyport/durable-streams/StreamSubscriptions"
import * as RunProgram from "@sallyport/http/RunProgram"
import * as Keyring from "@sallyport/node/Keyring"
import * as PgDatabase from "@sallyport/pg/PgDatabase"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpRouter from "effect/http/HttpRouter"
import * as Layer from "effect/Layer"
import * as KeyValueStore from "effect/persistence/KeyValueStore"
import * as Redacted from "effect/Redacted"
import * as NFS from "node:fs"
import * as NPath from "node:path"

const packages = NPath.join(import.meta.dirname, "../packages")

/** What adapters and services are built of, by those who have a compiler. */
const kit = /src\/(sql\/|ServiceOptions|Sweeper|Outage|WakeUps|HtmlDocument|LiveStream|WireFailure|access\/PairingUrl)/

/** The modules that hosts import. Components of React and the parts of the command are none. */
const modules = [
  "client",
  "connect",
  "contract",
  "core",
  "durable-streams",
  "http",
  "interop",
  "node",
  "pg",
  "sqlite-node",
  "web"
]
  .flatMap((name) =>
    NFS.globSync("**/*.ts", {
      cwd: NPath.join(packages, name, "src"),
      exclude: (path) => NPath.basename(path) === "internal"
    })
      .filter((file) => !/index\.ts$|\.d\.ts$|^internal/.test(file))
      .map((file) => NPath.join(packages, name, "src", file))
      .filter((file) => !kit.test(file))
  )
  .toSorted()

/** What layers may ask for, in memory. */
const Everything = Layer.mergeAll(
  RunProgram.layer(() => Effect.void),
  ConnectClientStore.layer,
  Layer.provideMerge(StreamSubscriptions.layer, DurableStreams.layer),
  CredentialScopeResolver.layer,
  Connection.layer({ baseUrl: "http://127.0.0.1:1" })
).pipe(
  Layer.provideMerge(Layer.mergeAll(
    AccessFeed.layer,
    BootstrapCredentialService.layer,
    SessionCredentialService.layer,
    RunEventLog.layer
  )),
  Layer.provideMerge(Layer.mergeAll(
    Repositories.layerMemory,
    SecretStore.layerMemory,
    DurableStreamRepository.layerMemory,
    StreamSubscriptionRepository.layerMemory,
    RelayEnvironmentRepository.layerMemory,
    RelayProofRepository.layerMemory,
    SecretKeys.layerKeys({ active: Redacted.make(Uint8Array.from({ length: 32 }, (_, index) => index)) }),
    Credentials.layerCookie,
    Layer.succeed(Keyring.Keyring, {
      read: () => Effect.succeedNone,
      write: () => Effect.void,
      remove: () => Effect.void
    }),
    PgDatabase.layer({ url: Redacted.make("postgres://ada@127.0.0.1:1/acme") }),
    AuthPolicy.layer({ host: "127.0.0.1" }),
    CredentialRequirements.layer([]),
    OrgMembership.layerNone,
    SqliteClient.layer({ filename: ":memory:" }),
    KeyValueStore.layerMemory,
    FetchHttpClient.layer,
    HttpRouter.layer,
    NodeHttpServer.layerHttpServices
  )),
  Layer.provideMerge(Layer.mergeAll(NodeServices.layer, NodeCrypto.layer))
)

/** Calls a constructor, and builds what it returns if that can be built. */
const build = (call: () => unknown): Effect.Effect<Exit.Exit<unknown, unknown>> =>
  Effect.exit(
    Effect.scoped(Effect.flatMap(Effect.sync(call), (made): Effect.Effect<unknown, unknown> => {
      // What it needs is provided around, or is an error that says so.
      const effect = Layer.isLayer(made) ? Layer.build(made) : Effect.isEffect(made) ? made : Effect.void
      return effect as Effect.Effect<unknown, unknown>
    })).pipe(Effect.timeout("2 seconds"))
  )

const textOf = (reason: Cause.Reason<unknown>): string =>
  String(reason._tag === "Fail" ? reason.error : reason._tag === "Die" ? reason.defect : reason._tag)

/** Says what was thrown by the engine in place of words for the host. */
const engineErrors = (exit: Exit.Exit<unknown, unknown>): ReadonlyArray<string> =>
  Exit.isSuccess(exit)
    ? []
    : exit.cause.reasons.flatMap((reason) => {
      const error = reason._tag === "Fail" ? reason.error : reason._tag === "Die" ? reason.defect : undefined
      return error instanceof TypeError || error instanceof RangeError || error instanceof ReferenceError
        ? [`${error.stack}`.split("\n").slice(0, 4).join("\n")]
        : []
    })

describe("OPS-06: a constructor that is called as its types forbid", () => {
  const calls = [[], [{}], [42]]

  for (const file of modules) {
    it.live(NPath.relative(packages, file), () =>
      Effect.gen(function*() {
        const module: Record<string, unknown> = yield* Effect.promise(() => import(file))
        const found: Array<string> = []
        for (const [name, value] of Object.entries(module)) {
          if (!/^(layer|make)/.test(name) || typeof value !== "function") continue
          for (const args of calls) {
            const exit = yield* build(() => value(...args))
            // The options of migrations are copied into others, in which a number is nothing.
            if (args[0] === 42 && Exit.isSuccess(exit) && name !== "layerMigrations") found.push(`${name}(42) works`)
            for (const error of engineErrors(exit)) {
              found.push(`${name}(${JSON.stringify(args).slice(1, -1)}): ${error}`)
            }
          }
          if (Exit.isSuccess(yield* build(() => value({})))) {
            const misspelt = yield* build(() => value({ optoin: 1 }))
            const said = Exit.isSuccess(misspelt) ? "nothing" : misspelt.cause.reasons.map(textOf).join()
            if (!/\boptoin is not an option/.test(said)) found.push(`${name}({ optoin: 1 }) says ${said}`)
          }
        }
        assert.deepStrictEqual(found, [])
      }).pipe(Effect.provide(Everything)))
  }
})
