import { assert, describe, it } from "@effect/vitest"
import * as Input from "@sallyport/core/Input"
import * as Schema from "effect/Schema"

const isJson = Schema.is(Input.json)

const nested = (depth: number): Schema.Json => {
  let value: Schema.Json = 1
  for (let n = 0; n < depth; n++) value = n % 2 === 0 ? [value] : { "": value }
  return value
}

describe("Input.json", () => {
  it.prop(
    "takes whatever JSON.parse can make of what JSON.stringify has made",
    [Schema.Json],
    ([value]) => {
      assert.isTrue(isJson(JSON.parse(JSON.stringify(value))))
    }
  )

  it("BOOT-11 RUN-24: refuses numbers that JSON has no words for, wherever they stand, and what is nested without end", () => {
    for (const text of ["1e999", "[-1e999]", "{\"a\":[{\"b\":1e999}]}"]) assert.isFalse(isJson(JSON.parse(text)), text)
    assert.isTrue(isJson(JSON.parse("{\"__proto__\":{\"constructor\":[]}}")))
    assert.isTrue(isJson(nested(1_000)))
    assert.isFalse(isJson(nested(1_001)))
    assert.isFalse(isJson(JSON.parse("[".repeat(100_000) + "]".repeat(100_000))))
  })
})
