/**
 * Tells a host of a client that waits for a decision, by a webhook that is signed as Standard Webhooks says.
 *
 * The receiver learns who waits, not the code that the client's screen shows: who approves it has to see that screen.
 */
import { AccessFeed } from "@sallyport/core/access/AccessFeed"
import type { ConnectClient } from "@sallyport/core/access/ConnectClient"
import * as Outage from "@sallyport/core/Outage"
import * as Clock from "effect/Clock"
import * as Mac from "effect/crypto/Mac"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import * as FiberMap from "effect/FiberMap"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import * as ServiceOptions from "@sallyport/core/ServiceOptions"
import * as PublicHttp from "./PublicHttp.ts"

/**
 * Lists the settings of {@link layer}.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** Where to post: an HTTPS URL of a public address. */
  readonly url: string
  /** The secret that the receiver has as well: `whsec_`, and 24 to 64 random bytes in base64. */
  readonly secret: Redacted.Redacted
  /** Whether the URL may be plain HTTP to this machine. Default false. */
  readonly allowLoopback?: boolean | undefined
  /** How long to wait for an answer. Default 15 seconds. */
  readonly timeout?: Duration.Input | undefined
  /** How long to wait before the second attempt; twice as long before each further one, up to 30 minutes. Default 5 seconds. */
  readonly firstRetry?: Duration.Input | undefined
}

/**
 * Reports options of the webhook that cannot work, while the layer is built.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidConnectWebhookOptions extends Schema.TaggedError<InvalidConnectWebhookOptions>()(
  "InvalidConnectWebhookOptions",
  { problem: Schema.String }
) {
  override get message() {
    return `The options of the webhook for waiting clients cannot work: ${this.problem}`
  }
}

class NotTold extends Schema.TaggedError<NotTold>()("NotTold", {
  problem: Schema.String,
  retryAfterMillis: Schema.Natural
}) {
  override get message() {
    return `The webhook for waiting clients was not told: ${this.problem}`
  }
}

const secretForm = "whsec_ and 24 to 64 random bytes in base64"

const encoder = new TextEncoder()
const maxRetryMillis = 1_800_000
/** How many calls are on their way at once, and how many clients wait to be told of. */
const maxCalls = 4
const maxTelling = 256

/**
 * Returns the header `webhook-signature` of a message: HMAC-SHA256 over its id, its time in seconds and its body.
 *
 * @category operations
 * @since 0.1.0
 */
export const sign = Effect.fnUntraced(function*(secret: Redacted.Redacted, message: {
  readonly id: string
  readonly timestamp: number
  readonly body: string
}): Effect.fn.Return<string, InvalidConnectWebhookOptions, Mac.Mac> {
  const mac = yield* Mac.Mac
  const text = Redacted.value(secret)
  const bytes = text.startsWith("whsec_") ? Base64.decode(text.slice(6)) : undefined
  if (bytes === undefined || Result.isFailure(bytes) || bytes.success.length < 24 || bytes.success.length > 64) {
    return yield* new InvalidConnectWebhookOptions({
      problem: `secret must be ${secretForm}`
    })
  }
  const tag = yield* Effect.orDie(
    Effect.flatMap(
      Mac.key(Mac.hmacSha256, bytes.success),
      (key) => mac.sign(key, encoder.encode(`${message.id}.${message.timestamp}.${message.body}`))
    )
  )
  return `v1,${Base64.encode(tag)}`
})

/** Decodes the options. Whether the URL and the secret can work is told by their use. */
const settings = (options: Options) =>
  ServiceOptions.decodeObject(options, {
    invalid: (problem) => new InvalidConnectWebhookOptions({ problem }),
    decode: (read: ServiceOptions.Reader<Options, InvalidConnectWebhookOptions>) =>
      Effect.all({
        url: read.required("url", "a public https address", (url) => typeof url === "string" ? url : undefined),
        secret: read.secret("secret", secretForm, () => true),
        loopback: read.flag("allowLoopback", false),
        timeoutMillis: read.millis("timeout", "15 seconds"),
        firstMillis: read.millis("firstRetry", "5 seconds")
      })
  })

/**
 * Fails if the URL or the secret of a webhook cannot work, before anything is built that changes something. {@link layer}
 * does the same.
 *
 * @category operations
 * @since 0.1.0
 */
export const check = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<void, InvalidConnectWebhookOptions, Mac.Mac> {
  const { loopback, secret, url } = yield* settings(options)
  yield* sign(secret, { id: "", timestamp: 0, body: "" })
  const checkUrl = yield* PublicHttp.makeCheck({ loopback })
  yield* Effect.mapError(
    checkUrl(url),
    ({ message }) => new InvalidConnectWebhookOptions({ problem: `${message}; url must be a public https address` })
  )
})

/** Names a request; the same each time that it is told of, in every process. */
const idOf = ({ proofKeyThumbprint, requestedAt }: ConnectClient): string =>
  `waiting_${proofKeyThumbprint}_${requestedAt.epochMilliseconds}`

const bodyOf = (client: ConnectClient): string =>
  JSON.stringify({
    type: "connect.client.waiting",
    timestamp: DateTime.formatIso(client.requestedAt),
    data: {
      id: client.proofKeyThumbprint,
      account: client.account,
      label: client.label,
      deviceType: client.deviceType,
      ...(client.requestedScopes === undefined ? {} : { requestedScopes: client.requestedScopes }),
      pendingUntil: client.pendingUntil === null ? null : DateTime.formatIso(client.pendingUntil)
    }
  })

/**
 * Posts `connect.client.waiting` for each client that begins to wait, and for those that wait when it starts.
 *
 * **Details**
 *
 * Any answer of 2xx is a success, after which a request is told of no more. After any other, or none, it is tried again as
 * long as the client waits; `Retry-After` is respected, and 410 ends it until the next start. Redirects are not followed,
 * and nothing of an answer is read. Four calls are on their way at once, and 256 clients wait to be told of at most.
 *
 * **Gotchas**
 *
 * Each process that has the layer tells, and tells again after a restart. The header `webhook-id` is the same each time:
 * the receiver drops what it has seen.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<never, InvalidConnectWebhookOptions, AccessFeed | Mac.Mac> =>
  Layer.effectDiscard(Effect.gen(function*() {
    const { firstMillis, loopback, secret, timeoutMillis, url } = yield* settings(options)
    const feed = yield* AccessFeed
    yield* check(options)
    const client = yield* PublicHttp.make({ loopback })
    const calls = yield* Semaphore.make(maxCalls)
    const telling = yield* FiberMap.make<string>()
    // When the request was made of which the receiver knows, by the client.
    const told = new Map<string, number>()
    const receiver = { isGone: false }
    const watch = Outage.make({
      of: "webhook for waiting clients",
      begins: "The webhook for waiting clients is not told; it is tried again as long as they wait",
      ends: "The webhook for waiting clients is told again"
    })

    const call = Effect.fnUntraced(
      function*(id: string, body: string) {
        const timestamp = Math.floor((yield* Clock.currentTimeMillis) / 1000)
        const failed = (problem: string, retryAfterMillis = 0) => new NotTold({ problem, retryAfterMillis })
        const { headers, status } = yield* HttpClientRequest.post(url).pipe(
          HttpClientRequest.bodyText(body, "application/json"),
          HttpClientRequest.setHeaders({
            "webhook-id": id,
            "webhook-timestamp": String(timestamp),
            "webhook-signature": yield* Effect.orDie(sign(secret, { id, timestamp, body }))
          }),
          client.execute,
          Effect.mapError((error) => failed(PublicHttp.refusalOf(error)?.problem ?? "it cannot be reached")),
          Effect.timeoutOrElse({ duration: timeoutMillis, orElse: () => Effect.fail(failed("it took too long")) })
        )
        if (status >= 200 && status < 300) return
        if (status === 410 && !receiver.isGone) {
          receiver.isGone = true
          yield* Effect.logError("The webhook for waiting clients is gone, and is told no more until the next start")
        }
        const seconds = Number(headers["retry-after"] ?? 0)
        return yield* failed(
          `it answered ${status}`,
          Number.isFinite(seconds) ? Math.round(Math.min(maxRetryMillis, Math.max(0, seconds * 1_000))) : 0
        )
      },
      Effect.scoped,
      Effect.withTracerEnabled(false)
    )

    const tellOf = Effect.fnUntraced(function*(waiting: ConnectClient, outage: Outage.Witness) {
      const id = idOf(waiting)
      const body = bodyOf(waiting)
      for (let attempt = 0; !receiver.isGone; attempt++) {
        const failure = yield* calls.withPermits(1)(call(id, body)).pipe(
          Effect.tapCause(outage.failed),
          Effect.match({ onSuccess: () => undefined, onFailure: (error) => error })
        )
        if (failure === undefined) {
          told.set(waiting.proofKeyThumbprint, waiting.requestedAt.epochMilliseconds)
          return yield* outage.worked
        }
        const jitter = yield* Random.nextBetween(0.8, 1.2)
        const waitMillis = Math.max(
          failure.retryAfterMillis,
          Math.min(maxRetryMillis, firstMillis * 2 ** attempt) * jitter
        )
        const endMillis = waiting.pendingUntil?.epochMilliseconds ?? 0
        if ((yield* Clock.currentTimeMillis) + waitMillis >= endMillis) return
        yield* Effect.sleep(Duration.millis(waitMillis))
      }
    })

    /** Tells of a client, and is in no outage once that is over: the client may have been decided about, or wait no more. */
    const tell = (waiting: ConnectClient) =>
      Effect.suspend(() => {
        const outage = watch()
        return Effect.ensuring(tellOf(waiting, outage), outage.left)
      })

    const forget = (thumbprint: string) => {
      told.delete(thumbprint)
      return FiberMap.remove(telling, thumbprint)
    }

    const notice = Effect.fnUntraced(function*(waiting: ConnectClient) {
      const { proofKeyThumbprint, status } = waiting
      if (status !== "pending") {
        return yield* forget(proofKeyThumbprint)
      }
      const isTold = told.get(proofKeyThumbprint) === waiting.requestedAt.epochMilliseconds
      if (receiver.isGone || isTold || (yield* FiberMap.size(telling)) >= maxTelling) return
      yield* FiberMap.run(telling, proofKeyThumbprint, tell(waiting))
    })

    const following = watch()
    yield* Effect.addFinalizer(() => following.left)
    yield* feed.subscribe().pipe(
      Stream.runForEach(Effect.fnUntraced(function*(message) {
        yield* following.worked
        if (message._tag === "Snapshot") {
          const waiting = (message.snapshot.connectClients ?? []).filter(({ status }) => status === "pending")
          const known = new Set(waiting.map(({ proofKeyThumbprint }) => proofKeyThumbprint))
          for (const thumbprint of told.keys()) if (!known.has(thumbprint)) told.delete(thumbprint)
          return yield* Effect.forEach(waiting, notice, { discard: true })
        }
        if (message._tag !== "Change") return
        const { change } = message.event
        if (change._tag === "connectClientUpserted") return yield* notice(change.client)
        if (change._tag === "connectClientRemoved") return yield* forget(change.proofKeyThumbprint)
      })),
      Effect.tapCause(following.failed),
      Effect.retry(Schedule.spaced("5 seconds")),
      Effect.forkScoped
    )
  }))
