import { NodeCrypto } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Access, AccessFeed, Credentials, Runs, SallyportClient, TokenStorage } from "@sallyport/client"
import { Context, Deferred, Effect, Fiber, Layer, Redacted, Stream } from "effect"
import { FetchHttpClient } from "effect/http"
import { copyFileSync, existsSync } from "node:fs"
import { createRequire } from "node:module"
import { dirname, join } from "node:path"
import { build } from "vite"
import { started, temporaryDirectory, timeout } from "../../../test-support/programs.ts"

const example = join(import.meta.dirname, "..")
const source = (name: string) => join(example, `src/${name}.ts`)

/**
 * Finds a runtime where its package for this machine put it, or where the install script of its owner moved it: npm may run
 * such scripts or not, and without it the owner's own command refuses to start.
 */
const runtimeOf = (owner: string, packages: Readonly<Record<string, string>>, file: string, moved = file): string => {
  const name = packages[`${process.platform} ${process.arch}`]
  assert(name !== undefined, `there is no ${owner} for ${process.platform} ${process.arch}`)
  const manifest = createRequire(import.meta.url).resolve(`${owner}/package.json`)
  const program = join(dirname(createRequire(manifest).resolve(`${name}/package.json`)), file)
  return existsSync(program) ? program : join(dirname(manifest), moved)
}

const bun = () =>
  runtimeOf(
    "bun",
    {
      "darwin arm64": "@oven/bun-darwin-aarch64",
      "darwin x64": "@oven/bun-darwin-x64",
      "linux arm64": "@oven/bun-linux-aarch64",
      "linux x64": "@oven/bun-linux-x64"
    },
    "bin/bun",
    "bin/bun.exe"
  )

const deno = () =>
  runtimeOf("deno", {
    "darwin arm64": "@deno/darwin-arm64",
    "darwin x64": "@deno/darwin-x64",
    "linux arm64": "@deno/linux-arm64-glibc",
    "linux x64": "@deno/linux-x64-glibc"
  }, "deno")

const workerd = () =>
  runtimeOf("workerd", {
    "darwin arm64": "@cloudflare/workerd-darwin-arm64",
    "darwin x64": "@cloudflare/workerd-darwin-64",
    "linux arm64": "@cloudflare/workerd-linux-arm64",
    "linux x64": "@cloudflare/workerd-linux-64"
  }, "bin/workerd")

const condition = "--conditions=sallyport-source"

/** Starts a server with its state in a directory. */
const runtimes = {
  node: (directory: string) => started(process.execPath, [condition, source("node"), `${directory}/state.db`, "0"]),
  bun: (directory: string) => started(bun(), [condition, source("bun"), `${directory}/state.db`, "0"]),
  deno: (directory: string) =>
    started(deno(), ["run", "--allow-all", condition, source("deno"), `${directory}/state.db`, "0"], {
      DENO_DIR: `${directory}/deno`,
      DENO_NO_UPDATE_CHECK: "1"
    }),
  workerd: (directory: string) =>
    Effect.gen(function*() {
      const outDir = join(directory, "dist")
      yield* Effect.promise(() => build({ root: example, logLevel: "error", build: { outDir } }))
      // It embeds the program that lies beside it.
      const configuration = join(directory, "workerd.capnp")
      yield* Effect.sync(() => copyFileSync(join(example, "workerd.capnp"), configuration))
      return yield* started(workerd(), ["serve", configuration, "--socket-addr=http=127.0.0.1:0", "--control-fd=1"])
    })
}

const addressOf = Effect.fnUntraced(function*(server: Effect.Success<ReturnType<typeof started>>) {
  const line = yield* server.printed(/^Listening on (\S+)$|"port":(\d+)/m)
  const port = /(\d+)$/.exec(line)?.[1]
  return `http://127.0.0.1:${port}`
})

/** A device with a place for its token. */
const device = (baseUrl: string, storage: Layer.Layer<TokenStorage.TokenStorage> = TokenStorage.layerMemory) =>
  Layer.build(
    SallyportClient.layer({ baseUrl, credentials: Layer.provide(Credentials.layerBearer, storage) }).pipe(
      Layer.provide([FetchHttpClient.layer, NodeCrypto.layer])
    )
  )

describe("the handler in each runtime", () => {
  for (const [name, start] of Object.entries(runtimes)) {
    it.live(
      `HTTP-06 in ${name}: lets its first device in, which lets in another and revokes it`,
      () =>
        Effect.gen(function*() {
          const directory = yield* temporaryDirectory
          const server = yield* start(directory)
          const baseUrl = yield* addressOf(server)
          const kept = Layer.succeedContext(yield* Layer.build(TokenStorage.layerMemory))
          const access = Context.get(yield* device(baseUrl, kept), Access.Access)
          assert.isFalse((yield* access.state).authenticated)
          const code = (yield* server.printed(/with the code \S+$/m)).split(" ").at(-1) ?? ""
          yield* access.pair({ code: Redacted.make(code) })
          assert.isTrue((yield* access.state).authenticated)
          // A code works once.
          const late = Context.get(yield* device(baseUrl), Access.Access)
          const refusal = yield* Effect.flip(late.pair({ code: Redacted.make(code) }))
          assert.strictEqual(refusal.reason._tag, "OAuthError")

          const second = yield* device(baseUrl)
          const its = Context.get(second, Access.Access)
          const link = yield* access.issueLink({
            label: "second",
            scopes: ["access:read", "runs:read", "runs:operate"]
          })
          yield* its.pair({ code: link.code })
          const runs = Context.get(second, Runs.Runs)
          const { runId } = yield* runs.start(yield* runs.intent({ threadId: "t", input: { hello: name } }))
          const events = yield* Stream.runCollect(runs.follow({ runId, after: 0 }))
          assert.deepStrictEqual(events.map((event) => event._tag === "End" ? event.end.status : event.data), [
            { hello: name },
            "succeeded"
          ])

          // It follows who has access, until it has none.
          const seen = yield* Deferred.make<void>()
          const following = yield* Context.get(second, AccessFeed.AccessFeed).follow.pipe(
            Stream.runForEach((view) => view.devices.length === 2 ? Deferred.succeed(seen, undefined) : Effect.void),
            Effect.flip,
            Effect.forkScoped
          )
          yield* Deferred.await(seen)
          const session = (yield* access.sessions).find(({ device }) => device.label === "second")
          assert(session !== undefined)
          yield* access.revokeSession(session.id)
          assert.strictEqual((yield* Fiber.join(following)).reason._tag, "Unauthorized")
          assert.strictEqual((yield* Effect.flip(its.sessions)).reason._tag, "Unauthorized")
          assert.deepStrictEqual((yield* access.sessions).map(({ device }) => device.label), [null])

          if (name === "workerd") return
          // The others end in order, and a server on the same database knows the device.
          assert.deepStrictEqual(yield* server.stop("SIGINT"), { code: name === "node" ? 130 : 0, signal: null })
          const later = yield* device(yield* addressOf(yield* start(directory)), kept)
          const sessions = yield* Context.get(later, Access.Access).sessions
          assert.deepStrictEqual(sessions.map(({ device }) => device.label), [null])
        }).pipe(Effect.scoped),
      timeout
    )
  }
})
