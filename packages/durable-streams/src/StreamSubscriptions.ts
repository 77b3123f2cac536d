/**
 * Subscriptions: durable cursors over many streams that wake a worker, by a webhook or through a stream of its own, when
 * there is something new.
 *
 * A wake has a generation, and a lease within which its worker answers. What a worker has done it acknowledges by the
 * position of each stream; what it has not is told again. A worker that lost its lease is fenced by the generation.
 */
import * as Text from "@sallyport/core/Text"
import { ownerKey, RunOwner } from "@sallyport/core/runs/Run"
import type { SecretStore, SecretStoreError } from "@sallyport/core/secrets/SecretStore"
import * as PublicHttp from "@sallyport/node/PublicHttp"
import * as Clock from "effect/Clock"
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import type * as CryptoError from "effect/crypto/CryptoError"
import * as Digest from "effect/crypto/Digest"
import type * as Mac from "effect/crypto/Mac"
import * as SecureRandom from "effect/crypto/SecureRandom"
import type * as Signature from "effect/crypto/Signature"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { isStreamPath, parseOffset } from "./DurableStream.ts"
import type { DurableStreams } from "./DurableStreams.ts"
import * as Glob from "./internal/glob.ts"
import * as PendingStreams from "./internal/pendingStreams.ts"
import {
  AlreadyClaimed,
  fail,
  invalid,
  NothingPending,
  storage,
  StreamSubscriptionsError,
  SubscriptionConflict,
  SubscriptionNotFound,
  TokenInvalid,
  TooManySubscriptions,
  WakeFenced,
  WebhookRejected
} from "./internal/subscriptionErrors.ts"
import * as SubscriptionKeys from "./internal/subscriptionKeys.ts"
import {
  type InvalidStreamSubscriptionsOptions,
  type Options,
  type Settings,
  settings
} from "./internal/subscriptionOptions.ts"
import * as SubscriptionUpkeep from "./internal/subscriptionUpkeep.ts"
import * as SubscriptionWakes from "./internal/subscriptionWakes.ts"
import {
  isBusy,
  nameOf,
  type Position,
  StreamSubscriptionRepository,
  type SubscriptionLink,
  type SubscriptionRow
} from "./StreamSubscriptionRepository.ts"

export type { PendingStream } from "./internal/pendingStreams.ts"
export {
  AlreadyClaimed,
  NothingPending,
  StreamSubscriptionsError,
  StreamSubscriptionsErrorReason,
  SubscriptionConflict,
  SubscriptionNotFound,
  TokenInvalid,
  TooManySubscriptions,
  WakeFenced,
  WebhookFailed,
  WebhookRejected
} from "./internal/subscriptionErrors.ts"
export type { SigningKey } from "./internal/subscriptionKeys.ts"
export { InvalidStreamSubscriptionsOptions, type Options } from "./internal/subscriptionOptions.ts"

/**
 * Describes a subscription to create.
 *
 * @category options
 * @since 0.1.0
 */
export interface CreateOptions {
  readonly owner: RunOwner
  readonly subscriptionId: string
  /** A worker is called at a URL, or reads from a stream of JSON that it is woken. */
  readonly target:
    | { readonly type: "webhook"; readonly url: string }
    | { readonly type: "pull-wake"; readonly wakeStream: string }
  /** `*` stands for one segment of a path or a part of one, `**` for zero or more segments, `%2A` for a star. */
  readonly pattern?: string | undefined
  /** Paths of streams, which need not exist yet. */
  readonly streams?: ReadonlyArray<string> | undefined
  /** How long a worker has to answer: 1 second to 10 minutes. Default 30 seconds. */
  readonly lease?: Duration.Input | undefined
  readonly description?: string | undefined
  /** The URL of the root of streams, which workers call back. */
  readonly rootUrl: string
}

/**
 * Describes a subscription.
 *
 * @category models
 * @since 0.1.0
 */
export interface Subscription {
  readonly row: SubscriptionRow
  readonly links: ReadonlyArray<SubscriptionLink>
}

/**
 * Describes a wake that a worker has claimed.
 *
 * @category models
 * @since 0.1.0
 */
export interface Claim {
  readonly wakeId: string
  readonly generation: number
  readonly token: Redacted.Redacted
  readonly leaseMillis: number
  /** At most 1,000; the others come with the next wake. */
  readonly streams: ReadonlyArray<PendingStreams.PendingStream>
}

/**
 * Describes what a worker has done.
 *
 * @category models
 * @since 0.1.0
 */
export interface Settlement {
  readonly token: Redacted.Redacted
  readonly subscriptionId: string
  readonly wakeId: string
  readonly generation: number
  /** The offsets up to which streams were worked off. */
  readonly acks?: ReadonlyArray<{ readonly path: string; readonly offset: string }> | undefined
  /** Ends the wake; otherwise its lease is extended. */
  readonly done: boolean
}

/**
 * Provides subscriptions.
 *
 * @category services
 * @since 0.1.0
 */
export class StreamSubscriptions extends Context.Service<StreamSubscriptions, {
  /** The key that signs webhooks. */
  readonly signingKey: SubscriptionKeys.SigningKey
  /**
   * Creates a subscription, or returns the one that is there if it was created the same way. Streams that exist are linked
   * at their tails. Fails with `InvalidInput`, `WebhookRejected`, `TooManySubscriptions` and `SubscriptionConflict`.
   */
  readonly create: (
    options: CreateOptions
  ) => Effect.Effect<Subscription & { readonly created: boolean }, StreamSubscriptionsError>
  /** Returns a subscription. Fails with `SubscriptionNotFound`. */
  readonly get: (options: {
    readonly owner: RunOwner
    readonly subscriptionId: string
  }) => Effect.Effect<Subscription, StreamSubscriptionsError>
  /** Deletes a subscription, if it is there. Its worker is fenced. */
  readonly delete: (options: {
    readonly owner: RunOwner
    readonly subscriptionId: string
  }) => Effect.Effect<void, StreamSubscriptionsError>
  /** Links streams at their tails, and keeps those that are linked. Fails with `SubscriptionNotFound`. */
  readonly link: (options: {
    readonly owner: RunOwner
    readonly subscriptionId: string
    readonly streams: ReadonlyArray<string>
  }) => Effect.Effect<void, StreamSubscriptionsError>
  /** Ends the explicit link of a stream; the pattern may go on to match it. Fails with `SubscriptionNotFound`. */
  readonly unlink: (options: {
    readonly owner: RunOwner
    readonly subscriptionId: string
    readonly path: string
  }) => Effect.Effect<void, StreamSubscriptionsError>
  /**
   * Claims what there is to do for one worker, for the time of the lease. Fails with `SubscriptionNotFound`,
   * `AlreadyClaimed` and `NothingPending`.
   */
  readonly claim: (options: {
    readonly owner: RunOwner
    readonly subscriptionId: string
    readonly worker: string
  }) => Effect.Effect<Claim, StreamSubscriptionsError>
  /**
   * Acknowledges what a worker has done, and ends its wake or extends its lease; tells whether there is more to do. The
   * token says which wake, and stands for the right to it. Fails with `TokenInvalid`, `WakeFenced` and `InvalidInput`;
   * nothing was changed then.
   */
  readonly settle: (
    options: Settlement
  ) => Effect.Effect<{ readonly nextWake: boolean }, StreamSubscriptionsError>
}>()("@sallyport/durable-streams/StreamSubscriptions") {}

const encoder = new TextEncoder()
const isOwner = Schema.is(RunOwner)
const isId = (text: string): boolean => Text.isKey(text) && !text.includes("/")
const isText = (text: string): boolean => Text.isKey(text, 1024)

const build = Effect.fnUntraced(function*(settings: Settings) {
  const repository = yield* StreamSubscriptionRepository
  const random = yield* SecureRandom.SecureRandom
  const digest = yield* Digest.Digest
  const clock = yield* Clock.Clock
  const now = () => clock.currentTimeMillisUnsafe()

  const keys = yield* SubscriptionKeys.make
  const { forMatching, pendingOf, tailOf } = yield* PendingStreams.make
  const outage = SubscriptionWakes.outageOf(repository)
  const checkAddress = yield* PublicHttp.makeCheck({ loopback: settings.allowLoopback })
  const attend = yield* SubscriptionWakes.make({
    keys,
    outage,
    pendingOf,
    settings
  })
  yield* SubscriptionUpkeep.start({
    attend,
    interval: settings.intervalMillis,
    outage,
    reconcileInterval: settings.reconcileMillis
  })

  const checkPaths = (paths: ReadonlyArray<string>) =>
    paths.every(isStreamPath) ? Effect.void : invalid("streams", "paths of streams, relative to their root")

  const linksAtTail = (owner: RunOwner, paths: ReadonlyArray<string>, pattern: string | null) => {
    const matches = pattern === null ? () => false : Glob.matcher(pattern)
    return Effect.forEach(paths, (path) =>
      Effect.map(tailOf(owner, path), ({ id, tail }): SubscriptionLink => ({
        path,
        streamId: id,
        acked: tail,
        explicit: true,
        glob: matches(path)
      })))
  }

  const find = Effect.fnUntraced(function*(name: { readonly owner: RunOwner; readonly subscriptionId: string }) {
    const { subscriptionId } = name
    const row = isId(subscriptionId)
      ? yield* storage(repository.get({ ownerKey: ownerKey(name.owner), subscriptionId }))
      : Option.none()
    return Option.isSome(row) ? row.value : yield* fail(new SubscriptionNotFound({ subscriptionId }))
  })

  const get = Effect.fn("StreamSubscriptions.get")(function*(name: {
    readonly owner: RunOwner
    readonly subscriptionId: string
  }) {
    const row = yield* find(name)
    return { row, links: yield* storage(repository.links(row)) }
  })

  const create = Effect.fn("StreamSubscriptions.create")(function*(asked: CreateOptions) {
    const { description = null, owner, pattern = null, subscriptionId, target } = asked
    if (!isOwner(owner)) return yield* invalid("owner", "a subject, and optionally an org")
    if (!isId(subscriptionId)) return yield* invalid("id", "1 to 255 characters, without control characters and /")
    const paths = Array.from(new Set(asked.streams ?? [])).sort()
    yield* checkPaths(paths)
    if (pattern === null && paths.length === 0) {
      return yield* invalid("pattern or streams", "given, at least one of them")
    }
    if (pattern !== null && !isText(pattern)) return yield* invalid("pattern", "1 to 1024 characters")
    if (description !== null && !isText(description)) return yield* invalid("description", "1 to 1024 characters")
    const leaseMillis = Duration.toMillis(asked.lease ?? "30 seconds")
    if (!Number.isInteger(leaseMillis) || leaseMillis < 1000 || leaseMillis > 600_000) {
      return yield* invalid("lease_ttl_ms", "a whole number from 1000 to 600000")
    }
    if (target.type === "pull-wake" && !isStreamPath(target.wakeStream)) {
      return yield* invalid("wake_stream", "the path of a stream, relative to their root")
    }
    if (target.type === "webhook") {
      yield* checkAddress(target.url).pipe(
        Effect.mapError(({ problem }) => new StreamSubscriptionsError({ reason: new WebhookRejected({ problem }) }))
      )
      const url = URL.parse(target.url)
      if (url === null || !isText(target.url) || !settings.allowWebhook(url)) {
        return yield* fail(new WebhookRejected({ problem: "the server's rule for webhooks excludes it" }))
      }
    }
    const config = {
      type: target.type,
      pattern,
      webhookUrl: target.type === "webhook" ? target.url : null,
      wakeStream: target.type === "pull-wake" ? target.wakeStream : null,
      leaseMillis,
      description
    }
    const links = yield* linksAtTail(owner, paths, pattern)
    const linked = new Set(paths)
    if (pattern !== null) {
      yield* forMatching(owner, pattern, ({ id, path, tail }) => {
        if (!linked.has(path)) links.push({ path, streamId: id, acked: tail, explicit: false, glob: true })
        return true
      })
    }
    const outcome = yield* storage(repository.create({
      ...config,
      ownerKey: ownerKey(owner),
      owner: JSON.stringify(owner),
      subscriptionId,
      rootUrl: asked.rootUrl,
      digest: yield* Effect.orDie(
        digest.digestHex(Digest.sha256, encoder.encode(JSON.stringify([config, paths])))
      ),
      links,
      limit: settings.maxSubscriptions,
      nowMillis: now()
    }))
    if (outcome._tag === "Full") return yield* fail(new TooManySubscriptions({ limit: settings.maxSubscriptions }))
    if (outcome._tag === "Conflict") return yield* fail(new SubscriptionConflict({ subscriptionId }))
    const row = outcome.subscription
    return { created: outcome._tag === "Created", row, links: yield* storage(repository.links(row)) }
  })

  const claim = Effect.fn("StreamSubscriptions.claim")(function*(asked: {
    readonly owner: RunOwner
    readonly subscriptionId: string
    readonly worker: string
  }) {
    const { subscriptionId, worker } = asked
    if (!isText(worker)) return yield* invalid("worker", "1 to 1024 characters")
    const row = yield* find(asked)
    if (row.type !== "pull-wake") return yield* invalid("id", "that of a pull-wake subscription")
    const pending = yield* pendingOf(row)
    if (pending.length === 0 && !isBusy(row, now())) return yield* fail(new NothingPending({ subscriptionId }))
    const outcome = yield* storage(repository.claim({
      ...nameOf(row),
      wakeId: `w_${yield* random.uuidV7()}`,
      worker,
      leaseExpiresAtMillis: now() + row.leaseMillis,
      nowMillis: now()
    }))
    if (outcome._tag === "Unknown") return yield* fail(new SubscriptionNotFound({ subscriptionId }))
    const { generation, holder, leaseMillis, wakeId } = outcome.subscription
    if (outcome._tag === "Held" || wakeId === null) {
      return yield* fail(new AlreadyClaimed({ subscriptionId, holder: holder ?? "", generation }))
    }
    const token = yield* keys.tokenOf(outcome.subscription, wakeId)
    return { wakeId, generation, token, leaseMillis, streams: pending }
  })

  const settle = Effect.fn("StreamSubscriptions.settle")(function*(asked: Settlement) {
    const { acks = [], done, subscriptionId } = asked
    const claims = yield* keys.verifyToken(asked.token)
    if (claims.subscriptionId !== subscriptionId) return yield* fail(new TokenInvalid())
    const fenced = fail(new WakeFenced({ subscriptionId }))
    if (claims.generation !== asked.generation || claims.wakeId !== asked.wakeId) return yield* fenced
    const found = yield* storage(repository.get(claims))
    if (Option.isNone(found)) return yield* fail(new SubscriptionNotFound({ subscriptionId }))
    const row = found.value
    const owner = yield* PendingStreams.ownerOf(row)
    const matches = row.pattern === null ? () => false : Glob.matcher(row.pattern)
    const linked = new Set((yield* storage(repository.links(row))).map(({ path }) => path))
    const positions: Array<Position> = []
    for (const { offset, path } of acks) {
      const acked = parseOffset(offset)
      if (Option.isNone(acked)) return yield* invalid("acks.offset", "an offset that this server has answered")
      if (!linked.has(path) && !matches(path)) return yield* invalid("acks.stream", "a stream of this subscription")
      const { position, streamId } = acked.value
      const stream = yield* tailOf(owner, path)
      if (streamId > stream.id || (streamId === stream.id && position > stream.tail)) {
        return yield* invalid("acks.offset", "at most the tail of the stream")
      }
      positions.push({ path, streamId, acked: position })
    }
    const outcome = yield* storage(repository.settle({
      ...nameOf(row),
      wakeId: asked.wakeId,
      generation: asked.generation,
      acks: positions,
      leaseExpiresAtMillis: done ? null : now() + row.leaseMillis,
      nowMillis: now()
    }))
    if (outcome._tag !== "Settled") return yield* fenced
    const nextWake = (yield* pendingOf(outcome.subscription)).length > 0
    if (done && nextWake) yield* attend(outcome.subscription)
    return { nextWake }
  })

  return StreamSubscriptions.of({
    signingKey: keys.signingKey,
    create,
    get,
    delete: Effect.fn("StreamSubscriptions.delete")(({ owner, subscriptionId }) =>
      isId(subscriptionId) ? storage(repository.delete({ ownerKey: ownerKey(owner), subscriptionId })) : Effect.void
    ),
    link: Effect.fn("StreamSubscriptions.link")(function*(asked) {
      yield* checkPaths(asked.streams)
      const row = yield* find(asked)
      const links = yield* linksAtTail(asked.owner, asked.streams, row.pattern)
      if (!(yield* storage(repository.link({ ...nameOf(row), links })))) {
        return yield* fail(new SubscriptionNotFound({ subscriptionId: asked.subscriptionId }))
      }
    }),
    unlink: Effect.fn("StreamSubscriptions.unlink")(function*({ owner, path, subscriptionId }) {
      yield* checkPaths([path])
      if (!isId(subscriptionId)) return yield* fail(new SubscriptionNotFound({ subscriptionId }))
      if (!(yield* storage(repository.unlink({ ownerKey: ownerKey(owner), subscriptionId, path })))) {
        return yield* fail(new SubscriptionNotFound({ subscriptionId }))
      }
    }),
    claim,
    settle
  })
})

/**
 * Names what the service is built on.
 *
 * @category models
 * @since 0.1.0
 */
export type Requirements =
  | DurableStreams
  | StreamSubscriptionRepository
  | SecretStore
  | SecureRandom.SecureRandom
  | Signature.Signature
  | Mac.Mac
  | Digest.Digest

/**
 * Creates the service, which wakes workers until the scope closes; {@link layer} is what most hosts want.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options): Effect.Effect<
  StreamSubscriptions["Service"],
  InvalidStreamSubscriptionsOptions | SecretStoreError | CryptoError.CryptoError,
  Requirements | Scope.Scope
> => Effect.flatMap(settings(options?.allowWebhook).fromObject(options), build)

/**
 * Provides subscriptions with given options. All processes share its keys, which are one secret. For as long as the layer
 * lives it wakes workers, ends leases and tries failed wakes again; several processes may do this at once.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: Options): Layer.Layer<
  StreamSubscriptions,
  InvalidStreamSubscriptionsOptions | SecretStoreError | CryptoError.CryptoError,
  Requirements
> => Layer.effect(StreamSubscriptions, make(options))

/**
 * Provides subscriptions with the options of the configuration, in variables that begin with `SALLYPORT_SUBSCRIPTIONS_`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig: Layer.Layer<
  StreamSubscriptions,
  Config.ConfigError | InvalidStreamSubscriptionsOptions | SecretStoreError | CryptoError.CryptoError,
  Requirements
> = Layer.effect(StreamSubscriptions, Effect.flatMap(settings(undefined).fromConfig, build))

/**
 * Provides subscriptions with the defaults of {@link Options}.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<StreamSubscriptions, SecretStoreError | CryptoError.CryptoError, Requirements> = Layer
  .effect(StreamSubscriptions, Effect.flatMap(settings(undefined).defaults, build))
