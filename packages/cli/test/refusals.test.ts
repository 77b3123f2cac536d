import { afterAll, assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { spawnSync } from "node:child_process"
import * as NFS from "node:fs"
import { createServer } from "node:net"
import * as OS from "node:os"
import * as NPath from "node:path"
import { DatabaseSync } from "node:sqlite"
import * as Sallyport from "../../../test-support/backend.ts"
import * as Programs from "../../../test-support/programs.ts"
import { refusalsOf } from "./refusals.ts"

const { everyRow, refuses } = refusalsOf("On any store")

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

/** Makes a process that the modes of a directory stop, whatever user this is. */
const stopped = (directory: string) =>
  firstThat(
    [[], ["setpriv", "--bounding-set=-dac_override"], ["unshare", "-U"]],
    `try { require("fs").accessSync(${JSON.stringify(directory)}, 2) } catch ({ code }) { console.log(code) }`,
    "EACCES\n"
  )

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

/** Makes a process for which a directory lies on a file system with room for little. */
const small = (directory: string) => {
  const mounting = `mount -t tmpfs -o size=128k,mode=700 tmpfs "$1" && shift && exec "$@"`
  return firstThat(
    [["unshare", "-m"], ["unshare", "-rm"]].map((command) => [...command, "sh", "-c", mounting, "sh", directory]),
    `console.log(require("fs").statfsSync(${JSON.stringify(directory)}).blocks < 100)`,
    "true\n"
  )
}

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
        `OPS-06 SEC-02: a secret file that is damaged (${file} ${name})`,
        Effect.map(usedState, (state) => {
          const path = NPath.join(state, "secrets", file)
          NFS.writeFileSync(path, damage(NFS.readFileSync(path)))
          return {
            args: ["--port", "0", "--state-dir", state],
            names: [path],
            unchanged: state
          }
        })
      )
    }
  }

  refuses(
    "OPS-06 SEC-02: a secret file that others can read",
    Effect.map(usedState, (state) => {
      const path = NPath.join(state, "secrets", "session-signing-keys~1")
      NFS.chmodSync(path, 0o644)
      return {
        args: ["--port", "0", "--state-dir", state],
        names: [path, "0644"],
        unchanged: state
      }
    })
  )

  refuses(
    "OPS-06: a state directory that others can reach",
    Effect.map(Programs.temporaryDirectory, (directory) => {
      NFS.chmodSync(directory, 0o755)
      return {
        args: ["--port", "0", "--state-dir", directory],
        names: [directory, "0755"],
        unchanged: directory
      }
    })
  )

  // Permission bits do not stop a superuser, but a directory in /proc or below a file cannot be made by any user.
  refuses(
    "OPS-06: a state directory that cannot be made (in /proc)",
    Effect.succeed({
      args: ["--port", "0", "--state-dir", "/proc/sallyport/state"],
      names: ["/proc/sallyport/state"]
    })
  )

  refuses(
    "OPS-06: a state directory of another user",
    Effect.map(Programs.temporaryDirectory, (directory) => {
      // Only a superuser can give a directory away; for any other user the root's is another's.
      const isRoot = process.getuid?.() === 0
      if (isRoot) NFS.chownSync(directory, 54_321, 54_321)
      const foreign = isRoot ? directory : "/usr/share"
      return {
        args: ["--port", "0", "--state-dir", foreign],
        names: [foreign],
        ...isRoot ? { unchanged: directory } : {}
      }
    })
  )

  refuses(
    "OPS-06: a state directory that this user may not write to",
    Effect.map(Programs.temporaryDirectory, (directory) => {
      NFS.chmodSync(directory, 0o500)
      return {
        through: stopped(directory),
        args: ["--port", "0", "--state-dir", directory],
        names: [directory],
        unchanged: directory
      }
    })
  )

  for (
    const [row, below] of [["a file in the place of the state directory", ""], [
      "a state directory that cannot be made (below a file)",
      "/below/it"
    ]] as const
  ) {
    refuses(
      `OPS-06: ${row}`,
      Effect.map(Sallyport.freshState, (state) => {
        NFS.writeFileSync(state, "a file")
        return {
          args: ["--port", "0", "--state-dir", state + below],
          names: [state + below],
          unchanged: state
        }
      })
    )
  }

  for (const service of ["runs", "access", "spent_values"]) {
    refuses(
      `OPS-06: a database of a newer version (${service})`,
      Effect.map(usedState, (state) => {
        const path = NPath.join(state, "sallyport.db")
        const database = new DatabaseSync(path, { timeout: 10_000 })
        database.exec(`INSERT INTO sallyport_${service}_migrations (migration_id, name) VALUES (9000, 'later')`)
        database.close()
        return {
          args: ["--port", "0", "--state-dir", state],
          names: [path, `sallyport_${service}_migrations`, "9000"],
          unchanged: state
        }
      })
    )
  }

  refuses(
    "OPS-06: a database that is damaged (no database)",
    Effect.map(usedState, (state) => {
      const path = NPath.join(state, "sallyport.db")
      NFS.writeFileSync(path, "not a database, ".repeat(1_000))
      return {
        args: ["--port", "0", "--state-dir", state],
        names: [path, "is not a database"],
        unchanged: state
      }
    })
  )

  refuses(
    "OPS-06: a database that is damaged (cut off)",
    Effect.map(usedState, (state) => {
      const path = NPath.join(state, "sallyport.db")
      NFS.truncateSync(path, 10_000)
      return {
        args: ["--port", "0", "--state-dir", state],
        names: [path, "malformed"],
        unchanged: state
      }
    })
  )

  refuses(
    "OPS-06: a directory in the place of the database",
    Effect.map(Sallyport.freshState, (state) => {
      const path = NPath.join(state, "sallyport.db")
      NFS.mkdirSync(path, { recursive: true, mode: 0o700 })
      return { args: ["--port", "0", "--state-dir", state], names: [path], unchanged: path }
    })
  )

  refuses(
    "OPS-06: a port in use",
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
        names: [port],
        unchanged: state
      }
    })
  )

  refuses(
    "OPS-06: a port that this user may not listen on",
    Effect.gen(function*() {
      const state = yield* Sallyport.freshState
      return {
        through: yield* unprivileged,
        // A port on another address than loopback is refused in the same way.
        args: ["--port", "1", "--state-dir", state, "--host", "0.0.0.0"],
        unchanged: state
      }
    })
  )

  refuses(
    "OPS-06: a read-only file system (no state yet)",
    Effect.gen(function*() {
      const directory = yield* Programs.temporaryDirectory
      const state = NPath.join(directory, "state")
      return {
        through: yield* readOnly(directory),
        args: ["--port", "0", "--state-dir", state],
        names: [state],
        unchanged: directory
      }
    })
  )

  refuses(
    "OPS-06: a read-only file system (with state)",
    Effect.gen(function*() {
      const state = yield* usedState
      return {
        through: yield* readOnly(state),
        args: ["--port", "0", "--state-dir", state],
        names: [state],
        unchanged: state
      }
    })
  )

  refuses(
    "OPS-06: a disk that is full",
    Effect.map(Programs.temporaryDirectory, (directory) => {
      const state = NPath.join(directory, "state")
      return {
        through: small(directory),
        args: ["--port", "0", "--state-dir", state],
        names: [NPath.join(state, "sallyport.db")]
      }
    })
  )

  refuses(
    "OPS-06: a disk that fails writes",
    Effect.map(Sallyport.freshState, (state) => ({
      // The system refuses to make a file larger than that, which SQLite sees as a write that failed.
      through: ["sh", "-c", `trap "" XFSZ; ulimit -f 64; exec "$@"`, "sh"],
      args: ["--port", "0", "--state-dir", state],
      names: [NPath.join(state, "sallyport.db")]
    }))
  )

  // The address is reserved for documentation (RFC 5737).
  refuses(
    "OPS-06: an address that is not this machine's (reserved)",
    Effect.map(Sallyport.freshState, (state) => ({
      args: ["--port", "0", "--state-dir", state, "--host", "203.0.113.5"],
      names: ["203.0.113.5"],
      unchanged: state
    }))
  )

  refuses(
    "OPS-06 AUTH-01: no authentication on an address that others reach",
    Effect.map(Sallyport.freshState, (state) => ({
      args: ["--port", "0", "--state-dir", state, "--host", "0.0.0.0", "--policy", "unsafe-no-auth"],
      names: ["0.0.0.0"],
      unchanged: state
    }))
  )

  refuses(
    "OPS-06: a public URL that no browser opens (ftp)",
    Effect.map(Sallyport.freshState, (state) => ({
      args: ["--port", "0", "--state-dir", state, "--public-url", "ftp://user:hunter2@example.org"],
      names: ["ftp"],
      secrets: ["hunter2"],
      unchanged: state
    }))
  )

  refuses(
    "OPS-06 AUTH-01: a name of the server that is not one line",
    Effect.map(Sallyport.freshState, (state) => ({
      args: ["--port", "0", "--state-dir", state, "--name", "Ada\u2028evil"],
      unchanged: state
    }))
  )

  refuses(
    "OPS-06 CONN-16: a webhook without a secret",
    Effect.map(Sallyport.freshState, (state) => ({
      args: ["--port", "0", "--state-dir", state, "--webhook-url", "https://203.0.113.1/"],
      unchanged: state
    }))
  )

  const webhookSecret = Buffer.alloc(32, 7).toString("base64")
  for (
    const [what, url, secret] of [
      ["plain http", "http://203.0.113.1/", `whsec_${webhookSecret}`],
      ["an address of this machine", "https://127.0.0.1/", `whsec_${webhookSecret}`],
      ["no address", "hook", `whsec_${webhookSecret}`],
      ["a secret without its prefix", "https://203.0.113.1/", webhookSecret]
    ] as const
  ) {
    refuses(
      `OPS-06 CONN-16: a webhook that cannot work (${what})`,
      Effect.map(Sallyport.freshState, (state) => ({
        args: ["--port", "0", "--state-dir", state],
        env: { SALLYPORT_WEBHOOK_URL: url, SALLYPORT_WEBHOOK_SECRET: secret },
        secrets: [webhookSecret],
        unchanged: state
      }))
    )
  }

  refuses(
    "OPS-06 HTTP-03: a trusted proxy that is neither an address nor a network",
    Effect.map(Sallyport.freshState, (state) => ({
      args: ["--port", "0", "--state-dir", state, "--trusted-proxy", "10.0.0.0/8", "--trusted-proxy", "10.0.0.1/8"],
      names: ["10.0.0.1/8"],
      unchanged: state
    }))
  )

  refuses(
    "OPS-06: a variable with a wrong value",
    Effect.map(Sallyport.freshState, (state) => ({
      args: ["--port", "0", "--state-dir", state],
      env: { SALLYPORT_SESSION_LIFETIME: "a month" },
      names: ["SALLYPORT_SESSION_LIFETIME", "\"a month\""]
    }))
  )

  refuses(
    "OPS-06: an empty URL of the database",
    Effect.map(Sallyport.freshState, (state) => ({
      args: ["--port", "0", "--state-dir", state, "--database-url", ""],
      unchanged: state
    }))
  )

  for (
    const [name, address] of [
      ["a host that no name server knows", "no-such-host.invalid"],
      ["an address that is none", "300.1.1.1"]
    ] as const
  ) {
    refuses(
      `OPS-06: an address that is not this machine's (${name})`,
      Effect.map(Sallyport.freshState, (state) => ({
        args: ["--port", "0", "--state-dir", state, "--host", address],
        names: [address],
        unchanged: state
      }))
    )
  }

  for (const url of ["not an address", "https://", "/pair"]) {
    refuses(
      `OPS-06: a public URL that no browser opens (${url})`,
      Effect.map(Sallyport.freshState, (state) => ({
        args: ["--port", "0", "--state-dir", state, "--public-url", url],
        names: [url],
        unchanged: state
      }))
    )
  }

  refuses(
    "OPS-06: a database with tables of another program",
    Effect.map(Sallyport.freshState, (state) => {
      NFS.mkdirSync(state, { mode: 0o700 })
      const path = NPath.join(state, "sallyport.db")
      const database = new DatabaseSync(path, { timeout: 10_000 })
      database.exec("CREATE TABLE sallyport_sessions (something TEXT)")
      database.close()
      return { args: ["--port", "0", "--state-dir", state], names: [path, "sallyport_sessions"] }
    })
  )

  refuses(
    "OPS-06 OPS-08 C-60: a symbolic link in the place of the database",
    Effect.map(Sallyport.freshState, (state) => {
      NFS.mkdirSync(state, { mode: 0o700 })
      NFS.symlinkSync("/nowhere/else.db", NPath.join(state, "sallyport.db"))
      return {
        args: ["--port", "0", "--state-dir", state],
        names: [state, "sallyport.db"]
      }
    })
  )

  refuses(
    "OPS-06 OPS-03: a database that another process keeps locked",
    Effect.gen(function*() {
      const state = yield* usedState
      const path = NPath.join(state, "sallyport.db")
      const database = yield* Effect.acquireRelease(
        Effect.sync(() => new DatabaseSync(path, { timeout: 10_000 })),
        (database) => Effect.sync(() => database.close())
      )
      database.exec("PRAGMA locking_mode = EXCLUSIVE")
      database.exec("PRAGMA journal_mode = DELETE")
      database.exec("BEGIN EXCLUSIVE")
      return { args: ["--port", "0", "--state-dir", state], names: [path] }
    })
  )

  for (
    const args of [
      ["--headers-timeout", "2 minutes"],
      ["--request-timeout", "0 seconds"],
      ["--stalled-timeout", "15 seconds"]
    ]
  ) {
    refuses(
      `OPS-06 HTTP-04: a timeout that cannot work (${args.join(" ")})`,
      Effect.map(Sallyport.freshState, (state) => ({
        args: ["--port", "0", "--state-dir", state, ...args],
        unchanged: state
      }))
    )
  }

  for (
    const [flag, value] of [
      ["--port", "-1"],
      ["--port", "80.5"],
      ["--port", "99999"],
      ["--port", "many"],
      ["--policy", "none"],
      ["--json", "maybe"],
      ["--keep-alive-timeout", "soon"]
    ] as const
  ) {
    refuses(
      `OPS-06: a flag with a wrong value (${flag} ${value})`,
      Effect.map(Sallyport.freshState, (state) => ({
        args: ["--state-dir", state, `${flag}=${value}`],
        names: [flag],
        unchanged: state
      }))
    )
  }

  refuses(
    "OPS-06: a flag that does not exist",
    Effect.map(Sallyport.freshState, (state) => ({
      args: ["--state-dir", state, "--colour"],
      names: ["--colour"],
      unchanged: state
    }))
  )

  everyRow()
})
