/**
 * Runs the programs of the README, two nodes, the proxy and a reader, as processes on a real PostgreSQL server, and kills the
 * node that executes a run.
 */
import { assert, describe, it } from "@effect/vitest"
import { TestClient } from "@sallyport/testing/host"
import { Effect, Fiber, Queue, Redacted, Schema, Stream } from "effect"
import { FetchHttpClient } from "effect/http"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { url as newDatabase } from "../../../test-support/databases.ts"
import { program, timeout } from "../../../test-support/programs.ts"

const main = (name: string) => fileURLToPath(new URL(`../src/${name}.ts`, import.meta.url))

const startNode = Effect.fnUntraced(function*(database: string) {
  const running = yield* program(main("main"), [], {
    PORT: "0",
    SALLYPORT_DATABASE_URL: database,
    SALLYPORT_SECRET_KEY: "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA",
    STAGE_TAKES: "100 millis"
  })
  const link = new URL(yield* running.printed(/http:\S+#token=\S+/))
  return { ...running, url: link.origin, code: Redacted.make(link.hash.slice("#token=".length)) }
})

/** Starts two nodes, and the proxy before them. */
const cluster = Effect.gen(function*() {
  const database = yield* newDatabase
  const nodes = yield* Effect.all([startNode(database), startNode(database)], { concurrency: "unbounded" })
  const proxy = yield* program(main("proxyMain"), nodes.map(({ url }) => url), { PORT: "0" })
  return { nodes, url: yield* proxy.printed(/http:\S+/) }
})

const Stage = Schema.Struct({ stage: Schema.Int, node: Schema.Int })

describe("two nodes behind a proxy", () => {
  it("C-82: the README starts each program by a script of the package", () => {
    const read = (name: string) => readFileSync(new URL(`../${name}`, import.meta.url), "utf8")
    const scripts: { readonly scripts: Readonly<Record<string, string>> } = JSON.parse(read("package.json"))
    const started = Array.from(
      read("README.md").matchAll(/npm run (\S+) -w @sallyport-examples\/cluster/g),
      ([, name]) => name
    )
    assert.deepStrictEqual(new Set(started), new Set(Object.keys(scripts.scripts)))
  })

  it.live(
    "SESS-08 RUN-08 RUN-20 L-42: a device that is revoked at one is out at the other; one is killed, the other goes on with its run, and readers miss and repeat nothing",
    () =>
      Effect.gen(function*() {
        const { nodes: [first, second], url } = yield* cluster
        const owner = yield* TestClient.pair({ baseUrl: first.url, code: first.code })
        const device = yield* TestClient.pair({ baseUrl: second.url, code: second.code })
        const following = yield* device.feed.follow.pipe(Stream.runDrain, Effect.flip, Effect.forkScoped)
        assert.lengthOf(yield* owner.access.sessions, 2)
        yield* owner.access.revokeOtherSessions
        assert.strictEqual((yield* Fiber.join(following)).reason._tag, "Unauthorized")
        assert.isFalse((yield* device.access.refresh).authenticated)

        const shown = yield* owner.access.issueLink({})
        const reader = yield* program(main("readerMain"), [`${url}/pair#token=${Redacted.value(shown.code)}`])
        yield* reader.printed(/^succeeded$/m)
        assert.strictEqual((yield* reader.exit).code, 0)

        const { code } = yield* owner.access.issueLink({})
        const { runs } = yield* TestClient.pair({ baseUrl: url, code })
        const stages = 30
        const intent = yield* runs.intent({ threadId: "thread", input: { stages } })
        const { runId } = yield* runs.start(intent)

        /** Follows the run with one connection, which the proxy gives to the next node. */
        const follow = Effect.gen(function*() {
          const seen = yield* Queue.unbounded<typeof Stage.Type>()
          const all = yield* runs.follow({ runId }).pipe(
            Stream.tap((event) =>
              event._tag === "Data"
                ? Effect.flatMap(Schema.decodeUnknownEffect(Stage)(event.data), (stage) => Queue.offer(seen, stage))
                : Effect.void
            ),
            Stream.runCollect,
            Effect.forkScoped
          )
          return { all: Fiber.join(all), first: yield* Queue.take(seen) }
        })
        const readers = [yield* follow, yield* follow]
        const writer = readers[0]?.first.node
        assert.include([first.pid, second.pid], writer)
        yield* (writer === first.pid ? first : second).stop("SIGKILL")

        for (const reader of readers) {
          const events = yield* reader.all
          const done = events.flatMap((event) => event._tag === "Data" ? [event.data] : [])
          const found = yield* Schema.decodeUnknownEffect(Schema.Array(Stage))(done)
          assert.deepStrictEqual(
            found.map(({ stage }) => stage),
            Array.from({ length: stages }, (_, index) => index + 1)
          )
          assert.deepStrictEqual(new Set(found.map(({ node }) => node)), new Set([first.pid, second.pid]))
          const last = events.at(-1)
          assert.strictEqual(last?._tag === "End" && last.end.status, "succeeded")
        }
      }).pipe(Effect.scoped, Effect.provide(FetchHttpClient.layer)),
    timeout
  )
})
