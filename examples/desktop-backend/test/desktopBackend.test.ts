import { assert, layer } from "@effect/vitest"
import { Effect, FileSystem, Logger, Redacted, Stream, SubscriptionRef } from "effect"
import { createServer } from "node:http"
import { fileURLToPath } from "node:url"
import { argumentsOf } from "../../../test-support/programs.ts"
import * as Supervisor from "../src/Supervisor.ts"
import * as Window from "../src/Window.ts"
import * as Support from "./support.ts"

const program = (path: string) => fileURLToPath(new URL(path, import.meta.url))

const node = (file: string): Supervisor.Options["command"] => [
  process.execPath,
  ...argumentsOf(program(file))
]

const backendMain = node("../src/backendMain.ts")

const step = <A>(run: () => Promise<A>) => Effect.promise(run)

/** Waits for a state that matches. */
const until = <S extends Supervisor.State>(
  state: SubscriptionRef.SubscriptionRef<Supervisor.State>,
  wanted: (state: Supervisor.State) => state is S
) =>
  Effect.flatMap(
    Stream.runHead(Stream.filter(SubscriptionRef.changes(state), wanted)),
    Effect.fromOption
  )

type Ready = Extract<Supervisor.State, { readonly _tag: "Ready" }>
type Down = Extract<Supervisor.State, { readonly _tag: "Down" }>

const isReady = (state: Supervisor.State): state is Ready => state._tag === "Ready"
const isDown = (state: Supervisor.State): state is Down => state._tag === "Down"

const ready = (state: SubscriptionRef.SubscriptionRef<Supervisor.State>) =>
  Effect.map(until(state, isReady), ({ backend }) => backend)

/** Waits for the next start, after one that is known. */
const readyAfter = (state: SubscriptionRef.SubscriptionRef<Supervisor.State>, pid: number) =>
  Effect.map(
    until(state, (state): state is Ready => isReady(state) && state.backend.pid !== pid),
    ({ backend }) => backend
  )

/** Waits until the page has connected to the access feed a number of times. */
const connected = ({ page }: Window.Window, times: number) =>
  step(() =>
    page.waitForFunction((times) => Number(document.body.dataset.connections) >= times, times, { polling: 100 })
  )

const text = ({ page }: Window.Window, selector: string) => step(() => page.innerText(selector))

/** Opens a window and lets it follow a backend. */
const openWindow = Effect.fnUntraced(function*(state: SubscriptionRef.SubscriptionRef<Supervisor.State>) {
  const window = yield* Window.open(yield* Support.Browser)
  window.context.setDefaultTimeout(Support.timeout)
  const requests: Array<string> = []
  window.page.on("request", (request) => requests.push(`${request.url()} ${request.postData()}`))
  yield* Effect.forkScoped(Window.follow(window, state))
  return { ...window, requests }
})

/** Tries a credential without a window. Returns the status of the answer. */
const redeem = ({ credential, url }: Supervisor.Backend) =>
  step(async () => {
    const response = await fetch(`${url}/api/auth/bootstrap`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ credential: Redacted.value(credential) })
    })
    return response.status
  })

/** Reads the first events of the access feed with the page's session, and returns them in short. */
const history = ({ page }: Window.Window, count: number) =>
  step(() =>
    page.evaluate((count) =>
      new Promise<Array<string>>((resolve) => {
        const seen: Array<string> = []
        const feed = new EventSource("/api/auth/access?after=0")
        const note = ({ data, type }: MessageEvent<string>) => {
          const { reason } = JSON.parse(data)
          seen.push(reason === undefined ? type : `${type} ${reason}`)
          if (seen.length < count) return
          feed.close()
          resolve(seen)
        }
        for (
          const type of ["snapshot", "pairingLinkUpserted", "pairingLinkRemoved", "sessionUpserted", "sessionRemoved"]
        ) {
          feed.addEventListener(type, note)
        }
      }), count)
  )

layer(Support.layer, { excludeTestServices: true, timeout: "5 minutes" })("a desktop application", (it) => {
  it.effect(
    "L-04 L-10: its window is signed in without a click, by one credential that works once and is in no argument, " +
      "environment, address, page, log or file",
    () =>
      Effect.gen(function*() {
        const fs = yield* FileSystem.FileSystem
        const stateDirectory = yield* Support.freshState
        const logs: Array<string> = []
        const logged = Logger.make((entry) => {
          logs.push(Logger.formatJson.log(entry))
        })
        const state = yield* Supervisor.supervise({
          command: backendMain,
          stateDirectory,
          env: { DESKTOP_MARKER: "every process can read this" }
        }).pipe(Effect.provide(Logger.layer([logged])))
        const window = yield* openWindow(state)
        const backend = yield* ready(state)
        const credential = Redacted.value(backend.credential)
        yield* connected(window, 1)
        assert.strictEqual(yield* text(window, "#status"), "Signed in as owner")
        assert.strictEqual(window.page.url(), `${backend.url}/`)

        // The visible state of each process is checked here; the credential is not in it.
        assert.include(Support.visible(backend.pid), "backendMain.")
        assert.include(Support.visible(backend.pid), "every process can read this")
        assert.notInclude(Support.visibleOfAll(), credential)

        const [cookie, ...others] = yield* step(() => window.context.cookies())
        assert.lengthOf(others, 0)
        assert.isTrue(cookie?.httpOnly)
        assert.strictEqual(cookie?.sameSite, "Lax")
        assert.strictEqual(yield* step(() => window.page.evaluate(() => document.cookie)), "")
        const token = cookie?.value ?? assert.fail("there is no cookie")

        assert.deepStrictEqual(yield* history(window, 3), [
          "pairingLinkUpserted",
          "pairingLinkRemoved consumed",
          "sessionUpserted"
        ])
        const session = yield* step(() => window.page.evaluate(async () => (await fetch("/api/auth/session")).text()))
        assert.include(session, `"kind":"desktop-managed-local"`)
        assert.strictEqual(yield* redeem(backend), 401)

        const files = yield* fs.readDirectory(stateDirectory, { recursive: true })
        assert.include(files, "backend.db")
        for (const file of files) {
          if ((yield* fs.stat(`${stateDirectory}/${file}`)).type !== "File") continue
          const bytes = Buffer.from(yield* fs.readFile(`${stateDirectory}/${file}`)).toString("latin1")
          assert.notInclude(bytes, credential, file)
          assert.notInclude(bytes, token, file)
        }
        const seen = [...window.requests, yield* step(() => window.page.content()), ...logs].join("\n")
        assert.include(seen, `${backend.url}/api/auth/access`)
        assert.notInclude(seen, credential)
        assert.notInclude(seen, token)
      }).pipe(Effect.scoped),
    Support.timeout
  )

  it.effect(
    "L-10: after kill -9 of the backend the window stays signed in and reconnects; each start has a new credential, and " +
      "an unused one ends with its start",
    () =>
      Effect.gen(function*() {
        const state = yield* Supervisor.supervise({ command: backendMain, stateDirectory: yield* Support.freshState })
        const window = yield* openWindow(state)
        const first = yield* ready(state)
        yield* connected(window, 1)
        yield* step(() =>
          window.page.evaluate(() => {
            document.body.dataset.marker = "never loaded again"
          })
        )
        process.kill(first.pid, "SIGKILL")
        const second = yield* readyAfter(state, first.pid)
        yield* connected(window, 2)
        process.kill(second.pid, "SIGKILL")
        const third = yield* readyAfter(state, second.pid)
        yield* connected(window, 3)

        assert.strictEqual(new Set([first, second, third].map(({ url }) => url)).size, 1)
        assert.strictEqual(new Set([first, second, third].map(({ credential }) => Redacted.value(credential))).size, 3)
        assert.strictEqual(yield* text(window, "#status"), "Signed in as owner")
        assert.strictEqual(
          yield* step(() => window.page.evaluate(() => document.body.dataset.marker)),
          "never loaded again"
        )
        assert.deepStrictEqual(yield* history(window, 6), [
          "pairingLinkUpserted",
          "pairingLinkRemoved consumed",
          "sessionUpserted",
          "pairingLinkUpserted",
          "pairingLinkRemoved revoked",
          "pairingLinkUpserted"
        ])
        assert.strictEqual(yield* redeem({ ...third, credential: second.credential }), 401)
        assert.strictEqual(yield* redeem(third), 200)
      }).pipe(Effect.scoped),
    Support.timeout
  )

  it.effect(
    "BOOT-04 L-10: a start that takes an hour does not use up the minute that the credential lives",
    () =>
      Effect.gen(function*() {
        const state = yield* Supervisor.supervise({
          command: node("./programs/slowBackend.ts"),
          stateDirectory: yield* Support.freshState,
          env: { DESKTOP_CREDENTIAL_LIFETIME: "1 minute" }
        })
        const window = yield* openWindow(state)
        yield* connected(window, 1)
        assert.strictEqual(yield* text(window, "#status"), "Signed in as owner")
        // The hour has really passed for the backend.
        const since = yield* step(() =>
          window.page.evaluate(async () => (await (await fetch("/api/auth/session")).json()).session.createdAt)
        )
        assert.isAbove(Date.parse(since) - Date.now(), 30 * 60_000)
      }).pipe(Effect.scoped),
    Support.timeout
  )

  it.effect(
    "a window is signed in again, and shown again, when its session has been ended",
    () =>
      Effect.gen(function*() {
        const state = yield* Supervisor.supervise({ command: backendMain, stateDirectory: yield* Support.freshState })
        const window = yield* openWindow(state)
        const first = yield* ready(state)
        yield* connected(window, 1)
        yield* step(() => window.page.evaluate(() => fetch("/api/auth/logout", { method: "POST" })))
        const loaded = window.page.waitForEvent("load")
        process.kill(first.pid, "SIGKILL")
        yield* step(() => loaded)
        yield* connected(window, 1)
        assert.strictEqual(yield* text(window, "#status"), "Signed in as owner")
      }).pipe(Effect.scoped),
    Support.timeout
  )

  it.effect("while the backend is down, a thief of its port hears nothing", () =>
    Effect.gen(function*() {
      const state = yield* Supervisor.supervise({
        command: backendMain,
        stateDirectory: yield* Support.freshState,
        // It stays down for the rest of this test.
        firstDelay: "1 hour",
        maximumDelay: "1 hour"
      })
      const window = yield* openWindow(state)
      const backend = yield* ready(state)
      yield* connected(window, 1)
      process.kill(backend.pid, "SIGKILL")
      yield* until(state, isDown)
      yield* step(() => window.page.waitForFunction(() => !navigator.onLine, undefined, { polling: 100 }))
      const heard: Array<string> = []
      const thief = createServer((request, response) => {
        heard.push(`${request.url} ${request.headers.cookie}`)
        response.end()
      })
      yield* Effect.acquireRelease(
        step(() =>
          new Promise<void>((resolve) => thief.listen(Number(new URL(backend.url).port), "127.0.0.1", resolve))
        ),
        () => Effect.sync(() => thief.close())
      )
      const answers = yield* step(() =>
        window.page.evaluate(() =>
          Promise.all(["/", "/api/auth/session"].map((path) => fetch(path).then(() => "sent", () => "not sent")))
        )
      )
      assert.deepStrictEqual(answers, ["not sent", "not sent"])
      assert.deepStrictEqual(heard, [])
      // The port is open to others.
      yield* step(() => fetch(backend.url))
      assert.deepStrictEqual(heard, ["/ undefined"])
    }).pipe(Effect.scoped), Support.timeout)
})

layer(Support.layerProcesses, { excludeTestServices: true })("a supervisor", (it) => {
  it.effect("chooses another port if another process has taken its own", () =>
    Effect.gen(function*() {
      const other = createServer()
      const port = yield* Effect.acquireRelease(
        step(() =>
          new Promise<number>((resolve) =>
            other.listen(0, "127.0.0.1", () => {
              const address = other.address()
              resolve(typeof address === "object" && address !== null ? address.port : 0)
            })
          )
        ),
        () => Effect.sync(() => other.close())
      )
      const state = yield* Supervisor.supervise({
        command: backendMain,
        stateDirectory: yield* Support.freshState,
        port
      })
      assert.strictEqual((yield* until(state, isDown)).reason, `port ${port} is taken`)
      const { url } = yield* ready(state)
      assert.notStrictEqual(Number(new URL(url).port), port)
    }).pipe(Effect.scoped), Support.timeout)

  it.effect("waits longer after each start that fails, up to a limit", () =>
    Effect.gen(function*() {
      const state = yield* Supervisor.supervise({
        command: [process.execPath, "-e", "process.exit(3)"],
        stateDirectory: yield* Support.freshState,
        firstDelay: "10 millis",
        maximumDelay: "50 millis"
      })
      const downs = yield* SubscriptionRef.changes(state).pipe(Stream.filter(isDown), Stream.take(5), Stream.runCollect)
      assert.deepStrictEqual(downs.map(({ retryInMillis }) => retryInMillis), [10, 20, 40, 50, 50])
      assert.strictEqual(downs[0]?.reason, "it exited with 3")
    }).pipe(Effect.scoped), Support.timeout)

  it.effect("ends a start that takes too long, and the backend with its scope", () =>
    Effect.gen(function*() {
      const stuck = yield* Supervisor.supervise({
        command: [process.execPath, "-e", "setInterval(() => {}, 1_000_000)"],
        stateDirectory: yield* Support.freshState,
        startTimeout: "500 millis",
        firstDelay: "1 hour",
        maximumDelay: "1 hour"
      })
      assert.strictEqual((yield* until(stuck, isDown)).reason, "it was not ready within 500ms")
      assert.lengthOf(Support.descendants(process.pid).filter((pid) => Support.visible(pid).includes("1_000_000")), 0)

      const backend = yield* Effect.scoped(
        Effect.flatMap(
          Supervisor.supervise({ command: backendMain, stateDirectory: yield* Support.freshState }),
          ready
        )
      )
      assert.isFalse(Support.isRunning(backend.pid))
    }).pipe(Effect.scoped), Support.timeout)
})
