import { assert, describe, it } from "@effect/vitest"
import * as SecretFd from "@sallyport/node/SecretFd"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import { spawn } from "node:child_process"
import { once } from "node:events"
import * as NFS from "node:fs"
import * as OS from "node:os"
import * as NPath from "node:path"
import { createInterface } from "node:readline"
import type { Writable } from "node:stream"
import { fileURLToPath } from "node:url"
import { inspect } from "node:util"

interface Result {
  readonly secret?: string
  readonly reason?: string
  readonly message?: string
  readonly open: boolean
}

const program = fileURLToPath(new URL("./programs/fdReader.ts", import.meta.url))

/** Starts a process that reads `fd`, and runs `parent` with its end of descriptor 3 when the process is up. */
const read = (
  options: {
    readonly fd?: number
    readonly third?: "pipe" | "ignore"
    readonly maxBytes?: number
    readonly timeoutMillis?: number
  },
  parent: (pipe: Writable, pid: number) => void | Promise<void>
) =>
  Effect.gen(function*() {
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(process.execPath, [
          "--conditions=sallyport-source",
          program,
          String(options.fd ?? 3),
          String(options.maxBytes ?? 1024),
          String(options.timeoutMillis ?? 20_000)
        ], { stdio: ["ignore", "pipe", "inherit", options.third ?? "pipe"] })
      ),
      (running) =>
        Effect.promise(async () => {
          if (running.exitCode !== null || running.signalCode !== null) return
          const ended = once(running, "exit")
          running.kill("SIGKILL")
          await ended
        })
    )
    return yield* Effect.promise(async () => {
      const exited = once(child, "exit")
      if (child.stdout === null) throw new Error("the child has no output")
      const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
      await lines.next()
      const pipe = child.stdio[3]
      if (pipe !== null && pipe !== undefined && "write" in pipe) {
        // The child may close its end first.
        pipe.on("error", () => {})
        await parent(pipe, child.pid ?? 0)
      }
      const result: Result = JSON.parse((await lines.next()).value ?? "null")
      const [code] = await exited
      assert.strictEqual(code, 0)
      return result
    })
  })

const hex = (text: string) => Buffer.from(text).toString("hex")

describe("SecretFd.readSecretFromFd", () => {
  it.live("SEC-08: a child reads a secret from fd 3 to its end, closes it, and shows it in no argument or variable", () =>
    Effect.gen(function*() {
      const result = yield* read({}, (pipe, pid) => {
        for (const file of ["cmdline", "environ"]) {
          const path = `/proc/${pid}/${file}`
          if (NFS.existsSync(path)) assert.notInclude(NFS.readFileSync(path, "latin1"), "hunter2")
        }
        pipe.end("hunter2-hunter2\n")
      })
      assert.deepStrictEqual(result, { secret: hex("hunter2-hunter2\n"), open: false })
    }))

  it.live("reads what comes in parts, up to the last allowed byte", () =>
    Effect.gen(function*() {
      const result = yield* read({ maxBytes: 300_000 }, (pipe) => {
        for (let part = 0; part < 3; part++) pipe.write("x".repeat(100_000))
        pipe.end()
      })
      assert.deepStrictEqual(result, { secret: hex("x".repeat(300_000)), open: false })
    }))

  it.live("one byte too many is an error, and the rest is not waited for", () =>
    Effect.gen(function*() {
      const result = yield* read({ maxBytes: 16 }, (pipe) => void pipe.write("x".repeat(17)))
      assert.deepStrictEqual([result.reason, result.open], ["TooLarge", false])
    }))

  it.live("a parent that keeps its end open is an error after the time-out, and holds nothing up", () =>
    Effect.gen(function*() {
      const result = yield* read({ timeoutMillis: 50 }, (pipe) => void pipe.write("hunter2"))
      assert.deepStrictEqual([result.reason, result.open], ["TimedOut", false])
      assert.include(result.message, "50 ms")
      assert.notInclude(result.message, "hunter2")
    }))

  it.live("a parent that closes without writing is an error", () =>
    Effect.gen(function*() {
      const result = yield* read({}, (pipe) => void pipe.end())
      assert.deepStrictEqual([result.reason, result.open], ["Empty", false])
    }))

  it.live("a descriptor that is not open, and one that is no pipe, are errors that name it", () =>
    Effect.gen(function*() {
      const closed = yield* read({ fd: 99 }, (pipe) => void pipe.end())
      assert.strictEqual(closed.reason, "NotReadable")
      assert.include(closed.message, "file descriptor 99")
      const device = yield* read({ third: "ignore" }, () => {})
      assert.strictEqual(device.reason, "NotReadable")
      for (const fd of [-1, 1.5, Number.NaN]) {
        assert.strictEqual((yield* Effect.flip(SecretFd.readSecretFromFd(fd))).reason._tag, "NotReadable")
      }
    }))

  it.live("reads a file, such as a here-document, and prints nothing of it", () =>
    Effect.gen(function*() {
      const directory = yield* Effect.acquireRelease(
        Effect.sync(() => NFS.mkdtempSync(NPath.join(OS.tmpdir(), "sallyport-fd-"))),
        (path) => Effect.sync(() => NFS.rmSync(path, { recursive: true }))
      )
      const path = NPath.join(directory, "secret")
      NFS.writeFileSync(path, "hunter2")
      const fd = NFS.openSync(path, "r")
      const secret = yield* SecretFd.readSecretFromFd(fd)
      assert.strictEqual(new TextDecoder().decode(Redacted.value(secret)), "hunter2")
      assert.notInclude(`${String(secret)}${JSON.stringify(secret)}${inspect(secret)}`, "hunter2")
      assert.throws(() => NFS.fstatSync(fd), "EBADF")
    }))

  it.live("an interrupted read closes the descriptor", () =>
    Effect.gen(function*() {
      const directory = yield* Effect.acquireRelease(
        Effect.sync(() => NFS.mkdtempSync(NPath.join(OS.tmpdir(), "sallyport-fd-"))),
        (path) => Effect.sync(() => NFS.rmSync(path, { recursive: true }))
      )
      const fifo = NPath.join(directory, "fifo")
      yield* Effect.promise(() => once(spawn("/bin/sh", ["-c", "mkfifo \"$0\"", fifo]), "exit"))
      // A pipe that is open for reading and writing never ends.
      const fd = NFS.openSync(fifo, NFS.constants.O_RDWR | NFS.constants.O_NONBLOCK)
      const fiber = yield* Effect.forkChild(SecretFd.readSecretFromFd(fd))
      yield* Effect.yieldNow
      yield* Fiber.interrupt(fiber)
      assert.throws(() => NFS.fstatSync(fd), "EBADF")
    }))
})
