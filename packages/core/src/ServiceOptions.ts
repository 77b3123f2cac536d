/**
 * Decodes the options of a service, once, from where the host wrote them: an object in code, or variables of the
 * configuration.
 *
 * A service says once what its options are: its `decode` asks a {@link Reader} for each, with its default, and answers
 * settings. What is wrong is the service's own `Invalid…Options`, which names the option as the host wrote it:
 * `renewalInterval`, or `SALLYPORT_SESSION_RENEWAL_INTERVAL`.
 */
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Redacted from "effect/Redacted"

/**
 * Names an option, or one of a group of options, as in `refresh.tokenLifetime`.
 *
 * @category models
 * @since 0.1.0
 */
export type Key<O> = (keyof O & string) | `${keyof O & string}.${string}`

/**
 * Reads the options of one service. Each method fails if the option is there and is not what it must be.
 *
 * @category models
 * @since 0.1.0
 */
export interface Reader<O, E> {
  /** Returns the name under which the host writes an option. */
  readonly name: (option: Key<O>) => string
  /** Fails with a problem, which names options by `name` and says what to do. */
  readonly refuse: (problem: string) => Effect.Effect<never, E>
  /** Tells whether the host wrote an option. */
  readonly has: (option: Key<O>) => Effect.Effect<boolean, E>
  /** Reads a duration in whole milliseconds, from `minimum`, which is 1 unless given. */
  readonly millis: (
    option: Key<O>,
    fallback: `${number} ${Duration.Unit}`,
    minimum?: number
  ) => Effect.Effect<number, E>
  /** Reads a duration that has no default. */
  readonly optionalMillis: (option: Key<O>) => Effect.Effect<number | undefined, E>
  /** Reads a whole number, from `minimum`, which is 1 unless given. */
  readonly count: (option: Key<O>, fallback: number, minimum?: number) => Effect.Effect<number, E>
  /** Reads a text of 1 to 255 characters. The host must write one if there is no default. */
  readonly text: (option: Key<O>, fallback?: string) => Effect.Effect<string, E>
  /** Reads a secret text, which no error shows. `expected` completes "must be …". */
  readonly secret: (
    option: Key<O>,
    expected: string,
    isValid: (text: string) => boolean
  ) => Effect.Effect<Redacted.Redacted, E>
  /** Reads a switch. */
  readonly flag: (option: Key<O>, fallback: boolean) => Effect.Effect<boolean, E>
  /** Reads one of some words. */
  readonly literal: <A extends string>(
    option: Key<O>,
    words: ReadonlyArray<A>,
    fallback: NoInfer<A>
  ) => Effect.Effect<A, E>
  /** Reads some words, each once. In a variable they are separated by commas. */
  readonly literals: <A extends string>(
    option: Key<O>,
    words: ReadonlyArray<A>,
    fallback: ReadonlyArray<NoInfer<A>>
  ) => Effect.Effect<ReadonlyArray<A>, E>
  /** Reads what `parse` makes of the option, or `undefined` if the host wrote none. `expected` completes "must be …". */
  readonly optional: <A>(
    option: Key<O>,
    expected: string,
    parse: (written: unknown) => A | undefined
  ) => Effect.Effect<A | undefined, E>
  /** Reads what `parse` makes of an option that has no default. */
  readonly required: <A>(
    option: Key<O>,
    expected: string,
    parse: (written: unknown) => A | undefined
  ) => Effect.Effect<A, E>
}

/** Says what the host wrote, short enough for a line. */
const shown = (written: unknown): string => {
  if (Duration.isDuration(written)) return `not ${Duration.format(written)}`
  const text = Predicate.isString(written) ? written : String(written)
  return `not ${JSON.stringify(text.length > 64 ? `${text.slice(0, 64)}…` : text)}`
}

const durationOf = (written: unknown): number | undefined =>
  // It checks at run time what a host without a compiler gives.
  Option.getOrUndefined(Option.map(Duration.fromInput(written as Duration.Input), Duration.toMillis))

const numberOf = (written: unknown): unknown =>
  Predicate.isString(written) && /^[+-]?\d+$/.test(written.trim()) ? Number(written) : written

const flags: ReadonlyMap<unknown, boolean> = new Map<unknown, boolean>([
  [true, true],
  ["true", true],
  ["1", true],
  [false, false],
  ["false", false],
  ["0", false]
])

const wordOf = <A extends string>(words: ReadonlyArray<A>, written: unknown): A | undefined =>
  words.find((word) => word === written)

const makeReader = <O, E>(source: {
  readonly name: (option: string) => string
  readonly get: (option: string) => Effect.Effect<unknown, E>
  /** Says that an option is not there, or empty. Says nothing of one that holds something. */
  readonly absence: (option: string, expected: string, written: unknown) => string | undefined
  readonly refuse: (problem: string) => Effect.Effect<never, E>
}): Reader<O, E> => {
  const { absence, get, name, refuse } = source
  const required: Reader<O, E>["required"] = (option, expected, parse) =>
    Effect.flatMap(get(option), (written) => {
      const parsed = written === undefined ? undefined : parse(written)
      return parsed === undefined
        ? refuse(absence(option, expected, written) ?? `${name(option)} must be ${expected}, ${shown(written)}`)
        : Effect.succeed(parsed)
    })
  const has: Reader<O, E>["has"] = (option) => Effect.map(get(option), (written) => written !== undefined)
  const optional: Reader<O, E>["optional"] = (option, expected, parse) =>
    Effect.flatMap(has(option), (there) => there ? required(option, expected, parse) : Effect.undefined)
  const orElse = <A>(read: Effect.Effect<A | undefined, E>, fallback: A) =>
    Effect.map(read, (found) => found ?? fallback)

  const duration = (option: Key<O>, minimum: number, example: string) =>
    optional(
      option,
      `a duration of at least ${minimum} ${minimum === 1 ? "millisecond" : "milliseconds"}, such as ${example}`,
      (written) => {
        // Rows hold whole milliseconds.
        const millis = Math.round(durationOf(written) ?? Number.NaN)
        return Number.isSafeInteger(millis) && millis >= minimum ? millis : undefined
      }
    )

  return {
    name,
    refuse,
    has,
    optional,
    required,
    millis: (option, fallback, minimum = 1) => orElse(duration(option, minimum, fallback), Duration.toMillis(fallback)),
    optionalMillis: (option) => duration(option, 1, "1 hour"),
    count: (option, fallback, minimum = 1) =>
      orElse(
        optional(option, `a whole number from ${minimum}, such as ${fallback}`, (written) => {
          const count = numberOf(written)
          return Number.isSafeInteger(count) && Number(count) >= minimum ? Number(count) : undefined
        }),
        fallback
      ),
    text: (option, fallback) =>
      Effect.flatMap(has(option), (there) =>
        !there && fallback !== undefined ? Effect.succeed(fallback) : required(
          option,
          `a text of 1 to 255 characters`,
          (written) => Predicate.isString(written) && written !== "" && written.length <= 255 ? written : undefined
        )),
    secret: (option, expected, isValid) =>
      Effect.flatMap(get(option), (written) => {
        const text = Redacted.isRedacted(written) ? Redacted.value(written) : written
        return Predicate.isString(text) && isValid(text)
          ? Effect.succeed(Redacted.make(text, { label: name(option) }))
          : refuse(absence(option, expected, text) ?? `${name(option)} must be ${expected}`)
      }),
    flag: (option, fallback) => orElse(optional(option, "true or false", (written) => flags.get(written)), fallback),
    literal: (option, words, fallback) =>
      orElse(optional(option, `one of ${words.join(", ")}`, (written) => wordOf(words, written)), fallback),
    literals: (option, words, fallback) =>
      orElse(
        optional(option, `some of ${words.join(", ")}, each once`, (written) => {
          const list = Predicate.isString(written) ? written.split(",").map((word) => word.trim()) : written
          if (!Array.isArray(list) || list.length === 0 || new Set(list).size < list.length) return undefined
          const found = list.flatMap((word) => wordOf(words, word) ?? [])
          return found.length === list.length ? found : undefined
        }),
        fallback
      )
  }
}

/** Counts the letters by which two names differ, as by typing, whatever their case. */
const distance = (left: string, right: string): number => {
  const [a, b] = [left.toLowerCase(), right.toLowerCase()]
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (const [at, letter] of [...a].entries()) {
    const above = row
    row = [at + 1]
    for (let index = 0; index < b.length; index++) {
      const same = (above[index] ?? 0) + (letter === b[index] ? 0 : 1)
      row.push(Math.min(same, (above[index + 1] ?? 0) + 1, (row[index] ?? 0) + 1))
    }
  }
  return row.at(-1) ?? 0
}

/** Returns the name that was probably meant, if one is near. */
const nearest = (written: string, names: ReadonlyArray<string>): string | undefined => {
  const [first] = names
    .map((name) => ({ name, far: distance(written, name) }))
    .filter(({ far, name }) => far <= Math.ceil(name.length / 3))
    .toSorted((a, b) => a.far - b.far)
  return first?.name
}

const isGroup = (written: unknown): written is object => typeof written === "object" && written !== null

/**
 * Says which option of an object is none, and what was probably meant, or nothing if all are known. `known` names the
 * options; one of a group of options stands there as `refresh.tokenLifetime`.
 *
 * @category getters
 * @since 0.1.0
 */
export const unknownOption = (written: unknown, known: Iterable<string>): string | undefined => {
  const problemIn = (written: unknown, names: ReadonlyArray<string>, group: string): string | undefined => {
    const own = [...new Set(names.map((name) => name.replace(/\..*/, "")))]
    if (!isGroup(written)) return `${group === "" ? "the options" : group} must be an object with ${own.join(", ")}`
    for (const [key, value] of Object.entries(written)) {
      if (value === undefined) continue
      const path = group === "" ? key : `${group}.${key}`
      if (!own.includes(key)) {
        const meant = nearest(key, own)
        return `${path} is not an option; ${
          meant === undefined ? `these are: ${own.join(", ")}` : `did you mean ${meant}?`
        }`
      }
      const inner = names.flatMap((name) => name.startsWith(`${key}.`) ? [name.slice(key.length + 1)] : [])
      const problem = inner.length === 0 ? undefined : problemIn(value, inner, path)
      if (problem !== undefined) return problem
    }
    return undefined
  }
  return problemIn(written, [...known], "")
}

/**
 * Decodes options that stand in code. `invalid` makes the service's error of a problem.
 *
 * An option that the host wrote must be one that `decode` reads, or one of `others`, which the service takes as they are: a
 * misspelt one would be ignored, and its default would count.
 *
 * @category combinators
 * @since 0.1.0
 */
export const decodeObject = <O, S, E>(
  options: Partial<O> | undefined,
  service: {
    readonly invalid: (problem: string) => E
    readonly decode: (read: Reader<O, E>) => Effect.Effect<S, E>
    readonly others?: ReadonlyArray<string> | undefined
  }
): Effect.Effect<S, E> =>
  Effect.suspend(() => {
    const written: unknown = options ?? {}
    const known = new Set<string>(service.others)
    const refuse = (problem: string) => Effect.suspend(() => Effect.fail(service.invalid(problem)))
    const read = makeReader<O, E>({
      name: (option) => option,
      get: (option) =>
        Effect.sync(() => {
          known.add(option)
          return option.split(".").reduce(
            (group, part) => Predicate.hasProperty(group, part) ? group[part] : undefined,
            written
          )
        }),
      absence: (option, expected, found) => {
        if (found !== undefined) return undefined
        const meant = isGroup(written) ? nearest(option, Object.keys(written)) : undefined
        return `${option} must be ${expected}, and is missing${
          meant === undefined ? "" : `; is ${meant} meant for it?`
        }`
      },
      refuse
    })
    return Effect.tap(service.decode(read), () => {
      const problem = unknownOption(written, known)
      return problem === undefined ? Effect.void : refuse(problem)
    })
  })

/**
 * Decodes the options of a host that wrote none. It dies if one has no default.
 *
 * @category combinators
 * @since 0.1.0
 */
export const decodeDefaults = <O, S>(
  decode: (read: Reader<O, never>) => Effect.Effect<S>
): Effect.Effect<S> =>
  decodeObject<O, S, never>({}, {
    decode,
    invalid: (problem) => {
      throw new Error(problem)
    }
  })

/** Returns the name of an option's variable: `refresh.tokenLifetime` becomes `REFRESH_TOKEN_LIFETIME`. */
const constantCase = (option: string): string =>
  option.replaceAll(".", "_").replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()

/**
 * Creates a reader of options that stand in the configuration, which is the environment unless the host says otherwise.
 * The variable of an option has the prefix and the option's name, as in `SALLYPORT_SESSION_LIFETIME`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromConfig = <O, E>(
  prefix: string,
  invalid: (problem: string) => E
): Reader<O, E | Config.ConfigError> => {
  const name = (option: string) => `${prefix}_${constantCase(option)}`
  return makeReader<O, E | Config.ConfigError>({
    name,
    get: (option) => Effect.map(Config.option(Config.String(name(option))), Option.getOrUndefined),
    // Most providers take an empty variable for one that is not set.
    absence: (option, expected, written) =>
      written === undefined || written === ""
        ? `${name(option)} is ${written === "" ? "empty" : "not set"}; set it to ${expected}`
        : undefined,
    refuse: (problem) => Effect.suspend(() => Effect.fail(invalid(problem)))
  })
}

/**
 * Describes where the settings of a service can come from.
 *
 * @category models
 * @since 0.1.0
 */
export interface ServiceOptions<O, S, E> {
  /** The settings of a host that wrote nothing. */
  readonly defaults: Effect.Effect<S>
  /** Decodes options that stand in code. */
  readonly fromObject: (options: O) => Effect.Effect<S, E>
  /** Decodes options that stand in the configuration. */
  readonly fromConfig: Effect.Effect<S, E | Config.ConfigError>
}

/**
 * Creates the decoders of a service whose options all have defaults.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <O extends object, S, I>(service: {
  /** The prefix of the service's variables, such as `SALLYPORT_SESSION`. */
  readonly prefix: string
  readonly invalid: (problem: string) => I
  readonly decode: <E>(read: Reader<O, E>) => Effect.Effect<S, E>
  /** The options that stand in code alone, and that `decode` does not read. */
  readonly others?: ReadonlyArray<string> | undefined
}): ServiceOptions<O, S, I> => ({
  defaults: decodeDefaults<O, S>(service.decode),
  fromObject: (options) => decodeObject<O, S, I>(options, service),
  fromConfig: service.decode(fromConfig<O, I>(service.prefix, service.invalid))
})
