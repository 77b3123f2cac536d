/**
 * What can go wrong with subscriptions, and how failures of the store and of streams become it.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { RepositoryError } from "@sallyport/core/RepositoryError"
import { DurableStreamsError, InvalidInput, StorageFailure } from "./streamErrors.ts"

/**
 * Says that there is no such subscription, or that it is another owner's. HTTP 404.
 *
 * @category errors
 * @since 0.1.0
 */
export class SubscriptionNotFound extends Schema.TaggedError<SubscriptionNotFound>()("SubscriptionNotFound", {
  subscriptionId: Schema.String
}) {
  override get message(): string {
    return `There is no subscription ${JSON.stringify(this.subscriptionId)} here; check the id and who is asking`
  }
}

/**
 * Says that the id is in use by a subscription that was created differently. HTTP 409.
 *
 * @category errors
 * @since 0.1.0
 */
export class SubscriptionConflict extends Schema.TaggedError<SubscriptionConflict>()("SubscriptionConflict", {
  subscriptionId: Schema.String
}) {
  override get message(): string {
    return `The subscription ${JSON.stringify(this.subscriptionId)} exists with another configuration; delete it first`
  }
}

/**
 * Says that the server does not call the URL of a webhook. HTTP 400.
 *
 * @category errors
 * @since 0.1.0
 */
export class WebhookRejected extends Schema.TaggedError<WebhookRejected>()("WebhookRejected", {
  problem: Schema.String
}) {
  override get message(): string {
    return `This server does not call that webhook (${this.problem}); give an https URL at a public address`
  }
}

/**
 * Says that a webhook could not be told of a wake, which is tried again. It is for the log, and no caller sees it.
 *
 * @category errors
 * @since 0.1.0
 */
export class WebhookFailed extends Schema.TaggedError<WebhookFailed>()("WebhookFailed", {
  subscriptionId: Schema.String,
  problem: Schema.String
}) {
  override get message(): string {
    return `The webhook of ${JSON.stringify(this.subscriptionId)} was not told of a wake: ${this.problem}`
  }
}

/**
 * Says that the owner has as many subscriptions as one may have. HTTP 409.
 *
 * @category errors
 * @since 0.1.0
 */
export class TooManySubscriptions extends Schema.TaggedError<TooManySubscriptions>()("TooManySubscriptions", {
  limit: Schema.Natural
}) {
  override get message(): string {
    return `You have ${this.limit} subscriptions, as many as you may; delete one first`
  }
}

/**
 * Says that a worker's wake is over: another one has begun, or its lease has expired. HTTP 409.
 *
 * @category errors
 * @since 0.1.0
 */
export class WakeFenced extends Schema.TaggedError<WakeFenced>()("WakeFenced", { subscriptionId: Schema.String }) {
  override get message(): string {
    return `This wake of ${JSON.stringify(this.subscriptionId)} is over; stop working on it, and wait for the next one`
  }
}

/**
 * Says that the token of a wake is none that this server has issued for the subscription. HTTP 401.
 *
 * @category errors
 * @since 0.1.0
 */
export class TokenInvalid extends Schema.TaggedError<TokenInvalid>()("TokenInvalid", {}) {
  override get message(): string {
    return "Authorization must be: Bearer, a space, and the token that came with the wake"
  }
}

/**
 * Says that another worker has the wake. HTTP 409.
 *
 * @category errors
 * @since 0.1.0
 */
export class AlreadyClaimed extends Schema.TaggedError<AlreadyClaimed>()("AlreadyClaimed", {
  subscriptionId: Schema.String,
  holder: Schema.String,
  generation: Schema.Natural
}) {
  override get message(): string {
    return `${JSON.stringify(this.holder)} works on ${JSON.stringify(this.subscriptionId)}; wait for the next wake`
  }
}

/**
 * Says that there is nothing to claim. HTTP 409.
 *
 * @category errors
 * @since 0.1.0
 */
export class NothingPending extends Schema.TaggedError<NothingPending>()("NothingPending", {
  subscriptionId: Schema.String
}) {
  override get message(): string {
    return `${JSON.stringify(this.subscriptionId)} has nothing to work on; wait for the next wake`
  }
}

/**
 * Lists what can go wrong.
 *
 * @category errors
 * @since 0.1.0
 */
export const StreamSubscriptionsErrorReason = Schema.Union([
  SubscriptionNotFound,
  SubscriptionConflict,
  WebhookRejected,
  TooManySubscriptions,
  WakeFenced,
  TokenInvalid,
  AlreadyClaimed,
  NothingPending,
  InvalidInput,
  StorageFailure
])
/**
 * @see {@link StreamSubscriptionsErrorReason}
 *
 * @category errors
 * @since 0.1.0
 */
export type StreamSubscriptionsErrorReason = typeof StreamSubscriptionsErrorReason.Type

/**
 * Reports what went wrong with a subscription; callers branch on the tag of `reason`.
 *
 * @category errors
 * @since 0.1.0
 */
export class StreamSubscriptionsError
  extends Schema.TaggedError<StreamSubscriptionsError>()("StreamSubscriptionsError", {
    reason: StreamSubscriptionsErrorReason
  })
{
  override get message(): string {
    return this.reason.message
  }

  /** Tells whether the same call may succeed later. */
  get isRetryable(): boolean {
    return this.reason._tag === "StorageFailure" && new DurableStreamsError({ reason: this.reason }).isRetryable
  }
}

/** Fails with a reason. */
export const fail = (reason: StreamSubscriptionsErrorReason): Effect.Effect<never, StreamSubscriptionsError> =>
  Effect.fail(new StreamSubscriptionsError({ reason }))

/** Fails with an argument that is out of its domain. */
export const invalid = (field: string, expected: string) => fail(new InvalidInput({ field, expected }))

/** Reports a failing step of the store as a `StorageFailure`. */
export const storage = <A>(
  effect: Effect.Effect<A, RepositoryError>
): Effect.Effect<A, StreamSubscriptionsError> =>
  Effect.mapError(effect, (cause) => new StreamSubscriptionsError({ reason: new StorageFailure({ cause }) }))

/** Turns a failure of the streams into one of the subscriptions. Of what they look up, only the store's can come. */
export const ofStreams = <A>(
  effect: Effect.Effect<A, DurableStreamsError>
): Effect.Effect<A, StreamSubscriptionsError> =>
  Effect.catchTag(
    effect,
    "DurableStreamsError",
    ({ reason }) => reason._tag === "StorageFailure" ? fail(reason) : Effect.die(reason)
  )
