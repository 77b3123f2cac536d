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
  if (written === undefined) return "and is missing"
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
  readonly refuse: (problem: string) => Effect.Effect<never, E>
}): Reader<O, E> => {
  const { get, name, refuse } = source
  const refuseValue = (option: Key<O>, expected: string, written: unknown) =>
    refuse(`${name(option)} must be ${expected}, ${shown(written)}`)
  const required: Reader<O, E>["required"] = (option, expected, parse) =>
    Effect.flatMap(get(option), (written) => {
      const parsed = written === undefined ? undefined : parse(written)
      return parsed === undefined ? refuseValue(option, expected, written) : Effect.succeed(parsed)
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
          : refuse(`${name(option)} must be ${expected}`)
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

/**
 * Creates a reader of options that stand in code. `invalid` makes the service's error of a problem.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromObject = <O, E>(options: Partial<O>, invalid: (problem: string) => E): Reader<O, E> =>
  makeReader({
    name: (option) => option,
    get: (option) =>
      Effect.succeed(
        option.split(".").reduce<unknown>(
          (group, part) => Predicate.hasProperty(group, part) ? group[part] : undefined,
          options
        )
      ),
    refuse: (problem) => Effect.suspend(() => Effect.fail(invalid(problem)))
  })

/**
 * Creates a reader of the options of a host that wrote none. It dies if one has no default.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromDefaults = <O>(): Reader<O, never> =>
  fromObject<O, never>({}, (problem) => {
    throw new Error(problem)
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
}): ServiceOptions<O, S, I> => ({
  defaults: service.decode(fromDefaults()),
  fromObject: (options) => service.decode(fromObject(options, service.invalid)),
  fromConfig: service.decode(fromConfig<O, I>(service.prefix, service.invalid))
})
