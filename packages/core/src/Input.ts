/**
 * What callers give to a service: checked before anything is looked up or stored, so that no store has to have an opinion.
 */
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as ServiceOptions from "./ServiceOptions.ts"
import * as Text from "./Text.ts"

/**
 * Tells whether a value is one that a service takes, and what it has to be for that.
 *
 * @category models
 * @since 0.1.0
 */
export interface Rule {
  readonly is: (value: unknown) => boolean
  /** Ends the sentence "the field must be …". */
  readonly expected: string
  /** Whether the value must be there. Default false. */
  readonly isRequired?: boolean
}

/**
 * Makes a rule of a Schema.
 *
 * @category constructors
 * @since 0.1.0
 */
export const rule = (schema: Schema.Top, expected: string): Rule => ({ is: Schema.is(schema), expected })

/**
 * Makes a rule of another one: the value must be there.
 *
 * @category combinators
 * @since 0.1.0
 */
export const required = (rule: Rule): Rule => ({ ...rule, isRequired: true })

/**
 * Makes a rule of names that there are.
 *
 * @category constructors
 * @since 0.1.0
 */
export const oneOf = (names: Schema.Top & { readonly literals: ReadonlyArray<string> }): Rule =>
  rule(names, `one of ${names.literals.join(", ")}`)

/**
 * Takes keys: ids and names that machines compare.
 *
 * @category constants
 * @since 0.1.0
 */
export const key: Rule = rule(Text.key(), "1 to 255 characters, of 512 bytes at most, without control characters")

/**
 * Takes any value, such as an option that is checked elsewhere.
 *
 * @category constants
 * @since 0.1.0
 */
export const any: Rule = { is: () => true, expected: "there" }

/**
 * Takes texts that are not empty.
 *
 * @category constants
 * @since 0.1.0
 */
export const text: Rule = { is: (value) => typeof value === "string" && value !== "", expected: "a text" }

/**
 * Takes lists of texts.
 *
 * @category constants
 * @since 0.1.0
 */
export const texts: Rule = {
  is: (value) => Array.isArray(value) && value.every(text.is),
  expected: "a list of texts"
}

/**
 * Takes switches.
 *
 * @category constants
 * @since 0.1.0
 */
export const flag: Rule = { is: (value) => typeof value === "boolean", expected: "true or false" }

/**
 * Takes functions.
 *
 * @category constants
 * @since 0.1.0
 */
export const callable: Rule = { is: (value) => typeof value === "function", expected: "a function" }

/**
 * Takes secrets in their wrapper, which keeps them out of logs.
 *
 * @category constants
 * @since 0.1.0
 */
export const redacted: Rule = { is: Redacted.isRedacted, expected: "a secret, made by Redacted.make" }

/**
 * Takes how many there are to be: a whole number from 1.
 *
 * @category constants
 * @since 0.1.0
 */
export const count: Rule = {
  is: (value) => typeof value === "number" && Number.isSafeInteger(value) && value > 0,
  expected: "a whole number from 1"
}

/**
 * Bounds how many lists and objects, entries of them, and different names of members are in each 256 KiB of JSON that a
 * stranger may send. What an engine makes of more, such as an object with 26,000 names, takes it longer than all else that is
 * done for a request.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxJson = { parts: 8_192, entries: 32_768, names: 1_024, bytes: 262_144 } as const

/**
 * Tells whether a text has no more lists, objects, entries and names than JSON of a stranger may have, if `maxBytes` is the
 * largest size that it may have. It reads the text once, up to the first that is too many, and tells nothing else: the text
 * need not be JSON.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isBoundedJson = (text: string, maxBytes: number = maxJson.bytes): boolean => {
  const times = Math.max(1, maxBytes / maxJson.bytes)
  // A shorter text cannot have as many.
  if (text.length < 4 * maxJson.names * times) return true
  const names = new Set<string>()
  // The starts and lengths of the names that came last, by a hash: most names are among them, and need no text made of them.
  const starts = new Int32Array(256)
  const lengths = new Int32Array(256)
  const isRecent = (slot: number, start: number, length: number): boolean => {
    if (lengths[slot] !== length) return false
    const known = starts[slot] ?? 0
    for (let at = 0; at < length; at++) if (text.charCodeAt(known + at) !== text.charCodeAt(start + at)) return false
    return true
  }
  let parts = 0
  let entries = 0
  for (let index = 0; index < text.length; index++) {
    const char = text.charCodeAt(index)
    if (char === 0x22) {
      const start = index + 1
      let hash = 0
      for (index = start; index < text.length; index++) {
        const part = text.charCodeAt(index)
        if (part === 0x22) break
        if (part === 0x5c) index++
        hash = (hash * 31 + part) | 0
      }
      let next = index + 1
      while (next < text.length && text.charCodeAt(next) <= 0x20) next++
      if (text.charCodeAt(next) === 0x3a && !isRecent(hash & 0xff, start, index - start)) {
        starts[hash & 0xff] = start
        lengths[hash & 0xff] = index - start
        names.add(text.slice(start, index))
        if (names.size > maxJson.names * times) return false
      }
    } else if (char === 0x5b || char === 0x7b) {
      if (++parts > maxJson.parts * times) return false
    } else if (char === 0x2c) {
      if (++entries > maxJson.entries * times) return false
    }
  }
  return true
}

const maxDepth = 1_000

/** Tells whether a value is JSON whose numbers are finite, and which is not nested without end. */
const isJson = (value: unknown, depth = 0): boolean => {
  if (typeof value !== "object" || value === null) {
    return value === null || typeof value === "string" || typeof value === "boolean" || Number.isFinite(value)
  }
  if (depth === maxDepth) return false
  for (const part of Array.isArray(value) ? value : Object.values(value)) if (!isJson(part, depth + 1)) return false
  return true
}

/**
 * Takes JSON of strangers as `JSON.parse` made it, nested 1,000 deep at most. Costs a fraction of the parsing, and of
 * `Schema.Json`, which knows nothing of where a value came from.
 *
 * @category schemas
 * @since 0.1.0
 */
export const json: Schema.Codec<Schema.Json> = Schema.declare<Schema.Json>(
  (value): value is Schema.Json => isJson(value),
  {
    expected: `JSON, nested at most ${maxDepth} deep`,
    representation: { id: "effect/schema/Json", payload: null },
    toCodecJson: () => undefined
  }
)

/**
 * Reports that something a service was given is none that it can be. Nothing was looked up or changed.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidInput extends Schema.TaggedError<InvalidInput>()("InvalidInput", {
  field: Schema.String,
  expected: Schema.String
}) {
  override get message(): string {
    return `${this.field} must be ${this.expected}`
  }
}

/**
 * Makes a check of the fields of an input. A field that is absent or undefined passes unless its rule is {@link required};
 * the first that does not fit its rule fails the check.
 *
 * @category combinators
 * @since 0.1.0
 */
export const check =
  <E>(invalid: (problem: { readonly field: string; readonly expected: string }) => E) =>
  <const Rules extends Readonly<Record<string, Rule>>>(
    rules: Rules,
    input: { readonly [Field in keyof Rules]?: unknown }
  ): Effect.Effect<void, E> => {
    const problem = problemOf(rules, input)
    return problem === undefined ? Effect.void : Effect.fail(invalid(problem))
  }

const problemOf = (rules: Readonly<Record<string, Rule>>, input: unknown) => {
  for (const [field, { expected, is, isRequired = false }] of Object.entries(rules)) {
    const value = Predicate.hasProperty(input, field) ? input[field] : undefined
    if (value === undefined ? isRequired : !is(value)) return { field, expected }
  }
  return undefined
}

/**
 * Makes a rule of lists whose members have fields as other rules say, and no others. Each field of a member needs a rule.
 *
 * @category constructors
 * @since 0.1.0
 */
export const listOf = <A>(rules: { readonly [Field in keyof A]-?: Rule }): Rule => ({
  is: (list) =>
    Array.isArray(list) &&
    list.every((member) =>
      ServiceOptions.unknownOption(member, Object.keys(rules)) === undefined && problemOf(rules, member) === undefined
    ),
  expected: `a list whose members have ${
    Object.entries<Rule>(rules).map(([field, { expected, isRequired }]) =>
      `${field}${isRequired ? "" : "?"}: ${expected}`
    )
      .join(", ")
  }`
})

/**
 * Throws an error in plain words if a constructor is given what it cannot take, or an option that is none. Only a host
 * without a compiler does that: with one, the types say it. `constructor` begins the sentence.
 *
 * @category combinators
 * @since 0.1.0
 */
export const demand = <const Rules extends Readonly<Record<string, Rule>>>(
  constructor: string,
  rules: Rules,
  given: { readonly [Field in keyof Rules]?: unknown }
): void => {
  const problem = misuse(rules, given)
  if (problem !== undefined) throw new Error(`${constructor}: ${problem}`)
}

/**
 * Says what {@link demand} throws, for a constructor that has an error of its own for it.
 *
 * @category getters
 * @since 0.1.0
 */
export const misuse = (rules: Readonly<Record<string, Rule>>, given: unknown): string | undefined => {
  const unknown = ServiceOptions.unknownOption(given, Object.keys(rules))
  if (unknown !== undefined) return unknown
  const problem = problemOf(rules, given)
  return problem === undefined ? undefined : `${problem.field} must be ${problem.expected}`
}
