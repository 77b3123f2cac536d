import { assert, describe, it } from "@effect/vitest"
import * as Rows from "@sallyport/core/sql/Rows"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

class Device extends Schema.Class<Device>("Device")({ label: Schema.NullOr(Schema.String) }) {}

const Row = Schema.Struct({
  id: Schema.NonEmptyString,
  kind: Schema.Literals(["one", "other"]),
  count: Schema.Natural,
  endsAtMillis: Schema.NullOr(Schema.Natural),
  seenAt: Schema.DateTimeUtcFromMillis,
  scopes: Schema.Array(Schema.NonEmptyString),
  device: Schema.NullOr(Device)
})

const rows = Rows.make(`"things"`, Row)

const stored = {
  id: "a",
  kind: "one",
  count: 3n,
  endsAtMillis: null,
  seenAt: 1_000,
  scopes: `["read"]`,
  device: `{"label":null}`
}

describe("Rows", () => {
  it.effect("a row is read by its schema, whatever it holds beside its fields", () =>
    Effect.gen(function*() {
      const { device, seenAt, ...row } = yield* rows.decode({ ...stored, usedFor: 7 })
      assert.deepStrictEqual(row, { id: "a", kind: "one", count: 3, endsAtMillis: null, scopes: ["read"] })
      assert.instanceOf(device, Device)
      assert.strictEqual(seenAt.epochMilliseconds, 1_000)
      const other = yield* rows.decode({ ...stored, endsAtMillis: 5n, device: null, scopes: `["read","write"]` })
      assert.deepStrictEqual([other.endsAtMillis, other.device, other.scopes], [5, null, ["read", "write"]])
    }))

  it.effect("OPS-02: a damaged column is named, also next to rows that were read before", () =>
    Effect.gen(function*() {
      const damages: Record<keyof typeof stored, ReadonlyArray<unknown>> = {
        id: ["", 5, null, undefined],
        kind: ["none", null],
        count: [-1, 1.5, "3", null],
        endsAtMillis: [-1, "5", undefined],
        seenAt: ["today", null],
        scopes: [`[""]`, `["read"`, `"read"`, null, 5],
        device: [`{"label":5}`, `{`, "", 5]
      }
      for (const [column, values] of Object.entries(damages)) {
        for (const value of values) {
          yield* rows.decode(stored)
          const error = yield* Effect.flip(rows.decode({ ...stored, [column]: value }))
          assert.deepStrictEqual([error.table, error.columns], ["things", [column]], `${column}: ${String(value)}`)
        }
      }
    }))
})
