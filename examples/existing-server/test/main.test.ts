import { assert, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { fileURLToPath } from "node:url"
import { program, temporaryDirectory, timeout } from "../../../test-support/programs.ts"

const main = fileURLToPath(new URL("../src/main.ts", import.meta.url))

it.live(
  "starts on a port that the system chooses if PORT is 0, and not at all if PORT is no port",
  () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const running = yield* program(main, [], { NOTES_STATE: directory, PORT: "0" })
      const url = yield* running.printed(/http:\S+#token=\S+/)
      assert.isAbove(Number(new URL(url).port), 0)
      const refused = yield* program(main, [], { NOTES_STATE: directory, PORT: "70000" })
      assert.strictEqual((yield* refused.exit).code, 1)
      assert.include(refused.stdout() + refused.stderr(), "PORT")
    }).pipe(Effect.scoped),
  timeout
)

const answer = <S extends Schema.Decoder<unknown>>(schema: S, url: string, init: RequestInit) =>
  Effect.promise(async () => Schema.decodeUnknownSync(schema)(await (await fetch(url, init)).json()))

it.live("a stop ends a stream that is open, whole, and the run that it follows", () =>
  Effect.gen(function*() {
    const directory = yield* temporaryDirectory
    const running = yield* program(main, [], { NOTES_STATE: directory, PORT: "0" })
    const { hash, origin } = new URL(yield* running.printed(/http:\S+#token=\S+/))
    const { access_token } = yield* answer(Schema.Struct({ access_token: Schema.String }), `${origin}/oauth/token`, {
      method: "POST",
      body: new URLSearchParams({
        grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
        subject_token_type: "urn:sallyport:token-type:bootstrap-credential",
        subject_token: hash.slice("#token=".length)
      })
    })
    const headers = { authorization: `Bearer ${access_token}`, "content-type": "application/json" }
    yield* answer(Schema.Unknown, `${origin}/notes`, {
      method: "POST",
      headers,
      body: JSON.stringify({ text: "Buy milk." })
    })
    const start = {
      method: "POST",
      headers: { ...headers, "idempotency-key": "once" },
      body: JSON.stringify({ threadId: "notes", input: { ponderMillis: 60_000 } })
    }
    const { run: { runId } } = yield* answer(
      Schema.Struct({ run: Schema.Struct({ runId: Schema.String }) }),
      `${origin}/api/runs`,
      start
    )
    const followed = yield* Effect.promise(() => fetch(`${origin}/api/runs/${runId}/events`, { headers }))
    assert.strictEqual(followed.status, 200)
    // A stream that the stop has to cut is not whole: reading it would fail.
    const [text] = yield* Effect.all([Effect.promise(() => followed.text()), running.stop("SIGTERM")], {
      concurrency: "unbounded"
    })
    assert.notInclude(text, "event: end")

    const again = yield* program(main, [], { NOTES_STATE: directory, PORT: "0" })
    const next = new URL(yield* again.printed(/http:\S+#token=\S+/)).origin
    const events = yield* Effect.promise(async () =>
      (await fetch(`${next}/api/runs/${runId}/events`, { headers })).text()
    )
    assert.include(events, "server_shutdown")
  }).pipe(Effect.scoped), timeout)
