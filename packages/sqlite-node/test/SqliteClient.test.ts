import { assert, describe, it } from "@effect/vitest"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Exit from "effect/Exit"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as SqlSchema from "effect/sql/SqlSchema"
import * as String from "effect/String"
import { copyFileSync, existsSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { connect, tempDirectory, tempFile } from "./support.ts"

const users = (sql: SqlClient.SqlClient) => sql`CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT UNIQUE)`

describe("statements", () => {
  it.effect("create, read, update and delete, in a file that a later client reads", () =>
    Effect.gen(function*() {
      const filename = yield* tempFile
      yield* Effect.scoped(Effect.gen(function*() {
        const sql = yield* connect({ filename })
        yield* users(sql)
        assert.deepStrictEqual(
          yield* sql`INSERT INTO users ${sql.insert([{ id: 1, name: "a" }, { id: 2, name: "b" }])} RETURNING id`,
          [{ id: 1 }, { id: 2 }]
        )
        assert.deepStrictEqual(yield* sql`UPDATE users SET name = ${"c"} WHERE id = ${2}`, [])
        assert.deepStrictEqual(yield* sql`DELETE FROM users WHERE ${sql.in("id", [1])}`, [])
      }))
      const sql = yield* connect({ filename })
      assert.deepStrictEqual(yield* sql`SELECT * FROM users`, [{ id: 2, name: "c" }])
    }))

  it.effect("answer as rows, values and raw results, prepared and not", () =>
    Effect.gen(function*() {
      const sql = yield* connect({ filename: ":memory:" })
      yield* users(sql)
      assert.deepStrictEqual(yield* sql`INSERT INTO users VALUES (7, 'a')`.raw, { changes: 1, lastInsertRowid: 7 })
      const select = sql`SELECT id, name FROM users WHERE id = ${7}`
      const row = { id: 7, name: "a" }
      assert.deepStrictEqual(yield* select, [row])
      assert.deepStrictEqual(yield* select.values, [[7, "a"]])
      assert.deepStrictEqual(yield* select, [row])
      assert.deepStrictEqual(yield* select.raw, [row])
      assert.deepStrictEqual(yield* select.unprepared, [row])
      assert.deepStrictEqual(yield* select.valuesUnprepared, [[7, "a"]])
      assert.deepStrictEqual(yield* sql`DELETE FROM users`.values, [])
    }))

  it.effect("name the columns of each row, whatever they are called and whatever becomes of the table", () =>
    Effect.gen(function*() {
      const sql = yield* connect({ filename: ":memory:" })
      yield* sql`CREATE TABLE one (a, "__proto__")`
      yield* sql`INSERT INTO one VALUES (1, 'x')`
      const entries = (statement: Effect.Effect<ReadonlyArray<object>, SqlError>) =>
        Effect.map(statement, (rows) => rows.map((row) => Object.entries(row)))
      const all = sql`SELECT * FROM one`
      const changed = sql`UPDATE one SET "__proto__" = 'x' RETURNING *`
      const named = sql`SELECT a AS first, "__proto__" FROM one`
      const twice = sql`SELECT a, a AS "a", a + 1 AS b FROM one`
      const unnamed = sql`SELECT 1 + 1, '', NULL AS ""`
      assert.deepStrictEqual(yield* entries(all), [[["a", 1], ["__proto__", "x"]]])
      assert.deepStrictEqual(yield* entries(changed), [[["a", 1], ["__proto__", "x"]]])
      assert.deepStrictEqual(yield* entries(named), [[["first", 1], ["__proto__", "x"]]])
      assert.deepStrictEqual(yield* entries(twice), [[["a", 1], ["b", 2]]])
      assert.deepStrictEqual(yield* entries(unnamed), [[["1 + 1", 2], ["''", ""], ["", null]]])
      yield* sql`ALTER TABLE one RENAME COLUMN a TO z`
      yield* sql`ALTER TABLE one ADD COLUMN more DEFAULT 5`
      assert.deepStrictEqual(yield* entries(all), [[["z", 1], ["__proto__", "x"], ["more", 5]]])
      assert.deepStrictEqual(yield* Effect.map(changed, (rows) => rows.map(Object.keys)), [["z", "__proto__", "more"]])
      assert.strictEqual((yield* Effect.exit(named))._tag, "Failure")
    }))

  it.effect("give rows that schemas decode", () =>
    Effect.gen(function*() {
      const sql = yield* connect({ filename: ":memory:" })
      yield* users(sql)
      yield* sql`INSERT INTO users VALUES (1, 'a')`
      const find = SqlSchema.findAll({
        Request: Schema.Int,
        Result: Schema.Struct({ id: Schema.Int, name: Schema.NonEmptyString }),
        execute: (id) => sql`SELECT * FROM users WHERE id = ${id}`
      })
      assert.deepStrictEqual(yield* find(1), [{ id: 1, name: "a" }])
    }))

  it.effect("see a changed schema through the statement cache", () =>
    Effect.gen(function*() {
      const sql = yield* connect({ filename: ":memory:" })
      yield* users(sql)
      yield* sql`INSERT INTO users VALUES (1, 'a')`
      const select = sql`SELECT * FROM users`
      yield* select
      yield* sql`ALTER TABLE users ADD COLUMN age INTEGER DEFAULT 5`
      assert.deepStrictEqual(yield* select, [{ id: 1, name: "a", age: 5 }])
      yield* sql`DROP TABLE users`
      assert.strictEqual((yield* Effect.flip(select)).reason._tag, "SqlSyntaxError")
    }))

  it.effect("name their driver and dialect", () =>
    Effect.gen(function*() {
      const sql = yield* connect({ filename: ":memory:" })
      assert.strictEqual(sql.driver, "sqlite-node")
      assert.strictEqual(sql.onDialectOrElse({ sqlite: () => "sqlite", orElse: () => "other" }), "sqlite")
      assert.strictEqual(sql[SqliteClient.TypeId], SqliteClient.TypeId)
      assert.strictEqual(sql.config.filename, ":memory:")
    }))
})

describe("parameters", () => {
  it.effect("bind booleans, undefined, null, bigints, bytes and numbers", () =>
    Effect.gen(function*() {
      const sql = yield* connect({ filename: ":memory:" })
      const bytes = new Uint8Array([0, 1, 255])
      assert.deepStrictEqual(
        yield* sql`SELECT ${true}, ${false}, ${undefined}, ${null}, ${BigInt(12)}, ${bytes}, ${1.5}, ${"é\u0000"}`
          .values,
        [[1, 0, null, null, 12, bytes, 1.5, "é\u0000"]]
      )
    }))

  it.effect("refuse dates and objects, in first place too, by name and place", () =>
    Effect.gen(function*() {
      const sql = yield* connect({ filename: ":memory:" })
      const date = yield* Effect.flip(sql.unsafe("SELECT ? AS at", [new Date(0)]))
      assert.strictEqual(date.reason._tag, "UnknownError")
      assert.include(date.message, "parameter 1, which is a Date")
      assert.include(date.message, "toISOString")
      const later = yield* Effect.flip(sql.unsafe("SELECT ?, ?", [1, new Date(0)]))
      assert.include(later.message, "parameter 2")
      const object = yield* Effect.flip(sql.unsafe("SELECT :a", [{ a: 1 }]))
      assert.include(object.message, "object (Object)")
      const bare = yield* Effect.flip(sql.unsafe("SELECT ?", [Object.create(null)]))
      assert.include(bare.message, "null prototype")
      const symbol = yield* Effect.flip(sql.unsafe("SELECT ?", [Symbol("s")]))
      assert.include(symbol.message, "a symbol")
      const huge = yield* Effect.flip(sql.unsafe("SELECT ?", [BigInt(2) ** BigInt(64)]))
      assert.strictEqual(huge._tag, "SqlError")
    }))

  it.effect("honour SafeIntegers per call", () =>
    Effect.gen(function*() {
      const sql = yield* connect({ filename: ":memory:" })
      const big = BigInt("9007199254740993")
      const select = sql<{ n: number | bigint }>`SELECT ${big} AS n`
      const safe = Effect.provideService(SqlClient.SafeIntegers, true)
      assert.strictEqual((yield* Effect.flip(select))._tag, "SqlError")
      assert.deepStrictEqual(yield* safe(select), [{ n: big }])
      assert.deepStrictEqual(yield* safe(select.values), [[big]])
      assert.deepStrictEqual(yield* safe(sql`SELECT 1 AS n`), [{ n: BigInt(1) }])
      assert.deepStrictEqual(yield* sql`SELECT 1 AS n`, [{ n: 1 }])
      yield* sql`CREATE TABLE t (n INTEGER)`
      assert.deepStrictEqual(yield* safe(sql`INSERT INTO t VALUES (1)`.raw), {
        changes: BigInt(1),
        lastInsertRowid: BigInt(1)
      })
    }))
})

describe("several statements in one string", () => {
  const refused = [
    "SELECT 1; SELECT 2",
    "INSERT INTO t VALUES (1); DELETE FROM t",
    "SELECT 1;; /* a */ SELECT 2 /* b */",
    "SELECT 1; -- a\nSELECT 2",
    "SELECT 1\u0000; SELECT 2",
    "SELECT 1; /",
    "CREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT 1; END; SELECT 3"
  ]
  for (const text of refused) {
    it.effect(`refuses ${JSON.stringify(text)} and runs none of it`, () =>
      Effect.gen(function*() {
        const sql = yield* connect({ filename: ":memory:" })
        yield* sql`CREATE TABLE t (n INTEGER)`
        const statement = sql.unsafe(text)
        for (const effect of [statement, statement.raw, statement.values, statement.unprepared]) {
          const error = yield* Effect.flip(Effect.asVoid<unknown, SqlError, never>(effect))
          assert.strictEqual(error.reason._tag, "SqlSyntaxError")
          assert.include(error.message, "more than one statement")
        }
        assert.deepStrictEqual(yield* sql`SELECT * FROM t`, [])
      }))
  }

  const accepted = [
    "SELECT 1;",
    "SELECT 1 ; ; \t\r\n\f",
    ";SELECT 1",
    "SELECT 1; -- SELECT 2; SELECT 3",
    "SELECT 1; /* SELECT 2; */ -- x\n ; /**/ /***/",
    "SELECT 1; /* open",
    "SELECT 1; /* open *",
    "SELECT ';' AS \"a;b\" /* ; */",
    "SELECT '\ud800 é 😀'; -- 😀",
    "CREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT 1; SELECT 2; END;"
  ]
  for (const text of accepted) {
    it.effect(`accepts ${JSON.stringify(text)}`, () =>
      Effect.gen(function*() {
        const sql = yield* connect({ filename: ":memory:" })
        yield* sql`CREATE TABLE t (n INTEGER)`
        yield* sql.unsafe(text)
      }))
  }
})

describe("the client", () => {
  it.effect("renames query identifiers and result columns, and stops without transforms", () =>
    Effect.gen(function*() {
      const sql = yield* connect({
        filename: ":memory:",
        transformQueryNames: String.camelToSnake,
        transformResultNames: String.snakeToCamel
      })
      yield* sql`CREATE TABLE ${sql("userNames")} (first_name TEXT)`
      yield* sql`INSERT INTO ${sql("userNames")} ${sql.insert({ firstName: "a" })}`
      assert.deepStrictEqual(yield* sql`SELECT * FROM user_names`, [{ firstName: "a" }])
      const plain = sql.withoutTransforms()
      assert.deepStrictEqual(yield* plain`SELECT * FROM ${plain("user_names")}`, [{ first_name: "a" }])
      assert.strictEqual((yield* Effect.flip(plain`SELECT * FROM ${plain("userNames")}`)).reason._tag, "SqlSyntaxError")
    }))

  it.effect("drops a query transform that has no result transform beside it", () =>
    Effect.gen(function*() {
      const sql = yield* connect({ filename: ":memory:", transformQueryNames: String.camelToSnake })
      const plain = sql.withoutTransforms()
      assert.strictEqual(sql`SELECT * FROM ${sql("aB")}`.compile()[0], "SELECT * FROM \"a_b\"")
      assert.strictEqual(plain`SELECT * FROM ${plain("aB")}`.compile()[0], "SELECT * FROM \"aB\"")
    }))

  it.effect("is configured as documented by default", () =>
    Effect.gen(function*() {
      const sql = yield* connect({ filename: yield* tempFile })
      assert.deepStrictEqual(yield* sql`PRAGMA journal_mode`.values, [["wal"]])
      assert.deepStrictEqual(yield* sql`PRAGMA synchronous`.values, [[2]])
      assert.deepStrictEqual(yield* sql`PRAGMA foreign_keys`.values, [[1]])
      assert.deepStrictEqual(yield* sql`PRAGMA busy_timeout`.values, [[0]])
    }))

  it.effect("is configured as asked", () =>
    Effect.gen(function*() {
      const sql = yield* connect({
        filename: yield* tempFile,
        disableWAL: true,
        synchronous: "NORMAL"
      })
      assert.deepStrictEqual(yield* sql`PRAGMA journal_mode`.values, [["delete"]])
      assert.deepStrictEqual(yield* sql`PRAGMA synchronous`.values, [[1]])
      const off = yield* connect({ filename: ":memory:", synchronous: "OFF" })
      assert.deepStrictEqual(yield* off`PRAGMA synchronous`.values, [[0]])
    }))

  it.effect("reads its configuration through Config", () =>
    Effect.gen(function*() {
      const filename = yield* tempFile
      const layer = SqliteClient.layerConfig({
        filename: Config.String("DB"),
        synchronous: Config.Literals(["FULL", "NORMAL", "OFF"], "SYNC")
      })
      const program = Effect.gen(function*() {
        const client = yield* SqliteClient.SqliteClient
        const sql = yield* SqlClient.SqlClient
        assert.strictEqual(client.config.filename, filename)
        return yield* sql`PRAGMA synchronous`.values
      }).pipe(Effect.provide(layer))
      const env = (record: Record<string, string>) =>
        Effect.provide(ConfigProvider.layer(ConfigProvider.fromEnvRecord(record)))
      assert.deepStrictEqual(yield* env({ DB: filename, SYNC: "OFF" })(program), [[0]])
      assert.strictEqual((yield* Effect.flip(env({ DB: filename })(program)))._tag, "ConfigError")
    }))

  it.effect("closes its handle with the scope", () =>
    Effect.gen(function*() {
      const filename = yield* tempFile
      const scope = yield* Scope.make()
      const sql = yield* connect({ filename }).pipe(Scope.provide(scope))
      yield* users(sql)
      assert.isTrue(existsSync(`${filename}-wal`))
      yield* Scope.close(scope, Exit.void)
      assert.isFalse(existsSync(`${filename}-wal`))
      const error = yield* Effect.flip(sql`SELECT 1`)
      assert.include(error.message, "not open")
    }))

  it.effect("backs up to a file, and refuses to inside a transaction", () =>
    Effect.gen(function*() {
      const directory = yield* tempDirectory
      const sql = yield* connect({ filename: ":memory:" })
      yield* users(sql)
      yield* sql`INSERT INTO users VALUES (1, 'a')`
      const copy = join(directory, "copy.db")
      const [metadata] = yield* Effect.all([sql.backup(copy), sql`INSERT INTO users VALUES (2, 'b')`], {
        concurrency: "unbounded"
      })
      assert.strictEqual(metadata.remainingPages, 0)
      assert.isAbove(metadata.totalPages, 0)
      const restored = yield* connect({ filename: copy, readonly: true })
      assert.deepStrictEqual(yield* restored`SELECT id FROM users`, [{ id: 1 }])
      assert.include((yield* Effect.flip(sql.withTransaction(sql.backup(copy)))).message, "transaction is open")
      assert.include((yield* Effect.flip(sql.backup(join(directory, "no", "copy.db")))).message, "back up")
    }))

  it.effect("C-60: a new file, what SQLite puts beside it, and a backup are closed to other users; an old file keeps its mode", () =>
    Effect.gen(function*() {
      const directory = yield* tempDirectory
      const modeOf = (name: string) => statSync(join(directory, name)).mode & 0o777
      const open = Effect.fnUntraced(function*(filename: string) {
        const sql = yield* connect({ filename })
        yield* users(sql)
        yield* sql`INSERT INTO users VALUES (1, 'a')`
        return sql
      })
      const sql = yield* open(join(directory, "a.db"))
      yield* sql.backup(join(directory, "copy.db"))
      yield* open(`file://${directory}/b%20c.db?cache=private`)
      for (const name of ["a.db", "a.db-wal", "a.db-shm", "copy.db", "b c.db", "b c.db-wal", "b c.db-shm"]) {
        assert.strictEqual(modeOf(name), 0o600, name)
      }
      writeFileSync(join(directory, "old.db"), "", { mode: 0o640 })
      yield* open(join(directory, "old.db"))
      for (const name of ["old.db", "old.db-wal"]) assert.strictEqual(modeOf(name), 0o640, name)
      yield* connect({ filename: "file:memory?mode=memory" })
      assert.include(
        (yield* Effect.flip(connect({ filename: join(directory, "absent.db"), readonly: true }))).message,
        "absent.db"
      )
      assert.isFalse(existsSync("memory") || existsSync(join(directory, "absent.db")))
    }))

  for (
    const [what, word, change] of [
      ["deleted", "deleted", (filename: string) => rmSync(filename)],
      ["replaced by a copy", "replaced", (filename: string) => {
        copyFileSync(filename, `${filename}.copy`)
        renameSync(`${filename}.copy`, filename)
      }],
      ["moved away", "deleted", (filename: string) => renameSync(filename, `${filename}.moved`)]
    ] as const
  ) {
    it.live(
      `OPS-07 C-65: a file that is ${what} under an open client is told of in one warning`,
      () =>
        Effect.gen(function*() {
          const warnings: Array<unknown> = []
          const noted = yield* Deferred.make<void>()
          const logger = Logger.make(({ message }) => {
            warnings.push(message)
            Deferred.doneUnsafe(noted, Effect.void)
          })
          yield* Effect.gen(function*() {
            const filename = yield* tempFile
            const sql = yield* connect({ filename })
            yield* connect({ filename: ":memory:" })
            yield* users(sql)
            assert.deepStrictEqual(warnings, [])
            change(filename)
            yield* Deferred.await(noted)
            yield* Effect.sleep("2500 millis")
            assert.strictEqual(warnings.length, 1)
            assert.include(`${warnings[0]}`, filename)
            assert.include(`${warnings[0]}`, word)
            yield* sql`SELECT * FROM users`
          }).pipe(Effect.provide(Logger.layer([logger])))
        }),
      60_000
    )
  }

  it.effect("loads extensions through its own method only", () =>
    Effect.gen(function*() {
      const sql = yield* connect({ filename: ":memory:" })
      const missing = yield* Effect.flip(sql.loadExtension(join(yield* tempDirectory, "no-extension")))
      assert.strictEqual(missing.reason.operation, "loadExtension")
      assert.strictEqual((yield* Effect.flip(sql`SELECT load_extension('x')`))._tag, "SqlError")
    }))
})

describe("a database that cannot be opened", () => {
  const opening = (config: SqliteClient.SqliteClientConfig) =>
    Effect.flip(Effect.provide(Effect.asVoid(SqlClient.SqlClient), SqliteClient.layer(config)))

  it.effect("in a missing directory fails with the file and the remedy", () =>
    Effect.gen(function*() {
      const filename = join(yield* tempDirectory, "missing", "test.db")
      const error = yield* opening({ filename })
      assert.strictEqual(error.reason._tag, "ConnectionError")
      assert.include(error.message, filename)
      assert.include(error.message, "directory exists")
    }))

  it.effect("is absent and read-only", () =>
    Effect.gen(function*() {
      const filename = yield* tempFile
      const error = yield* opening({ filename, readonly: true })
      assert.strictEqual(error.reason._tag, "ConnectionError")
      assert.include(error.message, "file exists")
      assert.isFalse(existsSync(filename))
    }))

  it.effect("is not a database, in every mode", () =>
    Effect.gen(function*() {
      const filename = yield* tempFile
      writeFileSync(filename, "this is a text file that is no database at all\n".repeat(100))
      for (const options of [{}, { readonly: true }, { disableWAL: true }]) {
        const error = yield* opening({ filename, ...options })
        assert.strictEqual(error.reason._tag, "UnknownError")
        assert.isFalse(error.isRetryable)
        assert.include(error.message, filename)
        assert.include(error.message, "restore it from a backup")
      }
    }))

  it.effect("is a directory, or no path at all", () =>
    Effect.gen(function*() {
      const directory = yield* tempDirectory
      assert.include((yield* opening({ filename: directory })).message, directory)
      assert.strictEqual((yield* opening({ filename: "a\u0000b" })).reason.operation, "open")
    }))

  it.effect("is locked by another connection", () =>
    Effect.gen(function*() {
      const filename = yield* tempFile
      const holder = yield* connect({ filename, disableWAL: true })
      yield* holder`CREATE TABLE t (n INTEGER)`
      yield* holder`BEGIN EXCLUSIVE`
      const error = yield* opening({ filename, busyTimeout: 30 })
      assert.strictEqual(error.reason._tag, "LockTimeoutError")
      assert.include(error.message, "busyTimeout")
      yield* holder`ROLLBACK`
      yield* Effect.scoped(connect({ filename, busyTimeout: 30 }))
    }))
})

describe("error classification", () => {
  const table: ReadonlyArray<readonly [string, string]> = [
    ["INSERT INTO parent VALUES (1, 'b', 1)", "UniqueViolation"],
    ["INSERT INTO parent VALUES (2, 'a', 1)", "UniqueViolation"],
    ["INSERT INTO plain (rowid, n) VALUES (1, 1)", "UniqueViolation"],
    ["INSERT INTO pair VALUES (1, 1)", "UniqueViolation"],
    ["INSERT INTO parent VALUES (3, NULL, 1)", "ConstraintError"],
    ["INSERT INTO parent VALUES (3, 'c', -1)", "ConstraintError"],
    ["INSERT INTO child VALUES (99)", "ConstraintError"],
    ["SELEC 1", "SqlSyntaxError"],
    ["SELECT (1", "SqlSyntaxError"],
    ["SELECT * FROM nowhere", "SqlSyntaxError"],
    ["SELECT nothing FROM parent", "SqlSyntaxError"],
    ["SELECT \"text\"", "SqlSyntaxError"],
    ["SELECT no_function(1)", "SqlSyntaxError"],
    ["", "UnknownError"],
    ["-- nothing", "UnknownError"],
    ["SELECT json_extract('{', '$')", "UnknownError"],
    ["COMMIT", "UnknownError"]
  ]
  for (const [text, tag] of table) {
    it.effect(`${JSON.stringify(text)} is ${tag}`, () =>
      Effect.gen(function*() {
        const sql = yield* connect({ filename: ":memory:" })
        yield* sql`CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, n INTEGER CHECK (n > 0))`
        yield* sql`CREATE TABLE child (parent INTEGER REFERENCES parent (id))`
        yield* sql`CREATE TABLE plain (n INTEGER)`
        yield* sql`CREATE TABLE pair (a INTEGER, b INTEGER, PRIMARY KEY (a, b)) WITHOUT ROWID`
        yield* sql`INSERT INTO parent VALUES (1, 'a', 1)`
        yield* sql`INSERT INTO plain VALUES (1)`
        yield* sql`INSERT INTO pair VALUES (1, 1)`
        const error = yield* Effect.flip(sql.unsafe(text))
        assert.strictEqual(error.reason._tag, tag)
        assert.isFalse(error.isRetryable)
        assert.isDefined(error.reason.cause)
      }))
  }

  it.effect("names the columns of a unique violation", () =>
    Effect.gen(function*() {
      const sql = yield* connect({ filename: ":memory:" })
      yield* users(sql)
      yield* sql`INSERT INTO users VALUES (1, 'a')`
      const name = yield* Effect.flip(sql`INSERT INTO users VALUES (2, 'a')`)
      const id = yield* Effect.flip(sql`INSERT INTO users VALUES (1, 'b')`)
      assert.strictEqual(name.reason._tag === "UniqueViolation" && name.reason.constraint, "users.name")
      assert.strictEqual(id.reason._tag === "UniqueViolation" && id.reason.constraint, "users.id")
      assert.include(id.message, "users.id")
    }))

  it.effect("a write to a read-only database is AuthorizationError, and reading it works", () =>
    Effect.gen(function*() {
      const filename = yield* tempFile
      yield* Effect.scoped(Effect.flatMap(connect({ filename }), users))
      const sql = yield* connect({ filename, readonly: true })
      assert.deepStrictEqual(yield* sql`SELECT * FROM users`, [])
      assert.deepStrictEqual(yield* sql.withTransaction(sql`SELECT * FROM users`), [])
      const error = yield* Effect.flip(sql`INSERT INTO users VALUES (1, 'a')`)
      assert.strictEqual(error.reason._tag, "AuthorizationError")
      assert.isFalse(error.isRetryable)
    }))

  it.effect("a lock held elsewhere is a retryable LockTimeoutError", () =>
    Effect.gen(function*() {
      const filename = yield* tempFile
      const holder = yield* connect({ filename })
      yield* users(holder)
      const other = yield* connect({ filename, busyTimeout: 0 })
      const error = yield* Effect.flip(holder.withTransaction(other`INSERT INTO users VALUES (1, 'a')`))
      assert.strictEqual(error.reason._tag, "LockTimeoutError")
      assert.isTrue(error.isRetryable)
      yield* other`INSERT INTO users VALUES (1, 'a')`
    }))
})

describe("layers", () => {
  it.effect("provide one client under both tags", () =>
    Effect.gen(function*() {
      const context = yield* Effect.context<SqliteClient.SqliteClient | SqlClient.SqlClient>()
      assert.strictEqual<SqlClient.SqlClient>(
        Context.get(context, SqliteClient.SqliteClient),
        Context.get(context, SqlClient.SqlClient)
      )
    }).pipe(Effect.provide(SqliteClient.layer({ filename: ":memory:" }))))
})
