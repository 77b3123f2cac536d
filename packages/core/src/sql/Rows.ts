/**
 * How the rows of a table are written and read, derived from their Schema: columns, parameters, decoder.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
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
  schema: Schema.Codec<Row, Encoded> & { readonly fields: Schema.Struct.Fields }
): Rows<Row> => {
  const fields = Object.keys(schema.fields)
  const encodedAst = Schema.toEncoded(schema).ast
  const json = new Set(
    encodedAst._tag === "Objects"
      ? encodedAst.propertySignatures.flatMap(({ name, type }) => isJson(type) ? [String(name)] : [])
      : []
  )
  const decode = Schema.decodeUnknownEffect(schema)
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
      const plain: Record<string, unknown> = {}
      for (const [field, value] of Object.entries(row)) {
        plain[field] = json.has(field) ? parseJson(value) : typeof value === "bigint" ? Number(value) : value
      }
      return Effect.mapError(decode(plain), ({ issue }) => {
        const found = new Set(toStandard(issue).issues.map(({ path }) => String(path?.[0] ?? "(the row)")))
        return new CorruptRow({ table: table.replaceAll("\"", ""), columns: Array.from(found) })
      })
    }
  }
}

const toParameter = (value: unknown): Parameter => {
  if (value === undefined || value === null) return null
  if (typeof value === "string" || typeof value === "number" || value instanceof Uint8Array) return value
  throw new TypeError(`A column cannot hold a ${typeof value}`)
}
