/**
 * Subscriptions: durable cursors over many streams that wake a worker, by a webhook or through a stream of its own, when
 * there is something new.
 *
 * A wake has a generation, and a lease within which its worker answers. What a worker has done it acknowledges by the
 * position of each stream; what it has not is told again. A worker that lost its lease is fenced by the generation.
 */
import { ownerKey, RunOwner } from "@sallyport/core/Run"
import { SecretStore, type SecretStoreError } from "@sallyport/core/SecretStore"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type * as CryptoError from "effect/crypto/CryptoError"
import * as Digest from "effect/crypto/Digest"
import * as Mac from "effect/crypto/Mac"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Signature from "effect/crypto/Signature"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { formatOffset, isStreamPath, parseOffset } from "./DurableStream.ts"
import { DurableStreams, type DurableStreamsError, InvalidInput, StorageFailure } from "./DurableStreams.ts"
import * as Glob from "./internal/glob.ts"
import * as WebhookUrl from "./internal/webhookUrl.ts"
import {
  isBusy,
  type Position,
  StreamSubscriptionRepository,
  type StreamSubscriptionRepositoryError,
  type SubscriptionLink,
  type SubscriptionRow
} from "./StreamSubscriptionRepository.ts"

// -----------------------------------------------------------------------------
// Errors
// -----------------------------------------------------------------------------

/** Says that there is no such subscription, or that it is somebody else's. HTTP 404. */
export class SubscriptionNotFound extends Schema.TaggedError<SubscriptionNotFound>()("SubscriptionNotFound", {
  subscriptionId: Schema.String
}) {
  override get message(): string {
    return `There is no subscription ${JSON.stringify(this.subscriptionId)} here; check the id and who is asking`
  }
}

/** Says that the id is in use by a subscription that was created differently. HTTP 409. */
export class SubscriptionConflict extends Schema.TaggedError<SubscriptionConflict>()("SubscriptionConflict", {
  subscriptionId: Schema.String
}) {
  override get message(): string {
    return `The subscription ${JSON.stringify(this.subscriptionId)} exists with another configuration; delete it first`
  }
}

/** Says that the server does not call the URL of a webhook. HTTP 400. */
export class WebhookRejected extends Schema.TaggedError<WebhookRejected>()("WebhookRejected", {}) {
  override get message(): string {
    return "This server does not call that webhook; give an https URL with a public host name and without credentials"
  }
}

/** Says that a worker's wake is over: another one has begun, or its lease has expired. HTTP 409. */
export class WakeFenced extends Schema.TaggedError<WakeFenced>()("WakeFenced", { subscriptionId: Schema.String }) {
  override get message(): string {
    return `This wake of ${JSON.stringify(this.subscriptionId)} is over; stop working on it, and wait for the next one`
  }
}

/** Says that the token of a wake is none that this server has issued for the subscription. HTTP 401. */
export class TokenInvalid extends Schema.TaggedError<TokenInvalid>()("TokenInvalid", {}) {
  override get message(): string {
    return "Authorization must be: Bearer, a space, and the token that came with the wake"
  }
}

/** Says that another worker has the wake. HTTP 409. */
export class AlreadyClaimed extends Schema.TaggedError<AlreadyClaimed>()("AlreadyClaimed", {
  subscriptionId: Schema.String,
  holder: Schema.String,
  generation: Schema.Natural
}) {
  override get message(): string {
    return `${JSON.stringify(this.holder)} works on ${JSON.stringify(this.subscriptionId)}; wait for the next wake`
  }
}

/** Says that there is nothing to claim. HTTP 409. */
export class NothingPending extends Schema.TaggedError<NothingPending>()("NothingPending", {
  subscriptionId: Schema.String
}) {
  override get message(): string {
    return `${JSON.stringify(this.subscriptionId)} has nothing to work on; wait for the next wake`
  }
}

/** Lists what can go wrong. */
export const StreamSubscriptionsErrorReason = Schema.Union([
  SubscriptionNotFound,
  SubscriptionConflict,
  WebhookRejected,
  WakeFenced,
  TokenInvalid,
  AlreadyClaimed,
  NothingPending,
  InvalidInput,
  StorageFailure
])
/** @see {@link StreamSubscriptionsErrorReason} */
export type StreamSubscriptionsErrorReason = typeof StreamSubscriptionsErrorReason.Type

/** Reports what went wrong with a subscription; callers branch on the tag of `reason`. */
export class StreamSubscriptionsError
  extends Schema.TaggedError<StreamSubscriptionsError>()("StreamSubscriptionsError", {
    reason: StreamSubscriptionsErrorReason
  })
{
  override get message(): string {
    return this.reason.message
  }
}

const fail = (reason: StreamSubscriptionsErrorReason): Effect.Effect<never, StreamSubscriptionsError> =>
  Effect.fail(new StreamSubscriptionsError({ reason }))

const invalid = (field: string, expected: string) => fail(new InvalidInput({ field, expected }))

// -----------------------------------------------------------------------------
// Service
// -----------------------------------------------------------------------------

/** Describes a subscription that is to be created. */
export interface CreateOptions {
  readonly owner: RunOwner
  readonly subscriptionId: string
  /** A worker is called at a URL, or reads from a stream of JSON that it is woken. */
  readonly target:
    | { readonly type: "webhook"; readonly url: string }
    | { readonly type: "pull-wake"; readonly wakeStream: string }
  /** `*` stands for one segment of a path or a part of one, `**` for any number of segments. */
  readonly pattern?: string | undefined
  /** Paths of streams, which need not exist yet. */
  readonly streams?: ReadonlyArray<string> | undefined
  /** How long a worker has to answer: 1 second to 10 minutes. Default 30 seconds. */
  readonly lease?: Duration.Input | undefined
  readonly description?: string | undefined
  /** The URL of the root of streams, which workers call back. */
  readonly rootUrl: string
}

/** Describes a subscription. */
export interface Subscription {
  readonly row: SubscriptionRow
  readonly links: ReadonlyArray<SubscriptionLink>
}

/** Describes a stream with something new. */
export interface PendingStream {
  readonly path: string
  readonly explicit: boolean
  readonly acked: number
  readonly tail: number
}

/** Describes a wake that a worker has claimed. */
export interface Claim {
  readonly wakeId: string
  readonly generation: number
  readonly token: Redacted.Redacted
  readonly leaseMillis: number
  /** At most 1,000; the others come with the next wake. */
  readonly streams: ReadonlyArray<PendingStream>
}

/** Describes what a worker has done. */
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

/** Describes the key that signs webhooks, and where to find it by. */
export interface SigningKey {
  readonly kid: string
  /** The public key as a JWK (RFC 8037). */
  readonly jwk: {
    readonly kty: "OKP"
    readonly crv: "Ed25519"
    readonly kid: string
    readonly use: "sig"
    readonly alg: "EdDSA"
    readonly x: string
  }
}

/** Provides subscriptions. */
export class StreamSubscriptions extends Context.Service<StreamSubscriptions, {
  /** The key that signs webhooks. */
  readonly signingKey: SigningKey
  /**
   * Creates a subscription, or returns the one that is there if it was created the same way. Streams that exist are linked
   * at their tails. Fails with `InvalidInput`, `WebhookRejected` and `SubscriptionConflict`.
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

/** Describes the settings of subscriptions. */
export interface StreamSubscriptionsOptions {
  /** Also calls webhooks at `http://localhost` and `http://127.0.0.x`, for development. Default no. */
  readonly allowLoopback?: boolean | undefined
  /** Says which webhooks are called, instead. Default https with a public host name or address, without credentials. */
  readonly allowWebhook?: ((url: URL) => boolean) | undefined
  /** How often leases and retries are looked after. Default 500 milliseconds. */
  readonly interval?: Duration.Input | undefined
  /** How often all subscriptions are looked at, for what no append in this process told of. Default 30 seconds. */
  readonly reconcileInterval?: Duration.Input | undefined
  /** How long a webhook may take to answer. Default 10 seconds, but never longer than the lease. */
  readonly webhookTimeout?: Duration.Input | undefined
}

const secretName = "durable-streams.subscriptions"
const maxPending = 1_000
const encoder = new TextEncoder()
const isOwner = Schema.is(RunOwner)
const WakeToken = Schema.fromJsonString(Schema.Tuple([Schema.String, Schema.String, Schema.Natural, Schema.String]))
const decodeToken = Schema.decodeUnknownOption(WakeToken)
const decodeOwner = Schema.decodeUnknownEffect(Schema.fromJsonString(RunOwner))
const decodeAnswer = Schema.decodeUnknownOption(Schema.Struct({ done: Schema.Literal(true) }))
const isId = Schema.is(Schema.String.check(Schema.isPattern(/^[^\p{Cc}\p{Cs}/]{1,255}$/u)))
const isText = Schema.is(Schema.String.check(Schema.isPattern(/^[^\p{Cc}\p{Cs}]{1,1024}$/u)))

const storage = <A>(
  effect: Effect.Effect<A, StreamSubscriptionRepositoryError>
): Effect.Effect<A, StreamSubscriptionsError> =>
  Effect.mapError(
    effect,
    ({ cause, operation }) => new StreamSubscriptionsError({ reason: new StorageFailure({ operation, cause }) })
  )

/** Turns a failure of the streams into one of the subscriptions, which have only the store's in common. */
const ofStreams = <A>(effect: Effect.Effect<A, DurableStreamsError>): Effect.Effect<A, StreamSubscriptionsError> =>
  Effect.mapError(effect, (error) =>
    new StreamSubscriptionsError({
      reason: error.reason._tag === "StorageFailure"
        ? error.reason
        : new StorageFailure({ operation: "read the streams of a subscription", cause: error })
    }))

const make = Effect.fnUntraced(function*(options: StreamSubscriptionsOptions) {
  const streams = yield* DurableStreams
  const repository = yield* StreamSubscriptionRepository
  const random = yield* SecureRandom.SecureRandom
  const signature = yield* Signature.Signature
  const mac = yield* Mac.Mac
  const digest = yield* Digest.Digest
  const secrets = yield* SecretStore
  const client = yield* HttpClient.HttpClient
  const clock = yield* Clock.Clock
  const scope = yield* Scope.Scope
  const now = () => clock.currentTimeMillisUnsafe()
  const webhookTimeout = Duration.toMillis(options.webhookTimeout ?? "10 seconds")
  const allowWebhook = options.allowWebhook ??
    ((url: URL) => WebhookUrl.isPublic(url) || (options.allowLoopback === true && WebhookUrl.isLoopback(url)))

  // ---- Keys -----------------------------------------------------------------------------------------------------

  // One secret, two keys: what signs for others never is what we recognise our own tokens by.
  const secret = Redacted.value(yield* secrets.getOrCreateRandom(secretName, 64))
  const tokenKey = yield* Mac.key(Mac.hmacSha256, secret.slice(0, 32))
  const privateKey = yield* Signature.privateKey(Signature.ed25519, secret.slice(32, 64))
  const x = Base64Url.encode(yield* Signature.toBytes(yield* signature.publicKeyOf(privateKey)))
  // RFC 7638: the members that are required, in the order of their names.
  const thumbprint = yield* digest.digest(
    Digest.sha256,
    encoder.encode(JSON.stringify({ crv: "Ed25519", kty: "OKP", x }))
  )
  const kid = `ds_${Base64Url.encode(thumbprint)}`
  const signingKey: SigningKey = { kid, jwk: { kty: "OKP", crv: "Ed25519", kid, use: "sig", alg: "EdDSA", x } }

  const tokenOf = Effect.fnUntraced(function*(row: SubscriptionRow, wakeId: string) {
    const body = Base64Url.encode(JSON.stringify([row.ownerKey, row.subscriptionId, row.generation, wakeId]))
    const tag = yield* Effect.orDie(mac.sign(tokenKey, encoder.encode(body)))
    return Redacted.make(`${body}.${Base64Url.encode(tag)}`, { label: "wake-token" })
  })
  const verifyToken = Effect.fnUntraced(function*(token: Redacted.Redacted) {
    const [body = "", tag = "", ...rest] = Redacted.value(token).split(".")
    const bytes = Base64Url.decode(tag)
    const text = Base64Url.decodeString(body)
    if (rest.length > 0 || Result.isFailure(bytes) || Result.isFailure(text)) return yield* fail(new TokenInvalid())
    if (!(yield* Effect.orDie(mac.verify(tokenKey, bytes.success, encoder.encode(body))))) {
      return yield* fail(new TokenInvalid())
    }
    const claims = decodeToken(text.success)
    if (Option.isNone(claims)) return yield* fail(new TokenInvalid())
    const [owner, subscriptionId, generation, wakeId] = claims.value
    return { ownerKey: owner, subscriptionId, generation, wakeId }
  })

  // ---- What there is to do --------------------------------------------------------------------------------------

  /** Calls a function for each stream that matches, until it answers false. */
  const forMatching = Effect.fnUntraced(function*(
    owner: RunOwner,
    pattern: string,
    visit: (stream: { readonly path: string; readonly tail: number }) => boolean
  ) {
    const matches = Glob.matcher(pattern)
    const prefix = Glob.literalPrefix(pattern)
    const limit = 500
    let after = ""
    while (true) {
      const page = yield* ofStreams(streams.list({ owner, prefix, after, limit }))
      for (const stream of page) {
        after = stream.path
        if (matches(stream.path) && !visit(stream)) return
      }
      if (page.length < limit) return
    }
  })

  const tailOf = (owner: RunOwner, path: string): Effect.Effect<number, StreamSubscriptionsError> =>
    ofStreams(
      Effect.catchReasons(Effect.map(streams.get({ owner, path }), ({ tail }) => tail), "DurableStreamsError", {
        StreamNotFound: () => Effect.succeed(0),
        StreamGone: () => Effect.succeed(0)
      })
    )

  const ownerOf = (row: SubscriptionRow) => Effect.orDie(decodeOwner(row.owner))

  /** Returns the streams with something new, those that a pattern matches first. */
  const pendingOf = Effect.fnUntraced(function*(
    row: SubscriptionRow
  ): Effect.fn.Return<ReadonlyArray<PendingStream>, StreamSubscriptionsError> {
    const owner = yield* ownerOf(row)
    const links = new Map((yield* storage(repository.links(row))).map((link) => [link.path, link]))
    const pending: Array<PendingStream> = []
    const seen = new Set<string>()
    if (row.pattern !== null) {
      yield* forMatching(owner, row.pattern, ({ path, tail }) => {
        // A worker's own wakes are no news to it.
        if (path === row.wakeStream) return true
        const link = links.get(path)
        seen.add(path)
        // A stream without a link was created after the subscription, and all of it is new.
        const acked = link?.acked ?? 0
        if (tail > acked) pending.push({ path, explicit: link?.explicit ?? false, acked, tail })
        return pending.length < maxPending
      })
    }
    for (const { acked, explicit, path } of links.values()) {
      if (pending.length >= maxPending) break
      if (!explicit || seen.has(path)) continue
      const tail = yield* tailOf(owner, path)
      if (tail > acked) pending.push({ path, explicit, acked, tail })
    }
    return pending
  })

  // ---- Waking ---------------------------------------------------------------------------------------------------

  /** Returns the time to wait after some failures: from 1 second to 60, give or take a fifth. */
  const backoff = (failures: number) =>
    Effect.map(Random.nextBetween(0.8, 1.2), (jitter) => Math.round(Math.min(60_000, 1000 * 2 ** failures) * jitter))

  const callWebhook = Effect.fnUntraced(function*(
    row: SubscriptionRow,
    wakeId: string,
    pending: ReadonlyArray<PendingStream>
  ) {
    const root = `${row.rootUrl}/__ds/subscriptions/${encodeURIComponent(row.subscriptionId)}`
    const body = JSON.stringify({
      subscription_id: row.subscriptionId,
      wake_id: wakeId,
      generation: row.generation,
      streams: pending.map(viewOf),
      callback_url: `${root}/callback`,
      callback_token: Redacted.value(yield* tokenOf(row, wakeId))
    })
    const timestamp = Math.floor(now() / 1000)
    const signed = yield* signature.sign(privateKey, encoder.encode(`${timestamp}.${body}`))
    const response = yield* HttpClientRequest.post(row.webhookUrl ?? "").pipe(
      HttpClientRequest.bodyText(body, "application/json"),
      HttpClientRequest.setHeader(
        "webhook-signature",
        `t=${timestamp},kid=${kid},ed25519=${Base64Url.encode(signed)}`
      ),
      client.execute
    )
    if (response.status < 200 || response.status > 299) {
      return yield* Effect.fail(new Error(`The webhook answered ${response.status}`))
    }
    return Option.isSome(decodeAnswer(yield* Effect.orElseSucceed(response.json, () => null)))
  }, Effect.scoped)

  /** Tells of a wake; true where all that was told is done already. */
  const tell = Effect.fnUntraced(function*(
    row: SubscriptionRow,
    wakeId: string,
    pending: ReadonlyArray<PendingStream>
  ) {
    if (row.type === "webhook") {
      return yield* callWebhook(row, wakeId, pending).pipe(
        Effect.timeout(Math.min(webhookTimeout, row.leaseMillis)),
        // A redirect would lead past the check of the URL.
        Effect.provideService(FetchHttpClient.RequestInit, { redirect: "error" })
      )
    }
    yield* streams.append({
      owner: yield* ownerOf(row),
      path: row.wakeStream ?? "",
      contentType: "application/json",
      data: encoder.encode(JSON.stringify({
        type: "wake",
        subscription_id: row.subscriptionId,
        stream: pending[0]?.path ?? "",
        generation: row.generation,
        ts: now()
      }))
    })
    return false
  })

  /** Begins a wake where there is something to do and nobody at it. */
  const attend: (row: SubscriptionRow) => Effect.Effect<void, StreamSubscriptionsError> = Effect.fnUntraced(
    function*(row) {
      if (isBusy(row, now())) return
      // After a failure nothing is told before its time, however much comes.
      if (row.wakeId === null && row.dueAtMillis !== null && row.dueAtMillis > now()) return
      const pending = yield* pendingOf(row)
      if (pending.length === 0) {
        if (row.dueAtMillis !== null) {
          yield* storage(repository.rest({ ...nameOf(row), wakeId: row.wakeId, failed: false, dueAtMillis: null }))
        }
        return
      }
      const wakeId = `w_${yield* random.uuidV7()}`
      const woken = yield* storage(repository.wake({
        ...nameOf(row),
        wakeId,
        leaseExpiresAtMillis: row.type === "webhook" ? now() + row.leaseMillis : null,
        nowMillis: now()
      }))
      if (woken === undefined) return
      const telling = tell(woken, wakeId, pending).pipe(
        Effect.matchCauseEffect({
          onFailure: Effect.fnUntraced(function*(cause) {
            yield* Effect.logWarning(`Could not tell subscription ${woken.subscriptionId} of a wake`, cause)
            yield* storage(repository.rest({
              ...nameOf(woken),
              wakeId,
              failed: true,
              dueAtMillis: now() + (yield* backoff(woken.failures))
            }))
          }),
          onSuccess: Effect.fnUntraced(function*(done) {
            if (!done) return yield* storage(repository.told({ ...nameOf(woken), wakeId }))
            const outcome = yield* storage(repository.settle({
              ...nameOf(woken),
              wakeId,
              generation: woken.generation,
              acks: pending.map(({ path, tail }) => ({ path, acked: tail })),
              leaseExpiresAtMillis: null,
              nowMillis: now()
            }))
            if (outcome._tag === "Settled") yield* attend(outcome.subscription)
          })
        }),
        logged
      )
      yield* Effect.forkIn(telling, scope)
    },
    Effect.withTracerEnabled(false)
  )

  const logged = <E>(effect: Effect.Effect<void, E>): Effect.Effect<void> =>
    Effect.catchCause(
      effect,
      (cause) => Effect.logWarning("Could not look after subscriptions; it is tried again", cause)
    )

  // ---- Upkeep ---------------------------------------------------------------------------------------------------

  interface Dirty {
    readonly owner: RunOwner
    readonly paths: Set<string>
  }
  let dirty = new Map<string, Dirty>()
  let wakeUp: (() => void) | undefined
  yield* streams.onAppend(({ owner, path }) => {
    const key = ownerKey(owner)
    const known = dirty.get(key)
    if (known !== undefined) known.paths.add(path)
    else dirty.set(key, { owner, paths: new Set([path]) })
    wakeUp?.()
  })
  const someAppend = Effect.callback<void>((resume) => {
    if (dirty.size > 0) return resume(Effect.void)
    wakeUp = () => {
      wakeUp = undefined
      resume(Effect.void)
    }
  })
  const isConcerned = Effect.fnUntraced(function*(row: SubscriptionRow, paths: ReadonlySet<string>) {
    if (row.pattern !== null) {
      const matches = Glob.matcher(row.pattern)
      for (const path of paths) if (path !== row.wakeStream && matches(path)) return true
    }
    const links = yield* storage(repository.links(row))
    return links.some(({ explicit, path }) => explicit && paths.has(path))
  })
  const attendDirty = Effect.suspend(() => {
    const taken = dirty
    dirty = new Map()
    return Effect.forEach(
      taken,
      ([key, { paths }]) =>
        Effect.flatMap(storage(repository.ofOwner(key)), (rows) =>
          Effect.forEach(
            rows,
            (row) => Effect.flatMap(isConcerned(row, paths), (concerned) => concerned ? attend(row) : Effect.void),
            { discard: true }
          )),
      { discard: true }
    )
  })
  // Under load appends come by the thousand; a look at the subscriptions then serves many.
  yield* someAppend.pipe(
    Effect.andThen(Effect.sleep("5 millis")),
    Effect.andThen(logged(attendDirty)),
    Effect.forever,
    Effect.withTracerEnabled(false),
    Effect.forkScoped
  )
  const attendDue = Effect.flatMap(
    Effect.suspend(() => storage(repository.due({ nowMillis: now(), limit: 100 }))),
    (rows) => Effect.forEach(rows, attend, { discard: true })
  )
  yield* logged(attendDue).pipe(
    Effect.andThen(Effect.sleep(options.interval ?? "500 millis")),
    Effect.forever,
    Effect.withTracerEnabled(false),
    Effect.forkScoped
  )
  const attendAll = Effect.gen(function*() {
    let after = { ownerKey: "", subscriptionId: "" }
    while (true) {
      const rows = yield* storage(repository.page({ after, limit: 100 }))
      for (const row of rows) {
        yield* attend(row)
        after = nameOf(row)
      }
      if (rows.length < 100) return
    }
  })
  yield* logged(attendAll).pipe(
    Effect.andThen(Effect.sleep(options.reconcileInterval ?? "30 seconds")),
    Effect.forever,
    Effect.withTracerEnabled(false),
    Effect.forkScoped
  )

  // ---- Operations -----------------------------------------------------------------------------------------------

  const checkPaths = (paths: ReadonlyArray<string>) =>
    paths.every(isStreamPath) ? Effect.void : invalid("streams", "paths of streams, relative to their root")

  const linksAtTail = (owner: RunOwner, paths: ReadonlyArray<string>, pattern: string | null) => {
    const matches = pattern === null ? () => false : Glob.matcher(pattern)
    return Effect.forEach(paths, (path) =>
      Effect.map(tailOf(owner, path), (acked): SubscriptionLink => ({
        path,
        acked,
        explicit: true,
        glob: matches(path)
      })))
  }

  const find = Effect.fnUntraced(function*(name: { readonly owner: RunOwner; readonly subscriptionId: string }) {
    const { subscriptionId } = name
    const row = yield* storage(repository.get({ ownerKey: ownerKey(name.owner), subscriptionId }))
    return row ?? (yield* fail(new SubscriptionNotFound({ subscriptionId })))
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
      const url = URL.parse(target.url)
      if (url === null || !allowWebhook(url)) return yield* fail(new WebhookRejected())
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
      yield* forMatching(owner, pattern, ({ path, tail }) => {
        if (!linked.has(path)) links.push({ path, acked: tail, explicit: false, glob: true })
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
      nowMillis: now()
    }))
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
    const token = yield* tokenOf(outcome.subscription, wakeId)
    return { wakeId, generation, token, leaseMillis, streams: pending }
  })

  const settle = Effect.fn("StreamSubscriptions.settle")(function*(asked: Settlement) {
    const { acks = [], done, subscriptionId } = asked
    const claims = yield* verifyToken(asked.token)
    if (claims.subscriptionId !== subscriptionId) return yield* fail(new TokenInvalid())
    const fenced = fail(new WakeFenced({ subscriptionId }))
    if (claims.generation !== asked.generation || claims.wakeId !== asked.wakeId) return yield* fenced
    const row = yield* storage(repository.get(claims))
    if (row === undefined) return yield* fail(new SubscriptionNotFound({ subscriptionId }))
    const owner = yield* ownerOf(row)
    const matches = row.pattern === null ? () => false : Glob.matcher(row.pattern)
    const linked = new Set((yield* storage(repository.links(row))).map(({ path }) => path))
    const positions: Array<Position> = []
    for (const { offset, path } of acks) {
      const acked = parseOffset(offset)
      if (acked === undefined) return yield* invalid("acks.offset", "an offset that this server has answered")
      if (!linked.has(path) && !matches(path)) return yield* invalid("acks.stream", "a stream of this subscription")
      if (acked > (yield* tailOf(owner, path))) return yield* invalid("acks.offset", "at most the tail of the stream")
      positions.push({ path, acked })
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
    signingKey,
    create,
    get,
    delete: Effect.fn("StreamSubscriptions.delete")(({ owner, subscriptionId }) =>
      storage(repository.delete({ ownerKey: ownerKey(owner), subscriptionId }))
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
      if (!(yield* storage(repository.unlink({ ownerKey: ownerKey(owner), subscriptionId, path })))) {
        return yield* fail(new SubscriptionNotFound({ subscriptionId }))
      }
    }),
    claim,
    settle
  })
})

const nameOf = ({ ownerKey: key, subscriptionId }: SubscriptionRow) => ({ ownerKey: key, subscriptionId })

/** Returns a stream with something new in the form that the protocol gives it. */
export const viewOf = (stream: PendingStream) => ({
  path: stream.path,
  link_type: stream.explicit ? "explicit" : "glob",
  acked_offset: formatOffset(stream.acked),
  tail_offset: formatOffset(stream.tail),
  has_pending: stream.tail > stream.acked
})

type Requirements =
  | DurableStreams
  | StreamSubscriptionRepository
  | SecretStore
  | HttpClient.HttpClient
  | SecureRandom.SecureRandom
  | Signature.Signature
  | Mac.Mac
  | Digest.Digest

/**
 * Provides subscriptions with given settings. Its keys are a secret that all processes share; wakes are told, leases and
 * retries looked after for as long as the layer stands, in as many processes as there are.
 */
export const layerWith = (
  options: StreamSubscriptionsOptions
): Layer.Layer<StreamSubscriptions, SecretStoreError | CryptoError.CryptoError, Requirements> =>
  Layer.effect(StreamSubscriptions, make(options))

/** Provides subscriptions with the default settings of {@link StreamSubscriptionsOptions}. */
export const layer: Layer.Layer<StreamSubscriptions, SecretStoreError | CryptoError.CryptoError, Requirements> =
  layerWith({})
