import { assert, describe, it } from "@effect/vitest"
import * as AccessScope from "@sallyport/core/access/AccessScope"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as fc from "fast-check"

declare module "@sallyport/core/access/AccessScope" {
  interface Registry {
    readonly "notes:write": true
  }
}

const decode = Schema.decodeUnknownOption(AccessScope.AccessScope)

describe("AccessScope", () => {
  it("AUTH-02: admits Sallyport's scopes and the host's at compile time, and no other", () => {
    const ours: AccessScope.AccessScope = "runs:operate"
    const hosts: AccessScope.AccessScope = "notes:write"
    // @ts-expect-error: the action is misspelt.
    const misspelt: AccessScope.AccessScope = "runs:opreate"
    // @ts-expect-error: the host has not declared it.
    const undeclared: AccessScope.AccessScope = "notes:delete"
    // @ts-expect-error: text is no scope until it was decoded.
    const text: AccessScope.AccessScope = String("runs:read")
    // @ts-expect-error: a misspelt scope cannot be asked for either.
    const lacking = AccessScope.missing([], ["acess:read"])
    assert.deepStrictEqual([ours, hosts, misspelt, undeclared, text, lacking.length], [
      "runs:operate",
      "notes:write",
      "runs:opreate",
      "notes:delete",
      "runs:read",
      1
    ])
  })

  it("AUTH-02: decodes resource:action and nothing else", () => {
    for (
      const scope of [
        ...AccessScope.builtin,
        "notes:write",
        "future-thing:do-it",
        `${"a".repeat(32)}:${"b".repeat(32)}`
      ]
    ) {
      assert.deepStrictEqual(decode(scope), Option.some(scope))
    }
    for (
      const junk of [
        "",
        "runs",
        "runs:",
        ":read",
        "runs:read:more",
        "Runs:read",
        "runs:read ",
        "runs:read\n",
        "runs read",
        "*",
        "runs:*",
        "1runs:read",
        `${"a".repeat(33)}:b`,
        null,
        7,
        ["runs:read"]
      ]
    ) assert.isTrue(Option.isNone(decode(junk)), JSON.stringify(junk))
  })

  it("AUTH-02: has every built-in scope once", () => {
    assert.strictEqual(new Set(AccessScope.builtin).size, AccessScope.builtin.length)
    // The record is exhaustive by its type, so a scope added to the registry and not to the list is found here. Those of
    // notes and greenhouses are a host's, added by this test and the examples; those of streams belong to their own package.
    type OfOthers = `${"notes" | "greenhouse" | "streams"}:${string}`
    const registry: Record<Exclude<AccessScope.AccessScope, OfOthers>, true> = {
      "access:read": true,
      "access:write": true,
      "access:manage": true,
      "connect:manage": true,
      "credentials:read": true,
      "credentials:write": true,
      "runs:read": true,
      "runs:operate": true
    }
    assert.deepStrictEqual([...AccessScope.builtin].sort(), Object.keys(registry).sort())
  })

  it("AUTH-02: missing is what was asked for and is not held, in the order asked", () => {
    const scopes = fc.subarray([...AccessScope.builtin])
    fc.assert(
      fc.property(scopes, fc.shuffledSubarray([...AccessScope.builtin]), (held, asked) => {
        assert.deepStrictEqual(AccessScope.missing(held, asked), asked.filter((scope) => !held.includes(scope)))
        assert.deepStrictEqual(AccessScope.missing(asked, asked), [])
      })
    )
  })

  it.effect("AUTH-02: the vocabulary is the built-in one unless the host extends it", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* AccessScope.Vocabulary, AccessScope.builtin)
      const extended: ReadonlyArray<AccessScope.AccessScope> = [...AccessScope.builtin, "notes:write"]
      assert.deepStrictEqual(
        yield* Effect.provideService(AccessScope.Vocabulary, AccessScope.Vocabulary, extended),
        extended
      )
    }))
})
