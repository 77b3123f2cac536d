/**
 * The regular expressions of the sources: what strangers send meets most of them, and none may take more than linear time.
 */
import { assert, describe, it } from "@effect/vitest"
import { glob, readFile } from "node:fs/promises"
import { join } from "node:path"
import { parseAst } from "vitest/node"

// Without it, the checker would start a program of this machine's kind, whose search is another.
process.env["RECHECK_SYNC_BACKEND"] = "pure"
const { checkSync } = await import("recheck")

const root = join(import.meta.dirname, "..")

interface Found {
  readonly place: string
  readonly source: string
  readonly flags: string
}

const isNode = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && "type" in value

const nameOf = (node: unknown): string => isNode(node) ? String(node["name"]) : ""

/** Tells whether a text is asked to match: it makes a regular expression of another. `Option.match` is no text's. */
const isAsked = ({ object, property }: Readonly<Record<string, unknown>>): boolean =>
  ["match", "matchAll", "search"].includes(nameOf(property)) && !/^[A-Z]/.test(nameOf(object))

/** Finds in a source the regular expressions that are written as such, and the places where one is made of a text. */
const expressionsOf = (place: string, text: string) => {
  const written: Array<Found> = []
  const made: Array<string> = []
  const visit = (node: Readonly<Record<string, unknown>>): void => {
    const { callee, regex } = node
    if (typeof regex === "object" && regex !== null && "pattern" in regex && "flags" in regex) {
      written.push({ place, source: String(regex.pattern), flags: String(regex.flags) })
    }
    const [given] = [node["arguments"]].flat()
    const isKnown = isNode(given) && given["regex"] !== undefined
    if (!isKnown && isNode(callee) && (nameOf(callee) === "RegExp" || isAsked(callee))) made.push(place)
    for (const child of Object.values(node).flat()) if (isNode(child)) visit(child)
  }
  for (const statement of parseAst(text, { lang: place.endsWith("x") ? "tsx" : "ts" }).body) visit({ ...statement })
  return { written, made }
}

/** Runs what imports a module, and returns the regular expressions that are made of texts meanwhile. */
const madeBy = async (place: string): Promise<ReadonlyArray<Found>> => {
  const found: Array<Found> = []
  const original = globalThis.RegExp
  globalThis.RegExp = new Proxy(original, {
    construct: (target, [source, flags = ""]: [string | RegExp, string?]) => {
      const made = new target(source, flags)
      found.push({ place, source: made.source, flags: made.flags })
      return made
    }
  })
  try {
    await import(join(root, place))
  } finally {
    globalThis.RegExp = original
  }
  return found
}

/** Says what is wrong with a regular expression, if anything is. */
const fault = ({ flags, place, source }: Found): ReadonlyArray<string> => {
  const verdict = checkSync(source, flags, { randomSeed: 1, timeout: null, maxIteration: 3 })
  return verdict.status === "safe"
    ? []
    : [
      `${place}: /${source}/${flags} is ${
        verdict.status === "vulnerable" ? `slow on ${verdict.attack.pattern}` : `not understood: ${verdict.error.kind}`
      }`
    ]
}

describe("the regular expressions of the sources", () => {
  it("BOOT-11 C-24: take linear time, whatever they are matched with", async () => {
    const files = []
    for await (const file of glob("packages/*/{src,pages}/**/*.{ts,tsx}", { cwd: root })) files.push(file)
    assert.isAbove(files.length, 200)
    const found = await Promise.all(
      files.map(async (file) => expressionsOf(file, await readFile(join(root, file), "utf8")))
    )
    const made = found.flatMap(({ made }) => made)
    const inModules = []
    for (const place of new Set(made)) inModules.push(...await madeBy(place))
    // Each is made when its module is loaded, of what the source says: one that is made later could not be judged.
    for (const place of new Set(made)) {
      assert.isAtLeast(
        inModules.filter((one) => one.place === place).length,
        made.filter((other) => other === place).length,
        `${place} makes a regular expression of a text that is not known when it is loaded`
      )
    }
    const all = [...found.flatMap(({ written }) => written), ...inModules]
    assert.isAbove(all.length, 150)
    const distinct = new Map(all.map((one) => [`/${one.source}/${one.flags}`, one]))
    assert.deepStrictEqual([...distinct.values()].flatMap(fault), [])
  }, 300_000)

  it("C-24: would be found if they were slow", () => {
    const bad = [
      String.raw`/^(a+)+$/`,
      String.raw`/^(?:a|a)*b/`,
      String.raw`/^(?:[\w.]+)*@/`,
      String.raw`/\s+$/`,
      String.raw`/\/+$/`,
      String.raw`/%.*$/`,
      String.raw`/^\s*(.*?)\s*$/s`,
      String.raw`/;q=.*!/`,
      String.raw`/Mozilla.*Android/i`,
      String.raw`/^(?:\p{L}+\p{L}+)*$/u`,
      String.raw`/\/token\/?(?:\?.*)?$/`,
      String.raw`/^(.*),(.*),(.*)=$/`,
      String.raw`/(?<=x)y*y*$/`
    ]
    const { written } = expressionsOf(
      "bad.ts",
      bad.map((text) => `export const a${bad.indexOf(text)} = ${text}`).join("\n")
    )
    assert.strictEqual(written.length, bad.length)
    assert.deepStrictEqual(written.filter((one) => fault(one).length === 0), [])
    assert.deepStrictEqual(
      expressionsOf("bad.ts", `RegExp(a); new RegExp(b); c.match(d); c.matchAll(/e/g); Option.match(f, g)`).made.length,
      3
    )
  }, 300_000)
})
