/**
 * Follows what changes in a store's access state: pairing links and sessions, with who changed them and when, without a
 * gap or a repeat, whichever process made the change.
 *
 * {@link AccessFeedRepository} says when to look. Its hints may come late or get lost with a connection, and nothing is
 * lost with them: a follower has a cursor of its own, looks again when it listens again, and looks now and then in any case.
 */
import { AccessRepository } from "./AccessRepository.ts"
import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Input from "../Input.ts"
import * as Stream from "effect/Stream"
import type { AccessEvent } from "./AccessEvent.ts"
import type { AccessSnapshot } from "./AccessFeedRepository.ts"
import * as Following from "../Following.ts"
import * as FeedHistory from "./internal/feedHistory.ts"
import type { HistoryOptions, HistoryPage } from "./internal/feedHistory.ts"
import * as FeedReach from "./internal/feedReach.ts"
import type { Principal } from "./Principal.ts"
import { type InvalidAccessFeedOptions, type Options, type Settings, settings } from "./internal/feedOptions.ts"
import { RepositoryError } from "../RepositoryError.ts"
import * as ServiceOptions from "../ServiceOptions.ts"
import * as Sweeper from "../Sweeper.ts"
import { witnessOf } from "./internal/accessFollower.ts"

export { InvalidInput } from "../Input.ts"

export { type HistoryOptions, type HistoryPage } from "./internal/feedHistory.ts"

export { InvalidAccessFeedOptions, type Options } from "./internal/feedOptions.ts"

/**
 * Reports that the store could not be read. What was delivered is whole up to its last revision, to go on from later.
 *
 * @category errors
 * @since 0.1.0
 */
export class AccessFeedUnavailable extends Schema.TaggedError<AccessFeedUnavailable>()("AccessFeedUnavailable", {
  cause: RepositoryError
}) {
  override get message() {
    return "The access feed cannot be read at the moment; follow it again from the last revision shortly"
  }
}

/**
 * Reports a revision that the store has not come to: it is another store's, or the store was set back.
 *
 * @category errors
 * @since 0.1.0
 */
export class RevisionUnknown extends Schema.TaggedError<RevisionUnknown>()("RevisionUnknown", {
  after: Schema.Number,
  latest: Schema.Natural
}) {
  override get message() {
    return `There is no revision ${this.after}, the newest is ${this.latest}; begin with a snapshot`
  }
}

/**
 * Reports a revision whose following events are no longer kept.
 *
 * @category errors
 * @since 0.1.0
 */
export class RevisionExpired extends Schema.TaggedError<RevisionExpired>()("RevisionExpired", {
  after: Schema.Natural,
  oldest: Schema.Natural
}) {
  override get message() {
    return `What followed revision ${this.after} is no longer kept, the oldest is ${this.oldest}; begin with a snapshot`
  }
}

/**
 * Reports what went wrong with the access feed, with a reason to branch on.
 *
 * @category errors
 * @since 0.1.0
 */
export class AccessFeedError extends Schema.TaggedError<AccessFeedError>()("AccessFeedError", {
  reason: Schema.Union([AccessFeedUnavailable, Input.InvalidInput, RevisionUnknown, RevisionExpired])
}) {
  override get message() {
    return this.reason.message
  }
}

/**
 * Says what is there, or what changed since.
 *
 * @category models
 * @since 0.1.0
 */
export type AccessFeedMessage =
  | { readonly _tag: "Snapshot"; readonly snapshot: AccessSnapshot }
  | { readonly _tag: "Change"; readonly event: AccessEvent }
  /** The feed has come to a revision by changes that the reader does not reach. */
  | { readonly _tag: "Advanced"; readonly revision: number }

/**
 * Provides the access feed to readers.
 *
 * **Example** (Following changes of access)
 *
 * ```ts
 * import { NodeCrypto } from "@effect/platform-node"
 * import { AccessFeed, BootstrapCredentialService, Repositories, SecretStore } from "@sallyport/core"
 * import { Console, Effect, Layer, Stream } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const feed = yield* AccessFeed.AccessFeed
 *   const pairing = yield* BootstrapCredentialService.BootstrapCredentialService
 *   yield* pairing.issue({ issuedBy: "operator", scopes: [], label: "phone" })
 *   yield* feed.subscribe({ after: 0 }).pipe(
 *     Stream.take(1),
 *     Stream.runForEach((message) =>
 *       message._tag === "Change"
 *         ? Console.log(message.event.revision, message.event.change._tag, message.event.actor)
 *         : Console.log("snapshot")
 *     )
 *   )
 *   // => 1 pairingLinkUpserted operator
 * })
 *
 * const Services = Layer.merge(AccessFeed.layer, BootstrapCredentialService.layer).pipe(
 *   Layer.provide([Repositories.layerMemory, SecretStore.layerMemory]),
 *   Layer.provide(NodeCrypto.layer)
 * )
 *
 * Effect.runPromise(Effect.provide(program, Services))
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export class AccessFeed extends Context.Service<AccessFeed, {
  /**
   * Reads the events after a revision, then follows the feed for as long as the stream runs. A page is read when the last
   * one has been taken, so that a slow reader costs no more than a page. Fails with {@link RevisionUnknown} if the
   * revision lies ahead, with {@link RevisionExpired} if what follows is no longer kept, also if that comes to pass while a
   * reader rests, and with {@link AccessFeedUnavailable}.
   */
  readonly events: (options: { readonly after: number }) => Stream.Stream<AccessEvent, AccessFeedError>
  /** Returns what is there, with the revision to go on from. */
  readonly snapshot: Effect.Effect<AccessSnapshot, AccessFeedError>
  /** Reads backwards what has happened. It looks at no more than 2,000 events; the answer says where to go on. */
  readonly history: (options?: HistoryOptions) => Effect.Effect<HistoryPage, AccessFeedError>
  /**
   * Begins with a snapshot and goes on with every later change. With `after` it goes on from there instead; the snapshot
   * comes first all the same if that revision is unknown, or lies so far back that a snapshot is less to read or that what
   * follows is no longer kept. A reader that rests for so long gets another snapshot.
   */
  readonly subscribe: (options?: {
    readonly after?: number | undefined
    /**
     * Who reads; by default the operator, who reads everything. A session without the scope `access:manage` reads of its
     * own subject's sessions, links and credentials, and of connecting clients with the scope `connect:manage` only. In
     * place of other changes it is told how far the feed has come.
     */
    readonly reader?: Principal | undefined
  }) => Stream.Stream<AccessFeedMessage, AccessFeedError>
}>()("@sallyport/core/access/AccessFeed") {}

const checkInput = Input.check((problem) => new AccessFeedError({ reason: new Input.InvalidInput(problem) }))

const unavailable = (cause: RepositoryError) => new AccessFeedError({ reason: new AccessFeedUnavailable({ cause }) })

const build = Effect.fnUntraced(function*(
  { maxReplay, pageSize, pollMillis, retryMillis }: Settings
): Effect.fn.Return<AccessFeed["Service"], never, AccessRepository> {
  const repository = (yield* AccessRepository).feed

  const snapshot = Effect.flatMap(Clock.currentTimeMillis, (nowMillis) => repository.snapshot({ nowMillis })).pipe(
    Effect.mapError(unavailable),
    Effect.withSpan("AccessFeed.snapshot")
  )

  const hints = Stream.suspend(() => {
    const outage = witnessOf(repository)
    return Stream.ensuring(
      Following.hints({
        wakeUps: repository.wakeups,
        pollInterval: Duration.millis(pollMillis),
        retryDelay: Duration.millis(retryMillis),
        outage
      }),
      outage.left
    )
  })

  const latest = Effect.mapError(repository.latestRevision, unavailable)

  /** Fails if events after a revision are no longer kept. To be asked after a read, as they may go at any time. */
  const checkKept = (after: number): Effect.Effect<void, AccessFeedError> =>
    Effect.flatMap(Effect.mapError(repository.oldestRevision, unavailable), (oldest) =>
      oldest > after + 1
        ? Effect.fail(new AccessFeedError({ reason: new RevisionExpired({ after, oldest }) }))
        : Effect.void)

  /** Reads what there is after a cursor, page by page, moving the cursor. */
  const readFrom = (cursor: { revision: number }): Stream.Stream<AccessEvent, AccessFeedError> =>
    Stream.unwrap(Effect.map(latest, (until) => {
      if (until <= cursor.revision) return Stream.empty
      const page = Effect.suspend(() => repository.read({ after: cursor.revision, limit: pageSize })).pipe(
        Effect.mapError(unavailable),
        Effect.tap(([first]) => first?.revision === cursor.revision + 1 ? Effect.void : checkKept(cursor.revision)),
        Effect.map((events): readonly [ReadonlyArray<AccessEvent>, boolean] => {
          const last = events[events.length - 1]
          if (last !== undefined) cursor.revision = last.revision
          const more = events.length === pageSize
          // Events of types that this version doesn't know are left out, at the end as well.
          if (!more) cursor.revision = Math.max(cursor.revision, until)
          return [events, more]
        })
      )
      return Stream.paginate(
        undefined,
        () => Effect.map(page, ([events, more]) => [events, more ? Option.some(undefined) : Option.none()] as const)
      )
    }))

  const follow = (after: number): Stream.Stream<AccessEvent, AccessFeedError> =>
    Stream.suspend(() => {
      const cursor = { revision: after }
      return Stream.flatMap(hints, () => readFrom(cursor))
    })

  const events: AccessFeed["Service"]["events"] = ({ after }) =>
    Stream.unwrap(Effect.flatMap(latest, (newest) =>
      Number.isSafeInteger(after) && after >= 0 && after <= newest
        ? Effect.succeed(follow(after))
        : Effect.fail(new AccessFeedError({ reason: new RevisionUnknown({ after, latest: newest }) }))))

  return AccessFeed.of({
    events,
    snapshot,
    history: Effect.fn("AccessFeed.history")(function*(options = {}): Effect.fn.Return<HistoryPage, AccessFeedError> {
      yield* checkInput({ before: Input.rule(Schema.Natural, "a revision"), limit: Input.count }, options)
      return yield* Effect.mapError(FeedHistory.read(repository, options), unavailable)
    }),
    subscribe: (options) =>
      Stream.unwrap(Effect.gen(function*() {
        const after = options?.after
        const reader = options?.reader ?? "operator"
        const changesAfter = (revision: number) =>
          follow(revision).pipe(
            Stream.map((event): AccessFeedMessage =>
              FeedReach.reaches(reader, event)
                ? { _tag: "Change", event }
                : { _tag: "Advanced", revision: event.revision }
            ),
            // Of several in a row the last says it all.
            Stream.mapArray((messages) =>
              Arr.append(
                Arr.initNonEmpty(messages).filter((message, index) =>
                  message._tag !== "Advanced" || messages[index + 1]?._tag !== "Advanced"
                ),
                Arr.lastNonEmpty(messages)
              )
            )
          )
        const withSnapshot: Stream.Stream<AccessFeedMessage, AccessFeedError> = Stream.unwrap(
          Effect.map(snapshot, (first) =>
            whileKept(changesAfter(first.revision)).pipe(
              Stream.prepend<AccessFeedMessage>([{ _tag: "Snapshot", snapshot: FeedReach.snapshotOf(reader, first) }])
            ))
        )
        const whileKept = (changes: Stream.Stream<AccessFeedMessage, AccessFeedError>) =>
          Stream.catchIf(changes, ({ reason }) => reason._tag === "RevisionExpired", () => withSnapshot)
        if (after !== undefined && Number.isSafeInteger(after) && after >= 0) {
          const newest = yield* latest
          if (after <= newest && newest - after <= maxReplay) return whileKept(changesAfter(after))
        }
        return withSnapshot
      }))
  })
})

/**
 * Creates the service; {@link layer} is what most hosts want.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  options: Options
): Effect.Effect<AccessFeed["Service"], InvalidAccessFeedOptions, AccessRepository> =>
  Effect.flatMap(settings.fromObject(options), build)

/**
 * Provides the feed with given options. Fails if they cannot work.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (
  options: Options
): Layer.Layer<AccessFeed, InvalidAccessFeedOptions, AccessRepository> => Layer.effect(AccessFeed, make(options))

/**
 * Provides the feed with the options of the configuration, in variables that begin with `SALLYPORT_FEED_`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig: Layer.Layer<
  AccessFeed,
  Config.ConfigError | InvalidAccessFeedOptions,
  AccessRepository
> = Layer.effect(AccessFeed, Effect.flatMap(settings.fromConfig, build))

/**
 * Provides the feed with the defaults of {@link Options}.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<AccessFeed, never, AccessRepository> = Layer.effect(
  AccessFeed,
  Effect.flatMap(settings.defaults, build)
)

const swept = "old events of the access feed"
const sweeperDefaults = { interval: "1 hour", batchSize: 500, retention: "90 days" } as const

/**
 * Deletes events that are past their retention, again and again, the oldest first, in batches. Several processes may do this
 * at once. Without this layer events are kept for ever. While it runs, `history` says the retention.
 *
 * `retention` is how long an event is kept, by default 90 days. `interval` defaults to 1 hour, `batchSize` to 500 events. A
 * failure is logged, and tried again.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerSweeper = (
  options?: Sweeper.RetentionOptions
): Layer.Layer<never, Sweeper.InvalidSweeperOptions, AccessRepository> =>
  Layer.merge(
    Sweeper.layer({
      name: swept,
      options,
      defaults: sweeperDefaults,
      sweep: Effect.map(AccessRepository, ({ feed }) => (limit, _nowMillis, endedBeforeMillis) =>
        feed.sweep({ endedBeforeMillis, limit }))
    }),
    Layer.effectDiscard(Effect.gen(function*() {
      const { feed } = yield* AccessRepository
      yield* FeedHistory.keepFor(feed, yield* Sweeper.settings(swept, options, sweeperDefaults))
    }))
  )

/**
 * Does what {@link layerSweeper} does, with the retention of the configuration, `SALLYPORT_FEED_RETENTION`, by default 90 days.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerSweeperConfig: Layer.Layer<
  never,
  Config.ConfigError | Sweeper.InvalidSweeperOptions,
  AccessRepository
> = Layer.unwrap(
  Effect.map(
    ServiceOptions.fromConfig<Sweeper.RetentionOptions, Sweeper.InvalidSweeperOptions>(
      "SALLYPORT_FEED",
      (problem) => new Sweeper.InvalidSweeperOptions({ sweeper: swept, problem })
    ).millis("retention", sweeperDefaults.retention, 0),
    (retention) => layerSweeper({ retention })
  )
)
