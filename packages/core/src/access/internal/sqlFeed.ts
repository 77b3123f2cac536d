/**
 * Keeps the access feed in the table `<prefix>access_feed`; a row of `<prefix>access_feed_head` holds the newest revision.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { SqlError } from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import * as Dialect from "../../sql/Dialect.ts"
import { CorruptRow } from "../../sql/Rows.ts"
import type { SqlKit } from "../../sql/SqlKit.ts"
import type * as SqlWakeUps from "../../sql/SqlWakeUps.ts"
import { failedAs } from "../../sql/Transactions.ts"
import { AccessChange, AccessEvent, type ChangeContext } from "../AccessEvent.ts"
import type { AccessFeedRepository } from "../AccessFeedRepository.ts"
import { PairingLinkRow, toPairingLink } from "../BootstrapCredentialRepository.ts"
import { SecurityMode } from "../ConnectClient.ts"
import { ConnectClientRow, toConnectClient } from "../ConnectClientRepository.ts"
import { SessionRow, toSession } from "../SessionCredentialRepository.ts"
import { live, redeemable } from "./sqlEnds.ts"

const encode = Schema.encodeEffect(AccessChange)

/** One change, ready to be written. */
type Entry = readonly [type: string, payload: string]

type Write = (entries: ReadonlyArray<Entry>, context: ChangeContext) => Effect.Effect<unknown, SqlError>

/**
 * Appends changes to the feed, in their order. It must be the last step of the transaction that makes them: revisions come
 * from one row, whose lock is held until the commit. That makes them gap-free and commits them in their order, and the
 * holder of that lock waits for no other. Readers are woken after the outermost commit.
 */
export type Append = (
  changes: ReadonlyArray<AccessChange>,
  context: ChangeContext
) => Effect.Effect<void, SqlError | Schema.SchemaError>

/** Makes the step that appends to the feed. */
export const makeAppend = ({ isPg, statement, table, wakeUps }: SqlKit): Append => {
  const feed = table("access_feed")
  const head = table("access_feed_head")
  const columns = "(revision, type, payload, actor, at_millis)"

  // The changes travel as one JSON array, so that there is one statement, and one plan, for any number of them.
  const writePg = (): Write => {
    const insert = statement(
      `WITH head AS (
        UPDATE ${head} SET revision = revision + CAST(? AS BIGINT) WHERE id = 1 RETURNING revision
      )
      INSERT INTO ${feed} ${columns}
      SELECT head.revision - CAST(? AS BIGINT) + entry.ordinal, entry.value ->> 0, entry.value ->> 1,
        CAST(? AS TEXT), CAST(? AS BIGINT)
      FROM head, json_array_elements(CAST(? AS JSON)) WITH ORDINALITY AS entry (value, ordinal)`
    )
    return (entries, { actor, nowMillis }) =>
      insert([entries.length, entries.length, actor, nowMillis, JSON.stringify(entries)])
  }
  const writeSqlite = (): Write => {
    const advance = statement(`UPDATE ${head} SET revision = revision + ? WHERE id = 1`)
    // Nearly always there are one or two, and taking an array apart costs SQLite as much as the rest of the statement.
    const one = (behind: number) => `SELECT revision - ${behind}, ?, ?, ?, ? FROM ${head} WHERE id = 1`
    const insertOne = statement(`INSERT INTO ${feed} ${columns} ${one(0)}`)
    const insertTwo = statement(`INSERT INTO ${feed} ${columns} ${one(1)} UNION ALL ${one(0)}`)
    const insert = statement(
      `INSERT INTO ${feed} ${columns}
      SELECT head.revision - ? + entry.key + 1, entry.value ->> 0, entry.value ->> 1, ?, ?
      FROM ${head} AS head, json_each(?) AS entry WHERE head.id = 1`
    )
    return (entries, { actor, nowMillis }) => {
      const [first, second] = entries
      return Effect.andThen(
        advance([entries.length]),
        first !== undefined && entries.length === 1
          ? insertOne([...first, actor, nowMillis])
          : first !== undefined && second !== undefined && entries.length === 2
          ? insertTwo([...first, actor, nowMillis, ...second, actor, nowMillis])
          : insert([entries.length, actor, nowMillis, JSON.stringify(entries)])
      )
    }
  }
  const write = isPg ? writePg() : writeSqlite()

  // The number of the change is not known here, nor needed: who follows the feed looks at its end.
  const changed: SqlWakeUps.Changes = [["", 0]]

  return Effect.fnUntraced(function*(changes, context) {
    if (changes.length === 0) return
    const entries: Array<Entry> = []
    for (const change of changes) entries.push([change._tag, JSON.stringify(yield* encode(change))])
    yield* write(entries, context)
    yield* wakeUps.announce(feed, changed)
  })
}

/** How many rows of a snapshot are read at once. */
const snapshotPage = 256

const isSecurityMode = Schema.is(SecurityMode)

/** Reads all rows in pages. */
const readAll = Effect.fnUntraced(function*<A, E>(
  readAfter: (last: A | undefined) => Effect.Effect<ReadonlyArray<A>, E>
) {
  const all: Array<A> = []
  while (true) {
    const page = yield* readAfter(all[all.length - 1])
    all.push(...page)
    if (page.length < snapshotPage) return all
    // SQLite answers at once, and others are to have their turn.
    yield* Effect.yieldNow
  }
})

/**
 * Makes the feed of a store. Events of a type that this version does not know are passed over by `read`, so that an older
 * process goes on beside a newer one.
 */
export const make = (kit: SqlKit): AccessFeedRepository => {
  const { all, read, snapshot, statement, table, transaction, wakeUps } = kit
  const feed = table("access_feed")
  const head = table("access_feed_head")
  const types = AccessChange.members.map((member) => member.fields._tag.schema.literal)

  const selectHead = statement<{ readonly revision: unknown }>(`SELECT revision FROM ${head} WHERE id = 1`)
  const latestRevision = Effect.flatMap(
    Effect.suspend(() => selectHead([])),
    ([row]) =>
      row === undefined
        ? Effect.fail(new CorruptRow({ table: head, columns: ["(the row is missing)"] }))
        : Effect.succeed(Dialect.toNatural(row.revision))
  )
  const selectOldest = statement<{ readonly oldest: unknown }>(
    `SELECT COALESCE((SELECT MIN(revision) FROM ${feed}), revision + 1) AS oldest FROM ${head} WHERE id = 1`
  )
  const oldestRevision = Effect.map(
    Effect.suspend(() => selectOldest([])),
    ([row]) => Dialect.toNatural(row?.oldest)
  )
  const sweep = statement(
    `WITH page AS ${kit.once} (SELECT revision, at_millis FROM ${feed} ORDER BY revision LIMIT ?),
    kept AS (SELECT MIN(revision) AS revision FROM page WHERE at_millis >= ?)
    DELETE FROM ${feed} WHERE revision IN (
      SELECT page.revision FROM page CROSS JOIN kept WHERE kept.revision IS NULL OR page.revision < kept.revision
    ) RETURNING revision`
  )
  const reading = (condition: string, order: string) =>
    all(kit.rows("access_feed", AccessEvent).decode)(
      `SELECT revision, payload AS change, actor, at_millis AS at FROM ${feed}
      WHERE ${condition} AND type IN (${types.map((type) => `'${type}'`).join(", ")}) ORDER BY ${order} LIMIT ?`
    )
  const events = reading("revision > ?", "revision")
  const eventsBefore = reading("revision < ?", "revision DESC")

  const links = kit.rows("pairing_links", PairingLinkRow)
  const sessions = kit.rows("sessions", SessionRow)
  const clients = kit.rows("connect_clients", ConnectClientRow)
  const readLinks = all(links.decode)(
    `SELECT ${links.columns} FROM ${table("pairing_links")}
    WHERE ${redeemable()} AND (created_at_millis, id) < (?, ?)
    ORDER BY created_at_millis DESC, id DESC LIMIT ?`
  )
  const readSessions = all(sessions.decode)(
    `SELECT ${sessions.columns} FROM ${table("sessions")}
    WHERE ${live()} AND id > ? ORDER BY id LIMIT ?`
  )
  const readClients = all(clients.decode)(
    `SELECT ${clients.columns} FROM ${table("connect_clients")}
    WHERE proof_key_thumbprint > ? ORDER BY proof_key_thumbprint LIMIT ?`
  )
  const readMode = statement<{ readonly mode: unknown }>(`SELECT mode FROM ${table("connect_settings")} WHERE id = 1`)

  return {
    latestRevision: read("latestRevision")(latestRevision),
    oldestRevision: read("oldestRevision")(oldestRevision),
    read: ({ after, limit }) => read("read")(events([after, limit])),
    readBefore: ({ before, limit }) => read("readBefore")(eventsBefore([before, limit])),
    snapshot: ({ nowMillis }) =>
      Effect.gen(function*() {
        const revision = yield* latestRevision
        const pairingLinks = yield* readAll((last: PairingLinkRow | undefined) =>
          readLinks([nowMillis, last?.createdAtMillis ?? Number.MAX_SAFE_INTEGER, last?.id ?? "", snapshotPage])
        )
        const live = yield* readAll((last: SessionRow | undefined) =>
          readSessions([nowMillis, last?.id ?? "", snapshotPage])
        )
        const connectClients = yield* readAll((last: ConnectClientRow | undefined) =>
          readClients([last?.proofKeyThumbprint ?? "", snapshotPage])
        )
        const [settings] = yield* readMode([])
        const mode: unknown = settings?.mode
        return {
          revision,
          pairingLinks: pairingLinks.map(toPairingLink),
          sessions: live.map(toSession),
          connectClients: connectClients.map(toConnectClient),
          connectSecurityMode: isSecurityMode(mode) ? mode : undefined
        }
      }).pipe(snapshot("snapshot")),
    sweep: ({ endedBeforeMillis, limit }) =>
      Effect.map(sweep([limit, endedBeforeMillis]), (swept) => swept.length).pipe(transaction("sweep")),
    wakeups: wakeUps.listen(feed).pipe(
      Stream.map(() => undefined),
      Stream.mapError(failedAs("wakeups"))
    )
  }
}
