import { assert, describe, it } from "@effect/vitest"
import type { History, Observation, Tables } from "../src/history.ts"
import { judge, revocationMillis } from "../src/judge.ts"

const tables: Tables = {
  links: [{ id: "link", label: "phone" }],
  sessions: [
    { id: "session", linkId: "link", isLive: true },
    { id: "ended", linkId: "start-up", isLive: false }
  ],
  runs: [{ runId: "run", key: "key", status: "succeeded" }],
  events: [
    { runId: "run", seq: 1, kind: "data", data: "{\"count\":1}" },
    { runId: "run", seq: 2, kind: "data", data: "{\"count\":2}" },
    { runId: "run", seq: 3, kind: "end", data: "{\"status\":\"succeeded\"}" }
  ],
  feed: [
    { revision: 1, type: "sessionUpserted", payload: "{\"session\":{\"id\":\"ended\"}}" },
    { revision: 2, type: "sessionUpserted", payload: "{\"session\":{\"id\":\"session\"}}" },
    { revision: 3, type: "sessionRemoved", payload: "{\"id\":\"ended\",\"reason\":\"revoked\"}" }
  ]
}

const used = (sessionId: string, node: number, at: number, isAccepted: boolean): Observation => ({
  _tag: "Used",
  sessionId,
  node,
  sentAt: at,
  answeredAt: at + 1,
  isAccepted
})
const event = (seq: number, data: string, kind: "data" | "end" = "data", connection = 1): Observation => ({
  _tag: "Event",
  connection,
  runId: "run",
  seq,
  kind,
  data
})
const answer = (status: number, isTyped: boolean): Observation => ({
  _tag: "Answer",
  operation: "GET /",
  node: 0,
  status,
  isTyped,
  text: ""
})
const feedEvent = (revision: number, type = "sessionUpserted"): Observation => ({
  _tag: "FeedEvent",
  connection: 9,
  revision,
  type
})

const observations: ReadonlyArray<Observation> = [
  answer(200, false),
  answer(404, false),
  answer(503, true),
  { _tag: "Ready", node: 0, after: "SIGKILL", millis: 900 },
  { _tag: "Ended", node: 0, by: "SIGKILL", code: null, millis: 5, stderr: "" },
  { _tag: "Ended", node: 0, by: "SIGTERM", code: 0, millis: 500, stderr: "" },
  { _tag: "Checked", scenario: "a truncated secret is told", problem: undefined },
  { _tag: "Issued", linkId: "link", uses: 1 },
  { _tag: "Redeemed", linkId: "link", sessionId: "session", attempt: "attempt" },
  { _tag: "Redeemed", linkId: "link", sessionId: "session", attempt: "attempt" },
  used("ended", 0, 10, true),
  { _tag: "RevocationSent", sessionId: "ended", at: 90 },
  used("ended", 1, 95, false),
  { _tag: "Revoked", sessionId: "ended", node: 0, at: 100 },
  used("ended", 0, 101, false),
  // The other node has some time to hear of it.
  used("ended", 1, 100 + revocationMillis, true),
  used("ended", 1, 101 + revocationMillis, false),
  used("session", 1, 120, true),
  { _tag: "Refused", what: "link", key: "refused" },
  { _tag: "Refused", what: "run", key: "refused" },
  { _tag: "RunStarted", runId: "run", key: "key", isNew: true, to: 2 },
  { _tag: "RunStarted", runId: "run", key: "key", isNew: false, to: 2 },
  { _tag: "Followed", connection: 1, runId: "run", after: 0 },
  event(1, "{\"count\":1}"),
  event(2, "{\"count\":2}"),
  event(3, "{\"status\":\"succeeded\"}", "end"),
  { _tag: "Appended", stream: "stream", value: 0 },
  { _tag: "Appended", stream: "stream", value: 1 },
  { _tag: "StreamRead", stream: "stream", values: [0, 1] },
  { _tag: "FeedFollowed", connection: 9, after: undefined },
  feedEvent(1, "snapshot"),
  feedEvent(2),
  feedEvent(3, "sessionRemoved"),
  { _tag: "CredentialSent", key: "key" },
  { _tag: "CredentialSeen", key: "key", isSet: false },
  { _tag: "CredentialIs", key: "key", isSet: true },
  { _tag: "CredentialSeen", key: "key", isSet: true }
]

const good: History = { observations, tables }

const without = (dropped: (observation: Observation) => boolean): History => ({
  tables,
  observations: observations.filter((observation) => !dropped(observation))
})
const withMore = (...more: ReadonlyArray<Observation>): History => ({
  tables,
  observations: [...observations, ...more]
})
const withTables = (changed: Partial<Tables>): History => ({ observations, tables: { ...tables, ...changed } })

/** Each has one thing wrong, and the check that has to find it. */
const mutants: ReadonlyArray<readonly [name: string, history: History, check: string]> = [
  [
    "a reader misses an event",
    without((one) => one._tag === "Event" && one.seq === 2),
    "a reader sees each event once and in order"
  ],
  [
    "a reader gets an event twice",
    withMore(
      { _tag: "Followed", connection: 2, runId: "run", after: 0 },
      event(1, "{\"count\":1}", "data", 2),
      event(1, "{\"count\":1}", "data", 2)
    ),
    "a reader sees each event once and in order"
  ],
  ["an event follows the end", withMore(event(4, "{\"count\":4}")), "a reader sees each event once and in order"],
  [
    "a stored event is lost at the end of the log",
    withTables({ events: tables.events.slice(0, 2) }),
    "a run ends exactly once"
  ],
  [
    "a stored event is lost within the log",
    withTables({ events: tables.events.toSpliced(1, 1) }),
    "a run's events have no gap"
  ],
  [
    "a stored event is doubled",
    withTables({
      events: [
        ...tables.events.slice(0, 2),
        { runId: "run", seq: 3, kind: "data", data: "{\"count\":2}" },
        { runId: "run", seq: 4, kind: "end", data: "{\"status\":\"succeeded\"}" }
      ]
    }),
    "a program's appends are stored in order"
  ],
  [
    "an event changes after it was read",
    withTables({ events: tables.events.map((one) => one.seq === 2 ? { ...one, data: "{\"count\":7}" } : one) }),
    "what a reader saw is stored"
  ],
  [
    "a run has two ends",
    withTables({ events: [...tables.events, { runId: "run", seq: 4, kind: "end", data: "{\"status\":\"failed\"}" }] }),
    "a run ends exactly once"
  ],
  [
    "readers see different ends",
    withMore(
      { _tag: "Followed", connection: 2, runId: "run", after: 2 },
      { _tag: "Event", connection: 2, runId: "run", seq: undefined, kind: "end", data: "{\"status\":\"failed\"}" }
    ),
    "a run ends exactly once"
  ],
  [
    "a run never ends",
    withTables({ runs: [{ runId: "run", key: "key", status: "running" }] }),
    "a run ends exactly once"
  ],
  [
    "the row and the end disagree",
    withTables({ runs: [{ runId: "run", key: "key", status: "aborted" }] }),
    "the end and the row agree"
  ],
  [
    "a key starts another run",
    withMore({ _tag: "RunStarted", runId: "other", key: "key", isNew: false, to: 2 }),
    "a key starts one run"
  ],
  [
    "a repeated start executes again",
    withMore({ _tag: "RunStarted", runId: "run", key: "key", isNew: true, to: 2 }),
    "a key starts one run"
  ],
  ["an acknowledged start is lost", withTables({ runs: [] }), "a started run is stored"],
  [
    "an acknowledged append is lost",
    withMore({ _tag: "Appended", stream: "stream", value: 2 }),
    "an acknowledged append is stored"
  ],
  [
    "an append is stored twice",
    withMore({ _tag: "StreamRead", stream: "stream", values: [0, 0, 1] }),
    "a stream holds each append once and in order"
  ],
  [
    "appends are stored out of order",
    withMore({ _tag: "StreamRead", stream: "stream", values: [1, 0] }),
    "a stream holds each append once and in order"
  ],
  [
    "a revoked session is accepted by the node that revoked it",
    withMore(used("ended", 0, 102, true)),
    "what was revoked stays refused"
  ],
  [
    "a revoked session is accepted by the other node for too long",
    withMore(used("ended", 1, 200 + revocationMillis, true)),
    "what was revoked stays refused"
  ],
  [
    "a revoked session is revived in its table",
    withTables({ sessions: tables.sessions.map((one) => ({ ...one, isLive: true })) }),
    "what was revoked stays refused"
  ],
  ["a good session is refused", withMore(used("session", 0, 300, false)), "a session is good until it is revoked"],
  [
    "a session that was given out is lost",
    withTables({ sessions: tables.sessions.slice(1) }),
    "a session that was given out is stored"
  ],
  [
    "a code gives two sessions",
    withMore({ _tag: "Redeemed", linkId: "link", sessionId: "ended", attempt: "another" }),
    "a code is used as often as it may"
  ],
  [
    "a code makes a session that no client got",
    withTables({ sessions: [...tables.sessions, { id: "more", linkId: "link", isLive: true }] }),
    "a code is used as often as it may"
  ],
  [
    "an attempt gets two sessions",
    withMore({ _tag: "Redeemed", linkId: "start-up", sessionId: "ended", attempt: "attempt" }),
    "an attempt has one session"
  ],
  ["an issued link is lost", withTables({ links: [] }), "an issued link is stored"],
  [
    "a refused link is stored",
    withTables({ links: [...tables.links, { id: "more", label: "refused" }] }),
    "what was refused is not stored"
  ],
  [
    "a refused run is stored",
    withTables({ runs: [...tables.runs, { runId: "more", key: "refused", status: "failed" }] }),
    "what was refused is not stored"
  ],
  [
    "a refresh is refused though its session is good",
    withMore({ _tag: "RefreshRefused", sessionId: "session", at: 500, text: "invalid_grant" }),
    "a lost answer ends no session"
  ],
  ["the feed skips a revision", withTables({ feed: tables.feed.toSpliced(1, 1) }), "the feed has no gap"],
  [
    "a follower misses a revision",
    without((one) => one._tag === "FeedEvent" && one.revision === 2),
    "a follower sees each revision once and in order"
  ],
  ["a follower gets a revision twice", withMore(feedEvent(3)), "a follower sees each revision once and in order"],
  ["a follower sees what is not stored", withMore(feedEvent(4)), "what a follower saw is stored"],
  [
    "the feed forgets an end",
    withTables({ feed: tables.feed.slice(0, 2) }),
    "the feed replays to the tables"
  ],
  [
    "an acknowledged credential is lost",
    withMore({ _tag: "CredentialSeen", key: "key", isSet: false }),
    "a credential is as it was left"
  ],
  ["an internal error is answered", withMore(answer(500, true)), "answers are typed"],
  ["an untyped 503 is answered", withMore(answer(503, false)), "answers are typed"],
  [
    "a request hangs",
    withMore({ _tag: "Hung", operation: "GET /", node: 0, millis: 60_000 }),
    "no request hangs"
  ],
  [
    "a node starts too slowly",
    withMore({ _tag: "Ready", node: 0, after: "SIGKILL", millis: 100_000 }),
    "a node comes back"
  ],
  [
    "a node ends by itself",
    withMore({ _tag: "Ended", node: 0, by: "none", code: 1, millis: 0, stderr: "" }),
    "a node runs on"
  ],
  [
    "SIGTERM ends a node too slowly",
    withMore({ _tag: "Ended", node: 0, by: "SIGTERM", code: 0, millis: 60_000, stderr: "" }),
    "SIGTERM ends a node"
  ],
  [
    "SIGTERM ends a node as if it had failed",
    withMore({ _tag: "Ended", node: 0, by: "SIGTERM", code: 1, millis: 10, stderr: "" }),
    "SIGTERM ends a node"
  ],
  [
    "a scenario fails",
    withMore({ _tag: "Checked", scenario: "a truncated secret is told", problem: "the node has started" }),
    "a truncated secret is told"
  ]
]

describe("the judge of faults", () => {
  it("finds nothing wrong with a good history", () => {
    assert.deepStrictEqual(judge(good).violations, [])
  })

  it.each(mutants)("reports that %s", (_, history, check) => {
    const found = judge(history).violations.map((violation) => violation.check)
    assert.include(found, check)
  })

  it("has a mutant for each check", () => {
    const checks = new Set(mutants.flatMap(([, history]) => [...judge(history).checked.keys()]))
    assert.deepStrictEqual([...checks].filter((check) => !mutants.some(([, , found]) => found === check)), [])
  })
})
