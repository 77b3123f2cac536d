import { assert, describe, it } from "@effect/vitest"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as SqlReplayRepository from "@sallyport/core/access/SqlReplayRepository"
import * as PgDatabase from "@sallyport/pg/PgDatabase"
import * as PgWakeUps from "@sallyport/pg/PgWakeUps"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"

const withVariables = (variables: Record<string, string>) =>
  Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnvRecord(variables))

// No connection is opened before the first query.
const url = "postgres://ada:s3cret@db.example:5433/acme"

describe("PgDatabase", () => {
  it.live("a database that lets no connection in is not said to have failed to migrate", () =>
    Effect.gen(function*() {
      const error = yield* SqlReplayRepository.layerMigrations().pipe(
        Layer.provide(PgDatabase.layer({ url: Redacted.make("postgres://ada:s3cret@127.0.0.1:1/acme") })),
        Layer.build,
        Effect.scoped,
        Effect.flip
      )
      assert.include(error.message, "could not be connected to")
      assert.include(error.message, "ECONNREFUSED")
      assert.notInclude(error.message, "s3cret")
    }))

  const configOf = (variables: Record<string, string>) =>
    Layer.build(PgDatabase.layerConfig).pipe(
      Effect.map((context) => Context.get(context, PgClient.PgClient).config),
      withVariables(variables)
    )

  const poolOf = (config: PgClient.PgClientConfig) => [Reflect.get(config, "maxConnections"), config.applicationName]

  it.effect("connects to the database that the variables name", () =>
    Effect.gen(function*() {
      const config = yield* configOf({ SALLYPORT_DATABASE_URL: url })
      assert.strictEqual(config.url && Redacted.value(config.url), url)
      assert.deepStrictEqual(poolOf(config), [10, "sallyport"])
      const other = yield* configOf({
        SALLYPORT_DATABASE_URL: url,
        SALLYPORT_DATABASE_MAX_CONNECTIONS: "3",
        SALLYPORT_DATABASE_APPLICATION_NAME: "acme"
      })
      assert.deepStrictEqual(poolOf(other), [3, "acme"])
      assert.deepStrictEqual(PgDatabase.nameOf(Redacted.make(url)), Option.some("postgres://db.example:5433/acme"))
    }))

  for (
    const [title, variables] of [
      ["is of another kind", { SALLYPORT_DATABASE_URL: "mysql://ada:s3cret@db.example/acme" }],
      ["is no address", { SALLYPORT_DATABASE_URL: "ada:s3cret@db.example" }]
    ] as const
  ) {
    it.effect(`SEC-08: says that the address ${title}, without showing it`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(configOf(variables))
        assert.strictEqual(error._tag, "InvalidPgDatabaseOptions")
        assert.strictEqual(
          error.message,
          "The options of the database cannot work: SALLYPORT_DATABASE_URL must be an address of the form " +
            "postgres://user:password@host:5432/database"
        )
      }))
  }

  for (
    const [title, variables] of [
      ["not set", {}],
      ["empty", { SALLYPORT_DATABASE_URL: "" }]
    ] as const
  ) {
    it.effect(`OPS-06: says that an address that is ${title} is not set, and how to set it`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(configOf(variables))
        assert.strictEqual(
          error.message,
          "The options of the database cannot work: SALLYPORT_DATABASE_URL is not set; set it to an address of the form " +
            "postgres://user:password@host:5432/database"
        )
      }))
  }

  it.effect("OPS-06: says that an address in code is missing or empty", () =>
    Effect.gen(function*() {
      for (const [url, problem] of [[undefined, "and is missing"], ["", "must be an address"]] as const) {
        const options: PgDatabase.Options = JSON.parse(JSON.stringify({ url }))
        const error = yield* Effect.flip(Layer.build(PgDatabase.layer(options)))
        assert.include(error.message, "The options of the database cannot work: url ")
        assert.include(error.message, problem)
      }
    }))

  it.effect("C-55: takes from a variable and from code whether statements are prepared, before what the URL says", () =>
    Effect.gen(function*() {
      const prepares = (url: string, more: Record<string, string> = {}) =>
        Effect.map(configOf({ SALLYPORT_DATABASE_URL: url, ...more }), ({ prepare }) => prepare)
      assert.isTrue(yield* prepares(url))
      assert.isFalse(yield* prepares(`${url}?prepare=false`))
      assert.isFalse(yield* prepares(url, { SALLYPORT_DATABASE_PREPARE: "false" }))
      assert.isTrue(yield* prepares(`${url}?prepare=false`, { SALLYPORT_DATABASE_PREPARE: "true" }))
      const inCode = yield* Layer.build(PgDatabase.layer({ url: Redacted.make(url), prepare: false }))
      assert.isFalse(Context.get(inCode, PgClient.PgClient).config.prepare)
    }))

  for (
    const [rest, says] of [
      [
        "/acme?sslrootcert=/etc/ca.pem",
        "a parameter that is not understood: sslrootcert; name the file of certificates"
      ],
      [
        "/acme?target_session_attrs=read-write",
        "a parameter that is not understood: target_session_attrs. These are: host,"
      ],
      ["/acme?pgbouncer=true", "a parameter that is not understood: pgbouncer; write prepare=false instead"],
      ["/acme?toString=1", "a parameter that is not understood: toString. These are"],
      ["/acme?prepare=no", "a parameter prepare that must be true or false"],
      [
        "/acme?sslmode=maybe",
        "a parameter sslmode that must be one of disable, allow, prefer, require, verify-ca, verify-full"
      ],
      ["/acme?connect_timeout=soon", "a parameter connect_timeout that must be a whole number of seconds"],
      ["/acme?port=99999", "a parameter port that must be a whole number from 1 to 65535"],
      ["/acme?host=", "a parameter host that must be a host, or a directory that begins with /"],
      [":99999/acme", "must have a port from 1 to 65535"],
      [",other.example/acme", "must name one host; it names several"],
      ["/acme?options=%2", "must be an address of the form"],
      ["/acme#fragment", "must be an address of the form"]
    ] as const
  ) {
    it.effect(`C-63 SEC-08: refuses a URL by name that ends in ${rest}`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(
          configOf({ SALLYPORT_DATABASE_URL: `postgres://ada:s3cret@db.example${rest}` })
        )
        assert.include(error.message, "The options of the database cannot work: SALLYPORT_DATABASE_URL ")
        assert.include(error.message, says)
        assert.notInclude(error.message, "s3cret")
      }))
  }

  for (const secret of ["12?34", "12#34", "12/34", "1?7=8", "1/2@3"]) {
    it.effect(`C-63 SEC-08: shows nothing of a password that is not encoded: ${secret}`, () =>
      Effect.gen(function*() {
        const written = `postgres://ada:${secret}@db.example/acme`
        const error = yield* Effect.flip(configOf({ SALLYPORT_DATABASE_URL: written }))
        assert.include(error.message, "write / ? # and @ in a password as %2F %3F %23 and %40")
        for (const part of secret.split(/[?#/@=]/)) {
          assert.notInclude(error.message.replaceAll(/%\w\w|:5432/g, ""), part)
        }
        assert.isTrue(Option.isNone(PgDatabase.nameOf(Redacted.make(written))))
      }))
  }

  it.effect("refuses options in code by their own names", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(
        Layer.build(PgDatabase.layer({ url: Redacted.make(url), maxConnections: 0 }))
      )
      assert.include(error.message, "maxConnections must be a whole number from 1, such as 10, not \"0\"")
    }))
})

describe("PgWakeUps", () => {
  it.effect("refuses options that cannot work, in variables and in code", () =>
    Effect.gen(function*() {
      const database = PgDatabase.layer({ url: Redacted.make(url) })
      const inVariable = yield* Effect.flip(Layer.build(Layer.provide(PgWakeUps.layerConfig, database))).pipe(
        withVariables({ SALLYPORT_WAKE_UPS_HEARTBEAT: "soon" })
      )
      assert.strictEqual(inVariable._tag, "InvalidPgWakeUpsOptions")
      assert.include(inVariable.message, "SALLYPORT_WAKE_UPS_HEARTBEAT must be a duration of at least 1 millisecond")
      const inCode = yield* Effect.flip(
        Layer.build(Layer.provide(PgWakeUps.layerWith({ channel: "" }), database))
      )
      assert.include(inCode.message, "channel must be a text of 1 to 255 characters, not \"\"")
      yield* Layer.build(Layer.provide(PgWakeUps.layerConfig, database)).pipe(
        withVariables({ SALLYPORT_WAKE_UPS_COALESCE: "0 millis", SALLYPORT_WAKE_UPS_CHANNEL: "acme" })
      )
    }))
})
