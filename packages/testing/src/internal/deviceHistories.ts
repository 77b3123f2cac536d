/**
 * Random histories of devices that ask, poll and redeem, and of an owner who decides, on a store that is opened again in
 * between; and what none of them may break: no device has a session without an approval that stands.
 */
import { AccessRepository } from "@sallyport/core/access/AccessRepository"
import type { AccessScope } from "@sallyport/core/access/AccessScope"
import { assert } from "@effect/vitest"
import type { ConnectClient } from "@sallyport/core/access/ConnectClient"
import type { Ask, Decision } from "@sallyport/core/access/ConnectClientRepository"
import type { Session } from "@sallyport/core/access/Session"
import { toSession } from "@sallyport/core/access/SessionCredentialRepository"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { allEvents, askRow, at, redemption, sessionRow, start } from "./accessRows.ts"
import { again, pace, pause } from "./connectHistories.ts"
import { small } from "./steps.ts"

const names = ["a", "b"] as const
const name = Schema.Literals(names)
const waits = Schema.Literals([0, 1, 50, 500])
const account = Schema.Literals(["cli", "tv"])
const decision = Schema.Literals(["approved", "approved", "rejected", "revoked", "blocked"])

/**
 * What happens, and how long before. What is `stale` is about the request before the latest. A `thief` has the code of a
 * device and another key. The owner approves by the operator's program, or by a session, which may have ended.
 */
export const Step = Schema.Union([
  Schema.TaggedStruct("ask", {
    name,
    account,
    isProven: Schema.Boolean,
    pendingMillis: Schema.Literals([60, 1_000]),
    waits
  }),
  Schema.TaggedStruct("poll", { name, account, stale: Schema.Boolean, waits }),
  Schema.TaggedStruct("redeem", { name, stale: Schema.Boolean, thief: Schema.Boolean, waits }),
  Schema.TaggedStruct("decide", {
    name,
    decision,
    by: Schema.Literals(["operator", "session", "session", "former"]),
    stale: Schema.Boolean,
    waits
  }),
  Schema.TaggedStruct("end", { descendants: Schema.Boolean, waits }),
  Schema.TaggedStruct("sweep", { waits }),
  Schema.TaggedStruct("restart", { waits })
])
/** @see {@link Step} */
export type Step = typeof Step.Type

/** The request of a device, whose code and link are named after a text. */
export const ask = (name: string, code: string, fields?: Partial<Ask>, isProven = false): Ask =>
  askRow(name.repeat(43), {
    account: "cli",
    label: "A television",
    deviceType: "unknown",
    verificationCode: `USER-${code}`,
    device: {
      scopes: ["runs:read", "runs:operate"],
      isProven,
      intervalMillis: 100,
      codeDigest: `code-digest-of-${code}`,
      linkId: code
    },
    ...fields
  })

/** Decides about a device; an approval grants the scopes given. */
export const decide = (name: string, decision: Decision, afterMillis: number, options?: {
  readonly requestedAtMillis?: number | undefined
  readonly scopes?: ReadonlyArray<AccessScope>
  readonly by?: Session | undefined
}) =>
  AccessRepository.use(({ clients }) =>
    clients.decide({
      proofKeyThumbprint: name.repeat(43),
      decision,
      reason: null,
      requestedAtMillis: options?.requestedAtMillis,
      backOffMillis: 1,
      maxBackOffMillis: 1,
      grant: { subject: "ada", scopes: options?.scopes ?? ["runs:read"], by: options?.by }
    }, at(afterMillis, "owner"))
  )

/** A redemption of the link of a code, with the key that it asks for unless another is given. */
const redemptionOf = Effect.fnUntraced(function*(code: string, proofKeyThumbprint?: string) {
  const { links } = yield* AccessRepository
  const link = Option.getOrUndefined(yield* links.findByCodeDigest(`code-digest-of-${code}`))
  return redemption(code, {
    subject: "ada",
    scopes: ["runs:read"],
    linkId: code,
    parentId: link?.issuedBy ?? null,
    proofKeyThumbprint: proofKeyThumbprint ?? link?.proofKeyThumbprint ?? null,
    expiresAtMillis: start + 1_000_000
  })
})

/** Redeems the link of a code, and says what came of it. */
const redeem = Effect.fnUntraced(function*(code: string, afterMillis: number, proofKeyThumbprint?: string) {
  const { links } = yield* AccessRepository
  const redeemed = yield* links.redeem(yield* redemptionOf(code, proofKeyThumbprint), at(afterMillis))
  return redeemed._tag === "Refused" ? redeemed.reason : redeemed._tag
})

/** Polls with a code, and redeems its link if that was approved. */
export const fetch = Effect.fnUntraced(function*(code: string, afterMillis: number, account = "cli") {
  const { clients } = yield* AccessRepository
  const polled = yield* clients.poll({ deviceCodeDigest: `code-digest-of-${code}`, account }, at(afterMillis, account))
  return polled._tag === "Approved" ? yield* redeem(code, afterMillis) : polled._tag
})

/** Returns the links that live sessions came from. */
export const liveLinks = (afterMillis: number) =>
  AccessRepository.use(({ sessions }) =>
    Effect.map(
      sessions.list({ nowMillis: start + afterMillis, afterId: undefined, limit: 100 }),
      (rows) => rows.flatMap(({ linkId }) => linkId ?? []).toSorted()
    )
  )

/** The owner's sessions, of which each begins when the one before ends. */
const ownerRow = (generation: number, afterMillis: number, lastsMillis = 1_000_000) =>
  sessionRow(`owner-${generation}`, {
    createdAtMillis: start + afterMillis,
    expiresAtMillis: start + afterMillis + lastsMillis
  })

/** How long a session of the owner's lasts: every second one ends while what it approved could still be redeemed. */
const lastsMillis = (generation: number): number => generation % 2 === 0 ? 1_000_000 : 300

interface Device {
  code: string
  account: string
  isProven: boolean
  askedAt: number
  expiresAt: number
  status: "pending" | Decision
  polledAt: number
  interval: number
  /** Which of the owner's sessions approved it, and whether what it gave ended with that. */
  approvedBy: number | undefined
  linkEnded: boolean
  sessionEnded: boolean
  seen: boolean
  redeemed: boolean
}

/** Lets a device in without a key, and approves one with a key, so that what follows has something to end. */
export const letIn: ReadonlyArray<Step> = [
  { _tag: "ask", name: "a", account: "cli", isProven: false, pendingMillis: 1_000, waits: 0 },
  { _tag: "decide", name: "a", decision: "approved", by: "session", stale: false, waits: 1 },
  { _tag: "poll", name: "a", account: "cli", stale: false, waits: 1 },
  { _tag: "ask", name: "b", account: "tv", isProven: true, pendingMillis: 1_000, waits: 0 },
  { _tag: "decide", name: "b", decision: "approved", by: "operator", stale: false, waits: 1 }
]

/** Runs a history, and compares every answer with a model. `reopen` gives the repositories after a restart. */
export const run = Effect.fnUntraced(function*<E, R>(
  steps: ReadonlyArray<Step>,
  reopen: Effect.Effect<AccessRepository["Service"], E, R> | undefined
) {
  let store = yield* AccessRepository
  let now = 0
  let asked = 0
  let owner = 0
  const owners = [ownerRow(0, 0)]
  const endOf = (owner: number): number => (owners[owner]?.expiresAtMillis ?? start) - start
  const devices = new Map<string, Device>()
  const stale = new Map<string, Device>()
  const on = <A, E2, R2>(effect: Effect.Effect<A, E2, R2>) => Effect.provideService(effect, AccessRepository, store)
  yield* store.sessions.insert(ownerRow(0, 0), at(0))
  /** What the redemption of the link of an approved device comes to. */
  const expectedOf = (device: Device) =>
    device.redeemed
      ? ["exhausted", "expired"]
      : device.linkEnded
      ? ["revoked"]
      : device.expiresAt > now
      ? ["Redeemed"]
      : ["expired"]
  for (const step of steps) {
    now += step.waits
    switch (step._tag) {
      case "restart":
        if (reopen !== undefined) store = yield* reopen
        break
      case "sweep":
        yield* store.clients.sweep({ idleBeforeMillis: 0, limit: 100 }, at(now, "system"))
        break
      case "end": {
        yield* store.sessions.revoke(
          { _tag: "Session", id: ownerRow(owner, 0).id, descendants: step.descendants },
          at(now)
        )
        for (const device of devices.values()) {
          if (device.status !== "approved" || device.approvedBy !== owner) continue
          if (device.redeemed) device.sessionEnded ||= step.descendants
          else if (device.expiresAt > now) device.linkEnded = true
        }
        const row = ownerRow(++owner, now, lastsMillis(owner))
        owners.push(row)
        yield* store.sessions.insert(row, at(now))
        break
      }
      case "ask": {
        const code = `device-${asked++}`
        const before = devices.get(step.name)
        const { account, isProven, pendingMillis } = step
        const request = ask(step.name, code, { account, pendingMillis }, isProven)
        const outcome = yield* store.clients.request(request, undefined, at(now, account))
        // A rejected device may ask again after 1 ms.
        if (before?.status === "blocked") assert.strictEqual(outcome._tag, "Refused")
        if (outcome._tag === "Refused") assert.include(["blocked", "rejected"], before?.status)
        if (outcome._tag !== "Pending") break
        if (before !== undefined) stale.set(step.name, before)
        devices.set(step.name, {
          code,
          account: step.account,
          isProven: step.isProven,
          askedAt: now,
          expiresAt: now + step.pendingMillis,
          status: "pending",
          polledAt: -Infinity,
          interval: 100,
          approvedBy: undefined,
          linkEnded: false,
          sessionEnded: false,
          seen: false,
          redeemed: false
        })
        break
      }
      case "decide": {
        const device = devices.get(step.name)
        const old = stale.get(step.name)
        const asks = step.stale && old !== undefined ? old.askedAt : device?.askedAt
        const isFormer = step.by === "former" && owner > 0
        const by = step.by === "operator" ? undefined : isFormer ? owner - 1 : owner
        const outcome = yield* on(
          decide(step.name, step.decision, now, {
            requestedAtMillis: asks === undefined ? undefined : start + asks,
            by: by === undefined ? undefined : toSession(owners[by] ?? ownerRow(by, 0))
          })
        )
        const hasEnded = isFormer || (by !== undefined && endOf(by) <= now)
        if (outcome._tag === "ApproverEnded") {
          assert.deepStrictEqual([step.decision, hasEnded, device?.status], ["approved", true, "pending"])
          break
        }
        if (outcome._tag !== "Decided") {
          if (device !== undefined && asks === device.askedAt && outcome._tag !== "Unknown") {
            assert.deepStrictEqual([step.decision, outcome._tag], ["approved", "Expired"])
            assert.isTrue(device.status !== "pending" || device.expiresAt <= now)
          }
          break
        }
        if (device === undefined || asks !== device.askedAt) return assert.fail("decided about another request")
        if (step.decision === "approved" && device.status !== "approved") {
          assert.isTrue(device.status === "pending" && device.expiresAt > now && !hasEnded)
          device.approvedBy = by
          if (by !== undefined) device.expiresAt = Math.min(device.expiresAt, endOf(by))
        }
        device.status = step.decision
        break
      }
      case "redeem": {
        const device = devices.get(step.name)
        const old = stale.get(step.name)
        const isStale = step.stale && old !== undefined
        const which = isStale ? old : device
        if (which === undefined) break
        const outcome = yield* on(redeem(which.code, now, step.thief ? "z".repeat(43) : undefined))
        if (isStale || which.status !== "approved") {
          assert.include(["unknown", "revoked", "expired", "exhausted"], outcome)
          break
        }
        const expected = expectedOf(which)
        const isTheft = step.thief && which.isProven && expected.includes("Redeemed")
        assert.include(isTheft ? ["proof-key-mismatch"] : expected, outcome)
        if (outcome === "Redeemed") which.redeemed = true
        break
      }
      case "poll": {
        const device = devices.get(step.name)
        const old = stale.get(step.name)
        if (step.stale && old !== undefined) {
          assert.include(["Unknown", "revoked", "unknown"], yield* on(fetch(old.code, now, step.account)))
          break
        }
        if (device === undefined) break
        const outcome = yield* on(fetch(device.code, now, step.account))
        if (device.account !== step.account) {
          assert.strictEqual(outcome, "Unknown")
        } else if (device.status === "approved") {
          const isLate = !device.seen && device.expiresAt <= now
          assert.include(isLate ? ["Expired", "Unknown"] : expectedOf(device), outcome)
          if (!isLate) device.seen = true
          if (outcome === "Redeemed") device.redeemed = true
        } else if (device.status !== "pending") {
          assert.include(["Denied", "Unknown"], outcome)
        } else if (device.expiresAt <= now) {
          assert.include(["Expired", "Unknown"], outcome)
        } else {
          const isEarly = now < device.polledAt + device.interval * 0.9
          assert.strictEqual(outcome, isEarly ? "SlowDown" : "Pending")
          device.polledAt = now
          if (isEarly) device.interval += 5_000
        }
        break
      }
    }
    const standing = Array.from(devices.values()).flatMap((device) =>
      device.redeemed && device.status === "approved" && !device.sessionEnded ? [device.code] : []
    )
    assert.deepStrictEqual(yield* on(liveLinks(now)), standing.toSorted())
  }
})

/** What an actor does while others act. `back` says how many requests before the latest one of the device it is about. */
export const Act = Schema.Union([
  Schema.TaggedStruct("ask", { name, isProven: Schema.Boolean, pendingMillis: Schema.Literals([100, 1_000]), ...pace }),
  Schema.TaggedStruct("poll", { name, back: small(1), ...pace }),
  Schema.TaggedStruct("redeem", { name, back: small(1), ...pace }),
  Schema.TaggedStruct("decide", { name, decision, by: Schema.Literals(["operator", "session"]), ...pace }),
  Schema.TaggedStruct("end", { descendants: Schema.Boolean, ...pace }),
  Schema.TaggedStruct("sweep", pace)
])
/** @see {@link Act} */
export type Act = typeof Act.Type

/** Does what {@link letIn} does. */
const before: ReadonlyArray<Act> = letIn.flatMap((step): ReadonlyArray<Act> => {
  const now = { waits: 0, yields: 0 }
  switch (step._tag) {
    case "ask":
      return [{ _tag: "ask", name: step.name, isProven: step.isProven, pendingMillis: 1_000, ...now }]
    case "decide":
      return [{ _tag: "decide", name: step.name, decision: step.decision, by: "session", ...now }]
    case "poll":
      return [{ _tag: "poll", name: step.name, back: 0, ...now }]
    default:
      return []
  }
})

/**
 * Runs the histories of several actors at once, each with repositories of its own in `stores` if there are any, and follows
 * the feed: whatever the order in which the steps took effect, each session began while the approval of the very request
 * stood, once for each approval, and ended no later than it.
 */
export const runAtOnce = Effect.fnUntraced(function*(
  histories: ReadonlyArray<ReadonlyArray<Act>>,
  stores: ReadonlyArray<Context.Context<AccessRepository>> | undefined
) {
  let now = 0
  let asked = 0
  let owner = 0
  /** What was asked for, by the code, in the order of the requests. */
  const requests = new Map<string, { readonly name: string; readonly askedAt: number }>()
  const codeOf = new Map<string, string>()
  const approvals = new Set<string>()
  const redeemed: Array<string> = []
  const pick = (name: string, back: number) =>
    Array.from(requests).filter(([, request]) => request.name === name).at(-1 - back)

  const redeemBy = Effect.fnUntraced(function*(code: string) {
    const { links } = yield* AccessRepository
    const attempt = yield* again(redemptionOf(code))
    codeOf.set(attempt.session.id, code)
    const outcome = yield* again(links.redeem(attempt, at(now)))
    if (outcome._tag === "Redeemed") redeemed.push(code)
  })
  const take = Effect.fnUntraced(function*(act: Act) {
    const { clients, sessions } = yield* AccessRepository
    switch (act._tag) {
      case "ask": {
        const code = `device-${asked++}`
        // No two requests of a device have one time.
        const askedAt = ++now
        requests.set(code, { name: act.name, askedAt })
        const request = ask(act.name, code, { pendingMillis: act.pendingMillis }, act.isProven)
        return yield* again(clients.request(request, undefined, at(askedAt, "cli")))
      }
      case "poll": {
        const [code] = pick(act.name, act.back) ?? []
        if (code === undefined) return
        const polled = yield* again(
          clients.poll({ deviceCodeDigest: `code-digest-of-${code}`, account: "cli" }, at(now, "cli"))
        )
        return polled._tag === "Approved" ? yield* redeemBy(code) : undefined
      }
      case "redeem": {
        const [code] = pick(act.name, act.back) ?? []
        return code === undefined ? undefined : yield* redeemBy(code)
      }
      case "decide": {
        // The owner decides about the request that was the latest when the page was opened.
        const [, request] = pick(act.name, 0) ?? []
        if (request === undefined) return
        const by = act.by === "operator" ? undefined : toSession(ownerRow(owner, 0))
        const requestedAtMillis = start + request.askedAt
        const isApproval = act.decision === "approved"
        if (isApproval) approvals.add(`${act.name}@${requestedAtMillis}`)
        return yield* again(decide(act.name, act.decision, now, { requestedAtMillis, by }))
      }
      case "end": {
        const { id } = ownerRow(owner, 0)
        yield* again(sessions.insert(ownerRow(owner + 1, now), at(now))).pipe(Effect.ignore)
        owner++
        return yield* again(sessions.revoke({ _tag: "Session", id, descendants: act.descendants }, at(now)))
      }
      case "sweep":
        return yield* again(clients.sweep({ idleBeforeMillis: start + now, limit: 100 }, at(now, "system")))
    }
  })
  const act = (acts: ReadonlyArray<Act>) =>
    Effect.forEach(acts, (one) =>
      Effect.gen(function*() {
        now += one.waits
        yield* pause(one.yields)
        yield* take(one)
      }), { discard: true })

  yield* AccessRepository.use(({ sessions }) => sessions.insert(ownerRow(0, 0), at(0)))
  yield* act(before)
  yield* Effect.forEach(histories, (acts, index) => {
    const context = stores?.[index]
    return context === undefined ? act(acts) : Effect.provideContext(act(acts), context)
  }, { concurrency: "unbounded", discard: true })

  const clients = new Map<string, ConnectClient>()
  const links = new Map<string, string>()
  const live = new Map<string, string>()
  const begun: Array<string> = []
  const liveOf = (thumbprint: string) =>
    Array.from(live.values()).filter((code) => requests.get(code)?.name === thumbprint.charAt(0))
  for (const { change } of yield* allEvents) {
    switch (change._tag) {
      case "connectClientUpserted": {
        const { proofKeyThumbprint, requestedAt, status } = change.client
        clients.set(proofKeyThumbprint, change.client)
        if (status !== "approved") {
          assert.deepStrictEqual(liveOf(proofKeyThumbprint), [], `${status} with a session`)
        } else {
          assert.isTrue(
            approvals.has(`${proofKeyThumbprint.charAt(0)}@${requestedAt.epochMilliseconds}`),
            "approved, and not by the owner"
          )
        }
        break
      }
      case "connectClientRemoved":
        assert.deepStrictEqual(liveOf(change.proofKeyThumbprint), [], "forgotten with a session")
        clients.delete(change.proofKeyThumbprint)
        break
      case "pairingLinkUpserted":
        links.set(change.link.id, "open")
        break
      case "pairingLinkRemoved":
        links.set(change.id, change.reason)
        break
      case "sessionRemoved":
        live.delete(change.id)
        break
      case "sessionUpserted": {
        const code = codeOf.get(change.session.id)
        const request = code === undefined ? undefined : requests.get(code)
        if (code === undefined || request === undefined) break
        const client = clients.get(request.name.repeat(43))
        assert.deepStrictEqual(
          [client?.status, client?.requestedAt.epochMilliseconds, links.get(code)],
          ["approved", start + request.askedAt, "consumed"],
          `a session by ${code}`
        )
        begun.push(code)
        live.set(change.session.id, code)
      }
    }
  }
  assert.deepStrictEqual(begun.toSorted(), redeemed.toSorted())
  assert.lengthOf(new Set(begun), begun.length, "an approval gave two sessions")
  assert.deepStrictEqual(yield* liveLinks(now), Array.from(live.values()).toSorted())
})
