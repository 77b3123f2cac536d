/**
 * Random histories of devices that ask, poll and redeem, and of an owner who decides, on a store that is opened again in
 * between; and what none of them may break: no device has a session without an approval that stands.
 */
import { AccessRepository } from "@sallyport/core/access/AccessRepository"
import type { AccessScope } from "@sallyport/core/access/AccessScope"
import { assert } from "@effect/vitest"
import type { Ask, Decision } from "@sallyport/core/access/ConnectClientRepository"
import type { Session } from "@sallyport/core/access/Session"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { at, redemption, start } from "./accessRows.ts"

const names = ["a", "b"] as const
const name = Schema.Literals(names)
const waits = Schema.Literals([0, 1, 50, 500])

/** What happens, and how long before. */
export const Step = Schema.Union([
  Schema.TaggedStruct("ask", {
    name,
    account: Schema.Literals(["cli", "tv"]),
    pendingMillis: Schema.Literals([60, 1_000]),
    waits
  }),
  Schema.TaggedStruct("poll", { name, account: Schema.Literals(["cli", "tv"]), stale: Schema.Boolean, waits }),
  Schema.TaggedStruct("decide", {
    name,
    decision: Schema.Literals(["approved", "approved", "rejected", "revoked", "blocked"]),
    stale: Schema.Boolean,
    waits
  }),
  Schema.TaggedStruct("sweep", { waits }),
  Schema.TaggedStruct("restart", { waits })
])
/** @see {@link Step} */
export type Step = typeof Step.Type

/** The request of a device, whose code and link are named after a text. */
export const ask = (name: string, code: string, fields?: Partial<Ask>): Ask => ({
  proofKeyThumbprint: name.repeat(43),
  account: "cli",
  label: "A television",
  deviceType: "unknown",
  verificationCode: `USER-${code}`,
  pendingMillis: 1_000,
  maxPending: 3,
  maxObserved: 3,
  device: {
    codeDigest: `code-digest-of-${code}`,
    linkId: code,
    scopes: ["runs:read", "runs:operate"],
    isProven: false,
    intervalMillis: 100
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

/** Polls with a code, and redeems its link if that was approved. */
export const fetch = Effect.fnUntraced(function*(code: string, afterMillis: number, account = "cli") {
  const { clients, links } = yield* AccessRepository
  const polled = yield* clients.poll({ deviceCodeDigest: `code-digest-of-${code}`, account }, at(afterMillis, account))
  if (polled._tag !== "Approved") return polled._tag
  const redeemed = yield* links.redeem(
    redemption(code, { subject: "ada", scopes: ["runs:read"], linkId: code }),
    at(afterMillis)
  )
  return redeemed._tag === "Refused" ? redeemed.reason : redeemed._tag
})

/** Returns the links that live sessions came from. */
export const liveLinks = (afterMillis: number) =>
  AccessRepository.use(({ sessions }) =>
    Effect.map(
      sessions.list({ nowMillis: start + afterMillis, afterId: undefined, limit: 100 }),
      (rows) => rows.map(({ linkId }) => linkId).toSorted()
    )
  )

interface Device {
  code: string
  account: string
  askedAt: number
  expiresAt: number
  status: "pending" | Decision
  polledAt: number
  interval: number
  redeemed: boolean
}

/** Runs a history, and compares every answer with a model. `reopen` gives the repositories after a restart. */
export const run = Effect.fnUntraced(function*<E, R>(
  steps: ReadonlyArray<Step>,
  reopen: Effect.Effect<AccessRepository["Service"], E, R> | undefined
) {
  let store = yield* AccessRepository
  let now = 0
  let asked = 0
  const devices = new Map<string, Device>()
  const stale = new Map<string, { readonly code: string; readonly askedAt: number }>()
  const on = <A, E2, R2>(effect: Effect.Effect<A, E2, R2>) => Effect.provideService(effect, AccessRepository, store)
  for (const step of steps) {
    now += step.waits
    switch (step._tag) {
      case "restart":
        if (reopen !== undefined) store = yield* reopen
        break
      case "sweep":
        yield* store.clients.sweep({ idleBeforeMillis: 0, limit: 100 }, at(now, "system"))
        break
      case "ask": {
        const code = `device-${asked++}`
        const before = devices.get(step.name)
        const outcome = yield* store.clients.request(
          ask(step.name, code, { account: step.account, pendingMillis: step.pendingMillis }),
          undefined,
          at(now, step.account)
        )
        // A rejected device may ask again after 1 ms.
        if (before?.status === "blocked") assert.strictEqual(outcome._tag, "Refused")
        if (outcome._tag === "Refused") assert.include(["blocked", "rejected"], before?.status)
        if (outcome._tag !== "Pending") break
        if (before !== undefined) stale.set(step.name, before)
        devices.set(step.name, {
          code,
          account: step.account,
          askedAt: now,
          expiresAt: now + step.pendingMillis,
          status: "pending",
          polledAt: -Infinity,
          interval: 100,
          redeemed: false
        })
        break
      }
      case "decide": {
        const device = devices.get(step.name)
        const old = stale.get(step.name)
        const asks = step.stale && old !== undefined ? old.askedAt : device?.askedAt
        const outcome = yield* on(
          decide(step.name, step.decision, now, {
            requestedAtMillis: asks === undefined ? undefined : start + asks
          })
        )
        if (outcome._tag !== "Decided") {
          if (device !== undefined && asks === device.askedAt && outcome._tag !== "Unknown") {
            assert.deepStrictEqual([step.decision, outcome._tag], ["approved", "Expired"])
            assert.isTrue(device.status !== "pending" || device.expiresAt <= now)
          }
          break
        }
        if (device === undefined || asks !== device.askedAt) return assert.fail("decided about another request")
        if (step.decision === "approved" && device.status !== "approved") {
          assert.isTrue(device.status === "pending" && device.expiresAt > now)
        }
        device.status = step.decision
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
          const expected = device.redeemed
            ? ["exhausted", "expired"]
            : device.expiresAt > now
            ? ["Redeemed"]
            : ["Expired", "Unknown"]
          assert.include(expected, outcome)
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
    const standing = names.flatMap((name) => {
      const device = devices.get(name)
      return device !== undefined && device.redeemed && device.status === "approved" ? [device.code] : []
    })
    const live = yield* on(liveLinks(now))
    // The sessions of a test end after 10 seconds.
    if (now < 10_000) assert.deepStrictEqual(live, standing.toSorted())
    else for (const code of live) assert.include(standing, code)
  }
})
