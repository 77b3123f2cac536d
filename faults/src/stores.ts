/**
 * The databases of a campaign: where they are, what they hold, and what can happen to them.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import { execFileSync } from "node:child_process"
import * as NFS from "node:fs"
import * as NPath from "node:path"
import * as OS from "node:os"
import { DatabaseSync } from "node:sqlite"
import { type Network, network } from "../../test-support/network.ts"
import type { PostgresAddress } from "../../test-support/postgresSetup.ts"
import { clientOf, type SharedDatabase } from "../../test-support/sharedDatabase.ts"
import type { Tables } from "./history.ts"
import { sleep } from "./node.ts"
import type { Random } from "./random.ts"

/** Is something that can happen to a running backend. It returns when it is over. */
export interface Fault {
  readonly kind: string
  readonly inject: () => Promise<unknown>
}

/** Is a database with its nodes' directories. */
export interface Store {
  readonly name: string
  /** Lists the nodes, each with its state directory and its variables. */
  readonly nodes: ReadonlyArray<{ readonly stateDirectory: string; readonly env: Record<string, string> }>
  readonly faults: ReadonlyArray<Fault>
  readonly tables: () => Promise<Tables>
  /** Counts the runs that have not ended. */
  readonly openRuns: () => Promise<number>
  /** Says what of it grows on the disk, in bytes. */
  readonly logBytes: () => number
  readonly close: () => Promise<void>
}

const query = <Row extends object>(database: SharedDatabase, statement: string): Promise<ReadonlyArray<Row>> =>
  Effect.runPromise(
    SqlClient.SqlClient.use((sql) => sql.unsafe<Row>(statement)).pipe(
      Effect.provide(clientOf(database, 1)),
      Effect.timeout("60 seconds"),
      // The server may have crashed a moment ago.
      Effect.retry({ times: 20, schedule: Schedule.spaced("500 millis") }),
      Effect.scoped
    )
  )

const readTables = async (database: SharedDatabase): Promise<Tables> => {
  const sessions = await query<{ id: string; link_id: string | null; is_live: number }>(
    database,
    `SELECT id, link_id, CASE WHEN revoked_at_millis IS NULL THEN 1 ELSE 0 END AS is_live FROM sallyport_sessions`
  )
  const links = await query<{ id: string; label: string | null }>(
    database,
    `SELECT id, label FROM sallyport_pairing_links`
  )
  const runs = await query<{ run_id: string; idempotency_key: string; status: string }>(
    database,
    `SELECT run_id, idempotency_key, status FROM sallyport_runs`
  )
  const events = await query<{ run_id: string; seq: number | string; kind: string; data: string }>(
    database,
    `SELECT run_id, seq, kind, data FROM sallyport_run_events`
  )
  const feed = await query<{ revision: number | string; type: string; payload: string }>(
    database,
    `SELECT revision, type, payload FROM sallyport_access_feed ORDER BY revision`
  )
  return {
    links,
    sessions: sessions.map(({ id, is_live, link_id }) => ({ id, linkId: link_id, isLive: Number(is_live) === 1 })),
    runs: runs.map(({ idempotency_key, run_id, status }) => ({ runId: run_id, key: idempotency_key, status })),
    events: events.map(({ data, kind, run_id, seq }) => ({ runId: run_id, seq: Number(seq), kind, data })),
    feed: feed.map(({ payload, revision, type }) => ({ payload, type, revision: Number(revision) }))
  }
}

const countOpenRuns = async (database: SharedDatabase) => {
  const rows = await query<{ open: number | string }>(
    database,
    `SELECT COUNT(*) AS open FROM sallyport_runs WHERE status = 'running'`
  )
  return Number(rows[0]?.open ?? 0)
}

/** Mounts a small disk on a directory, if this user may. */
const mountSmallDisk = (directory: string) => {
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=128m", "tmpfs", directory], { stdio: "ignore" })
    return true
  } catch {
    return false
  }
}

/** Writes into a file until its disk is full, and removes it after some time. */
const fillDisk = async (directory: string, millis: number) => {
  const path = NPath.join(directory, "filling")
  const file = NFS.openSync(path, "w")
  try {
    for (const size of [1 << 20, 1 << 12, 1]) {
      try {
        for (;;) NFS.writeSync(file, Buffer.alloc(size))
      } catch (error) {
        if (!(error instanceof Error && "code" in error && error.code === "ENOSPC")) throw error
      }
    }
    await sleep(millis)
  } finally {
    NFS.closeSync(file)
    NFS.rmSync(path)
  }
}

/** Holds the lock of an SQLite file as another process does that writes for long. */
const holdLock = async (filename: string, millis: number) => {
  const database = new DatabaseSync(filename, { timeout: 10_000 })
  try {
    database.exec("BEGIN IMMEDIATE")
    await sleep(millis)
    database.exec("ROLLBACK")
  } finally {
    database.close()
  }
}

const temporary = () => NFS.mkdtempSync(NPath.join(OS.tmpdir(), "sallyport-faults-"))

/** Provides an SQLite file for one node, on a small disk of its own if this user may mount one. */
export const sqlite = (random: Random): Store => {
  const directory = temporary()
  const isMounted = mountSmallDisk(directory)
  const stateDirectory = NPath.join(directory, "state")
  const filename = NPath.join(stateDirectory, "sallyport.db")
  return {
    name: "SQLite file",
    nodes: [{ stateDirectory, env: {} }],
    faults: [
      { kind: "SQLite's lock held", inject: () => holdLock(filename, random.between(300, 8_000)) },
      ...isMounted ? [{ kind: "disk full", inject: () => fillDisk(directory, random.between(300, 4_000)) }] : []
    ],
    tables: () => readTables({ filename }),
    openRuns: () => countOpenRuns({ filename }),
    logBytes: () => NFS.statSync(`${filename}-wal`, { throwIfNoEntry: false })?.size ?? 0,
    close: async () => {
      if (isMounted) execFileSync("umount", [directory])
      NFS.rmSync(directory, { recursive: true, force: true })
    }
  }
}

const tables = ["sessions", "pairing_links", "access_feed", "access_feed_head", "runs", "run_events"]

/** Provides a new database on a PostgreSQL server for two nodes, each behind a network of its own. */
export const postgres = async (random: Random, server: PostgresAddress): Promise<Store> => {
  const name = `faults_${crypto.randomUUID().replaceAll("-", "")}`
  const administration = { ...server, database: "postgres" }
  const database = { ...server, database: name }
  await query(administration, `CREATE DATABASE ${name}`)
  const directory = temporary()
  const scope = Scope.makeUnsafe()
  const connect = () => Effect.runPromise(Scope.provide(network({ url: `http://127.0.0.1:${server.port}` }), scope))
  const networks = [await connect(), await connect()]
  const key = Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("base64url")
  const others = `FROM pg_stat_activity WHERE datname = '${name}' AND pid <> pg_backend_pid()`
  const anyNetwork = (): Network => {
    const chosen = random.pick(networks)
    if (chosen === undefined) throw new Error("There is no network")
    return chosen
  }
  return {
    name: "PostgreSQL, two nodes",
    nodes: networks.map(({ url }, index) => ({
      stateDirectory: NPath.join(directory, String(index)),
      env: {
        SALLYPORT_DATABASE_URL: `postgres://${server.username}:${server.password}@${new URL(url).host}/${name}`,
        SALLYPORT_SECRET_KEY: key
      }
    })),
    faults: [
      {
        kind: "connections cut",
        inject: async () => {
          const chosen = anyNetwork()
          chosen.cut()
          await sleep(random.between(0, 4_000))
          chosen.join({ url: `http://127.0.0.1:${server.port}` })
        }
      },
      { kind: "connections half-open", inject: async () => anyNetwork().silence() },
      { kind: "backends terminated", inject: () => query(database, `SELECT pg_terminate_backend(pid) ${others}`) },
      {
        kind: "table locked",
        inject: () => {
          const table = `sallyport_${random.pick(tables) ?? "sessions"}`
          const seconds = random.between(1, 12)
          return query(
            database,
            `DO $$ BEGIN LOCK TABLE ${table} IN ACCESS EXCLUSIVE MODE; PERFORM pg_sleep(${seconds}); END $$`
          )
        }
      },
      {
        kind: "PostgreSQL crashed",
        inject: async () => {
          // The server ends all processes when one of its own is killed, and recovers.
          const rows = await query<{ pid: number }>(database, `SELECT pid ${others} LIMIT 1`)
          if (rows[0] !== undefined) process.kill(rows[0].pid, "SIGKILL")
          await sleep(1_000)
        }
      }
    ],
    tables: () => readTables(database),
    openRuns: () => countOpenRuns(database),
    logBytes: () => 0,
    close: async () => {
      await Effect.runPromise(Scope.close(scope, Exit.void))
      await query(administration, `DROP DATABASE ${name} WITH (FORCE)`)
      NFS.rmSync(directory, { recursive: true, force: true })
    }
  }
}
