import { assert, describe, it } from "@effect/vitest"
import * as PgClient from "@effect/sql-pg/PgClient"
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
      ["is missing", {}],
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
