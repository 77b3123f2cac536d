/**
 * Runs a backend for some time, injects faults meanwhile, and judges what its clients saw.
 */
import * as Client from "./client.ts"
import type { Observation } from "./history.ts"
import { judge, type Verdict } from "./judge.ts"
import * as Nodes from "./node.ts"
import type { Random } from "./random.ts"
import type { Fault, Store } from "./stores.ts"
import * as Workload from "./workload.ts"

/** Says what was injected, and what the judge says. */
export interface Result {
  readonly store: string
  readonly seed: number
  readonly injected: ReadonlyMap<string, number>
  readonly verdict: Verdict
}

/** Sets short leases, so that a run of a killed node ends soon, and refresh tokens. All attempts come from one address. */
const env = {
  SALLYPORT_RUNS_HEARTBEAT_INTERVAL: "1 second",
  SALLYPORT_RUNS_LEASE: "5 seconds",
  SALLYPORT_SESSION_REFRESH_TOKEN_LIFETIME: "1 hour",
  SALLYPORT_PAIRING_ATTEMPTS_PER_SOURCE_LIMIT: "1000000",
  SALLYPORT_PAIRING_ATTEMPTS_TOTAL_LIMIT: "1000000",
  SALLYPORT_PAIRING_MAX_LET_IN_PER_SESSION: "100000",
  SALLYPORT_PAIRING_MAX_OPEN_PER_SESSION: "100000"
}

/** Starts the nodes of a store, and its servers of streams. */
export const startNodes = async (
  store: Store,
  observe: (observation: Observation) => void,
  more: Record<string, string> = {}
) => {
  const nodes = store.nodes.map(({ env: variables, stateDirectory }, index) =>
    Nodes.make({ index, observe, state: { stateDirectory }, env: { ...env, ...more, ...variables } })
  )
  const streams = store.nodes.map(({ env: variables }, index) =>
    Nodes.make({ index: nodes.length + index, observe, state: { streams: store.streams }, env: variables })
  )
  await Promise.all(nodes.map((node) => node.start("nothing")))
  await Promise.all(streams.map((node) => node.start("nothing")))
  return { nodes, streams, all: [...nodes, ...streams] }
}

const faultsOf = (nodes: ReadonlyArray<Nodes.Node>, random: Random): ReadonlyArray<Fault> =>
  nodes.flatMap((node): ReadonlyArray<Fault> => [
    { kind: "SIGKILL", inject: () => node.kill().then(() => node.start("SIGKILL")) },
    { kind: "SIGTERM", inject: () => node.terminate().then(() => node.start("SIGTERM")) },
    { kind: "SIGSTOP", inject: () => node.freeze(random.between(100, 8_000)) },
    {
      kind: "clock jump",
      inject: async () => {
        node.shiftClock(random.between(-600_000, 600_000))
        await Nodes.sleep(random.between(500, 4_000))
        node.shiftClock(0)
      }
    }
  ])

/** Waits until a node answers, for at most 30 seconds. */
const recovered = async (node: Nodes.Node, client: Client.Client): Promise<boolean> => {
  const from = performance.now()
  while (performance.now() - from < 30_000) {
    const answer = await client.send(node, "GET /api/auth/session", "/api/auth/session")
    // A server of streams has no such address.
    if (answer?.status === 200 || answer?.status === 404) return true
    await Nodes.sleep(100)
  }
  return false
}

/** Runs a campaign. Between two faults the backend has up to `restMillis`. */
export const run = async (options: {
  readonly store: Store
  readonly seed: number
  readonly random: Random
  readonly millis: number
  readonly restMillis: number
  /** Adds observations of its own, made before the nodes start. */
  readonly scenarios?: ReadonlyArray<Observation>
  readonly onProgress?: (line: string) => void
}): Promise<Result> => {
  const { millis, random, restMillis, seed, store } = options
  const observations: Array<Observation> = [...options.scenarios ?? []]
  const observe = (observation: Observation) => void observations.push(observation)
  const injected = new Map<string, number>()
  const count = (kind: string) => injected.set(kind, (injected.get(kind) ?? 0) + 1)
  // The tables are being made meanwhile.
  for (const { env: variables, stateDirectory } of [...store.nodes, ...store.nodes]) {
    const backend = Nodes.spawnServer({ stateDirectory }, { ...env, ...variables })
    await Nodes.sleep(random.between(400, 1_500))
    backend.child.kill("SIGKILL")
    await backend.ended
    count("first start killed")
  }
  const { all, nodes, streams } = await startNodes(store, observe)
  try {
    const client = Client.make(observe)
    const workload = await Workload.start({ nodes, streams, random, observe, paceMillis: 150 })
    const faults = [
      ...store.faults,
      ...faultsOf(all, random),
      { kind: "dead reader", inject: () => workload.deadReader(random.between(500, 4_000)) }
    ]
    const kinds = [...new Set(faults.map(({ kind }) => kind))]
    const until = performance.now() + millis
    let waiting: Array<string> = []
    while (performance.now() < until) {
      // Each kind has its turn before one comes again.
      if (waiting.length === 0) waiting = [...kinds]
      const kind = random.pick(waiting)
      waiting = waiting.filter((other) => other !== kind)
      const fault = random.pick(faults.filter((one) => one.kind === kind))
      if (fault === undefined) continue
      options.onProgress?.(`${store.name}: ${kind}`)
      await fault.inject()
      count(fault.kind)
      for (const node of all) {
        observe({
          _tag: "Checked",
          scenario: "a node serves again",
          problem: await recovered(node, client)
            ? undefined
            : `node ${node.index} answered nothing good for 30 s after ${fault.kind}`
        })
      }
      await Nodes.sleep(random.between(100, restMillis))
    }
    options.onProgress?.(`${store.name}: the clients end`)
    await workload.stop()
    // The reaper ends the runs of a killed node when their leases are over.
    const settled = performance.now() + 30_000
    while (performance.now() < settled && await store.openRuns() > 0) await Nodes.sleep(500)
    for (const node of all) await node.terminate()
    return { store: store.name, seed, injected, verdict: judge({ observations, tables: await store.tables() }) }
  } finally {
    for (const node of all) await node.kill()
  }
}
