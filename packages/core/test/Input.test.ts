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
    for (const value of [undefined, NaN, 1n, () => {}, Symbol("s")]) {
      for (const within of [value, [value], { value }]) assert.isFalse(isJson(within), String(value))
    }
    assert.isTrue(isJson(JSON.parse("{\"__proto__\":{\"constructor\":[]}}")))
    assert.isTrue(isJson(nested(1_000)))
    assert.isFalse(isJson(nested(1_001)))
    assert.isFalse(isJson(JSON.parse("[".repeat(100_000) + "]".repeat(100_000))))
  })
})

describe("Input.isBoundedJson", () => {
  const names = (count: number) => `{${Array.from({ length: count }, (_, index) => `"k${index}":0`).join(",")}}`

  it("BOOT-11 HTTP-09: counts lists and objects, entries and different names, and nothing inside of strings", () => {
    assert.isTrue(Input.isBoundedJson(names(1_024)))
    assert.isFalse(Input.isBoundedJson(names(1_025)))
    assert.isFalse(Input.isBoundedJson(names(1_025).replaceAll(":", " \n :")))
    assert.isTrue(Input.isBoundedJson(`[${`{"a":0},`.repeat(8_190)}0]`))
    assert.isFalse(Input.isBoundedJson(`[${"[],".repeat(8_192)}0]`))
    assert.isFalse(Input.isBoundedJson("{".repeat(8_193)))
    assert.isTrue(Input.isBoundedJson("1,".repeat(32_768)))
    assert.isFalse(Input.isBoundedJson("1,".repeat(32_769)))
    assert.isTrue(Input.isBoundedJson(JSON.stringify([String.raw`\"[{,`.repeat(100_000), "[{,\"".repeat(100_000)])))
    // A string without an end is read to the end of the text.
    assert.isTrue(Input.isBoundedJson(`"${"[".repeat(100_000)}\\`))
  })

  it("takes as many times more as the largest text may be longer", () => {
    assert.isTrue(Input.isBoundedJson(names(2_000), 2 * Input.maxJson.bytes))
    assert.isFalse(Input.isBoundedJson(names(2_049), 2 * Input.maxJson.bytes))
    assert.isFalse(Input.isBoundedJson(names(1_025), 1_024))
  })
})
