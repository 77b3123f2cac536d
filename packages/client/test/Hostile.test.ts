/** A server that answers whatever it likes, over real sockets: what the client reads is a value or a typed error. */
import { assert, describe, it } from "@effect/vitest"
import * as AccessFeed from "@sallyport/client/AccessFeed"
import * as Approval from "@sallyport/client/Approval"
import { ClientError } from "@sallyport/client/ClientError"
import * as Credentials from "@sallyport/client/Credentials"
import { RunsError } from "@sallyport/client/RunsError"
import * as SallyportClient from "@sallyport/client/SallyportClient"
import * as TokenStorage from "@sallyport/client/TokenStorage"
import { SessionId } from "@sallyport/core/access/Session"
import * as Access from "@sallyport/client/Access"
import * as Runs from "@sallyport/client/Runs"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as KeyValueStore from "effect/persistence/KeyValueStore"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as fc from "fast-check"
import { impatient, pretend } from "./support.ts"

const bearer = Layer.provide(Credentials.layerBearer, TokenStorage.layerMemory)
const connect = (baseUrl: string) =>
  Layer.build(
    SallyportClient.layer({ baseUrl, credentials: bearer, runs: { ...impatient, maxAttempts: 2 } }).pipe(
      Layer.provide([FetchHttpClient.layer, SecureRandom.layerWebCrypto])
    )
  )

const names =
  "authenticated subject session sessions links clients client next runs run runId threadId status lastSeq id"
    .concat(
      " event data revision pairingLinks connectClients mode code message retryable _tag access_token expires_in __proto__"
    )
    .split(" ")
const value = fc.oneof(
  fc.constantFrom<unknown>(null, true, -1, 0, 1e308, 1.5, "", "a", "\ud800", "1970-01-01T00:00:00Z", [], {}, [{}], [
    []
  ]),
  fc.jsonValue({ maxDepth: 3 })
)
const object = fc.dictionary(fc.constantFrom(...names), value, { maxKeys: 8 })
const json = fc.oneof(object.map((fields) => JSON.stringify(fields)), fc.json(), fc.string({ unit: "binary" }))
const kinds = [
  "snapshot",
  "sessionUpserted",
  "sessionRemoved",
  "revisionAdvanced",
  "failure",
  "data",
  "end",
  "run",
  "stop"
]
const event = fc.tuple(
  fc.constantFrom("", "1", "x", "\0", "9".repeat(400)),
  fc.constantFrom(...kinds, "toString"),
  json
)
  .map(([id, name, data]) => `id: ${id}\nevent: ${name}\ndata: ${data}\n\n`)
const answer = fc.record({
  status: fc.constantFrom(200, 200, 200, 201, 204, 400, 401, 404, 409, 429, 500),
  type: fc.constantFrom("application/json", "text/event-stream", "text/html"),
  text: fc.oneof(json, fc.array(event, { maxLength: 4 }).map((events) => events.join("")))
})

describe("an answer of a hostile server", () => {
  it.live(
    "BOOT-11 L-15: is a value or a typed error, whatever it is, of every operation",
    () =>
      Effect.gen(function*() {
        let now: { readonly status: number; readonly type: string; readonly text: string } | undefined
        const server = yield* pretend((_, response) => {
          response.writeHead(now?.status ?? 500, { "content-type": now?.type ?? "text/plain", "retry-after": "0" })
          response.end(now?.text)
        })
        const context = yield* Effect.orDie(connect(server.url))
        const operations = Effect.gen(function*() {
          const access = yield* Access.Access
          const approval = yield* Approval.Approval
          const runs = yield* Runs.Runs
          const feed = yield* AccessFeed.AccessFeed
          const code = Redacted.make("ABCDEFGHJKLM")
          return [
            access.refresh,
            access.preview(code),
            access.pair({ code }),
            access.sessions,
            access.links,
            access.history(),
            access.issueLink(),
            access.revokeOtherSessions,
            access.renameSession(SessionId.make("a"), "b"),
            approval.clients,
            approval.mode,
            runs.list(),
            runs.get("a"),
            runs.active("a"),
            runs.abort("a"),
            Stream.runDrain(Stream.take(runs.follow({ runId: "a" }), 4)),
            Stream.runDrain(Stream.take(runs.followAll(), 4)),
            Stream.runDrain(Stream.take(feed.follow, 4))
          ]
        }).pipe(Effect.provideContext(context))
        const all: ReadonlyArray<Effect.Effect<unknown, unknown>> = yield* operations
        yield* Effect.promise(() =>
          fc.assert(
            fc.asyncProperty(answer, fc.nat(all.length - 1), async (next, index) => {
              now = next
              const operation = all[index] ?? Effect.void
              // A client waits for a server that may come back, and follows one that goes on.
              await Effect.runPromise(operation.pipe(
                Effect.timeoutOption("300 millis"),
                Effect.catch((error) =>
                  error instanceof ClientError || error instanceof RunsError ? Effect.void : Effect.die(error)
                )
              ))
            }),
            { numRuns: 300, endOnFailure: true }
          )
        )
      }),
    240_000
  )

  it.live("HTTP-09: is read to a length, to so many parts, and to so many pages", () =>
    Effect.gen(function*() {
      let asked = 0
      let text = ""
      const server = yield* pretend((_, response) => {
        asked++
        response.writeHead(200, { "content-type": "application/json" })
        response.end(text)
      })
      const access = yield* Effect.map(Effect.orDie(connect(server.url)), (context) =>
        Effect.provideContext(Access.Access, context))
      const reasonOf = Effect.map(
        Effect.flip(Effect.flatMap(access, ({ sessions }) =>
          sessions)),
        ({ reason }) => reason
      )
      for (const long of ["[" + " ".repeat(1_048_576), `[${"[],".repeat(16_384)}1]`]) {
        text = long
        assert.deepInclude(yield* reasonOf, { _tag: "Unreachable", failure: "garbled" })
      }
      asked = 0
      text = JSON.stringify({ sessions: [], next: "on" })
      assert.deepInclude(yield* reasonOf, { _tag: "UnexpectedAnswer", message: "The server's list has no end" })
      assert.strictEqual(asked, 1_000)
    }), 60_000)
})

describe("what a browser stores", () => {
  it.effect("BOOT-11: is tokens, or a typed error that does not hold them", () =>
    Effect.promise(() =>
      fc.assert(
        fc.asyncProperty(fc.oneof(json, fc.constant(`{"token":1}`)), async (stored) => {
          const tokens = TokenStorage.TokenStorage.use(({ tokens }) => tokens).pipe(
            Effect.provide(TokenStorage.layerKeyValueStore()),
            Effect.provide(
              Layer.effect(
                KeyValueStore.KeyValueStore,
                Effect.tap(KeyValueStore.KeyValueStore, (store) => store.set("sallyport-session", stored))
              ).pipe(Layer.provide(KeyValueStore.layerMemory))
            )
          )
          const error = await Effect.runPromise(
            Effect.match(tokens, { onFailure: (error) => error, onSuccess: () => null })
          )
          assert.isTrue(error === null || error instanceof TokenStorage.TokenStorageError)
        }),
        { numRuns: 300 }
      )
    ))
})
