import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import type { AccessEvent } from "@sallyport/core/access/AccessEvent"
import * as AccessFeedRepository from "@sallyport/core/access/AccessFeedRepository"
import { RepositoryError } from "@sallyport/core/RepositoryError"
import * as BootstrapCredentialRepository from "@sallyport/core/access/BootstrapCredentialRepository"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as SessionCredentialRepository from "@sallyport/core/access/SessionCredentialRepository"
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
    // Words that somebody who sniffs errors from their text would trip over.
    const failure = new RepositoryError({ operation, cause: new Error("500 rows expired, revoked or not found") })
    if (probe.failing.has(operation)) return yield* failure
    const result = yield* real(...args)
    probe.traffic.push(result)
    yield* probe.after.get(operation) ?? Effect.void
    return probe.failingAfter.has(operation) ? yield* failure : result
  })

const ProbedSessions = Layer.effect(
  SessionCredentialRepository.SessionCredentialRepository,
  Effect.gen(function*() {
    const probed = probing(yield* Probe)
    const real = yield* SessionCredentialRepository.SessionCredentialRepository
    return SessionCredentialRepository.SessionCredentialRepository.of({
      insert: probed("insert", real.insert),
      findByTokenDigest: probed("findByTokenDigest", real.findByTokenDigest),
      findById: probed("findById", real.findById),
      renew: probed("renew", real.renew),
      refresh: probed("refresh", real.refresh),
      isKeyInUse: probed("isKeyInUse", real.isKeyInUse),
      list: probed("list", real.list),
      revoke: probed("revoke", real.revoke),
      insertTicket: probed("insertTicket", real.insertTicket),
      consumeTicket: probed("consumeTicket", real.consumeTicket),
      sweep: probed("sweep", real.sweep)
    })
  })
).pipe(Layer.provide(SessionCredentialRepository.layerMemory))

const ProbedLinks = Layer.effect(
  BootstrapCredentialRepository.BootstrapCredentialRepository,
  Effect.gen(function*() {
    const probed = probing(yield* Probe)
    const real = yield* BootstrapCredentialRepository.BootstrapCredentialRepository
    return BootstrapCredentialRepository.BootstrapCredentialRepository.of({
      insert: probed("links.insert", real.insert),
      consume: probed("links.consume", real.consume),
      list: probed("links.list", real.list),
      revoke: probed("links.revoke", real.revoke),
      sweep: probed("links.sweep", real.sweep)
    })
  })
).pipe(Layer.provide(BootstrapCredentialRepository.layerMemory))

/** Provides the probed memory repositories, the feed, a memory secret store and Node's cryptography. */
export const Environment = Layer.mergeAll(
  ProbedSessions,
  ProbedLinks,
  AccessFeedRepository.layerMemory,
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

/** Reads the whole feed. */
export const feed: Effect.Effect<ReadonlyArray<AccessEvent>, never, AccessFeedRepository.AccessFeedRepository> = Effect
  .orDie(
    AccessFeedRepository.AccessFeedRepository.use((events) => events.read({ after: 0, limit: 1_000_000 }))
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
