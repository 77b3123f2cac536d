/** The completions that `sallyport completions` prints, in the shells that this machine has. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { spawnSync } from "node:child_process"
import * as NFS from "node:fs"
import * as NPath from "node:path"
import { temporaryDirectory } from "../../../test-support/programs.ts"
import { commandLine } from "./commandLine.ts"

const words: ReadonlyArray<readonly [line: string, expected: ReadonlyArray<string>]> = [
  ["sallyport ru", ["runs"]],
  ["sallyport co", ["completions", "connect"]],
  ["sallyport runs ", ["abort", "list", "start", "sweep", "tail"]],
  ["sallyport runs list --stat", ["--state-dir", "--status"]],
  ["sallyport runs list --status ", ["aborted", "failed", "running", "succeeded"]],
  ["sallyport connect security a", ["account"]],
  ["sallyport completions ", ["bash", "fish", "powershell", "zsh"]]
]

const bash = `
COMP_LINE=$1; COMP_POINT=\${#1}; read -ra COMP_WORDS <<< "$1"; [[ $1 == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); by=$(complete -p sallyport | sed 's/.*-F \\([^ ]*\\).*/\\1/')
"$by" sallyport "\${COMP_WORDS[COMP_CWORD]}" "\${COMP_WORDS[COMP_CWORD - 1]}"; printf '%s\\n' "\${COMPREPLY[@]}"
`

/** How each shell completes a line by a script, one completion a line. */
const shells = {
  bash: (file: string, line: string) => ["-c", `source '${file}'\n${bash}`, "bash", line],
  fish: (file: string, line: string) => ["-c", `source '${file}'; complete -C '${line}'`]
}

describe("sallyport completions", () => {
  for (const shell of ["bash", "fish"] as const) {
    const isHere = spawnSync(shell, ["--version"]).status === 0
    it.live(`complete commands, options and values in ${shell}${isHere ? "" : ", which is not here: each is named"}`, () =>
      Effect.gen(function*() {
        const { code, stdout } = yield* commandLine(["completions", shell])
        assert.strictEqual(code, 0)
        assert.include(stdout, `sallyport completions ${shell} >`)
        assert.notInclude(stdout, "--completions")
        const file = NPath.join(yield* temporaryDirectory, "completions")
        NFS.writeFileSync(file, stdout)
        for (const [line, expected] of words) {
          if (!isHere) {
            for (const word of expected) assert.include(stdout, word.replace(/^--/, ""))
            continue
          }
          const answer = spawnSync(shell, shells[shell](file, line), { encoding: "utf8" })
          assert.strictEqual(answer.status, 0, answer.stderr)
          const found = answer.stdout.trimEnd().split("\n").map((one) => one.split("\t", 1).join())
          assert.includeMembers(found, [...expected], line)
        }
      }).pipe(Effect.scoped))
  }
})
