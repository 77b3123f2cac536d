/**
 * The options of subscriptions, and whether they can work.
 */
import * as ServiceOptions from "@sallyport/core/ServiceOptions"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/**
 * Reports options of subscriptions that cannot work, while the layer is built.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidStreamSubscriptionsOptions extends Schema.TaggedError<InvalidStreamSubscriptionsOptions>()(
  "InvalidStreamSubscriptionsOptions",
  { problem: Schema.String }
) {
  override get message() {
    return `The options of subscriptions cannot work: ${this.problem}`
  }
}

/**
 * Lists the options of subscriptions; each has a default.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Also calls webhooks on this machine over plain HTTP, for development. Default no. */
  readonly allowLoopback?: boolean | undefined
  /** Says which of the webhooks that may be called are called. Default all: those at public addresses, over HTTPS. */
  readonly allowWebhook?: ((url: URL) => boolean) | undefined
  /** How many subscriptions an owner may have. Default 1,000. */
  readonly maxSubscriptions?: number | undefined
  /** How many webhooks of an owner are called at once, in one process. The others wait their turn. Default 16. */
  readonly maxCalls?: number | undefined
  /** How often leases and retries are looked after. Default 500 milliseconds. */
  readonly interval?: Duration.Input | undefined
  /** How often all subscriptions are looked at, for what no append in this process told of. Default 30 seconds. */
  readonly reconcileInterval?: Duration.Input | undefined
  /** How long a webhook may take to answer. Default 10 seconds, but never longer than the lease. */
  readonly webhookTimeout?: Duration.Input | undefined
}

/** Holds the settings, durations in whole milliseconds. */
export interface Settings {
  readonly allowLoopback: boolean
  readonly allowWebhook: (url: URL) => boolean
  readonly maxSubscriptions: number
  readonly maxCalls: number
  readonly intervalMillis: number
  readonly reconcileMillis: number
  readonly webhookTimeoutMillis: number
}

/** Decodes the options of subscriptions. A rule for webhooks can stand in code only. */
export const settings = (rule: Options["allowWebhook"]) =>
  ServiceOptions.make({
    prefix: "SALLYPORT_SUBSCRIPTIONS",
    invalid: (problem) => new InvalidStreamSubscriptionsOptions({ problem }),
    others: ["allowWebhook"],
    decode: Effect.fnUntraced(function*<E>(read: ServiceOptions.Reader<Options, E>): Effect.fn.Return<Settings, E> {
      if (rule !== undefined && typeof rule !== "function") {
        return yield* read.refuse("allowWebhook must be a function that tells of a URL whether it may be called")
      }
      return {
        allowLoopback: yield* read.flag("allowLoopback", false),
        allowWebhook: rule ?? (() => true),
        maxSubscriptions: yield* read.count("maxSubscriptions", 1_000),
        maxCalls: yield* read.count("maxCalls", 16),
        intervalMillis: yield* read.millis("interval", "500 millis"),
        reconcileMillis: yield* read.millis("reconcileInterval", "30 seconds"),
        webhookTimeoutMillis: yield* read.millis("webhookTimeout", "10 seconds")
      }
    })
  })
