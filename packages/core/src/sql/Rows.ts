/**
 * How the rows of a table are written and read, derived from their Schema: columns, parameters, decoder.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as SchemaAST from "effect/SchemaAST"
import * as SchemaIssue from "effect/SchemaIssue"

/**
 * Lists what a parameter of a statement can be. Arrays are for PostgreSQL alone.
 *
 * @category models
 * @since 0.1.0
 */
export type Parameter = string | number | null | Uint8Array | ReadonlyArray<string> | ReadonlyArray<bigint>

/**
 * Reports a row that is not of the form that this version writes. It names the table and the columns, and nothing of what
 * they hold: rows hold digests, and errors are logged.
 *
 * @category errors
 * @since 0.1.0
 */
export class CorruptRow extends Schema.TaggedError<CorruptRow>()("CorruptRow", {
  table: Schema.String,
  columns: Schema.Array(Schema.String)
}) {
  override get message(): string {
    return `A row of ${this.table} is not of the form that this version of Sallyport writes: ${this.columns.join(", ")}`
  }
}

/**
 * Reads and writes the rows of one table.
 *
 * @category models
 * @since 0.1.0
 */
export interface Rows<A> {
  /** What a statement selects or returns: every column, by the name of its field. */
  readonly columns: string
  /** As `columns`, with other expressions for some fields. */
  readonly columnsWith: (expressions: { readonly [Field in keyof A]?: string }) => string
  /**
   * Inserts one row whose parameters are those of `values`; conflicts and what is returned follow. There, `stored` is the row
   * that stands in the way.
   */
  readonly insert: string
  /** Sets every column to that of the row that could not be inserted, but for those named: follows `DO UPDATE SET`. */
  readonly excluded: (keep: ReadonlyArray<string>) => string
  /** Returns the parameters of a row, in the order of its fields. */
  readonly values: (row: A) => ReadonlyArray<Parameter>
  /** Reads a row by its Schema. */
  readonly decode: (row: object) => Effect.Effect<A, CorruptRow>
}

/**
 * Describes the fields of a row's Schema.
 *
 * @category models
 * @since 0.1.0
 */
export type Fields = Readonly<Record<string, Schema.ConstraintDecoder<unknown>>>

/** Returns the name of a field's column: `createdAtMillis` is kept in `created_at_millis`. */
const columnOf = (field: string): string => field.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)

/** Tells whether a column holds JSON: it is a list or an object. */
const isJson = (ast: SchemaAST.AST): boolean =>
  ast._tag === "Arrays" || ast._tag === "Objects" || (ast._tag === "Union" && ast.types.some(isJson))

// Text that is no JSON becomes a value that no schema takes, so that it is reported as any other unreadable column.
const parseJson = (text: unknown): unknown => {
  if (text === null) return null
  if (typeof text !== "string") return undefined
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

const toPlain = (value: unknown): unknown => typeof value === "bigint" ? Number(value) : value

/** Stands for a value that is not of its field's form. */
const unreadable = Symbol("unreadable")

/** Returns whether a value is of a schema that changes nothing, or undefined if the schema is more than that. */
const scalarTest = (ast: SchemaAST.AST): ((value: unknown) => boolean) | undefined => {
  const checks = ast.checks ?? []
  const filters = checks.flatMap((check) => check._tag === "Filter" ? [check] : [])
  if (ast.encoding !== undefined || filters.length < checks.length) return undefined
  const passes = (value: unknown) => filters.every(({ run }) => run(value, ast, {}) === undefined)
  switch (ast._tag) {
    case "Null":
      return (value) => value === null
    case "Literal":
      return (value) => value === ast.literal
    case "String":
      return (value) => typeof value === "string" && passes(value)
    case "Number":
      return (value) => typeof value === "number" && passes(value)
    case "Union": {
      const tests = ast.types.flatMap((type) => scalarTest(type) ?? [])
      return tests.length < ast.types.length || checks.length > 0
        ? undefined
        : (value) => tests.some((test) => test(value))
    }
    default:
      return undefined
  }
}

// The texts of a column are often the same few, such as the scopes of sessions.
const rememberedTexts = 128
const rememberedLength = 256

type Reader = readonly [field: string, read: (value: unknown) => unknown]

/**
 * Returns how each field is read, or nothing if the schema is more than its fields: a schema costs more than the query of a
 * row, for whatever it reads.
 */
const readersOf = (
  { ast, fields }: { readonly ast: SchemaAST.AST; readonly fields: Fields },
  json: ReadonlySet<string>
): ReadonlyArray<Reader> => {
  if (ast._tag !== "Objects" || ast.checks !== undefined || ast.encoding !== undefined) return []
  if (ast.propertySignatures.some(({ type }) => type.context?.isOptional === true)) return []
  return Object.entries(fields).map(([field, schema]): Reader => {
    const test = json.has(field) ? undefined : scalarTest(schema.ast)
    if (test !== undefined) {
      return [field, (value) => {
        const plain = toPlain(value)
        return test(plain) ? plain : unreadable
      }]
    }
    const decode = Schema.decodeUnknownOption(schema)
    const read = (value: unknown) => Option.getOrElse(decode(value), () => unreadable)
    if (!json.has(field)) return [field, (value) => read(toPlain(value))]
    const known = new Map<unknown, unknown>()
    return [field, (text) => {
      if (typeof text === "string" && text.length > rememberedLength) return read(parseJson(text))
      const before = known.get(text)
      if (before !== undefined) return before
      const value = read(parseJson(text))
      if (known.size >= rememberedTexts) known.clear()
      if (value !== unreadable) known.set(text, value)
      return value
    }]
  })
}

const toStandard = SchemaIssue.makeFormatterStandardSchemaV1()

/**
 * Derives how the rows of a table are written and read.
 *
 * **Details**
 *
 * A column is named after its field, in snake case. A field that is a list or an object is kept as JSON text. Integers may
 * come as `bigint`. Both are seen to before the schema, because a JSON codec inside it costs more than the query of a row.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <Row extends object, Encoded>(
  table: string,
  schema: Schema.Codec<Row, Encoded> & { readonly fields: Fields }
): Rows<Row> => {
  const fields = Object.keys(schema.fields)
  const encodedAst = Schema.toEncoded(schema).ast
  const json = new Set(
    encodedAst._tag === "Objects"
      ? encodedAst.propertySignatures.flatMap(({ name, type }) => isJson(type) ? [String(name)] : [])
      : []
  )
  const readers = readersOf(schema, json)
  const decode = Schema.decodeUnknownEffect(schema)
  const decodeWhole = (row: object): Effect.Effect<Row, CorruptRow> => {
    const plain: Record<string, unknown> = {}
    for (const [field, value] of Object.entries(row)) plain[field] = json.has(field) ? parseJson(value) : toPlain(value)
    return Effect.mapError(decode(plain), ({ issue }) => {
      const found = new Set(toStandard(issue).issues.map(({ path }) => String(path?.[0] ?? "(the row)")))
      return new CorruptRow({ table: table.replaceAll("\"", ""), columns: Array.from(found) })
    })
  }
  const columnsWith = (expressions: { readonly [field: string]: string | undefined }): string =>
    fields.map((field) => {
      const expression = expressions[field] ?? columnOf(field)
      return expression === field ? field : `${expression} AS "${field}"`
    }).join(", ")
  return {
    columns: columnsWith({}),
    columnsWith,
    insert: `INSERT INTO ${table} AS stored (${fields.map(columnOf).join(", ")}) VALUES (${
      fields.map(() => "?").join(", ")
    })`,
    excluded: (keep) =>
      fields.map(columnOf).filter((column) => !keep.includes(column))
        .map((column) => `${column} = excluded.${column}`).join(", "),
    values: (row: Row) => {
      const values = new Map<string, unknown>(Object.entries(row))
      return fields.map((field) => {
        const value = values.get(field)
        return json.has(field) && value !== null ? JSON.stringify(value) : toParameter(value)
      })
    },
    decode: (row) => {
      const read: Record<string, unknown> = {}
      for (const [field, reader] of readers) {
        const value = reader(Reflect.get(row, field))
        if (value === unreadable) return decodeWhole(row)
        read[field] = value
      }
      // Each field is as its own schema reads it.
      return readers.length === 0 ? decodeWhole(row) : Effect.succeed(read as Row)
    }
  }
}

const toParameter = (value: unknown): Parameter => {
  if (value === undefined || value === null) return null
  if (typeof value === "string" || typeof value === "number" || value instanceof Uint8Array) return value
  throw new TypeError(`A column cannot hold a ${typeof value}`)
}
