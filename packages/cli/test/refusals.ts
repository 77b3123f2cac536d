/** The table of refusals to start in docs/operations.md, and the test of one of its rows. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as NFS from "node:fs"
import * as NPath from "node:path"
import * as Sallyport from "../../../test-support/backend.ts"
import * as Programs from "../../../test-support/programs.ts"
import { commandLine } from "./commandLine.ts"

interface Row {
  readonly sentence: string
  readonly remedy: string
  readonly code: number
}

const page = NFS.readFileSync(NPath.join(import.meta.dirname, "../../../docs/operations.md"), "utf8")

/** Returns the rows of one of the tables, by what is refused. */
const rowsBelow = (heading: string): ReadonlyMap<string, Row> => {
  const table = page.split(`### ${heading}\n`).at(1)?.split("\n#", 1).join() ?? ""
  const row = /^\| ([^|`]+) \| `([^|`]+)` \| `([^|`]+)` \| (\d+) \|$/gm
  return new Map(
    Array.from(
      table.matchAll(row),
      ([, name = "", sentence = "", remedy = "", code]) => [name, { sentence, remedy, code: Number(code) }]
    )
  )
}

/** How a start is refused, by the real thing. */
export interface BadStart {
  /**
   * A command that starts the server with less than the rights of this process; an empty one for a process as any other.
   * Without it the command line runs in the process of the test.
   */
  readonly through?: ReadonlyArray<string>
  readonly args: ReadonlyArray<string>
  readonly env?: Record<string, string>
  /** What the sentence names besides what the row says: a file, or an address. */
  readonly names?: ReadonlyArray<string>
  /** A file or a directory that must not change. */
  readonly unchanged?: string
  /** What must not be shown. */
  readonly secrets?: ReadonlyArray<string>
}

/** Every file below a path, with its mode and its bytes. */
const snapshot = (path: string): ReadonlyArray<string> => {
  const stat = NFS.lstatSync(path, { throwIfNoEntry: false })
  if (stat === undefined) return [`${path} is not there`]
  const self = `${path} ${stat.mode.toString(8)} ${stat.uid}`
  if (stat.isDirectory()) {
    return [self, ...NFS.readdirSync(path).toSorted().flatMap((name) => snapshot(NPath.join(path, name)))]
  }
  return [`${self} ${NFS.readFileSync(path).toString("base64")}`]
}

const usage = 2

/** Runs a server that is refused to its end. */
const serve = Effect.fnUntraced(function*(args: ReadonlyArray<string>, env = {}, through?: ReadonlyArray<string>) {
  if (through === undefined) return yield* commandLine(args, { env })
  const running = yield* Sallyport.sallyport(args, env, through)
  const { code } = yield* running.exit
  return { code, stdout: running.stdout(), stderr: running.stderr() }
})

/** Asserts that a text has the parts of a pattern in their order. `…` stands for what differs from start to start. */
const assertSays = (text: string, pattern: string) => {
  let from = 0
  for (const part of pattern.split("…").map((part) => part.trim())) {
    const found = text.indexOf(part, from)
    assert.isAtLeast(found, 0, `${JSON.stringify(part)} of ${JSON.stringify(pattern)} is missing in: ${text}`)
    from = found + part.length
  }
}

/**
 * Makes the test function for one of the tables, and the test that each of its rows has been provoked. A title is the ids, a
 * colon and the row, and in parentheses which member of its kind it is.
 */
export const refusalsOf = (heading: string) => {
  const rows = rowsBelow(heading)
  const provoked = new Set<string>()
  return {
    refuses: (title: string, arrange: Effect.Effect<BadStart, unknown, Scope.Scope>) => {
      const name = title.replace(/^[^:]+: /, "").replace(/ \(.*\)$/, "")
      provoked.add(name)
      it.live(title, () =>
        Effect.gen(function*() {
          const row = rows.get(name)
          assert.isDefined(row, `docs/operations.md has no row for ${name}`)
          const { args, env, names = [], secrets = [], through, unchanged } = yield* arrange
          const stored = args.flatMap((arg) => {
            const directory = NPath.join(arg, "secrets")
            return NFS.existsSync(directory)
              ? NFS.readdirSync(directory).map((file) => NFS.readFileSync(NPath.join(directory, file), "latin1"))
              : []
          })
          const before = unchanged === undefined ? [] : snapshot(unchanged)
          const { code, stderr, stdout } = yield* serve(["serve", "--json", ...args], env, through)
          assert.strictEqual(code, row.code, stderr)
          assertSays(stderr.replaceAll(/\s+/g, " "), `${row.sentence}…${row.remedy}`)
          for (const part of names) assert.include(stderr, part)
          assert.notMatch(stderr, /^\s+at /m, "a stack trace")
          assert.notMatch(stderr, /\bundefined\b|\[object|Error:/)
          assert.notInclude(stdout, "#token=")
          if (row.code !== usage) {
            // One sentence on one line, and nothing for a program to read.
            assert.match(stderr, /^sallyport: [^\n]+\n$/)
            assert.strictEqual(stdout, "")
          }
          for (const secret of stored) {
            if (secret.length > 16) assert.notInclude(stderr, secret.slice(0, 16))
          }
          for (const secret of secrets) assert.notInclude(stderr, secret)
          if (unchanged !== undefined) assert.deepStrictEqual(snapshot(unchanged), before)
        }), Programs.timeout)
    },
    everyRow: () =>
      it("OPS-06: docs/operations.md has these refusals, and no others", () => {
        assert.deepStrictEqual([...provoked].toSorted(), [...rows.keys()].toSorted())
      })
  }
}
