/**
 * Runs the README's walk with curl as printed, with a server that `npm start` has started.
 */
import { NodeServices } from "@effect/platform-node"
import { assert, it } from "@effect/vitest"
import { Effect, FileSystem, Schema, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import * as Documentation from "./documentation.ts"

const Announcement = Schema.fromJsonString(Schema.Struct({ url: Schema.String, code: Schema.String }))

/** Starts the server as the README says, on a port that the system chooses, and waits for its announcement. */
const start = Effect.fnUntraced(function*(state: string) {
  const server = yield* ChildProcess.make("npm", ["start", "--", "--port", "0", "--state-dir", state, "--json"], {
    cwd: yield* Documentation.directory,
    forceKillAfter: "5 seconds"
  })
  const line = yield* server.stdout.pipe(
    Stream.decodeText,
    Stream.splitLines,
    Stream.filter((line) => line.startsWith("{")),
    Stream.take(1),
    Stream.mkString
  )
  return yield* Schema.decodeEffect(Announcement)(line)
})

/** The commands between two headings of the README, one text for each code block. */
const commands = Effect.map(Documentation.read("README.md"), (readme) => {
  const walk = readme.split("## A walk with curl\n")[1]?.split("\n## ")[0] ?? ""
  return Documentation.codeBlocks(walk).filter(({ language }) => language === "sh").map(({ code }) => code)
})

it.live(
  "the README's walk with curl works as printed, and no event is lost or repeated (RUN-01, RUN-08, HTTP-02, L-07, L-70)",
  () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const directory = yield* fs.makeTempDirectoryScoped({ prefix: "sallyport-walk-" })
      const { code, url } = yield* start(`${directory}/state`)
      const [enter = "", pair = "", delegate = "", startRun = "", follow = "", leave = "", ...more] = yield* commands
      assert.deepStrictEqual(more, [], "the walk has a step that this test does not know")

      const script = [
        enter.replace(/^URL=.*$/m, `URL=${url}`).replace(/^CODE=.*$/m, `CODE=${code}`),
        "{",
        pair,
        "} > paired.txt",
        `${delegate.replace(" -H \"origin: $URL\"", "").replace(/ \| sed[^]*/, "")} > refused.txt`.replace(
          "CODE=$(",
          ""
        ),
        delegate,
        startRun,
        "FIRST=$RUN",
        startRun,
        follow,
        leave,
        `curl -sS "$URL/api/auth/session" -b cookies.txt > left.txt`,
        `echo "{\\"first\\":\\"$FIRST\\",\\"again\\":\\"$RUN\\",\\"last\\":\\"$LAST\\"}" > summary.json`,
        "pwd > \"$TMPDIR/where.txt\""
      ].join("\n")
      const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
      const output = yield* spawner.string(
        ChildProcess.make("bash", ["-eu", "-c", script], { env: { TMPDIR: directory }, extendEnv: true }),
        { includeStderr: true }
      )
      const where = (yield* fs.readFileString(`${directory}/where.txt`).pipe(Effect.mapError(() => new Error(output))))
        .trim()
      const text = (name: string) => fs.readFileString(`${where}/${name}`)

      const paired = yield* text("paired.txt")
      assert.include(paired, "\"method\":\"browser-session-cookie\"")
      assert.include(paired, "\"authenticated\":true")
      assert.notMatch(paired, /eyJ/, "a token in a body beside its cookie")
      assert.include(yield* text("refused.txt"), "\"code\":\"cross_origin\"")

      const { again, first, last } = JSON.parse(yield* text("summary.json"))
      assert.strictEqual(again, first, "the same key, the same run")
      const events = yield* text("events.txt")
      const ids = Array.from(events.matchAll(/^id: (.*)$/gm), ([, id]) => Number(id))
      assert.deepStrictEqual(ids, Array.from({ length: 11 }, (_, index) => index + 1))
      assert.isBelow(Number(last), 11, "the first reader was cut off")
      assert.deepStrictEqual(
        Array.from(events.matchAll(/^data: (.*)$/gm), ([, data = ""]) => JSON.parse(data)),
        [
          ...Array.from({ length: 10 }, (_, index) => ({ count: index + 1 })),
          { status: "succeeded", result: { counted: 10 } }
        ]
      )
      assert.include(yield* text("left.txt"), "\"authenticated\":false")
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)),
  { timeout: 90_000 }
)
