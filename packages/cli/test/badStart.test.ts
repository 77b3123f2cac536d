import { afterAll, assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { spawnSync } from "node:child_process"
import * as NFS from "node:fs"
import { createServer } from "node:net"
import * as OS from "node:os"
import * as NPath from "node:path"
import { DatabaseSync } from "node:sqlite"
import * as Sallyport from "../../../test-support/backend.ts"
import * as Programs from "../../../test-support/programs.ts"

/** The input of a start, and what its one sentence must say. */
interface BadStart {
  /** A command that starts the server with less than the rights of this process. */
  readonly through?: ReadonlyArray<string>
  readonly args: ReadonlyArray<string>
  readonly env?: Record<string, string>
  readonly says: ReadonlyArray<string | RegExp>
  /** A file or a directory that must not change. */
  readonly unchanged?: string
}

/** Every file below a path, with its mode and its bytes. */
const snapshot = (path: string): ReadonlyArray<string> => {
  const stat = NFS.lstatSync(path, { throwIfNoEntry: false })
  if (stat === undefined) return [`${path} is not there`]
  const self = `${path} ${stat.mode.toString(8)} ${stat.uid}`
  if (stat.isDirectory()) {
    return [self, ...NFS.readdirSync(path).toSorted().flatMap((name) => snapshot(NPath.join(path, name)))]
  }
  return [`${self} ${NFS.readFileSync(path).toString("base64")}`]
}

const template = NFS.mkdtempSync(NPath.join(OS.tmpdir(), "sallyport-cli-template-"))
afterAll(() => NFS.rmSync(template, { recursive: true, force: true }))

const usedOnce = Effect.runSync(Effect.cached(Effect.scoped(Effect.gen(function*() {
  const state = NPath.join(template, "state")
  const server = yield* Sallyport.serve(state)
  yield* Sallyport.pair(server)
  yield* server.stop("SIGTERM")
  return state
}))))

/** A state directory that a server has used and left, with two secrets and a session. */
const usedState = Effect.gen(function*() {
  const state = yield* Sallyport.freshState
  NFS.cpSync(yield* usedOnce, state, { recursive: true })
  // A copy keeps the modes of files, but not those of directories.
  for (const directory of [state, NPath.join(state, "secrets")]) NFS.chmodSync(directory, 0o700)
  return state
})

const refuses = (
  title: string,
  arrange: Effect.Effect<BadStart, unknown, Scope.Scope>,
  options?: { readonly usage: boolean }
) =>
  it.live(title, () =>
    Effect.gen(function*() {
      const { args, env, says, through, unchanged } = yield* arrange
      const secrets = args.flatMap((arg) => {
        const directory = NPath.join(arg, "secrets")
        return NFS.existsSync(directory)
          ? NFS.readdirSync(directory).map((name) => NFS.readFileSync(NPath.join(directory, name), "latin1"))
          : []
      })
      const before = unchanged === undefined ? [] : snapshot(unchanged)
      const running = yield* Sallyport.sallyport(["serve", "--json", ...args], env, through)
      const { code, signal } = yield* running.exit
      const stderr = running.stderr()
      assert.deepStrictEqual({ code, signal }, { code: options?.usage === true ? 2 : 1, signal: null }, stderr)
      for (const part of says) {
        if (typeof part === "string") assert.include(stderr, part)
        else assert.match(stderr, part)
      }
      assert.notMatch(stderr, /^\s+at /m, "a stack trace")
      assert.notMatch(stderr, /\bundefined\b|\[object|Error:/)
      assert.notInclude(running.stdout(), "#token=")
      if (options?.usage !== true) {
        // One sentence on one line, and nothing for a program to read.
        assert.match(stderr, /^sallyport: [^\n]+\n$/)
        assert.strictEqual(running.stdout(), "")
      }
      for (const secret of secrets) {
        if (secret.length > 16) assert.notInclude(stderr, secret.slice(0, 16))
      }
      if (unchanged !== undefined) assert.deepStrictEqual(snapshot(unchanged), before)
    }), Programs.timeout)

/** Returns the first of some commands by which a program prints what is asked for: which of them works is the machine's. */
const firstThat = (commands: ReadonlyArray<ReadonlyArray<string>>, program: string, prints: string) => {
  const found = commands.find((through) => {
    const [command = process.execPath, ...args] = [...through, process.execPath, "-e", program]
    return spawnSync(command, args, { encoding: "utf8" }).stdout === prints
  })
  assert.isDefined(found, `none of the commands makes a process that prints ${prints}`)
  return found
}

/** Makes a process that may not listen on a port below 1024, whatever user this is. */
const unprivileged = Effect.sync(() => {
  const less = ["setpriv", "--bounding-set=-net_bind_service"]
  const listen =
    `require("net").createServer().on("error", ({ code }) => console.log(code)).listen(1, "0.0.0.0").unref()`
  return firstThat([[], less, ["unshare", "-n", ...less], ["unshare", "-Un"]], listen, "EACCES\n")
})

/** Makes a process for which a directory lies on a file system that takes no writes, with what was in it. */
const readOnly = Effect.fnUntraced(function*(directory: string) {
  const copy = NPath.join(yield* Programs.temporaryDirectory, "copy")
  NFS.cpSync(directory, copy, { recursive: true })
  NFS.chmodSync(copy, 0o700)
  const mounting = `mount -t tmpfs tmpfs "$1" && cp -a "$2/." "$1" && mount -o remount,ro "$1" && shift 2 && exec "$@"`
  const path = JSON.stringify(NPath.join(directory, "new"))
  return firstThat(
    [["unshare", "-m"], ["unshare", "-rm"]].map((command) => [...command, "sh", "-c", mounting, "sh", directory, copy]),
    `try { require("fs").mkdirSync(${path}) } catch ({ code }) { console.log(code) }`,
    "EROFS\n"
  )
})

describe("sallyport serve refuses to start, changes nothing, and says why and what to do, on", () => {
  for (
    const [name, damage] of [
      ["that is no secret", () => Buffer.from("garbage")],
      ["that was cut off", (bytes: Buffer) => bytes.subarray(0, bytes.length - 1)],
      ["that is empty", () => Buffer.alloc(0)],
      ["with one bit turned over", (bytes: Buffer) => {
        const copy = Buffer.from(bytes)
        const last = copy.length - 2
        copy[last] = (copy[last] ?? 0) ^ 1
        return copy
      }]
    ] as const
  ) {
    for (const file of ["session-signing-keys~1", "pairing-code-key~1"]) {
      refuses(
        `a secret file ${name}: ${file}`,
        Effect.map(usedState, (state) => {
          const path = NPath.join(state, "secrets", file)
          NFS.writeFileSync(path, damage(NFS.readFileSync(path)))
          return {
            args: ["--port", "0", "--state-dir", state],
            says: [path, "is corrupt", `rm '${path}'`],
            unchanged: state
          }
        })
      )
    }
  }

  refuses(
    "SEC-02 a secret file that others can read",
    Effect.map(usedState, (state) => {
      const path = NPath.join(state, "secrets", "session-signing-keys~1")
      NFS.chmodSync(path, 0o644)
      return {
        args: ["--port", "0", "--state-dir", state],
        says: ["0644", `chmod 600 '${path}'`],
        unchanged: state
      }
    })
  )

  refuses(
    "a state directory that is not private",
    Effect.map(Programs.temporaryDirectory, (directory) => {
      NFS.chmodSync(directory, 0o755)
      return {
        args: ["--port", "0", "--state-dir", directory],
        says: ["is open to other users (mode 0755)", `chmod 700 "${directory}"`],
        unchanged: directory
      }
    })
  )

  // Permission bits do not stop a superuser, but a directory in /proc or below a file cannot be made by any user.
  refuses(
    "a state directory below one that takes no directories",
    Effect.succeed({
      args: ["--port", "0", "--state-dir", "/proc/sallyport/state"],
      says: ["/proc/sallyport/state cannot be made", "--state-dir"]
    })
  )

  if (process.getuid?.() === 0) {
    refuses(
      "a state directory of another user",
      Effect.map(Programs.temporaryDirectory, (directory) => {
        NFS.chownSync(directory, 54_321, 54_321)
        return {
          args: ["--port", "0", "--state-dir", directory],
          says: [directory, "belongs to another user", `chown 0 "${directory}"`],
          unchanged: directory
        }
      })
    )
  } else {
    refuses(
      "a state directory that this user may not write to",
      Effect.map(Programs.temporaryDirectory, (directory) => {
        NFS.chmodSync(directory, 0o500)
        return {
          args: ["--port", "0", "--state-dir", directory],
          says: [directory, "is not writable", `chmod u+rwx "${directory}"`],
          unchanged: directory
        }
      })
    )
  }

  for (const below of ["", "/below/it"]) {
    refuses(
      `a file in the place of the state directory${below}`,
      Effect.map(Sallyport.freshState, (state) => {
        NFS.writeFileSync(state, "a file")
        return {
          args: ["--port", "0", "--state-dir", state + below],
          says: [state + below, /is not a directory|cannot be made/, "--state-dir"],
          unchanged: state
        }
      })
    )
  }

  for (const service of ["runs", "access", "spent_values"]) {
    refuses(
      `a database of a newer schema: ${service}`,
      Effect.map(usedState, (state) => {
        const path = NPath.join(state, "sallyport.db")
        const database = new DatabaseSync(path)
        database.exec(`INSERT INTO sallyport_${service}_migrations (migration_id, name) VALUES (9000, 'later')`)
        database.close()
        return {
          args: ["--port", "0", "--state-dir", state],
          says: [path, `sallyport_${service}_migrations`, "9000", "upgrade Sallyport"],
          unchanged: state
        }
      })
    )
  }

  refuses(
    "a file that is no database",
    Effect.map(usedState, (state) => {
      const path = NPath.join(state, "sallyport.db")
      NFS.writeFileSync(path, "not a database, ".repeat(1_000))
      return {
        args: ["--port", "0", "--state-dir", state],
        says: [path, "is not a database", "restore it from a backup"],
        unchanged: state
      }
    })
  )

  refuses(
    "a database that was cut off",
    Effect.map(usedState, (state) => {
      const path = NPath.join(state, "sallyport.db")
      NFS.truncateSync(path, 10_000)
      return {
        args: ["--port", "0", "--state-dir", state],
        says: [path, "malformed", "restore it from a backup"],
        unchanged: state
      }
    })
  )

  refuses(
    "a directory in the place of the database",
    Effect.map(Sallyport.freshState, (state) => {
      const path = NPath.join(state, "sallyport.db")
      NFS.mkdirSync(path, { recursive: true, mode: 0o700 })
      return { args: ["--port", "0", "--state-dir", state], says: [path], unchanged: path }
    })
  )

  refuses(
    "a port in use",
    Effect.gen(function*() {
      const state = yield* Sallyport.freshState
      const server = yield* Effect.acquireRelease(
        Effect.callback<ReturnType<typeof createServer>>((resume) => {
          const server = createServer()
          server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
        }),
        (server) => Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
      )
      const address = server.address()
      const port = typeof address === "object" && address !== null ? String(address.port) : ""
      return {
        args: ["--port", port, "--state-dir", state],
        says: [`Port ${port} is in use`, "--port"],
        unchanged: state
      }
    })
  )

  refuses(
    "OPS-06 a port that this user may not listen on",
    Effect.gen(function*() {
      const state = yield* Sallyport.freshState
      return {
        through: yield* unprivileged,
        // A port on another address than loopback is refused in the same way.
        args: ["--port", "1", "--state-dir", state, "--host", "0.0.0.0"],
        says: ["This user may not listen on port 1;", "choose a port above 1023 with --port"],
        unchanged: state
      }
    })
  )

  refuses(
    "OPS-06 a state directory on a read-only file system",
    Effect.gen(function*() {
      const directory = yield* Programs.temporaryDirectory
      const state = NPath.join(directory, "state")
      return {
        through: yield* readOnly(directory),
        args: ["--port", "0", "--state-dir", state],
        says: [state, "read-only file system", "--state-dir"],
        unchanged: directory
      }
    })
  )

  refuses(
    "OPS-06 a database on a read-only file system",
    Effect.gen(function*() {
      const state = yield* usedState
      return {
        through: yield* readOnly(state),
        args: ["--port", "0", "--state-dir", state],
        says: [state, "read-only file system", "--state-dir"],
        unchanged: state
      }
    })
  )

  // The address is reserved for documentation (RFC 5737).
  refuses(
    "an address that is not this machine's",
    Effect.map(Sallyport.freshState, (state) => ({
      args: ["--port", "0", "--state-dir", state, "--host", "203.0.113.5"],
      says: ["203.0.113.5", "--host"],
      unchanged: state
    }))
  )

  refuses(
    "AUTH-01 no authentication on an address that others reach",
    Effect.map(Sallyport.freshState, (state) => ({
      args: ["--port", "0", "--state-dir", state, "--host", "0.0.0.0", "--policy", "unsafe-no-auth"],
      says: ["unsafe-no-auth", "0.0.0.0", "Listen on 127.0.0.1"],
      unchanged: state
    }))
  )

  refuses(
    "a public URL that no browser opens",
    Effect.map(Sallyport.freshState, (state) => ({
      args: ["--port", "0", "--state-dir", state, "--public-url", "ftp://user:hunter2@example.org"],
      says: ["ftp", "is not an http, https, ws or wss URL"],
      unchanged: state
    }))
  )

  refuses(
    "AUTH-01 a name of the server that is not one line",
    Effect.map(Sallyport.freshState, (state) => ({
      args: ["--port", "0", "--state-dir", state, "--name", "Ada\u2028evil"],
      says: ["name must be one line of 1 to 128 characters"],
      unchanged: state
    }))
  )

  refuses(
    "HTTP-03 a trusted proxy that is neither an address nor a network",
    Effect.map(Sallyport.freshState, (state) => ({
      args: ["--port", "0", "--state-dir", state, "--trusted-proxy", "10.0.0.0/8", "--trusted-proxy", "10.0.0.1/8"],
      says: ["\"10.0.0.1/8\" is no trusted proxy", "10.0.0.0/8"],
      unchanged: state
    }))
  )

  refuses(
    "a variable that holds no duration",
    Effect.map(Sallyport.freshState, (state) => ({
      args: ["--port", "0", "--state-dir", state],
      env: { SALLYPORT_SESSION_LIFETIME: "a month" },
      says: [
        "SALLYPORT_SESSION_LIFETIME must be a duration of at least 1 millisecond, such as 30 days, not \"a month\""
      ]
    }))
  )

  for (
    const [name, address] of [
      ["a host that no name server knows", "no-such-host.invalid"],
      ["an address that is none", "300.1.1.1"]
    ] as const
  ) {
    refuses(
      `OPS-06 ${name}`,
      Effect.map(Sallyport.freshState, (state) => ({
        args: ["--port", "0", "--state-dir", state, "--host", address],
        says: [address, "--host"],
        unchanged: state
      }))
    )
  }

  for (const url of ["not an address", "https://", "/pair"]) {
    refuses(
      `OPS-06 the public URL ${JSON.stringify(url)}`,
      Effect.map(Sallyport.freshState, (state) => ({
        args: ["--port", "0", "--state-dir", state, "--public-url", url],
        says: [url],
        unchanged: state
      }))
    )
  }

  refuses(
    "OPS-06 a database with tables of another program in the place of ours",
    Effect.map(Sallyport.freshState, (state) => {
      NFS.mkdirSync(state, { mode: 0o700 })
      const path = NPath.join(state, "sallyport.db")
      const database = new DatabaseSync(path)
      database.exec("CREATE TABLE sallyport_sessions (something TEXT)")
      database.close()
      return { args: ["--port", "0", "--state-dir", state], says: [path, "sallyport_sessions"] }
    })
  )

  refuses(
    "OPS-06 OPS-08 C-60 a symbolic link in the place of the database",
    Effect.map(Sallyport.freshState, (state) => {
      NFS.mkdirSync(state, { mode: 0o700 })
      NFS.symlinkSync("/nowhere/else.db", NPath.join(state, "sallyport.db"))
      return {
        args: ["--port", "0", "--state-dir", state],
        says: [state, "holds a symbolic link, sallyport.db", "rm "]
      }
    })
  )

  refuses(
    "OPS-06 OPS-03 a database that another process keeps locked",
    Effect.gen(function*() {
      const state = yield* usedState
      const path = NPath.join(state, "sallyport.db")
      const database = yield* Effect.acquireRelease(
        Effect.sync(() => new DatabaseSync(path)),
        (database) => Effect.sync(() => database.close())
      )
      database.exec("PRAGMA locking_mode = EXCLUSIVE")
      database.exec("PRAGMA journal_mode = DELETE")
      database.exec("BEGIN EXCLUSIVE")
      return { args: ["--port", "0", "--state-dir", state], says: [path, "is locked", "try again later"] }
    })
  )

  for (
    const [args, says] of [
      [["--json=maybe"], "--json"],
      [["--port", "-1"], "--port"],
      [["--port", "80.5"], "--port"],
      [["--colour"], "Unrecognized flag: --colour"],
      [["--port", "99999"], "between 0 and 65535"],
      [["--port", "many"], "--port: \"many\""],
      [["--policy", "none"], "--policy: \"none\""]
    ] as const
  ) {
    refuses(
      `the flags ${args.join(" ")}`,
      Effect.map(Sallyport.freshState, (state) => ({
        args: ["--state-dir", state, ...args],
        says: [says],
        unchanged: state
      })),
      { usage: true }
    )
  }
})
