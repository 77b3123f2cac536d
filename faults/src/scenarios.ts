/**
 * What can happen to the files of a backend while it is stopped, and starts that meet: each on a directory of its own.
 */
import { execFileSync } from "node:child_process"
import * as NFS from "node:fs"
import * as NPath from "node:path"
import * as OS from "node:os"
import * as Client from "./client.ts"
import type { Observation } from "./history.ts"
import * as Nodes from "./node.ts"
import type { Random } from "./random.ts"

/**
 * Starts a backend that must say what is wrong, and refuse to start unless nothing is left to harm. Returns what it failed to
 * do.
 */
const refusal = async (stateDirectory: string, names: RegExp, mayStart: boolean): Promise<string | undefined> => {
  const backend = Nodes.spawnServer({ stateDirectory }, {})
  const announcement = await Nodes.announced(backend)
  if (announcement !== undefined) {
    backend.child.kill("SIGTERM")
    await backend.ended
    if (mayStart && names.test(backend.printed.stderr)) return undefined
    return `it has started${backend.printed.stderr === "" ? " without a word" : `, saying: ${backend.printed.stderr}`}`
  }
  const code = await backend.ended
  const { stderr } = backend.printed
  if (code !== 1) return `it ended with ${code}: ${stderr}`
  return !names.test(stderr) || stderr.includes("    at ") ? `it does not say what is wrong: ${stderr}` : undefined
}

/** Makes a directory with state, with a session in it. */
const stopped = async (stateDirectory: string) => {
  const node = Nodes.make({ index: 0, state: { stateDirectory }, env: {}, observe: () => {} })
  await node.start("nothing")
  await node.terminate()
}

const pathsIn = (directory: string) =>
  NFS.readdirSync(directory).filter((name) => name.endsWith("~1")).map((name) => NPath.join(directory, name))

const damages: ReadonlyArray<
  readonly [scenario: string, names: RegExp, damage: (stateDirectory: string, random: Random) => ReadonlyArray<string>]
> = [
  ["a truncated secret is told", /session-signing-keys|pairing-code-key|credentials\.key/, (stateDirectory, random) => {
    const path = random.pick(pathsIn(NPath.join(stateDirectory, "secrets"))) ?? ""
    NFS.truncateSync(path, random.between(0, NFS.statSync(path).size - 1))
    return [path]
  }],
  ["a vanished database is told", /sallyport\.db/, (stateDirectory) => {
    for (const suffix of ["", "-wal", "-shm"]) {
      NFS.rmSync(NPath.join(stateDirectory, `sallyport.db${suffix}`), { force: true })
    }
    return []
  }],
  ["a damaged database is told", /sallyport\.db/, (stateDirectory, random) => {
    const path = NPath.join(stateDirectory, "sallyport.db")
    const file = NFS.openSync(path, "r+")
    NFS.writeSync(file, Buffer.alloc(random.between(100, 4_096), 0x5a), 0, undefined, random.between(0, 16))
    NFS.closeSync(file)
    return [path]
  }],
  ["a truncated database is told", /sallyport\.db/, (stateDirectory, random) => {
    const path = NPath.join(stateDirectory, "sallyport.db")
    NFS.truncateSync(path, random.between(1, NFS.statSync(path).size - 1))
    return [path]
  }]
]

/** Starts several backends on one new directory at once: all are good, and what one gives out is good at the others. */
const startsAtOnce = async (stateDirectory: string): Promise<string | undefined> => {
  const nodes = [0, 1, 2].map((index) => Nodes.make({ index, state: { stateDirectory }, env: {}, observe: () => {} }))
  const client = Client.make(() => {})
  try {
    await Promise.all(nodes.map((node) => node.start("nothing")))
    for (const [index, node] of nodes.entries()) {
      const other = nodes[(index + 1) % nodes.length] ?? node
      const answer = await client.send(other, "POST /oauth/token", "/oauth/token", {
        form: {
          grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
          subject_token: node.code(),
          subject_token_type: "urn:sallyport:token-type:bootstrap-credential"
        }
      })
      if (answer?.status !== 200) return `the code of node ${index} was answered ${answer?.status}: ${answer?.text}`
      const { access_token: token } = Client.parse<{ readonly access_token: string }>(answer)
      for (const every of nodes) {
        const used = await client.send(every, "GET /api/auth/session", "/api/auth/session", { token })
        if (used?.status !== 200) return `a session of node ${other.index} was refused by node ${every.index}`
      }
    }
    return undefined
  } catch (error) {
    return String(error)
  } finally {
    for (const node of nodes) await node.kill()
  }
}

/** Goes through all of it, and returns what was found. */
export const run = async (random: Random): Promise<ReadonlyArray<Observation>> => {
  const found: Array<Observation> = []
  const directory = NFS.mkdtempSync(NPath.join(OS.tmpdir(), "sallyport-faults-"))
  try {
    const problem = await startsAtOnce(NPath.join(directory, "at-once"))
    found.push({ _tag: "Checked", scenario: "first starts at once agree", problem })
    const whole = NPath.join(directory, "whole")
    await stopped(whole)
    for (const [scenario, names, damage] of damages) {
      const state = NPath.join(directory, scenario.replaceAll(" ", "-"))
      execFileSync("cp", ["-a", whole, state])
      // Without the damage it would start.
      await stopped(state)
      const damaged = damage(state, random)
      const before = damaged.map((path) => NFS.readFileSync(path))
      const wrong = await refusal(state, names, damaged.length === 0)
      const isChanged = damaged.some((path, index) => !NFS.readFileSync(path).equals(before[index] ?? Buffer.of()))
      found.push({
        _tag: "Checked",
        scenario,
        problem: wrong ?? (isChanged ? "the refused start has changed the file" : undefined)
      })
    }
    return found
  } finally {
    NFS.rmSync(directory, { recursive: true, force: true })
  }
}
