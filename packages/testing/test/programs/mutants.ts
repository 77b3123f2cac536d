/**
 * Adapters that break one promise each, and the test of the suite that has to say so.
 *
 * Each is the memory adapter with one operation done as a hurried author might do it.
 */
import * as Access from "@sallyport/core/access/AccessRepository"
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import type * as AccessFeedRepository from "@sallyport/core/access/AccessFeedRepository"
import type * as BootstrapCredentialRepository from "@sallyport/core/access/BootstrapCredentialRepository"
import * as DurableStreamRepository from "@sallyport/durable-streams/DurableStreamRepository"
import * as StreamSubscriptionRepository from "@sallyport/durable-streams/StreamSubscriptionRepository"
import * as RelayEnvironmentRepository from "@sallyport/connect/RelayEnvironmentRepository"
import * as RelayProofRepository from "@sallyport/connect/RelayProofRepository"
import * as ReplayRepository from "@sallyport/core/access/ReplayRepository"
import * as RunEventRepository from "@sallyport/core/runs/RunEventRepository"
import type * as ScopedCredentialRepository from "@sallyport/core/access/ScopedCredentialRepository"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import type * as SessionCredentialRepository from "@sallyport/core/access/SessionCredentialRepository"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as AccessFeedRepositorySuite from "../../src/AccessFeedRepositorySuite.ts"
import * as AccessFeedSuite from "../../src/AccessFeedSuite.ts"
import * as BootstrapCredentialRepositorySuite from "../../src/BootstrapCredentialRepositorySuite.ts"
import * as DurableStreamRepositorySuite from "../../src/DurableStreamRepositorySuite.ts"
import * as RelayEnvironmentRepositorySuite from "../../src/RelayEnvironmentRepositorySuite.ts"
import * as RelayProofRepositorySuite from "../../src/RelayProofRepositorySuite.ts"
import * as ReplayRepositorySuite from "../../src/ReplayRepositorySuite.ts"
import * as RunEventLogSuite from "../../src/RunEventLogSuite.ts"
import * as RunEventRepositorySuite from "../../src/RunEventRepositorySuite.ts"
import * as ScopedCredentialRepositorySuite from "../../src/ScopedCredentialRepositorySuite.ts"
import * as SecretStoreSuite from "../../src/SecretStoreSuite.ts"
import * as SessionCredentialRepositorySuite from "../../src/SessionCredentialRepositorySuite.ts"
import * as StreamSubscriptionRepositorySuite from "../../src/StreamSubscriptionRepositorySuite.ts"

export interface Mutant {
  readonly suite: string
  readonly name: string
  /** How the title of a test begins that must fail; none if all must pass. */
  readonly breaks: string | undefined
  readonly declare: () => void
}

/** Replaces some operations of a service that a layer provides. */
const alter = <I, S extends object, A, E>(
  tag: Context.Key<I, S>,
  layer: Layer.Layer<A | I, E>,
  change: (real: S) => Partial<S>
): Layer.Layer<A | I, E> =>
  Layer.provideMerge(
    Layer.effectContext(Effect.map(tag, (real) => Context.make(tag, { ...real, ...change(real) }))),
    layer
  )

/** Replaces some operations of one part of the access state in memory. */
const alterPart = <Part extends keyof Access.AccessRepository["Service"]>(
  part: Part,
  change: (
    real: Access.AccessRepository["Service"][Part]
  ) => Partial<Access.AccessRepository["Service"][Part]>
) =>
  alter(
    Access.AccessRepository,
    Access.layerMemory,
    (store) => ({ ...store, [part]: { ...store[part], ...change(store[part]) } })
  )

// -----------------------------------------------------------------------------
// The altered adapters
// -----------------------------------------------------------------------------

type Links = BootstrapCredentialRepository.BootstrapCredentialRepository
type Sessions = SessionCredentialRepository.SessionCredentialRepository
type Feed = AccessFeedRepository.AccessFeedRepository
type Environments = RelayEnvironmentRepository.RelayEnvironmentRepository["Service"]
type Proofs = RelayProofRepository.RelayProofRepository["Service"]
type Runs = RunEventRepository.RunEventRepository["Service"]
type Credentials = ScopedCredentialRepository.ScopedCredentialRepository
type Streams = DurableStreamRepository.DurableStreamRepository["Service"]
type Subscriptions = StreamSubscriptionRepository.StreamSubscriptionRepository["Service"]
type Secrets = SecretStore.SecretStore["Service"]

const links = (name: string, breaks: string | undefined, change: (real: Links) => Partial<Links>): Mutant => ({
  suite: "BootstrapCredentialRepository",
  name,
  breaks,
  declare: () =>
    BootstrapCredentialRepositorySuite.suite(
      name,
      alterPart("links", change)
    )
})

const sessions = (name: string, breaks: string | undefined, change: (real: Sessions) => Partial<Sessions>): Mutant => ({
  suite: "SessionCredentialRepository",
  name,
  breaks,
  declare: () =>
    SessionCredentialRepositorySuite.suite(
      name,
      alterPart("sessions", change)
    )
})

const alteredFeed = (change: (real: Feed) => Partial<Feed>) => alterPart("feed", change)

const feed = (name: string, breaks: string | undefined, change: (real: Feed) => Partial<Feed>): Mutant => ({
  suite: "AccessFeedRepository",
  name,
  breaks,
  declare: () => AccessFeedRepositorySuite.suite(name, alteredFeed(change))
})

const feedService = (name: string, breaks: string | undefined, change: (real: Feed) => Partial<Feed>): Mutant => ({
  suite: "AccessFeed",
  name,
  breaks,
  declare: () => AccessFeedSuite.suite(name, alteredFeed(change))
})

const alteredRuns = (change: (real: Runs) => Partial<Runs>) =>
  alter(RunEventRepository.RunEventRepository, RunEventRepository.layerMemory, change)

const runs = (name: string, breaks: string | undefined, change: (real: Runs) => Partial<Runs>): Mutant => ({
  suite: "RunEventRepository",
  name,
  breaks,
  declare: () => RunEventRepositorySuite.suite(name, alteredRuns(change))
})

const runLog = (name: string, breaks: string | undefined, change: (real: Runs) => Partial<Runs>): Mutant => ({
  suite: "RunEventLog",
  name,
  breaks,
  declare: () => RunEventLogSuite.suite(name, alteredRuns(change))
})

const credentials = (
  name: string,
  breaks: string | undefined,
  change: (real: Credentials) => Partial<Credentials>
): Mutant => ({
  suite: "ScopedCredentialRepository",
  name,
  breaks,
  declare: () =>
    ScopedCredentialRepositorySuite.suite(
      name,
      alterPart("credentials", change)
    )
})

const secrets = (name: string, breaks: string | undefined, change: (real: Secrets) => Partial<Secrets>): Mutant => ({
  suite: "SecretStore",
  name,
  breaks,
  declare: () =>
    SecretStoreSuite.suite(
      name,
      alter(SecretStore.SecretStore, Layer.provide(SecretStore.layerMemory, NodeCrypto.layer), change)
    )
})

const replays = (
  name: string,
  breaks: string | undefined,
  layer: Layer.Layer<ReplayRepository.ReplayRepository>
): Mutant => ({
  suite: "ReplayRepository",
  name,
  breaks,
  declare: () => ReplayRepositorySuite.suite(name, layer)
})

const environments = (
  name: string,
  breaks: string | undefined,
  change: (real: Environments) => Partial<Environments>
): Mutant => ({
  suite: "RelayEnvironmentRepository",
  name,
  breaks,
  declare: () =>
    RelayEnvironmentRepositorySuite.suite(
      name,
      alter(RelayEnvironmentRepository.RelayEnvironmentRepository, RelayEnvironmentRepository.layerMemory, change)
    )
})

const proofs = (name: string, breaks: string | undefined, change: (real: Proofs) => Partial<Proofs>): Mutant => ({
  suite: "RelayProofRepository",
  name,
  breaks,
  declare: () =>
    RelayProofRepositorySuite.suite(
      name,
      alter(RelayProofRepository.RelayProofRepository, RelayProofRepository.layerMemory, change)
    )
})

const streams = (name: string, breaks: string | undefined, change: (real: Streams) => Partial<Streams>): Mutant => ({
  suite: "DurableStreamRepository",
  name,
  breaks,
  declare: () =>
    DurableStreamRepositorySuite.suite(
      name,
      alter(DurableStreamRepository.DurableStreamRepository, DurableStreamRepository.layerMemory, change)
    )
})

const subscriptions = (
  name: string,
  breaks: string | undefined,
  change: (real: Subscriptions) => Partial<Subscriptions>
): Mutant => ({
  suite: "StreamSubscriptionRepository",
  name,
  breaks,
  declare: () =>
    StreamSubscriptionRepositorySuite.suite(
      name,
      alter(
        StreamSubscriptionRepository.StreamSubscriptionRepository,
        StreamSubscriptionRepository.layerMemory,
        change
      )
    )
})

/** Spends in two steps: it looks, and then writes. */
const readThenSpend = Layer.sync(ReplayRepository.ReplayRepository, () => {
  const spent = new Map<string, number>()
  return ReplayRepository.ReplayRepository.of({
    spend: Effect.fnUntraced(function*({ digest, expiresAtMillis, kind }, nowMillis) {
      const key = JSON.stringify([kind, digest])
      const isSpent = (spent.get(key) ?? 0) > nowMillis
      yield* Effect.yieldNow
      if (!isSpent) spent.set(key, expiresAtMillis)
      return !isSpent
    }),
    sweep: ({ limit, nowMillis }) =>
      Effect.sync(() => {
        const expired = Array.from(spent).filter(([, expiresAtMillis]) => expiresAtMillis <= nowMillis).slice(0, limit)
        for (const [key] of expired) spent.delete(key)
        return expired.length
      })
  })
})

const asItIs = () => ({})

// -----------------------------------------------------------------------------
// What is broken
// -----------------------------------------------------------------------------

export const mutants: ReadonlyArray<Mutant> = [
  // The adapters as they are: a suite that fails for everybody says nothing.
  links("unbroken", undefined, asItIs),
  sessions("unbroken", undefined, asItIs),
  feed("unbroken", undefined, asItIs),
  feedService("unbroken", undefined, asItIs),
  runs("unbroken", undefined, asItIs),
  runLog("unbroken", undefined, asItIs),
  credentials("unbroken", undefined, asItIs),
  secrets("unbroken", undefined, asItIs),
  replays("unbroken", undefined, ReplayRepository.layerMemory),

  links("redeem reads, then writes", "BOOT-03 L-03: of 50 that redeem a link with 1 use(s), 1 win", (real) => ({
    redeem: Effect.fnUntraced(function*(redemption, change) {
      const open = yield* real.list({ nowMillis: change.nowMillis, limit: 1_000 })
      const row = open.find(({ codeDigest }) => codeDigest === redemption.codeDigest)
      yield* Effect.yieldNow
      const outcome = yield* real.redeem(redemption, change)
      return row === undefined || outcome._tag !== "Refused" || outcome.reason !== "exhausted"
        ? outcome
        : { _tag: "Redeemed", link: { ...row, remainingUses: row.remainingUses - 1 } }
    })
  })),
  links("a refusal takes a use", "BOOT-03 L-11: every refusal names its reason and changes nothing", (real) => ({
    redeem: Effect.fnUntraced(function*(redemption, change) {
      const outcome = yield* real.redeem(redemption, change)
      if (outcome._tag === "Refused" && outcome.reason === "scope-not-granted") {
        yield* real.redeem({ ...redemption, session: { ...redemption.session, scopes: [] } }, change)
      }
      return outcome
    })
  })),
  links("compares thumbprints in any case", "BOOT-03 L-11: every refusal names its reason", (real) => ({
    redeem: (redemption, change) => {
      const proofKeyThumbprint = redemption.session.proofKeyThumbprint?.toLowerCase() ?? null
      return real.redeem({ ...redemption, session: { ...redemption.session, proofKeyThumbprint } }, change)
    }
  })),
  links("does not know an attempt again", "BOOT-10 C-31: the same attempt", (real) => ({
    redeem: (redemption, change) => real.redeem({ ...redemption, repeatMillis: 0 }, change)
  })),
  links("lets the session that is replaced go on", "SESS-20 C-45", (real) => ({
    redeem: (redemption, change) => real.redeem({ ...redemption, replaces: undefined }, change)
  })),
  links("revokes again and again", "revoke ends a link once", (real) => ({
    revoke: (id, change) => Effect.as(real.revoke(id, change), true)
  })),
  links("forgets links that have ended", "BOOT-05: findByCodeDigest returns a link", (real) => ({
    findByCodeDigest: (digest) =>
      Effect.map(real.findByCodeDigest(digest), Option.filter((row) => row.revokedAtMillis === null))
  })),
  links("lets links go their own way", "SESS-13 HTTP-09: a session issues links while it is live", (real) => ({
    insert: (row, change, maxOpen) => real.insert({ ...row, issuedBy: null }, change, maxOpen)
  })),
  links("counts nothing", "HTTP-09: of 30 links that a session issues at once", (real) => ({
    insert: (row, change) => real.insert(row, change)
  })),
  {
    suite: "BootstrapCredentialRepository",
    name: "bounds the first generation alone",
    breaks: "SESS-13 HTTP-09 C-15: a session that was let in shares its number with all that descends from it",
    declare: () =>
      BootstrapCredentialRepositorySuite.suite(
        "bounds the first generation alone",
        alter(Access.AccessRepository, Access.layerMemory, ({ links, sessions }) => ({
          links: {
            ...links,
            insert: Effect.fnUntraced(function*(row, change, maxOpen, maxLetIn) {
              const issuer = row.issuedBy === null ? Option.none() : yield* sessions.findById(row.issuedBy)
              const isFirst = Option.exists(issuer, ({ parentId }) => parentId === null)
              return yield* links.insert(row, change, maxOpen, isFirst ? maxLetIn : undefined)
            })
          }
        }))
      )
  },
  links("shows everyone's", "SESS-15 HTTP-09 C-15: list gives the links for a subject", (real) => ({
    list: (options) => real.list({ ...options, subject: undefined })
  })),
  links("sweeps without a limit", "BOOT-07 L-24: sweep deletes what has ended", (real) => ({
    sweep: (options, change) => real.sweep({ ...options, limit: Number.MAX_SAFE_INTEGER }, change)
  })),

  sessions("revives an expired session", "SESS-03: renew changes nothing", (real) => ({
    renew: Effect.fnUntraced(function*(options, change) {
      const row = Option.getOrUndefined(yield* real.findById(options.id))
      const nowMillis = Math.min(change.nowMillis, (row?.expiresAtMillis ?? Infinity) - 1)
      return yield* real.renew(options, { ...change, nowMillis })
    })
  })),
  sessions("writes at each use", "SESS-03 L-16: of 50 that renew a session at once, one writes", (real) => ({
    renew: (options, change) => real.renew({ ...options, dueBeforeMillis: Number.MAX_SAFE_INTEGER }, change)
  })),
  sessions("lets a session go on as others do", "SESS-17: renew and refresh move the end", (real) => ({
    insert: (row, change) => real.insert({ ...row, lifetimeMillis: null }, change)
  })),
  sessions("renames what it should not reach", "SESS-11: rename gives the device", (real) => ({
    rename: (options, change) => real.rename({ ...options, subject: undefined }, change)
  })),
  sessions(
    "lets a session answer for another that has ended",
    "SESS-18 CONN-13 SESS-14: an answer grants what was asked for",
    (real) => ({
      answerScopes: (options, change) => real.answerScopes({ ...options, by: undefined }, change)
    })
  ),
  sessions("ends no descendants", "SESS-13 SESS-21: revoke ends the open links of a session", (real) => ({
    revoke: (target, change) =>
      real.revoke(target._tag === "Session" ? { ...target, descendants: false } : target, change)
  })),
  sessions("forgets revocations", "finds a session that is revoked", (real) => ({
    findById: (id) => Effect.map(real.findById(id), Option.map((row) => ({ ...row, revokedAtMillis: null })))
  })),
  sessions("lets a refresh token be used for good", "SESS-16 C-32: the refresh token before", (real) => ({
    refresh: (options, change) => real.refresh({ ...options, graceMillis: Number.MAX_SAFE_INTEGER }, change)
  })),
  sessions("logs two tabs out", "SESS-04: of 50 that refresh at once one exchanges the token", (real) => ({
    refresh: Effect.fnUntraced(function*(options, change) {
      const outcome = yield* real.refresh(options, change)
      return outcome._tag === "Repeated" ? { _tag: "Reused" } : outcome
    })
  })),
  sessions("ends a session of a caller that does not hold its key", "SESS-04: refresh changes nothing", (real) => ({
    refresh: Effect.fnUntraced(function*(options, change) {
      const row = Option.getOrUndefined(yield* real.findById(options.id))
      return yield* real.refresh({ ...options, proofKeyThumbprint: row?.proofKeyThumbprint ?? undefined }, change)
    })
  })),
  sessions("says of no key that it is in use", "SESS-02: says of a key", () => ({
    isKeyInUse: () => Effect.succeed(false)
  })),
  sessions("lists everybody's sessions", "list returns the live sessions of one subject", (real) => ({
    list: (options) => real.list({ ...options, subject: undefined })
  })),
  sessions("gives a ticket twice", "SESS-09 L-20: a ticket gives its session once", (real) => ({
    consumeTicket: Effect.fnUntraced(function*(options) {
      const session = yield* real.consumeTicket(options)
      if (Option.isSome(session)) {
        yield* real.insertTicket({
          ticketDigest: options.ticketDigest,
          sessionId: session.value.id,
          expiresAtMillis: options.nowMillis + 1_000
        })
      }
      return session
    })
  })),
  sessions("ends a session whose answer was lost", "SESS-16 C-32: the refresh token before", (real) => ({
    refresh: Effect.fnUntraced(function*(options, change) {
      const row = Option.getOrUndefined(yield* real.findById(options.id))
      if (row !== undefined) yield* real.useTokens(row.tokenDigest, change.nowMillis)
      return yield* real.refresh(options, change)
    })
  })),
  sessions("looks at scopes too late", "SESS-16 C-23", (real) => ({
    refresh: Effect.fnUntraced(function*(options, change) {
      const outcome = yield* real.refresh({ ...options, scopes: [] }, change)
      return outcome._tag === "Refreshed" && options.scopes.includes("runs:operate")
        ? { _tag: "Refused", reason: "scope-not-held" }
        : outcome
    })
  })),
  sessions(
    "exchanges a refresh token twice",
    "SESS-04: of 50 that refresh at once one exchanges the token",
    (real) => ({
      refresh: Effect.fnUntraced(function*(options, change) {
        const outcome = yield* real.refresh(options, change)
        return outcome._tag === "Repeated" ? { ...outcome, _tag: "Refreshed" } : outcome
      })
    })
  ),
  sessions("revokes the one to keep", "revoke ends the live sessions of its target", (real) => ({
    revoke: (target, change) =>
      real.revoke(target._tag === "SubjectExcept" ? { _tag: "Subject", subject: target.subject } : target, change)
  })),

  feed("loses an event", "counts the changes of all repositories", (real) => ({
    read: (options) =>
      Effect.map(real.read(options), (events) => events.filter(({ change }) => change._tag !== "sessionRemoved"))
  })),
  feed("tells of what cannot be read yet", "a storm of changes leaves no gap", (real) => ({
    latestRevision: Effect.map(real.latestRevision, (revision) => revision + 1)
  })),
  feed("shows what has expired", "FEED-01: a snapshot shows what is live at a time", (real) => ({
    snapshot: () => real.snapshot({ nowMillis: 0 })
  })),
  feed("sweeps what happened later", "OPS-09: deletes the oldest events", (real) => ({
    sweep: ({ limit }) => real.sweep({ endedBeforeMillis: Number.MAX_SAFE_INTEGER, limit })
  })),
  feed("sweeps more than it was asked to", "OPS-09: deletes the oldest events", (real) => ({
    sweep: (options) => real.sweep({ ...options, limit: 1_000 })
  })),
  feed("does not tell what it has swept", "OPS-09: deletes the oldest events", () => ({
    oldestRevision: Effect.succeed(1)
  })),
  feedService("takes what is no longer kept for nothing", "OPS-09: a cursor older than what is kept", () => ({
    oldestRevision: Effect.succeed(1)
  })),
  feed("hints at nothing", "hints when it listens", () => ({ wakeups: Stream.never })),
  feedService("takes a snapshot before its revision", "FEED-01", (real) => ({
    snapshot: Effect.fnUntraced(function*(options) {
      const before = yield* real.snapshot(options)
      yield* Effect.yieldNow
      return { ...before, revision: yield* real.latestRevision }
    })
  })),

  replays("reads, then spends", "L-20: of 64 racers for a value exactly one spends it", readThenSpend),
  replays(
    "forgets what was spent when it sweeps",
    "L-24: sweeps expired values in bounded batches, and no other",
    alter(ReplayRepository.ReplayRepository, ReplayRepository.layerMemory, (real) => ({
      sweep: (options) => real.sweep({ ...options, nowMillis: Number.MAX_SAFE_INTEGER })
    }))
  ),

  environments("unbroken", undefined, () => ({})),
  environments("adopts by reading, then writing", "of n that adopt an announced key one does", (real) => ({
    adoptKey: Effect.fnUntraced(function*(options) {
      const row = Option.getOrUndefined(yield* real.findById(options.id))
      yield* Effect.yieldNow
      yield* real.adoptKey(options)
      return row?.nextKeyId === options.keyId
    })
  })),
  environments("ends the previous key at once", "believes an announced key beside the present one", (real) => ({
    adoptKey: (options) => real.adoptKey({ ...options, previousUntilMillis: 0 })
  })),
  environments("takes a confirmation of long ago", "knows which key of the relay", (real) => ({
    confirmRelayKey: Effect.fnUntraced(function*(options) {
      const row = Option.getOrUndefined(yield* real.findById(options.id))
      return yield* real.confirmRelayKey({ ...options, from: row?.relayKeyId ?? null })
    })
  })),
  environments("finds everybody's", "keeps an environment for its account alone", (real) => ({
    find: ({ id }) => real.findById(id)
  })),
  environments("links without an end", "gives an account no more environments", (real) => ({
    link: (row) => real.link(row)
  })),

  proofs("unbroken", undefined, () => ({})),
  proofs("keeps all", "keeps no more than so many", (real) => ({
    record: (row) => real.record(row, { keep: 1_000_000 })
  })),
  proofs("lets an old proof win", "of 32 racers", (real) => ({
    record: (row, options) => real.record({ ...row, receivedAtMillis: 100 }, options)
  })),
  proofs("takes any pending request for the one", "knows the request that an environment", (real) => ({
    hasPending: Effect.fnUntraced(function*({ account, environmentId, proofKeyThumbprint }) {
      const rows = yield* real.list({ account, limit: 100 })
      return rows.some((row) =>
        row.environmentId === environmentId && row.proofKeyThumbprint === proofKeyThumbprint &&
        row.status === "pending_approval"
      )
    })
  })),
  proofs("pages by time alone", "lists in pages", (real) => ({
    list: ({ after, ...options }) =>
      real.list({ ...options, ...(after === undefined ? {} : { after: { ...after, requestId: "" } }) })
  })),

  streams("unbroken", undefined, asItIs),
  streams("creates by reading, then writing", "L-03 L-77: of 20 that create a stream at once", (real) => ({
    create: Effect.fnUntraced(function*(options) {
      const before = yield* real.get(options)
      yield* Effect.yieldNow
      const outcome = yield* real.create(options)
      return before._tag === "Unknown" && outcome._tag === "Existing" ? { ...outcome, _tag: "Created" } : outcome
    })
  })),
  streams("forgets its producers", "of 20 retries of one append at once one is stored", (real) => ({
    append: (options) => real.append({ ...options, items: options.items.map((item) => ({ ...item, producer: null })) })
  })),
  streams("stores nothing of a batch with a refused item", "appends a batch in its order", (real) => ({
    append: Effect.fnUntraced(function*(options) {
      const found = yield* Effect.forEach(
        options.items,
        (item) => real.get({ ...item, nowMillis: options.nowMillis })
      )
      return found.every(({ _tag }) => _tag === "Found")
        ? yield* real.append(options)
        : options.items.map(() => ({ _tag: "Unknown" }) as const)
    })
  })),
  streams("lets streams expire that are read", "reads and appends keep a stream from expiring", (real) => ({
    read: Effect.fnUntraced(function*(options) {
      const found = yield* real.get(options)
      return found._tag === "Found" ? yield* real.read({ ...options, nowMillis: 0 }) : found
    })
  })),
  streams("lists by a pattern", "lists live streams of one owner by prefix", (real) => ({
    list: Effect.fnUntraced(function*(options) {
      const rows = yield* real.list({ ...options, prefix: "" })
      const prefix = new RegExp(`^${options.prefix.replaceAll("_", ".").replaceAll("%", ".*")}`)
      return rows.filter(({ path }) => prefix.test(path))
    })
  })),
  streams("leaves bounds to the reader", "reads from any position, within its bounds", (real) => ({
    read: (options) => real.read({ ...options, maxBytes: Number.MAX_SAFE_INTEGER })
  })),
  streams("sweeps without a limit", "L-24: sweeps what has expired in bounded batches", (real) => ({
    sweep: (options) => real.sweep({ ...options, limit: Number.MAX_SAFE_INTEGER })
  })),
  streams("hints at nothing", "hints at appends", () => ({ wakeups: Stream.make("anything") })),

  subscriptions("unbroken", undefined, asItIs),
  subscriptions(
    "begins a wake by reading, then writing",
    "of 20 that begin a wake at once one gets the row",
    (real) => ({
      wake: Effect.fnUntraced(function*(options) {
        const found = yield* real.get(options)
        yield* Effect.yieldNow
        const woken = yield* real.wake(options)
        const isIdle = Option.exists(
          found,
          (row) => !StreamSubscriptionRepository.isBusy(row, options.nowMillis)
        )
        return isIdle && Option.isNone(woken) ? yield* real.get(options) : woken
      })
    })
  ),
  subscriptions("counts, then creates", "C-25 HTTP-09: an owner has no more subscriptions", (real) => ({
    create: Effect.fnUntraced(function*({ limit, ...options }) {
      const rows = yield* real.ofOwner(options.ownerKey)
      yield* Effect.yieldNow
      return yield* real.create({ ...options, limit: rows.length < limit ? 1_000 : 0 })
    })
  })),
  subscriptions("gives a wake to each worker", "of 20 workers that claim at once one gets the wake", (real) => ({
    claim: (options) =>
      Effect.map(real.claim(options), (outcome) => outcome._tag === "Held" ? { ...outcome, _tag: "Claimed" } : outcome)
  })),
  subscriptions("fences no worker", "L-78: settles a wake for its worker alone", (real) => ({
    settle: Effect.fnUntraced(function*(options) {
      const found = yield* real.get(options)
      return yield* real.settle({ ...options, generation: Option.isSome(found) ? found.value.generation : 0 })
    })
  })),
  subscriptions("takes a link's place", "keeps a link's position and its pattern", (real) => ({
    link: Effect.fnUntraced(function*(options) {
      for (const { path } of options.links) {
        yield* real.unlink({ ...options, path })
      }
      return yield* real.link(options)
    })
  })),
  subscriptions("rests whatever wake there is", "notes failures, and when to try again", (real) => ({
    rest: Effect.fnUntraced(function*(options) {
      const found = yield* real.get(options)
      yield* real.rest({ ...options, wakeId: Option.isSome(found) ? found.value.wakeId : null })
    })
  })),
  subscriptions("takes the first that it finds for due", "lists the subscriptions of an owner", (real) => ({
    due: (options) =>
      Effect.map(
        real.due({ ...options, limit: 1_000 }),
        (rows) => rows.toSorted((a, b) => a.ownerKey < b.ownerKey ? 1 : -1).slice(0, options.limit)
      )
  })),

  runs("creates a run for each who asks at once", "RUN-01 L-70: of 16 starts with one key", (real) => ({
    start: Effect.fnUntraced(function*(options) {
      const before = yield* real.getByKey(options)
      yield* Effect.yieldNow
      const outcome = yield* real.start(options)
      return Option.isNone(before) && outcome._tag === "Existing" ? { ...outcome, _tag: "Created" } : outcome
    })
  })),
  runs("fences no writer", "RUN-05 L-78: a writer with another epoch is refused", (real) => ({
    append: Effect.fnUntraced(function*(options) {
      const items = yield* Effect.forEach(
        options.items,
        (item) =>
          Effect.map(
            real.get(item.runId),
            (row) => ({ ...item, epoch: Option.isSome(row) ? row.value.epoch : item.epoch })
          )
      )
      return yield* real.append({ ...options, items })
    })
  })),
  runs("lets a run rest that has an answer", "RUN-21 RUN-05 RUN-20: a run of an engine is begun", (real) => ({
    heartbeat: (options) => real.heartbeat({ ...options, answers: undefined })
  })),
  runs("ends a run twice", "RUN-04 L-73 L-74: the terminal event and the state change together", (real) => ({
    finish: Effect.fnUntraced(function*(options) {
      const outcome = yield* real.finish(options)
      const run = yield* real.get(options.runId)
      return outcome._tag === "Ended" && Option.isSome(run) ? { _tag: "Finished", run: run.value } : outcome
    })
  })),
  runLog("lets everybody execute", "RUN-01 RUN-07 L-70: a program is executed once for a key", (real) => ({
    start: (options) =>
      Effect.map(
        real.start(options),
        (outcome) => outcome._tag === "Existing" ? { ...outcome, _tag: "Created" } : outcome
      )
  })),

  credentials(
    "removes the next one instead",
    "SCOPE-03 L-54: removes the first that exists where that may be",
    (real) => ({
      remove: ({ candidates, key }, change) =>
        real.remove({ key, candidates: candidates.filter(({ removable }) => removable) }, change)
    })
  ),
  credentials("keeps what a write supersedes", "L-59: removes what a write supersedes", (real) => ({
    put: (row, _supersedes, change) => real.put(row, undefined, change)
  })),
  credentials("does not tell of reads", "SCOPE-12: puts reads into the feed", () => ({
    recordRead: () => Effect.void
  })),

  secrets("getOrCreateRandom reads, then writes", "SEC-03 L-05: 24 fibers in getOrCreateRandom", (real) => ({
    getOrCreateRandom: Effect.fnUntraced(function*(name, byteLength) {
      const found = yield* real.get(name)
      yield* Effect.yieldNow
      if (Option.isSome(found)) return found.value
      yield* real.remove(name)
      return yield* real.getOrCreateRandom(name, byteLength)
    })
  })),
  secrets("modify reads, then writes", "SEC-09: modify loses no update of 16 fibers", (real) => ({
    modify: Effect.fnUntraced(function*(name, f) {
      const [answer, next] = yield* f(yield* real.get(name))
      yield* Effect.yieldNow
      if (Option.isSome(next)) yield* real.set(name, next.value)
      return answer
    })
  })),
  secrets("hands out its own bytes", "shares no memory with its callers", (real) => {
    const handed = new Map<string, Uint8Array>()
    return {
      get: (name) =>
        Effect.map(
          real.get(name),
          Option.map((value) => {
            const bytes = handed.get(name) ?? Redacted.value(value)
            handed.set(name, bytes)
            return Redacted.make(bytes)
          })
        )
    }
  })
]
