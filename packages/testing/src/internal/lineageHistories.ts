/**
 * Random histories of sessions that hand on what they hold, and of those who end them, and what none of them may break.
 *
 * The model knows of each session which it came from, and of each revocation what it names. It looks from each session up
 * to those above it, as no adapter does.
 */
import { AccessRepository } from "@sallyport/core/access/AccessRepository"
import { assert } from "@effect/vitest"
import { anyKey } from "@sallyport/core/access/BootstrapCredentialRepository"
import type { PairingLink } from "@sallyport/core/access/PairingLink"
import { type Session, SessionId } from "@sallyport/core/access/Session"
import type { RevocationTarget } from "@sallyport/core/access/SessionCredentialRepository"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { allEvents, askRow, at, linkRow, sessionRow, start } from "./accessRows.ts"
import { key } from "./connectHistories.ts"
import { replay } from "./feedReplay.ts"
import { small } from "./steps.ts"

const subject = Schema.Literals(["ada", "bob"])
const client = Schema.Literals(["a", "b"])
/** Names the session or link that a step is about, counted from the newest. */
const which = small(7)

/** What happens. */
export const Step = Schema.Union([
  Schema.TaggedStruct("link", { subject, key: Schema.NullOr(client) }),
  Schema.TaggedStruct("delegate", { which, key: Schema.NullOr(Schema.Literals(["a", "b", anyKey])) }),
  Schema.TaggedStruct("redeem", { which, key: Schema.NullOr(client) }),
  Schema.TaggedStruct("approve", { client, subject }),
  Schema.TaggedStruct("decide", { client, decision: Schema.Literals(["rejected", "revoked", "blocked"]), by: which }),
  Schema.TaggedStruct("renew", { which }),
  Schema.TaggedStruct("refresh", { which, again: Schema.Boolean }),
  Schema.TaggedStruct("revoke", { which, descendants: Schema.Boolean, by: which }),
  Schema.TaggedStruct("others", { which }),
  Schema.TaggedStruct("subject", { subject }),
  Schema.TaggedStruct("key", { client, by: which }),
  Schema.TaggedStruct("before", { ago: small(40) }),
  Schema.TaggedStruct("wait", { millis: small(40) }),
  Schema.TaggedStruct("sweep", {})
])
/** @see {@link Step} */
export type Step = typeof Step.Type

/** Has an owner's session and an approved client's hand on what they hold twice, so that what follows has something to end. */
export const handedOn: ReadonlyArray<Step> = [
  { _tag: "link", subject: "ada", key: null },
  { _tag: "redeem", which: 0, key: null },
  { _tag: "delegate", which: 0, key: null },
  { _tag: "redeem", which: 0, key: null },
  { _tag: "approve", client: "a", subject: "ada" },
  { _tag: "redeem", which: 0, key: "a" },
  { _tag: "delegate", which: 0, key: null },
  { _tag: "redeem", which: 0, key: null },
  { _tag: "delegate", which: 0, key: anyKey },
  { _tag: "redeem", which: 0, key: "b" },
  { _tag: "delegate", which: 0, key: "a" },
  { _tag: "delegate", which: 3, key: null }
]

interface Known {
  readonly id: string
  readonly subject: string
  readonly key: string | null
  readonly above: Known | undefined
  readonly bornAfter: number
  endsAfter: number
  ended: boolean
}

/** Runs a history, and checks after each step what no history may break. */
export const run = Effect.fnUntraced(function*(steps: ReadonlyArray<Step>) {
  const { clients, feed, links, sessions } = yield* AccessRepository
  const born: Array<Known> = []
  const offered: Array<Known> = []
  const status = new Map<string, "approved" | "out" | "blocked">()
  let now = 0

  const pick = <A>(list: ReadonlyArray<A>, index: number) => list[list.length - 1 - index]
  const isThere = (known: Known) => !known.ended && known.endsAfter > now
  const sid = SessionId.make

  /** Ends what a target names, and what comes from it unless that is below `keep`. */
  const end = (
    names: (known: Known) => boolean,
    options: { readonly deep: boolean; readonly keep?: Known | undefined; readonly links?: (link: Known) => boolean }
  ) => {
    const isUnder = (known: Known | undefined): boolean => {
      for (let one = known; one !== undefined; one = one.above) {
        if (names(one)) return true
        if (!options.deep || one === options.keep) return false
      }
      return false
    }
    const out = [
      ...born.filter(isUnder),
      ...offered.filter((link) => isUnder(link.above) || options.links?.(link) === true)
    ]
    for (const known of out) known.ended = true
  }
  const endKey = (name: string, keep?: Known) =>
    end((known) => known.key === name, { deep: true, keep, links: (link) => link.key === name })

  const offer = (
    fields: { readonly subject: string; readonly key: string | null; readonly above: Known | undefined }
  ) => {
    const known: Known = {
      ...fields,
      id: `link-${offered.length}`,
      bornAfter: now,
      endsAfter: Math.min(now + 60, fields.above?.endsAfter ?? Infinity),
      ended: false
    }
    const row = linkRow(known.id, {
      subject: known.subject,
      proofKeyThumbprint: known.key === null || known.key === anyKey ? known.key : key(known.key),
      issuedBy: known.above === undefined ? null : sid(known.above.id),
      createdAtMillis: start + now,
      expiresAtMillis: start + known.endsAfter
    })
    return { known, row }
  }

  const take = Effect.fnUntraced(function*(step: Step) {
    const change = at(now, "someone")
    switch (step._tag) {
      case "link": {
        const { known, row } = offer({ ...step, above: undefined })
        assert.strictEqual(yield* links.insert(row, change), "inserted")
        offered.push(known)
        return
      }
      case "delegate": {
        const issuer = pick(born, step.which)
        if (issuer === undefined) return
        const { known, row } = offer({ subject: issuer.subject, key: step.key, above: issuer })
        assert.strictEqual(yield* links.insert(row, change), isThere(issuer) ? "inserted" : "issuer-ended")
        if (isThere(issuer)) offered.push(known)
        return
      }
      case "redeem": {
        const link = pick(offered, step.which)
        if (link === undefined) return
        const known: Known = {
          id: `session-${born.length}`,
          subject: link.subject,
          key: step.key,
          above: link.above,
          bornAfter: now,
          endsAfter: now + 100,
          ended: false
        }
        const session = sessionRow(known.id, {
          subject: known.subject,
          proofKeyThumbprint: known.key === null ? null : key(known.key),
          linkId: link.id,
          parentId: link.above === undefined ? null : sid(link.above.id),
          refreshDigest: `refresh-0-${known.id}`,
          refreshedAtMillis: start + now,
          tokenExpiresAtMillis: start + now + 100,
          createdAtMillis: start + now,
          lastSeenAtMillis: start + now,
          expiresAtMillis: start + known.endsAfter
        })
        const { codeDigest } = linkRow(link.id)
        const outcome = yield* links.redeem({ codeDigest, session, repeatMillis: 0, replaces: undefined }, change)
        const isProven = link.key === null || (link.key === anyKey ? step.key !== null : link.key === step.key)
        const isAdmitted = step.key === null || status.get(step.key) !== "blocked"
        assert.strictEqual(
          outcome._tag,
          isThere(link) && isProven && isAdmitted ? "Redeemed" : "Refused",
          `${link.id} is redeemed`
        )
        if (outcome._tag === "Refused") return
        link.ended = true
        born.push(known)
        return
      }
      case "approve": {
        const proofKeyThumbprint = key(step.client)
        const before = status.get(step.client)
        const { known, row } = offer({ subject: step.subject, key: step.client, above: undefined })
        const ask = askRow(proofKeyThumbprint, { maxPending: 9, maxObserved: 9 })
        if (before === "out") endKey(step.client)
        if (before !== "approved" && before !== "blocked") {
          assert.strictEqual((yield* clients.request(ask, undefined, change))._tag, "Pending")
        }
        yield* clients.decide(
          { proofKeyThumbprint, decision: "approved", reason: null, backOffMillis: 0, maxBackOffMillis: 0 },
          change
        )
        assert.strictEqual((yield* clients.request(ask, row, change))._tag, "Granted")
        status.set(step.client, "approved")
        offered.push(known)
        return
      }
      case "decide": {
        if (!status.has(step.client)) return
        const by = pick(born, step.by)
        yield* clients.decide({
          proofKeyThumbprint: key(step.client),
          decision: step.decision,
          reason: null,
          backOffMillis: 0,
          maxBackOffMillis: 0,
          keep: by === undefined ? undefined : sid(by.id)
        }, change)
        status.set(step.client, step.decision === "blocked" ? "blocked" : "out")
        endKey(step.client, by)
        return
      }
      case "renew": {
        const known = pick(born, step.which)
        if (known === undefined) return
        const renewed = yield* sessions.renew(
          { id: sid(known.id), dueBeforeMillis: change.nowMillis, lifetimeMillis: 100 },
          change
        )
        assert.strictEqual(renewed._tag, isThere(known) ? "Some" : "None", `${known.id} is renewed`)
        if (isThere(known)) known.endsAfter = now + 100
        return
      }
      case "refresh": {
        const known = pick(born, step.which)
        if (known === undefined) return
        const outcome = yield* sessions.refresh({
          id: sid(known.id),
          presentedDigest: step.again ? `refresh-used-${known.id}` : `refresh-0-${known.id}`,
          proofKeyThumbprint: known.key === null ? undefined : key(known.key),
          scopes: [],
          graceMillis: 0,
          lifetimeMillis: 100,
          next: {
            tokenDigest: `token-of-${known.id}-${now}`,
            refreshDigest: `refresh-0-${known.id}`,
            keyId: "key-1",
            tokenExpiresAtMillis: change.nowMillis + 50
          }
        }, change)
        assert.strictEqual(
          outcome._tag,
          isThere(known) ? step.again ? "Reused" : "Refreshed" : "Refused",
          `${known.id} is refreshed`
        )
        if (outcome._tag === "Refreshed") known.endsAfter = now + 100
        if (outcome._tag === "Reused") end((one) => one === known, { deep: false })
        return
      }
      case "revoke": {
        const known = pick(born, step.which)
        if (known === undefined) return
        const by = pick(born, step.by)
        yield* sessions.revoke({
          _tag: "Session",
          id: sid(known.id),
          subject: known.subject,
          descendants: step.descendants,
          keep: by === undefined ? undefined : sid(by.id)
        }, change)
        return end((one) => one === known, { deep: step.descendants, keep: by })
      }
      case "others": {
        const known = pick(born, step.which)
        if (known === undefined) return
        yield* sessions.revoke({ _tag: "SubjectExcept", subject: known.subject, keep: sid(known.id) }, change)
        return end((one) => one.subject === known.subject && one !== known, { deep: true, keep: known })
      }
      case "subject": {
        yield* sessions.revoke({ _tag: "Subject", subject: step.subject }, change)
        return end((one) => one.subject === step.subject, {
          deep: true,
          links: (link) => link.subject === step.subject
        })
      }
      case "key": {
        const by = pick(born, step.by)
        const target: RevocationTarget = {
          _tag: "ProofKey",
          proofKeyThumbprint: key(step.client),
          keep: by === undefined ? undefined : sid(by.id)
        }
        yield* sessions.revoke(target, change)
        return endKey(step.client, by)
      }
      case "before": {
        const before = now - step.ago
        yield* sessions.revoke({ _tag: "IssuedBefore", beforeMillis: start + before }, change)
        return end((one) => one.bornAfter < before, { deep: true, links: (link) => link.bornAfter < before })
      }
      case "wait": {
        now += step.millis
        return
      }
      case "sweep": {
        yield* sessions.sweep({ endedBeforeMillis: change.nowMillis, limit: 100 }, change)
        yield* links.sweep({ endedBeforeMillis: change.nowMillis, limit: 100 }, change)
      }
    }
  })

  const check = Effect.gen(function*() {
    const nowMillis = start + now
    const ids = (list: Iterable<{ readonly id: string }>) => Array.from(list, ({ id }) => id).sort()
    const live = ids(yield* sessions.list({ nowMillis, afterId: undefined, limit: 1_000 }))
    const open = ids(yield* links.list({ nowMillis, limit: 1_000 }))
    assert.deepStrictEqual(live, ids(born.filter(isThere)), "the sessions that are let in")
    assert.deepStrictEqual(open, ids(offered.filter(isThere)), "the links that can be redeemed")

    const counts = yield* sessions.countDescendants({ ids: live.map((id) => sid(id)), nowMillis })
    for (const known of born.filter(isThere)) {
      const below = born.filter((other) => {
        for (let above = other.above; above !== undefined; above = above.above) {
          if (above === known) return isThere(other)
        }
        return false
      })
      assert.strictEqual(counts.get(sid(known.id)), below.length, `the sessions that descend from ${known.id}`)
    }

    const replayed = replay((yield* allEvents).map(({ change }) => change))
    const unexpired = (rows: ReadonlyMap<string, PairingLink | Session>) =>
      Array.from(rows).filter(([, { expiresAt }]) => expiresAt.epochMilliseconds > nowMillis).map(([id]) => id).sort()
    assert.deepStrictEqual(unexpired(replayed.sessions), live, "the sessions that the feed tells of")
    assert.deepStrictEqual(unexpired(replayed.links), open, "the links that the feed tells of")
    assert.strictEqual(yield* feed.latestRevision, (yield* allEvents).length)
  })

  for (const [index, step] of steps.entries()) {
    yield* take(step)
    yield* check.pipe(
      Effect.annotateLogs({ step: index }),
      Effect.tapDefect(() =>
        Effect.logError(steps.slice(0, index + 1).map((taken) => JSON.stringify(taken)).join("\n"))
      )
    )
  }
})
