import { AccessRepository, layerMemory } from "@sallyport/core/access/AccessRepository"
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import type { AccessEvent } from "@sallyport/core/access/AccessEvent"
import { RepositoryError } from "@sallyport/core/RepositoryError"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { inspect } from "node:util"

/**
 * Watches and disturbs the repositories: counts their operations, keeps what goes in and comes out, fails them, and runs
 * an effect before or after the real operation.
 */
export class Probe extends Context.Service<Probe, {
  readonly calls: Map<string, number>
  readonly traffic: Array<unknown>
  /** Operations that fail without doing anything. */
  readonly failing: Set<string>
  /** Operations that do their work and then fail, as a connection does that breaks after the commit. */
  readonly failingAfter: Set<string>
  readonly before: Map<string, Effect.Effect<void>>
  readonly after: Map<string, Effect.Effect<void>>
}>()("@sallyport/core/test/Probe") {
  static readonly layer = Layer.sync(Probe, () =>
    Probe.of({
      calls: new Map(),
      traffic: [],
      failing: new Set(),
      failingAfter: new Set(),
      before: new Map(),
      after: new Map()
    }))
}

const probing = (probe: Probe["Service"]) =>
<Args extends ReadonlyArray<unknown>, A>(
  operation: string,
  real: (...args: Args) => Effect.Effect<A, RepositoryError>
) =>
(...args: Args): Effect.Effect<A, RepositoryError> =>
  Effect.gen(function*() {
    probe.calls.set(operation, (probe.calls.get(operation) ?? 0) + 1)
    probe.traffic.push(args)
    yield* probe.before.get(operation) ?? Effect.void
    // Words that a user who sniffs errors from their text would trip over.
    const failure = new RepositoryError({
      operation,
      reason: "Failed",
      outcome: "unchanged",
      cause: new Error("500 rows expired, revoked or not found")
    })
    if (probe.failing.has(operation)) return yield* failure
    const result = yield* real(...args)
    probe.traffic.push(result)
    yield* probe.after.get(operation) ?? Effect.void
    return probe.failingAfter.has(operation) ? yield* failure : result
  })

const ProbedAccess = Layer.effect(
  AccessRepository,
  Effect.gen(function*() {
    const probed = probing(yield* Probe)
    const real = yield* AccessRepository
    const { links, sessions } = real
    return AccessRepository.of({
      ...real,
      sessions: {
        insert: probed("insert", sessions.insert),
        findByTokenDigest: probed("findByTokenDigest", sessions.findByTokenDigest),
        findById: probed("findById", sessions.findById),
        renew: probed("renew", sessions.renew),
        refresh: probed("refresh", sessions.refresh),
        useTokens: probed("useTokens", sessions.useTokens),
        isKeyInUse: probed("isKeyInUse", sessions.isKeyInUse),
        list: probed("list", sessions.list),
        countDescendants: probed("countDescendants", sessions.countDescendants),
        rename: probed("rename", sessions.rename),
        askScopes: probed("askScopes", sessions.askScopes),
        answerScopes: probed("answerScopes", sessions.answerScopes),
        revoke: probed("revoke", sessions.revoke),
        insertTicket: probed("insertTicket", sessions.insertTicket),
        consumeTicket: probed("consumeTicket", sessions.consumeTicket),
        sweep: probed("sweep", sessions.sweep)
      },
      links: {
        insert: probed("links.insert", links.insert),
        findByCodeDigest: probed("links.find", links.findByCodeDigest),
        redeem: probed("links.redeem", links.redeem),
        list: probed("links.list", links.list),
        revoke: probed("links.revoke", links.revoke),
        sweep: probed("links.sweep", links.sweep)
      }
    })
  })
).pipe(Layer.provide(layerMemory))

/** Provides the probed memory repositories, the feed, a memory secret store and Node's cryptography. */
export const Environment = Layer.mergeAll(
  ProbedAccess,
  SecretStore.layerMemory
).pipe(Layer.provideMerge(Layer.mergeAll(Probe.layer, NodeCrypto.layer)))

/** Provides both services, with what {@link Environment} provides. */
export const services = (options: {
  readonly sessions?: SessionCredentialService.Options | undefined
  readonly links?: BootstrapCredentialService.Options | undefined
} = {}) =>
  Layer.mergeAll(
    SessionCredentialService.layerWith(options.sessions ?? {}),
    BootstrapCredentialService.layerWith(options.links ?? {})
  ).pipe(Layer.provideMerge(Environment))

/** Redeems a credential for a bearer session, bound to a key if one is given, and returns that session. */
export const redeem = (
  links: BootstrapCredentialService.BootstrapCredentialService["Service"],
  { proofKeyThumbprint, ...options }:
    & Omit<BootstrapCredentialService.RedeemOptions<never, never>, "method" | "proof">
    & { readonly proofKeyThumbprint?: string | undefined }
) =>
  Effect.map(
    links.redeem({
      ...options,
      method: "bearer-access-token",
      proof: proofKeyThumbprint === undefined ? undefined : Effect.succeed({ proofKeyThumbprint, spend: Effect.void })
    }),
    ({ session }) => session
  )

/** Reads the whole feed. */
export const feed: Effect.Effect<ReadonlyArray<AccessEvent>, never, AccessRepository> = Effect
  .orDie(
    AccessRepository.use(({ feed: events }) => events.read({ after: 0, limit: 1_000_000 }))
  )

/** Returns how often the repositories were asked since the last call, by operation. */
export const takeCalls: Effect.Effect<Record<string, number>, never, Probe> = Probe.useSync((probe) => {
  const calls = Object.fromEntries(probe.calls)
  probe.calls.clear()
  return calls
})

/** Renders a value in every way in which it could end up in a log, hidden and nested parts included. */
export const shown = (value: unknown): string => {
  const json = JSON.stringify(value, (_, part: unknown) => typeof part === "bigint" ? String(part) : part)
  return [String(value), json, inspect(value, { depth: Infinity, maxArrayLength: Infinity, showHidden: true })].join(
    "\n"
  )
}
