/**
 * Judges a history by the promises, knowing nothing of the server but what clients saw and what the tables hold.
 */
import type { History, Observation } from "./history.ts"
import { endMillis, readyMillis } from "./node.ts"

/** Says which promise was broken, and by what one can see it. */
export interface Violation {
  readonly check: string
  readonly evidence: string
}

/** Holds how often each check was made, and what it found. */
export interface Verdict {
  readonly checked: ReadonlyMap<string, number>
  readonly violations: ReadonlyArray<Violation>
}

/** How soon after a revocation a node must know that another node has answered it. */
export const revocationMillis = 5_000

type Of<Tag extends Observation["_tag"]> = Extract<Observation, { readonly _tag: Tag }>

const groupBy = <A>(all: ReadonlyArray<A>, key: (element: A) => string): ReadonlyMap<string, ReadonlyArray<A>> => {
  const groups = new Map<string, Array<A>>()
  for (const element of all) {
    const group = groups.get(key(element))
    if (group === undefined) groups.set(key(element), [element])
    else group.push(element)
  }
  return groups
}

/** Returns what is wrong with the history, and how much of it was looked at. */
export const judge = ({ observations, tables }: History): Verdict => {
  const checked = new Map<string, number>()
  const violations: Array<Violation> = []
  const check = (name: string, isKept: boolean, evidence: () => string) => {
    checked.set(name, (checked.get(name) ?? 0) + 1)
    if (!isKept) violations.push({ check: name, evidence: evidence() })
  }
  const all = <Tag extends Observation["_tag"]>(tag: Tag): ReadonlyArray<Of<Tag>> =>
    observations.filter((observation): observation is Of<Tag> => observation._tag === tag)

  // --- answers and processes

  for (const { isTyped, node, operation, status, text } of all("Answer")) {
    check(
      "answers are typed",
      status < 500 || (status === 503 && isTyped),
      () => `${operation} on node ${node} was answered ${status}: ${text || "nothing"}`
    )
  }
  for (const { millis, node, operation } of all("Hung")) {
    check("no request hangs", false, () => `${operation} on node ${node} had no answer in ${Math.round(millis)} ms`)
  }
  checked.set("no request hangs", all("Answer").length + all("Hung").length)
  for (const { after, millis, node } of all("Ready")) {
    check(
      "a node comes back",
      millis <= readyMillis,
      () => `node ${node} took ${Math.round(millis)} ms to start after ${after}`
    )
  }
  for (const { by, code, millis, node, stderr } of all("Ended")) {
    if (by === "none") {
      check("a node runs on", false, () => `node ${node} ended by itself with ${code}: ${stderr}`)
    } else if (by === "SIGTERM") {
      check(
        "SIGTERM ends a node",
        code === 0 && millis <= endMillis,
        () => `node ${node} ended with ${code} after ${Math.round(millis)} ms: ${stderr}`
      )
    }
  }
  for (const { problem, scenario } of all("Checked")) {
    check(scenario, problem === undefined, () => problem ?? "")
  }

  // --- codes, sessions and revocations

  const sessions = new Map(tables.sessions.map((session) => [session.id, session]))
  const bySession = groupBy(tables.sessions, ({ linkId }) => linkId ?? "")
  const byAttempt = groupBy(all("Redeemed"), ({ attempt }) => attempt)
  for (const { linkId, uses } of all("Issued")) {
    const redeemed = new Set(all("Redeemed").filter((one) => one.linkId === linkId).map(({ sessionId }) => sessionId))
    const stored = bySession.get(linkId)?.length ?? 0
    check(
      "a code is used as often as it may",
      redeemed.size <= uses && stored <= uses,
      () => `link ${linkId} with ${uses} uses gave ${redeemed.size} sessions, and ${stored} are stored`
    )
    check("an issued link is stored", tables.links.some(({ id }) => id === linkId), () => `link ${linkId} is missing`)
  }
  for (const [attempt, redeemed] of byAttempt) {
    const ids = new Set(redeemed.map(({ sessionId }) => sessionId))
    check("an attempt has one session", ids.size === 1, () => `attempt ${attempt} got ${[...ids].join(", ")}`)
    for (const id of ids) {
      check("a session that was given out is stored", sessions.has(id), () => `session ${id} is missing`)
    }
  }
  const sent = new Map<string, number>()
  for (const { at, sessionId } of all("RevocationSent")) {
    sent.set(sessionId, Math.min(at, sent.get(sessionId) ?? Infinity))
  }
  const revoked = groupBy(all("Revoked"), ({ sessionId }) => sessionId)
  for (const { answeredAt, isAccepted, node, sentAt, sessionId } of all("Used")) {
    if (isAccepted) {
      const known = revoked.get(sessionId)?.find((one) => one.at + (one.node === node ? 0 : revocationMillis) < sentAt)
      check(
        "what was revoked stays refused",
        known === undefined,
        () =>
          `session ${sessionId} was accepted by node ${node} at ${Math.round(sentAt)}, after node ${known?.node} had ` +
          `revoked it at ${Math.round(known?.at ?? 0)}`
      )
    } else {
      check(
        "a session is good until it is revoked",
        (sent.get(sessionId) ?? Infinity) < answeredAt,
        () =>
          `session ${sessionId} was refused by node ${node} at ${Math.round(answeredAt)}, though no one has revoked it`
      )
    }
  }
  for (const sessionId of revoked.keys()) {
    check(
      "what was revoked stays refused",
      sessions.get(sessionId)?.isLive !== true,
      () => `session ${sessionId} was revoked, and is stored as live`
    )
  }
  for (const { at, sessionId, text } of all("RefreshRefused")) {
    check(
      "a lost answer ends no session",
      (sent.get(sessionId) ?? Infinity) < at,
      () => `session ${sessionId} could not be refreshed at ${Math.round(at)}: ${text}`
    )
  }
  for (const { key, what } of all("Refused")) {
    const isStored = what === "link"
      ? tables.links.some(({ label }) => label === key)
      : tables.runs.some((run) => run.key === key)
    check("what was refused is not stored", !isStored, () => `the ${what} ${key} was refused, and is stored`)
  }

  // --- runs

  const runs = new Map(tables.runs.map((run) => [run.runId, run]))
  const stored = groupBy(tables.events, ({ runId }) => runId)
  for (const [key, started] of groupBy(all("RunStarted"), (one) => one.key)) {
    const ids = new Set(started.map(({ runId }) => runId))
    check(
      "a key starts one run",
      ids.size === 1 && started.filter(({ isNew }) => isNew).length <= 1,
      () => `key ${key} started ${[...ids].join(", ")}`
    )
    for (const id of ids) check("a started run is stored", runs.has(id), () => `run ${id} is missing`)
  }
  for (const [key, same] of groupBy(tables.runs, (run) => run.key)) {
    check("a key starts one run", same.length === 1, () => `key ${key} has ${same.length} runs`)
  }
  for (const { runId, status } of tables.runs) {
    const events = (stored.get(runId) ?? []).toSorted((left, right) => left.seq - right.seq)
    check(
      "a run's events have no gap",
      events.every(({ seq }, index) => seq === index + 1),
      () => `run ${runId} has the events ${events.map(({ seq }) => seq).join(" ")}`
    )
    const ends = events.filter(({ kind }) => kind === "end")
    check(
      "a run ends exactly once",
      ends.length === 1 && events.at(-1)?.kind === "end" && status !== "running",
      () => `run ${runId} is ${status}, with ${ends.length} ends and ${events.length} events`
    )
    const end = ends[0]
    if (end !== undefined) {
      check(
        "the end and the row agree",
        end.data.includes(`"${status}"`),
        () => `run ${runId} is ${status}, and its end says ${end.data}`
      )
    }
    const counts = events.filter(({ kind }) => kind === "data")
    check(
      "a program's appends are stored in order",
      counts.every(({ data, seq }) => data === `{"count":${seq}}`),
      () => `run ${runId} holds ${counts.map(({ data }) => data).join(" ")}`
    )
  }
  const data = new Map(tables.events.map(({ data, runId, seq }) => [`${runId} ${seq}`, data]))
  const followed = new Map(all("Followed").map((one) => [one.connection, one]))
  for (const [connection, events] of groupBy(all("Event"), (event) => String(event.connection))) {
    let last = followed.get(Number(connection))?.after ?? 0
    let hasEnded = false
    for (const { data: seen, kind, runId, seq } of events) {
      check(
        "a reader sees each event once and in order",
        !hasEnded && (seq === undefined || seq === last + 1),
        () =>
          `connection ${connection} to run ${runId} got ${kind} ${seq} after ${last}${hasEnded ? " and the end" : ""}`
      )
      hasEnded = kind === "end"
      if (seq === undefined) continue
      last = seq
      check(
        "what a reader saw is stored",
        data.get(`${runId} ${seq}`) === seen,
        () => `run ${runId} showed ${seen} as event ${seq}, and holds ${data.get(`${runId} ${seq}`) ?? "nothing"}`
      )
    }
  }
  for (const [runId, events] of groupBy(all("Event").filter(({ kind }) => kind === "end"), (event) => event.runId)) {
    check(
      "a run ends exactly once",
      new Set(events.map(({ data }) => data)).size === 1,
      () => `readers of run ${runId} saw the ends ${events.map(({ data }) => data).join(" ")}`
    )
  }

  // --- streams

  const reads = groupBy(all("StreamRead"), ({ stream }) => stream)
  for (const [stream, read] of reads) {
    for (const { values } of read) {
      check(
        "a stream holds each append once and in order",
        values.every((value, index) => value === index),
        () => `stream ${stream} holds ${values.join(" ")}`
      )
    }
  }
  for (const { stream, value } of all("Appended")) {
    check(
      "an acknowledged append is stored",
      reads.get(stream)?.at(-1)?.values.includes(value) === true,
      () => `stream ${stream} does not hold ${value}`
    )
  }

  // --- the access feed

  const revisions = new Set(tables.feed.map(({ revision }) => revision))
  // Old events may have been deleted.
  const first = tables.feed[0]?.revision ?? 1
  check(
    "the feed has no gap",
    tables.feed.every(({ revision }, index) => revision === first + index),
    () => `the feed holds ${tables.feed.length} events up to ${tables.feed.at(-1)?.revision}`
  )
  const feeds = new Map(all("FeedFollowed").map((one) => [one.connection, one]))
  for (const [connection, events] of groupBy(all("FeedEvent"), (event) => String(event.connection))) {
    let last = feeds.get(Number(connection))?.after
    for (const { revision, type } of events) {
      const isNext = type === "snapshot" || (last !== undefined && revision === last + 1)
      check(
        "a follower sees each revision once and in order",
        isNext,
        () => `connection ${connection} got ${type} ${revision} after ${last ?? "nothing"}`
      )
      check(
        "what a follower saw is stored",
        revision === 0 || revisions.has(revision),
        () => `revision ${revision} is not in the feed`
      )
      last = revision
    }
  }
  const live = new Set<string>()
  for (const { payload, type } of tables.feed) {
    const id = sessionOf(payload)
    if (type === "sessionUpserted") live.add(id)
    if (type === "sessionRemoved") live.delete(id)
  }
  for (const { id, isLive } of first === 1 ? tables.sessions : []) {
    check(
      "the feed replays to the tables",
      live.has(id) === isLive,
      () => `session ${id} is ${isLive ? "live" : "ended"} in its table, and the other in the feed`
    )
  }

  // --- credentials

  const credentials = new Map<string, boolean | undefined>()
  for (const observation of observations) {
    if (observation._tag === "CredentialSent") credentials.set(observation.key, undefined)
    else if (observation._tag === "CredentialIs") credentials.set(observation.key, observation.isSet)
    else if (observation._tag === "CredentialSeen") {
      const { isSet, key } = observation
      check(
        "a credential is as it was left",
        (credentials.get(key) ?? isSet) === isSet,
        () => `credential ${key} is ${isSet ? "set" : "not set"} after the opposite was acknowledged`
      )
    }
  }

  return { checked, violations }
}

/** Returns the id of the session that an event of the feed is about. */
const sessionOf = (payload: string): string => {
  const parsed: { readonly id?: string; readonly session?: { readonly id?: string } } = JSON.parse(payload)
  return parsed.id ?? parsed.session?.id ?? ""
}
