/**
 * Random histories of connecting clients, their owners and those who redeem grants, and what none of them may break.
 *
 * Actors take their steps at once. Each step changes the store under a name of its own, so that the access feed tells
 * afterwards in which order the steps took effect: a model follows that order and knows of each client what was decided
 * last.
 */
import { AccessRepository } from "@sallyport/core/access/AccessRepository"
import { assert } from "@effect/vitest"
import type { AccessEvent, ChangeContext } from "@sallyport/core/access/AccessEvent"
import { type AccessSnapshot } from "@sallyport/core/access/AccessFeedRepository"
import type { ConnectClient, SecurityMode } from "@sallyport/core/access/ConnectClient"
import { type DecisionOutcome, initialMode, type RequestOutcome } from "@sallyport/core/access/ConnectClientRepository"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { allEvents, askRow, linkRow, redemption, start } from "./accessRows.ts"
import { replay } from "./feedReplay.ts"
import { small } from "./steps.ts"

/** The thumbprint of a client that a test calls by a letter. */
export const key = (name: string) => name.repeat(43)

const names = ["a", "b", "c"]
const name = Schema.Literals(names)
/** How much time passes before a step, and how often its actor lets others go first. */
export const pace = { waits: small(200), yields: small(3) }

/** What an actor does. */
export const Step = Schema.Union([
  Schema.TaggedStruct("request", {
    name,
    account: Schema.Literals(["ada", "bob"]),
    pendingMillis: Schema.Literals([10, 1_000]),
    maxPending: Schema.Literals([1, 3]),
    ...pace
  }),
  Schema.TaggedStruct("redeem", { name, ...pace }),
  Schema.TaggedStruct("decide", {
    name,
    decision: Schema.Literals(["approved", "rejected", "revoked", "blocked"]),
    stale: Schema.Boolean,
    ...pace
  }),
  Schema.TaggedStruct("mode", {
    mode: Schema.Literals(["account", "client-approval"]),
    trust: Schema.Literals(["all", "none", "a"]),
    ...pace
  }),
  Schema.TaggedStruct("spoil", pace),
  Schema.TaggedStruct("sweep", { idle: small(500), limit: small(2), ...pace })
])
/** @see {@link Step} */
export type Step = typeof Step.Type

/** Has each client ask, be approved and get a grant, so that what follows has something to end. */
export const approvals: ReadonlyArray<Step> = names.flatMap((name): ReadonlyArray<Step> => {
  const now = { waits: 0, yields: 0 }
  const ask = { _tag: "request", name, account: "ada", pendingMillis: 1_000, maxPending: 3, ...now } as const
  return [ask, { _tag: "decide", name, decision: "approved", stale: false, ...now }, ask]
})

/** A step that was taken, with what came of it. */
type Taken =
  | { readonly _tag: "request"; readonly step: Step & { readonly _tag: "request" }; readonly outcome: RequestOutcome }
  | { readonly _tag: "decide"; readonly step: Step & { readonly _tag: "decide" }; readonly outcome: DecisionOutcome }
  | { readonly _tag: "mode"; readonly mode: SecurityMode; readonly trusted: ReadonlyArray<string> }
  | { readonly _tag: "redeem" | "spoil" | "sweep" }

/** Compares what the store said it held at a revision with what the feed up to there leads to. */
const checkSnapshot = (events: ReadonlyArray<AccessEvent>, snapshot: AccessSnapshot) => {
  const replayed = replay(events.filter((event) => event.revision <= snapshot.revision).map((event) => event.change))
  const clients = Array.from(replayed.clients.values())
    .toSorted((a, b) => a.proofKeyThumbprint < b.proofKeyThumbprint ? -1 : 1)
  assert.deepStrictEqual(snapshot.connectClients ?? [], clients, `at revision ${snapshot.revision}`)
  // A mode that is none is told as absent. A store in which none was set need not say so.
  if (snapshot.connectSecurityMode !== undefined) assert.strictEqual(snapshot.connectSecurityMode, replayed.mode)
}

/** Says who holds something that is not expired: the thumbprints of live sessions and of links not redeemed. */
const holders = (nowMillis: number) =>
  Effect.gen(function*() {
    const sessions = yield* AccessRepository.use(({ sessions: repository }) =>
      repository.list({ nowMillis, afterId: undefined, limit: 1_000 })
    )
    const links = yield* AccessRepository.use(({ links: repository }) => repository.list({ nowMillis, limit: 1_000 }))
    return new Set([...sessions, ...links].flatMap((row) => row.proofKeyThumbprint ?? []))
  })

/**
 * Runs the histories of several actors at once, after some steps of one, and checks what no history may break. Each actor has
 * repositories of its own in `stores`, all of them on one database; without it they share those of the environment.
 */
export const run = Effect.fnUntraced(function*<E>(histories: ReadonlyArray<ReadonlyArray<Step>>, options: {
  readonly before: ReadonlyArray<Step>
  readonly stores?: ReadonlyArray<Context.Context<AccessRepository>> | undefined
  readonly spoilMode?: Effect.Effect<void, E> | undefined
}) {
  let afterMillis = 0
  let spoiled = false
  const taken = new Map<string, Taken>()
  const snapshots: Array<AccessSnapshot> = []
  const grants: Array<{ readonly name: string; readonly id: string }> = []

  const take = Effect.fnUntraced(function*(step: Step, actor: string) {
    const clients = (yield* AccessRepository).clients
    const links = (yield* AccessRepository).links
    const now = (): ChangeContext => ({ actor, nowMillis: start + afterMillis })
    switch (step._tag) {
      case "request": {
        const proofKeyThumbprint = key(step.name)
        const outcome = yield* again(clients.request(
          askRow(proofKeyThumbprint, {
            account: step.account,
            verificationCode: `CODE-${actor}`,
            pendingMillis: step.pendingMillis,
            maxPending: step.maxPending,
            maxObserved: 2
          }),
          linkRow(actor, { proofKeyThumbprint, createdBy: "connect", expiresAtMillis: start + 1_000_000 }),
          now()
        ))
        if (outcome._tag === "Granted") grants.push({ name: step.name, id: actor })
        return { _tag: "request", step, outcome } satisfies Taken
      }
      case "redeem": {
        const index = grants.findIndex((grant) => grant.name === step.name)
        const [grant] = index < 0 ? [] : grants.splice(index, 1)
        if (grant === undefined) return { _tag: "redeem" } satisfies Taken
        const proofKeyThumbprint = key(step.name)
        yield* again(links.redeem(
          redemption(grant.id, { proofKeyThumbprint, expiresAtMillis: start + 1_000_000 }),
          now()
        ))
        return { _tag: "redeem" } satisfies Taken
      }
      case "decide": {
        const outcome = yield* again(clients.decide({
          proofKeyThumbprint: key(step.name),
          decision: step.decision,
          reason: null,
          requestedAtMillis: step.stale ? 1 : undefined,
          backOffMillis: 100,
          maxBackOffMillis: 300
        }, now()))
        return { _tag: "decide", step, outcome } satisfies Taken
      }
      case "mode": {
        const trust = step.trust === "all" ? "all" : step.trust === "a" ? [key("a")] : []
        const rows = yield* again(clients.setMode({ mode: step.mode, trust }, now()))
        return {
          _tag: "mode",
          mode: step.mode,
          trusted: rows.map((row) => row.proofKeyThumbprint)
        } satisfies Taken
      }
      case "spoil": {
        if (options.spoilMode !== undefined) {
          spoiled = true
          yield* again(options.spoilMode)
        }
        return { _tag: "spoil" } satisfies Taken
      }
      case "sweep": {
        yield* again(clients.sweep({ idleBeforeMillis: start + afterMillis - step.idle, limit: step.limit }, now()))
        return { _tag: "sweep" } satisfies Taken
      }
    }
  })

  const act = (steps: ReadonlyArray<Step>, who: string) =>
    Effect.forEach(steps, (step, number) =>
      Effect.gen(function*() {
        afterMillis += step.waits
        yield* pause(step.yields)
        const actor = `${who}-${number}-${step._tag}`
        taken.set(actor, yield* take(step, actor))
        const feed = (yield* AccessRepository).feed
        snapshots.push(yield* again(feed.snapshot({ nowMillis: start + afterMillis })))
      }), { discard: true })
  yield* act(options.before, "before")
  yield* Effect.forEach(histories, (steps, index) => {
    const store = options.stores?.[index]
    const acting = act(steps, `actor-${index}`)
    return store === undefined ? acting : Effect.provideContext(acting, store)
  }, { concurrency: "unbounded", discard: true })

  const events = yield* allEvents
  assert.deepStrictEqual(events.map((event) => event.revision), events.map((_, index) => index + 1))
  for (const snapshot of snapshots) checkSnapshot(events, snapshot)
  checkOrder(events, taken, spoiled)

  // Nothing is left to whom no mode would let in: under the mode as it is, and once every client has to be approved.
  const clients = (yield* AccessRepository).clients
  const nowMillis = start + afterMillis
  const checkHolders = Effect.fnUntraced(function*(statuses: ReadonlyArray<string>) {
    for (const holder of yield* holders(nowMillis)) {
      const status = Option.getOrUndefined(yield* clients.find(holder))?.status
      assert.include(statuses, status, `${holder.charAt(0)} has a session or a grant`)
    }
  })
  yield* checkHolders((yield* clients.storedMode) === "client-approval" ? ["approved"] : ["approved", "observed"])
  yield* clients.setMode({ mode: "client-approval", trust: [] }, { actor: "end", nowMillis })
  yield* checkHolders(["approved"])
})

/** Lets others go first. */
export const pause = (times: number) => Effect.repeat(Effect.yieldNow, { times })

/** Takes a step again that found the database locked, as its error says that it can be. */
export const again = <A, E, R>(step: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.retry(step, { times: 1_000, schedule: Schedule.spaced("1 millis") })

/** Follows the steps in the order in which they took effect, and checks each answer against what was decided last. */
const checkOrder = (events: ReadonlyArray<AccessEvent>, taken: ReadonlyMap<string, Taken>, spoiled: boolean) => {
  let mode: SecurityMode = initialMode
  const latest = new Map<string, { readonly account: string; readonly decision: string }>()
  const seen = new Set<string>()
  for (const [index, event] of events.entries()) {
    const { actor, change } = event
    if (change._tag === "connectClientRemoved") {
      const before = latest.get(change.proofKeyThumbprint)?.decision
      assert.notInclude(["approved", "blocked"], before)
      latest.delete(change.proofKeyThumbprint)
    }
    const entry = taken.get(actor)
    // Every step changes the store once, so that its events stand together.
    if (entry === undefined) continue
    if (seen.has(actor)) {
      assert.strictEqual(events[index - 1]?.actor, actor, `the events of ${actor} are one change`)
      continue
    }
    seen.add(actor)
    if (entry._tag === "mode") {
      mode = entry.mode
      for (const thumbprint of entry.trusted) {
        const { account } = clientIn(events, index, thumbprint)
        latest.set(thumbprint, { account, decision: "approved" })
      }
    } else if (entry._tag === "decide") {
      assert.isFalse(entry.step.stale)
      assert.strictEqual(entry.outcome._tag, "Decided")
      if (entry.outcome._tag === "Decided") {
        const { account, proofKeyThumbprint } = entry.outcome.row
        latest.set(proofKeyThumbprint, { account, decision: entry.step.decision })
      }
    } else if (entry._tag === "request") {
      const { outcome, step } = entry
      const decided = latest.get(key(step.name))
      assert.include(["Granted", "Pending"], outcome._tag, `${actor} changed something`)
      if (outcome._tag === "Granted") {
        assert.strictEqual(outcome.mode, mode)
        if (outcome.row.status === "approved") {
          assert.deepStrictEqual(decided, { account: step.account, decision: "approved" })
        } else {
          assert.deepStrictEqual([mode, outcome.row.status], ["account", "observed"])
          assert.notInclude(["rejected", "revoked", "blocked"], decided?.decision)
          latest.delete(key(step.name))
        }
      } else if (outcome._tag === "Pending") {
        assert.strictEqual(mode, "client-approval")
        assert.notStrictEqual(decided?.decision, "blocked")
        assert.deepStrictEqual([outcome.row.lastSeenAtMillis, outcome.row.decidedAtMillis], [null, null])
        latest.delete(key(step.name))
      }
    }
  }
  for (const [actor, entry] of taken) {
    if (entry._tag === "request") {
      if (entry.outcome._tag === "Granted") assert.isTrue(seen.has(actor), `${actor} is told of`)
      if (entry.outcome._tag === "ModeUnreadable") assert.isTrue(spoiled)
    }
    if (entry._tag === "decide" && entry.step.stale) assert.include(["Changed", "Unknown"], entry.outcome._tag)
  }
}

/** Returns the client that an event from an index on tells of. */
const clientIn = (events: ReadonlyArray<AccessEvent>, from: number, thumbprint: string): ConnectClient => {
  for (const { change } of events.slice(from)) {
    if (change._tag === "connectClientUpserted" && change.client.proofKeyThumbprint === thumbprint) return change.client
  }
  return assert.fail(`the feed does not tell of ${thumbprint}`)
}
