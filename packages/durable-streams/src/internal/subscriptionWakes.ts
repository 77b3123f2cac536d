/**
 * How a worker is told that there is something to do: by a webhook, or through a stream of its own.
 */
import * as Clock from "effect/Clock"
import * as SecureRandom from "effect/crypto/SecureRandom"
import { maxAnswerBytes, readAtMost } from "@sallyport/core/BoundedHttp"
import * as Outage from "@sallyport/core/Outage"
import * as PublicHttp from "@sallyport/node/PublicHttp"
import * as Effect from "effect/Effect"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { DurableStreams } from "../DurableStreams.ts"
import { isBusy, nameOf, StreamSubscriptionRepository, type SubscriptionRow } from "../StreamSubscriptionRepository.ts"
import * as PendingStreams from "./pendingStreams.ts"
import { storage, type StreamSubscriptionsError, WebhookFailed } from "./subscriptionErrors.ts"
import type * as SubscriptionKeys from "./subscriptionKeys.ts"
import type { Settings } from "./subscriptionOptions.ts"

const encoder = new TextEncoder()
const decoder = new TextDecoder()
const decodeAnswer = Schema.decodeUnknownOption(
  Schema.fromJsonString(Schema.Struct({ done: Schema.Literal(true) }))
)

/** Returns the time to wait after some failures: from 1 second to 60, give or take a fifth. */
const backoff = (failures: number) =>
  Effect.map(Random.nextBetween(0.8, 1.2), (jitter) => Math.round(Math.min(60_000, 1000 * 2 ** failures) * jitter))

/** Runs what is tried again anyhow, and tells of its outages. */
export const logFailure = (outage: Outage.Witness) => <E>(effect: Effect.Effect<void, E>): Effect.Effect<void> =>
  Effect.matchCauseEffect(effect, { onFailure: outage.failed, onSuccess: () => outage.worked })

/**
 * Makes the witness of the outages of a store of subscriptions. All that looks after them shares it: what waits for the next
 * append, or for the next worker to tell, could not say that an outage is over.
 */
export const outageOf = (repository: StreamSubscriptionRepository["Service"]): Outage.Witness =>
  Outage.ofSource(repository, {
    of: "subscriptions",
    begins: "Subscriptions cannot be looked after; it is tried again",
    ends: "Subscriptions are looked after again"
  })

/** Makes what begins a wake if there is something to do and no worker at it, and tells the worker in the background. */
export const make = Effect.fnUntraced(function*({ keys, outage, pendingOf, settings }: {
  readonly keys: SubscriptionKeys.SubscriptionKeys
  readonly pendingOf: PendingStreams.PendingStreams["pendingOf"]
  readonly outage: Outage.Witness
  readonly settings: Settings
}) {
  const streams = yield* DurableStreams
  const repository = yield* StreamSubscriptionRepository
  const random = yield* SecureRandom.SecureRandom
  const client = yield* PublicHttp.make({ loopback: settings.allowLoopback })
  const clock = yield* Clock.Clock
  const scope = yield* Scope.Scope
  const now = () => clock.currentTimeMillisUnsafe()

  const callWebhook = Effect.fnUntraced(function*(
    row: SubscriptionRow,
    wakeId: string,
    pending: ReadonlyArray<PendingStreams.PendingStream>
  ) {
    const { subscriptionId } = row
    const failed = (problem: string) => new WebhookFailed({ subscriptionId, problem })
    const root = `${row.rootUrl}/__ds/subscriptions/${encodeURIComponent(row.subscriptionId)}`
    const body = JSON.stringify({
      subscription_id: row.subscriptionId,
      wake_id: wakeId,
      generation: row.generation,
      streams: pending.map(PendingStreams.viewOf),
      callback_url: `${root}/callback`,
      callback_token: Redacted.value(yield* keys.tokenOf(row, wakeId))
    })
    const timestamp = Math.floor(now() / 1000)
    const response = yield* HttpClientRequest.post(row.webhookUrl ?? "").pipe(
      HttpClientRequest.bodyText(body, "application/json"),
      HttpClientRequest.setHeader("webhook-signature", yield* keys.webhookSignature(timestamp, body)),
      client.execute,
      Effect.mapError((error) => failed(PublicHttp.refusalOf(error)?.problem ?? "it cannot be reached"))
    )
    const answer = yield* readAtMost(
      response,
      maxAnswerBytes,
      () => failed(`it answered more than ${maxAnswerBytes} bytes`)
    )
    if (response.status < 200 || response.status > 299) return yield* failed(`it answered ${response.status}`)
    return Option.isSome(decodeAnswer(decoder.decode(answer)))
  }, Effect.scoped)

  /** Tells of a wake; true if all that was told is done already. */
  const tell = Effect.fnUntraced(function*(
    row: SubscriptionRow,
    wakeId: string,
    pending: ReadonlyArray<PendingStreams.PendingStream>
  ) {
    if (row.type === "webhook") {
      return yield* callWebhook(row, wakeId, pending).pipe(
        Effect.timeoutOrElse({
          duration: Math.min(settings.webhookTimeoutMillis, row.leaseMillis),
          orElse: () =>
            Effect.fail(new WebhookFailed({ subscriptionId: row.subscriptionId, problem: "it took too long" }))
        })
      )
    }
    yield* streams.append({
      owner: yield* PendingStreams.ownerOf(row),
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

  const calls = new Map<string, number>()
  /** Takes a place among the calls of an owner, if there is one left, and returns what gives it back. */
  const placeOf = ({ ownerKey, type }: SubscriptionRow): Effect.Effect<void> | undefined => {
    const count = calls.get(ownerKey) ?? 0
    if (type !== "webhook") return Effect.void
    if (count >= settings.maxCalls) return undefined
    calls.set(ownerKey, count + 1)
    return Effect.sync(() => {
      const left = (calls.get(ownerKey) ?? 1) - 1
      if (left === 0) calls.delete(ownerKey)
      else calls.set(ownerKey, left)
    })
  }

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
      const release = placeOf(row)
      if (release === undefined) {
        const dueAtMillis = now() + settings.intervalMillis
        return yield* storage(repository.rest({ ...nameOf(row), wakeId: row.wakeId, failed: false, dueAtMillis }))
      }
      const wakeId = `w_${yield* random.uuidV7()}`
      const begun = yield* storage(repository.wake({
        ...nameOf(row),
        wakeId,
        leaseExpiresAtMillis: row.type === "webhook" ? now() + row.leaseMillis : null,
        nowMillis: now()
      })).pipe(Effect.onError(() => release))
      if (Option.isNone(begun)) return yield* release
      const woken = begun.value
      const telling = tell(woken, wakeId, pending).pipe(
        Effect.ensuring(release),
        Effect.matchCauseEffect({
          onFailure: Effect.fnUntraced(function*(cause) {
            if (woken.failures === 0) {
              yield* Effect.logWarning(
                `Could not tell subscription ${woken.subscriptionId} of a wake; it is tried again`,
                cause
              )
            }
            yield* storage(repository.rest({
              ...nameOf(woken),
              wakeId,
              failed: true,
              dueAtMillis: now() + (yield* backoff(woken.failures))
            }))
          }),
          onSuccess: Effect.fnUntraced(function*(done) {
            if (woken.failures > 0) {
              yield* Effect.logInfo(
                `Subscription ${woken.subscriptionId} is told of wakes again after ${woken.failures} failures`
              )
            }
            if (!done) return yield* storage(repository.told({ ...nameOf(woken), wakeId }))
            const outcome = yield* storage(repository.settle({
              ...nameOf(woken),
              wakeId,
              generation: woken.generation,
              acks: pending.map(({ path, streamId, tail }) => ({ path, streamId, acked: tail })),
              leaseExpiresAtMillis: null,
              nowMillis: now()
            }))
            if (outcome._tag === "Settled") yield* attend(outcome.subscription)
          })
        }),
        logFailure(outage)
      )
      yield* Effect.forkIn(telling, scope)
    },
    Effect.withTracerEnabled(false)
  )

  return attend
})
