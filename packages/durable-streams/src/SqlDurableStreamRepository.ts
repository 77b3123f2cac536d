/**
 * Keeps streams in SQLite or PostgreSQL.
 *
 * Tables: `<prefix>streams`, `<prefix>stream_records`, `<prefix>stream_producers`; history of migrations:
 * `<prefix>streams_migrations`. Writers of one stream wait for each other on the stream's row; on SQLite every transaction
 * is exclusive from its beginning (`BEGIN IMMEDIATE`).
 */
import * as Dialect from "@sallyport/core/sql/Dialect"
import * as Migrations from "@sallyport/core/sql/Migrations"
import * as SqlKit from "@sallyport/core/sql/SqlKit"
import * as Statements from "@sallyport/core/sql/Statements"
import { failedAs } from "@sallyport/core/sql/Transactions"
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import {
  addressKey,
  type AppendHead,
  type AppendItem,
  type AppendOutcome,
  type CreateOptions,
  type CreateOutcome,
  cut,
  deadlineOf,
  deletedMark,
  type DeleteOutcome,
  DurableStreamRepository,
  hasPosition,
  isExpired,
  isSame,
  lifetimeOf,
  markOf,
  missing,
  needsTouch,
  type NewProducer,
  type NewRecord,
  planAppend,
  producerKey,
  type ProducerPoint,
  type ReadOutcome,
  type Segment,
  segmentsOf,
  type StreamAddress,
  type StreamRecord,
  type StreamRow,
  type SweepCounts
} from "./DurableStreamRepository.ts"
import { mediaType } from "./DurableStream.ts"

const create = (sql: SqlClient.SqlClient, options: Migrations.TableOptions | undefined): ReadonlyArray<string> => {
  const { bigint, bytes, clustered, id, isPg, table } = Statements.make(sql, options)
  const streams = table("streams")
  // An id must not be used again: readers tell by it that a stream was deleted and created again.
  const identity = isPg ? "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY" : "INTEGER PRIMARY KEY AUTOINCREMENT"
  return [
    // A row without a path is a deleted stream whose records have not all been deleted yet.
    `CREATE TABLE ${streams} (
      id ${identity},
      owner_key TEXT NOT NULL,
      path ${id},
      content_type TEXT NOT NULL,
      config TEXT NOT NULL,
      ttl_millis ${bigint},
      expires_at_millis ${bigint},
      deadline_at_millis ${bigint},
      closed ${bigint} NOT NULL CHECK (closed IN (0, 1)),
      closed_by TEXT CHECK (closed_by IS NULL OR closed = 1),
      start_position ${bigint} NOT NULL CHECK (start_position >= 0),
      tail ${bigint} NOT NULL CHECK (tail >= start_position),
      byte_count ${bigint} NOT NULL CHECK (byte_count >= 0),
      last_seq TEXT,
      parent_id ${bigint},
      segments TEXT NOT NULL,
      children ${bigint} NOT NULL CHECK (children >= 0),
      deleted_at_millis ${bigint},
      CHECK (path IS NOT NULL OR (deleted_at_millis IS NOT NULL AND children = 0)),
      UNIQUE (owner_key, path)
    )`,
    `CREATE INDEX ${table("streams_deadline")} ON ${streams} (deadline_at_millis)
      WHERE deadline_at_millis IS NOT NULL AND deleted_at_millis IS NULL`,
    `CREATE INDEX ${table("streams_purge")} ON ${streams} (id) WHERE path IS NULL`,

    `CREATE TABLE ${table("stream_records")} (
      stream_id ${bigint} NOT NULL,
      end_position ${bigint} NOT NULL,
      start_position ${bigint} NOT NULL CHECK (start_position < end_position),
      byte_start ${bigint} NOT NULL,
      data ${bytes} NOT NULL,
      PRIMARY KEY (stream_id, end_position)
    ) ${clustered}`,

    `CREATE TABLE ${table("stream_producers")} (
      stream_id ${bigint} NOT NULL,
      producer_id TEXT NOT NULL,
      epoch ${bigint} NOT NULL CHECK (epoch >= 0),
      seq ${bigint} NOT NULL CHECK (seq >= 0),
      PRIMARY KEY (stream_id, producer_id)
    ) ${clustered}`
  ]
}

/**
 * Creates the tables, or brings them up to date. For a deployment step of its own; `layer` does it by itself.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMigrations = (
  options?: Migrations.TableOptions
): Layer.Layer<never, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.effectDiscard(Migrations.run({
    service: "streams",
    ...options,
    migrations: { "1_create_streams": Statements.creating(create, options) }
  }))

// The drivers give numbers as `number` or `bigint`.
type Stored<A> = {
  readonly [K in keyof A]: A[K] extends string ? string : A[K] extends string | null ? string | null : unknown
}

const toProducer = (text: string | null): ProducerPoint | null => text === null ? null : JSON.parse(text)

const toHead = (row: Stored<AppendHead> & { readonly closedBy: string | null }): AppendHead => ({
  id: Dialect.toNatural(row.id),
  ownerKey: row.ownerKey,
  path: row.path,
  contentType: row.contentType,
  ttlMillis: Dialect.toNaturalOrNull(row.ttlMillis),
  expiresAtMillis: Dialect.toNaturalOrNull(row.expiresAtMillis),
  deadlineMillis: Dialect.toNaturalOrNull(row.deadlineMillis),
  closed: Dialect.toNatural(row.closed) === 1,
  closedBy: toProducer(row.closedBy),
  tail: Dialect.toNatural(row.tail),
  byteCount: Dialect.toNatural(row.byteCount),
  lastSeq: row.lastSeq,
  deletedAtMillis: Dialect.toNaturalOrNull(row.deletedAtMillis)
})

type StoredRow = Omit<Stored<StreamRow>, "closedBy" | "segments"> & {
  readonly closedBy: string | null
  readonly segments: string
}

const noSegments: ReadonlyArray<Segment> = []

const toRow = (row: StoredRow): StreamRow => ({
  ...toHead(row),
  config: row.config,
  start: Dialect.toNatural(row.start),
  parentId: Dialect.toNaturalOrNull(row.parentId),
  segments: row.segments === "[]" ? noSegments : JSON.parse(row.segments),
  children: Dialect.toNatural(row.children)
})

const toRecord = (row: Stored<StreamRecord> & { readonly data: Uint8Array }): StreamRecord => ({
  start: Dialect.toNatural(row.start),
  end: Dialect.toNatural(row.end),
  data: row.data
})

/** Makes the repository, without touching the database. The tables must be there, with the same prefix. */
const make: (
  options?: Migrations.TableOptions
) => Effect.Effect<DurableStreamRepository["Service"], Migrations.MigrationsError, SqlClient.SqlClient> = Effect
  .fnUntraced(function*(
    options?: Migrations.TableOptions
  ) {
    const kit = yield* SqlKit.make("streams", options)
    const { forMany, isPg, orFail, prefix, skipLocked, statement, table, transaction, wakeUps } = kit

    const topic = table("streams")
    const streams = table("streams")
    const recordsTable = table("stream_records")
    const producersTable = table("stream_producers")
    const forUpdate = isPg ? " FOR UPDATE" : ""

    const headColumns = `id, owner_key AS "ownerKey", path, content_type AS "contentType", ttl_millis AS "ttlMillis",
    expires_at_millis AS "expiresAtMillis", deadline_at_millis AS "deadlineMillis", closed, closed_by AS "closedBy", tail,
    byte_count AS "byteCount", last_seq AS "lastSeq", deleted_at_millis AS "deletedAtMillis"`
    const rowColumns = `${headColumns}, config, start_position AS "start", parent_id AS "parentId", segments, children`

    const rows = kit.all((row: StoredRow) => Effect.succeed(toRow(row)))
    const oneRow = (text: string) => {
      const run = statement<StoredRow>(text)
      return (parameters: Statements.Parameters) =>
        Effect.map(run(parameters), ([row]) => row === undefined ? undefined : toRow(row))
    }

    const announce = (changes: ReadonlyArray<readonly [id: number, mark: number]>) =>
      wakeUps.announce(topic, changes.map(([id, mark]) => [String(id), mark]))

    // ---- Finding --------------------------------------------------------------------------------------------------

    const byAddress = oneRow(`SELECT ${rowColumns} FROM ${streams} WHERE owner_key = ? AND path = ?`)
    const lockByAddress = oneRow(`SELECT ${rowColumns} FROM ${streams} WHERE owner_key = ? AND path = ?${forUpdate}`)
    const lockById = oneRow(`SELECT ${rowColumns} FROM ${streams} WHERE id = ?${forUpdate}`)

    // ---- Deleting -------------------------------------------------------------------------------------------------

    const markDeleted = statement(`UPDATE ${streams} SET deleted_at_millis = ? WHERE id = ?`)
    const forget = statement(`UPDATE ${streams} SET path = NULL, deleted_at_millis = ? WHERE id = ?`)
    const oneChildLess = statement(`UPDATE ${streams} SET children = children - 1 WHERE id = ?`)
    const deleteRecords = statement(
      `DELETE FROM ${recordsTable} WHERE stream_id = ? AND end_position IN (
      SELECT end_position FROM ${recordsTable} WHERE stream_id = ? ORDER BY end_position LIMIT ?
    ) RETURNING end_position`
    )
    const deleteProducers = statement(`DELETE FROM ${producersTable} WHERE stream_id = ?`)
    const deleteRow = statement(`DELETE FROM ${streams} WHERE id = ?`)

    /** Deletes what a forgotten stream has left, `limit` records at most, and the row with the last of them. */
    const purge = Effect.fnUntraced(function*(id: number, limit: number): Effect.fn.Return<number, SqlError> {
      const gone = (yield* deleteRecords([id, id, limit])).length
      // A full batch may have left some.
      if (gone < limit) {
        yield* deleteProducers([id])
        yield* deleteRow([id])
      }
      return gone
    })

    // What is small is deleted at once; a sweep takes the rest.
    const purgeAtOnce = 500

    const remove = Effect.fnUntraced(function*(stream: StreamRow, nowMillis: number): Effect.fn.Return<void, SqlError> {
      const changes: Array<readonly [number, number]> = []
      let current: StreamRow | undefined = stream
      if (stream.children > 0) {
        yield* markDeleted([nowMillis, stream.id])
        return yield* announce([[stream.id, deletedMark]])
      }
      while (current !== undefined) {
        yield* forget([nowMillis, current.id])
        yield* purge(current.id, purgeAtOnce)
        changes.push([current.id, deletedMark])
        const parent: StreamRow | undefined = current.parentId === null
          ? undefined
          : yield* lockById([current.parentId])
        if (parent === undefined) break
        yield* oneChildLess([parent.id])
        current = parent.children === 1 && parent.deletedAtMillis !== null ? parent : undefined
      }
      yield* announce(changes)
    })

    // ---- Creating -------------------------------------------------------------------------------------------------

    // Two who create one path must see each other although neither finds a row. On SQLite the transaction is the lock.
    const lockAddressStatement = statement("SELECT pg_advisory_xact_lock(hashtextextended(?, 0))")
    const lockAddress = (address: StreamAddress): Effect.Effect<unknown, SqlError> =>
      isPg ? lockAddressStatement([JSON.stringify([prefix, address.ownerKey, address.path])]) : Effect.void

    const countOfOwner = statement<{ readonly count: unknown }>(
      `SELECT COUNT(*) AS count FROM (
        SELECT 1 AS one FROM ${streams} WHERE owner_key = ? AND path IS NOT NULL LIMIT ?
      ) AS counted`
    )
    const oneChildMore = statement(`UPDATE ${streams} SET children = children + 1 WHERE id = ?`)
    const insertStream = oneRow(
      `INSERT INTO ${streams} (owner_key, path, content_type, config, ttl_millis, expires_at_millis, deadline_at_millis, closed, start_position, tail,
      byte_count, parent_id, segments, children)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0) RETURNING ${rowColumns}`
    )
    const insertOne = statement(
      `INSERT INTO ${recordsTable} (stream_id, end_position, start_position, byte_start, data) VALUES (?, ?, ?, ?, ?)`
    )
    const recordAfter = statement<Stored<StreamRecord> & { readonly data: Uint8Array }>(
      `SELECT start_position AS "start", end_position AS "end", data FROM ${recordsTable}
    WHERE stream_id = ? AND end_position > ? ORDER BY end_position LIMIT 1`
    )
    /** Returns where the append that a position lies in ends, for a fork of this stream. */
    const endOfRecordAt = (stream: StreamRow, position: number): Effect.Effect<number, SqlError> => {
      const segment = stream.segments.find(([, until]) => position < until)
      const [id, until] = segment ?? [stream.id, stream.tail]
      return Effect.map(
        recordAfter([id, position]),
        ([record]) => record === undefined ? 0 : Math.min(until, Dialect.toNatural(record.end))
      )
    }

    const create = Effect.fnUntraced(function*(options: CreateOptions): Effect.fn.Return<CreateOutcome, SqlError> {
      const { fork, nowMillis, ownerKey, path } = options
      yield* lockAddress(options)
      const existing = yield* lockByAddress([ownerKey, path])
      if (existing !== undefined) {
        if (!isExpired(existing, nowMillis)) {
          return isSame(existing, options) ? { _tag: "Existing", stream: existing } : { _tag: "Conflict" }
        }
        yield* remove(existing, nowMillis)
        if (existing.children > 0) return { _tag: "Conflict" }
      }
      if (options.maxStreams !== undefined) {
        const [counted] = yield* countOfOwner([ownerKey, options.maxStreams])
        if (Dialect.toNatural(counted?.count) >= options.maxStreams) return { _tag: "Full" }
      }
      let source: StreamRow | undefined
      let start = 0
      if (fork !== null) {
        source = yield* lockByAddress([ownerKey, fork.path])
        const absent = missing(source, nowMillis)
        if (source === undefined || absent !== undefined) {
          return { _tag: absent?._tag === "Gone" ? "SourceGone" : "SourceUnknown" }
        }
        const { contentType, tail } = source
        if (options.contentType !== null && mediaType(options.contentType) !== mediaType(contentType)) {
          return { _tag: "SourceMismatch", contentType }
        }
        const at = fork.at ?? tail
        if (fork.streamId !== null && !hasPosition(source, { streamId: fork.streamId, position: at })) {
          return { _tag: "SourceGone" }
        }
        start = at + fork.further
        if (at > tail) return { _tag: "BeyondSource" }
        if (fork.further > 0 && start > (at < tail ? yield* endOfRecordAt(source, at) : 0)) {
          return { _tag: "BeyondSource" }
        }
        yield* oneChildMore([source.id])
      }
      const lifetime = lifetimeOf(options, source)
      const stream = yield* insertStream([
        ownerKey,
        path,
        options.contentType ?? source?.contentType ?? "",
        options.config,
        lifetime.ttlMillis,
        lifetime.expiresAtMillis,
        deadlineOf(lifetime, nowMillis),
        options.closed ? 1 : 0,
        start,
        start + options.units,
        options.data.length,
        source?.id ?? null,
        JSON.stringify(source === undefined ? [] : segmentsOf(source, start))
      ])
      if (stream === undefined) return yield* Effect.die(new Error("A stream that was inserted was not returned"))
      if (options.units > 0) yield* insertOne([stream.id, stream.tail, start, 0, options.data])
      return { _tag: "Created", stream }
    })

    // ---- Appending ------------------------------------------------------------------------------------------------

    type StoredHead = Stored<AppendHead> & { readonly closedBy: string | null }
    const lockHead = statement<StoredHead>(
      `SELECT ${headColumns} FROM ${streams} WHERE owner_key = ? AND path = ?${forUpdate}`
    )
    // Rows are locked in one order, so that two batches cannot wait for each other in a circle. A deletion goes from a fork
    // to its source instead; if it meets a batch, the database ends one of the two, which is tried again.
    const lockHeadsAtOnce = statement<StoredHead>(
      `SELECT ${headColumns} FROM ${streams}
    JOIN json_to_recordset(CAST(? AS json)) AS asked("ownerKey" text, "streamPath" text)
      ON owner_key = asked."ownerKey" AND path = asked."streamPath"
    ORDER BY id FOR UPDATE OF ${streams}`
    )
    const readHeads = forMany<StoredHead>(
      "(?, ?)",
      (asked) => `SELECT ${headColumns} FROM ${streams} WHERE (owner_key, path) IN (VALUES ${asked})`
    )
    const lockHeads = Effect.fnUntraced(function*(
      items: ReadonlyArray<AppendItem>
    ): Effect.fn.Return<ReadonlyMap<string, AppendHead>, SqlError> {
      const addresses = new Map<string, StreamAddress>()
      for (const item of items) addresses.set(addressKey(item), item)
      const heads = new Map<string, AppendHead>()
      const asked = Array.from(addresses.values())
      const [only] = asked
      const found = asked.length === 1 && only !== undefined
        ? yield* lockHead([only.ownerKey, only.path])
        : isPg
        ? yield* lockHeadsAtOnce([JSON.stringify(asked.map(({ ownerKey, path }) => ({ ownerKey, streamPath: path })))])
        : yield* readHeads(asked.map(({ ownerKey, path }) => [ownerKey, path]))
      for (const row of found) heads.set(addressKey(row), toHead(row))
      return heads
    })

    const producerState = statement<Stored<NewProducer>>(
      `SELECT stream_id AS "streamId", producer_id AS "producerId", epoch, seq FROM ${producersTable}
    WHERE stream_id = ? AND producer_id = ?`
    )
    const producerStates = statement<Stored<NewProducer>>(
      `SELECT stream_id AS "streamId", producer_id AS "producerId", epoch, seq FROM ${producersTable}
    JOIN json_to_recordset(CAST(? AS json)) AS asked(id bigint, producer text)
      ON stream_id = asked.id AND producer_id = asked.producer`
    )
    const readProducers = Effect.fnUntraced(function*(
      items: ReadonlyArray<AppendItem>,
      heads: ReadonlyMap<string, AppendHead>
    ): Effect.fn.Return<ReadonlyMap<string, ProducerPoint>, SqlError> {
      const asked = new Map<string, { readonly id: number; readonly producer: string }>()
      for (const item of items) {
        const head = item.producer === null ? undefined : heads.get(addressKey(item))
        if (item.producer === null || head === undefined) continue
        const { producerId } = item.producer
        asked.set(producerKey(head.id, producerId), { id: head.id, producer: producerId })
      }
      const states = new Map<string, ProducerPoint>()
      const keep = (found: ReadonlyArray<Stored<NewProducer>>) => {
        for (const { epoch, producerId, seq, streamId } of found) {
          states.set(producerKey(Dialect.toNatural(streamId), producerId), {
            producerId,
            epoch: Dialect.toNatural(epoch),
            seq: Dialect.toNatural(seq)
          })
        }
      }
      if (isPg && asked.size > 1) keep(yield* producerStates([JSON.stringify(Array.from(asked.values()))]))
      else for (const { id, producer } of asked.values()) keep(yield* producerState([id, producer]))
      return states
    })

    // PostgreSQL takes any number of rows as one JSON text, and so with one prepared statement.
    const insertAtOnce = statement(
      `INSERT INTO ${recordsTable} (stream_id, end_position, start_position, byte_start, data)
    SELECT "streamId", "end", "start", "byteStart", decode(data, 'base64')
    FROM json_to_recordset(CAST(? AS json))
      AS new("streamId" bigint, "end" bigint, "start" bigint, "byteStart" bigint, data text)`
    )
    const insertMany = forMany(
      "(?, ?, ?, ?, ?)",
      (rows) =>
        `INSERT ${orFail}INTO ${recordsTable} (stream_id, end_position, start_position, byte_start, data) VALUES ${rows}`
    )
    const insertRecords = (records: ReadonlyArray<NewRecord>): Effect.Effect<unknown, SqlError> =>
      isPg && records.length > 1
        ? insertAtOnce([JSON.stringify(records.map((record) => ({ ...record, data: Base64.encode(record.data) })))])
        : insertMany(
          records.map(({ byteStart, data, end, start, streamId }) => [streamId, end, start, byteStart, data])
        )

    const updateAtOnce = statement(
      `UPDATE ${streams} AS stream SET tail = new.tail, byte_count = new."byteCount", last_seq = new."lastSeq",
      closed = new.closed, closed_by = new."closedBy", deadline_at_millis = new.deadline_at_millis
    FROM json_to_recordset(CAST(? AS json)) AS new(tail bigint, "byteCount" bigint, "lastSeq" text,
      closed bigint, "closedBy" text, deadline_at_millis bigint, id bigint)
    WHERE stream.id = new.id`
    )
    const updateOne = statement(
      `UPDATE ${streams} SET tail = ?, byte_count = ?, last_seq = ?, closed = ?, closed_by = ?, deadline_at_millis = ?
      WHERE id = ?`
    )
    const updateMany = forMany(
      "(?, ?, ?, ?, ?, ?, ?)",
      (rows) =>
        `UPDATE ${orFail}${streams} SET tail = column1, byte_count = column2, last_seq = column3, closed = column4,
        closed_by = column5, deadline_at_millis = column6
      FROM (VALUES ${rows}) AS new WHERE id = column7`
    )
    const toUpdate = (head: AppendHead) => ({
      tail: head.tail,
      byteCount: head.byteCount,
      lastSeq: head.lastSeq,
      closed: head.closed ? 1 : 0,
      closedBy: head.closedBy === null ? null : JSON.stringify(head.closedBy),
      deadline_at_millis: head.deadlineMillis,
      id: head.id
    })
    const updateHeads = (heads: ReadonlyArray<AppendHead>): Effect.Effect<unknown, SqlError> => {
      const [only] = heads
      if (heads.length === 1 && only !== undefined) return updateOne(Object.values(toUpdate(only)))
      return isPg
        ? updateAtOnce([JSON.stringify(heads.map(toUpdate))])
        : updateMany(heads.map((head) => Object.values(toUpdate(head))))
    }

    const upsertProducers = statement(
      `INSERT INTO ${producersTable} (stream_id, producer_id, epoch, seq)
    SELECT "streamId", "producerId", epoch, seq FROM json_to_recordset(CAST(? AS json))
      AS new("streamId" bigint, "producerId" text, epoch bigint, seq bigint)
    ON CONFLICT (stream_id, producer_id) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq`
    )
    const upsertMany = forMany(
      "(?, ?, ?, ?)",
      (rows) =>
        `INSERT INTO ${producersTable} (stream_id, producer_id, epoch, seq) VALUES ${rows}
      ON CONFLICT (stream_id, producer_id) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq`
    )
    const storeProducers = (producers: ReadonlyArray<NewProducer>): Effect.Effect<unknown, SqlError> =>
      isPg && producers.length > 1
        ? upsertProducers([JSON.stringify(producers)])
        : upsertMany(producers.map(({ epoch, producerId, seq, streamId }) => [streamId, producerId, epoch, seq]))

    // Looking whether anything has changed costs as much as looking at a few streams.
    const manyItems = 4
    const remembered = Option.getOrUndefined(kit.rowMemory<AppendHead>(10_000))

    const append = Effect.fnUntraced(function*(options: {
      readonly items: ReadonlyArray<AppendItem>
      readonly nowMillis: number
      readonly maxStreamBytes: number
    }): Effect.fn.Return<ReadonlyArray<AppendOutcome>, SqlError> {
      const memory = options.items.length < manyItems ? undefined : remembered
      const recalled = yield* memory?.recall(options.items.map(addressKey)) ?? Effect.undefined
      const heads = recalled === undefined
        ? yield* lockHeads(options.items)
        : new Map(recalled.rows.map((head) => [addressKey(head), head]))
      const producers = yield* readProducers(options.items, heads)
      const plan = planAppend({ ...options, heads, producers })
      if (plan.heads.length > 0) {
        yield* insertRecords(plan.records)
        yield* updateHeads(plan.heads)
        yield* storeProducers(plan.producers)
        yield* memory?.keep(plan.heads.map((head) => [addressKey(head), head])) ?? Effect.void
        yield* announce(plan.heads.map((head) => [head.id, markOf(head)]))
      }
      return plan.outcomes
    })

    // ---- Reading --------------------------------------------------------------------------------------------------

    const touch = statement(
      `UPDATE ${streams} SET deadline_at_millis = ? WHERE id = ? AND deadline_at_millis < ? AND deleted_at_millis IS NULL`
    )
    // The first record comes whatever its size; no other begins more than the given bytes after it.
    const readRecords = statement<Stored<StreamRecord> & { readonly data: Uint8Array }>(
      `SELECT start_position AS "start", end_position AS "end", data FROM ${recordsTable}
    WHERE stream_id = ? AND end_position > ? AND start_position < ? AND byte_start < ? + (
      SELECT byte_start FROM ${recordsTable} WHERE stream_id = ? AND end_position > ? ORDER BY end_position LIMIT 1
    )
    ORDER BY end_position LIMIT ?`
    )
    const read = Effect.fnUntraced(function*(options: {
      readonly ownerKey: string
      readonly path: string
      readonly from: number | "tail"
      readonly maxRecords: number
      readonly maxBytes: number
      readonly nowMillis: number
    }): Effect.fn.Return<ReadOutcome, SqlError> {
      const { nowMillis, ownerKey, path } = options
      const stream = yield* byAddress([ownerKey, path])
      const absent = missing(stream, nowMillis)
      if (stream === undefined || absent !== undefined) return absent ?? { _tag: "Unknown" }
      if (needsTouch(stream, nowMillis)) {
        const deadline = deadlineOf(stream, nowMillis)
        yield* touch([deadline, stream.id, deadline])
      }
      const from = options.from === "tail" ? stream.tail : options.from
      if (from > stream.tail) return { _tag: "BeyondEnd", stream }
      const records: Array<StreamRecord> = []
      let position = from
      let bytes = 0
      for (const [id, until] of [...stream.segments, [stream.id, stream.tail] as const]) {
        if (position >= until) continue
        const limit = options.maxRecords - records.length
        if (limit <= 0 || bytes >= options.maxBytes) break
        const found = yield* readRecords([id, position, until, options.maxBytes - bytes, id, position, limit])
        for (const row of found) {
          const record = toRecord(row)
          // A stream that is deleted meanwhile loses its oldest records first.
          if (record.start > position) return { _tag: "Unknown" }
          const part = cut(stream.contentType, record, position, until)
          records.push(part)
          bytes += part.data.length
          position = part.end
        }
        if (position < until) break
      }
      return records.length === 0 && from < stream.tail ? { _tag: "Unknown" } : { _tag: "Read", stream, from, records }
    })

    const list = rows(
      `SELECT ${rowColumns} FROM ${streams}
    WHERE owner_key = ? AND path > ? AND path >= ? AND substr(path, 1, length(?)) = ? AND deleted_at_millis IS NULL
      AND (deadline_at_millis IS NULL OR deadline_at_millis > ?)
    ORDER BY path LIMIT ?`
    )
    const heads = statement<Stored<Pick<StreamRow, "id" | "tail" | "closed">>>(
      `SELECT id, tail, closed FROM ${streams} WHERE deleted_at_millis IS NULL AND ${
        isPg
          ? "id = ANY (ARRAY(SELECT CAST(json_array_elements_text(CAST(? AS json)) AS bigint)))"
          : "id IN (SELECT value FROM json_each(?))"
      }`
    )

    // ---- Sweeping -------------------------------------------------------------------------------------------------

    const pickExpired = rows(
      `SELECT ${rowColumns} FROM ${streams} WHERE deadline_at_millis IS NOT NULL AND deleted_at_millis IS NULL AND deadline_at_millis <= ?
    ORDER BY deadline_at_millis LIMIT ?${skipLocked}`
    )
    const pickForgotten = statement<{ readonly id: unknown }>(
      `SELECT id FROM ${streams} WHERE path IS NULL ORDER BY id LIMIT ?${skipLocked}`
    )
    const expire = Effect.fnUntraced(function*(limit: number, nowMillis: number): Effect.fn.Return<number, SqlError> {
      const expired = yield* pickExpired([nowMillis, limit])
      for (const stream of expired) {
        // Its forks may have expired in this batch, before it.
        const current = yield* lockById([stream.id])
        if (current !== undefined && current.deletedAtMillis === null) yield* remove(current, nowMillis)
      }
      return expired.length
    })
    const purgeForgotten = Effect.fnUntraced(function*(
      limit: number
    ): Effect.fn.Return<Pick<SweepCounts, "records" | "removed">, SqlError> {
      let records = 0
      let removed = 0
      for (const { id } of yield* pickForgotten([limit])) {
        if (records === limit) break
        records += yield* purge(Dialect.toNatural(id), limit - records)
        if (records < limit) removed++
      }
      return { records, removed }
    })

    return DurableStreamRepository.of({
      create: (options) => transaction("create")(create(options)),
      append: (options) => transaction("append")(append(options)),
      get: ({ nowMillis, ownerKey, path }) =>
        kit.read("get")(
          Effect.map(byAddress([ownerKey, path]), (stream) =>
            missing(stream, nowMillis) ?? (stream === undefined ? { _tag: "Unknown" } : { _tag: "Found", stream }))
        ),
      read: (options) => kit.read("read")(read(options)),
      delete: ({ nowMillis, ownerKey, path }) =>
        transaction("delete")(Effect.gen(function*(): Effect.fn.Return<DeleteOutcome, SqlError> {
          const stream = yield* lockByAddress([ownerKey, path])
          const absent = missing(stream, nowMillis)
          if (stream === undefined || absent !== undefined) return absent ?? { _tag: "Unknown" }
          yield* remove(stream, nowMillis)
          return { _tag: "Deleted" }
        })),
      list: ({ after, limit, nowMillis, ownerKey, prefix }) =>
        kit.read("list")(list([ownerKey, after, prefix, prefix, prefix, nowMillis, limit])),
      heads: (ids) =>
        kit.read("heads")(
          Effect.map(heads([JSON.stringify(ids)]), (found) =>
            found.map(({ closed, id, tail }) => ({
              id: Dialect.toNatural(id),
              mark: markOf({ tail: Dialect.toNatural(tail), closed: Dialect.toNatural(closed) === 1 })
            })))
        ),
      sweep: ({ limit, nowMillis }) =>
        // Each part is a transaction of its own: what one has done does not depend on the next.
        Effect.gen(function*() {
          const { records, removed } = yield* transaction("sweep")(purgeForgotten(limit))
          const expired = yield* transaction("sweep")(expire(limit, nowMillis))
          return { expired, records, removed }
        }),
      wakeups: Stream.mapError(wakeUps.listen(topic), failedAs("wakeups"))
    })
  })

/**
 * Provides the repository on tables that are there already, for a connection without the right to create any.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerStorage = (
  options?: Migrations.TableOptions
): Layer.Layer<DurableStreamRepository, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.effect(DurableStreamRepository, make(options))

/**
 * Provides the repository, with a prefix of one's own, after creating or upgrading its tables.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (
  options?: Migrations.TableOptions
): Layer.Layer<DurableStreamRepository, Migrations.MigrationsError, SqlClient.SqlClient> =>
  Layer.provide(layerStorage(options), layerMigrations(options))

/**
 * Provides the repository after creating or upgrading its tables.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<DurableStreamRepository, Migrations.MigrationsError, SqlClient.SqlClient> = layerWith()
