import { assert, describe, it } from "@effect/vitest"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

const build = (provider: ConfigProvider.ConfigProvider) =>
  Layer.build(SqliteClient.layerConfig(SqliteClient.config)).pipe(
    Effect.map(Context.get(SqliteClient.SqliteClient)),
    Effect.provideService(ConfigProvider.ConfigProvider, provider)
  )

describe("SqliteClient.config", () => {
  it.effect("needs a file name, and has defaults for the rest", () =>
    Effect.gen(function*() {
      const { config } = yield* build(ConfigProvider.fromEnvRecord({ SALLYPORT_SQLITE_FILENAME: ":memory:" }))
      assert.deepStrictEqual(config, { filename: ":memory:", synchronous: undefined, busyTimeout: undefined })
    }))

  it.effect("reads each variable, from the environment and from an object", () =>
    Effect.gen(function*() {
      const variables = {
        SALLYPORT_SQLITE_FILENAME: ":memory:",
        SALLYPORT_SQLITE_SYNCHRONOUS: "OFF",
        SALLYPORT_SQLITE_BUSY_TIMEOUT: "1 second"
      }
      for (const provider of [ConfigProvider.fromEnvRecord(variables), ConfigProvider.fromUnknown(variables)]) {
        const sql = yield* build(provider)
        const [row] = yield* sql`PRAGMA synchronous`
        assert.deepStrictEqual({ ...row }, { synchronous: 0 })
        assert.deepStrictEqual(sql.config.busyTimeout, Duration.seconds(1))
      }
    }))

  for (
    const [variables, message] of [
      ...[{}, { SALLYPORT_SQLITE_FILENAME: "" }].map((variables) =>
        [
          variables,
          "SALLYPORT_SQLITE_FILENAME is not set, or empty; set it to the path of a database file, such as ./app.db"
        ] as const
      ),
      [{ SALLYPORT_SQLITE_SYNCHRONOUS: "full" }, "SALLYPORT_SQLITE_SYNCHRONOUS must be one of FULL, NORMAL, OFF"],
      [{ SALLYPORT_SQLITE_BUSY_TIMEOUT: "5" }, "SALLYPORT_SQLITE_BUSY_TIMEOUT must be a duration, such as 5 seconds"]
    ] as const
  ) {
    it.effect(`says that ${message}`, () =>
      Effect.gen(function*() {
        const filename = message.includes("FILENAME") ? {} : { SALLYPORT_SQLITE_FILENAME: ":memory:" }
        const error = yield* Effect.flip(build(ConfigProvider.fromEnvRecord({ ...filename, ...variables })))
        assert.strictEqual(error._tag, "ConfigError")
        assert.include(error.message, message)
      }))
  }
})
