/**
 * The options of subscriptions, and whether they can work.
 */
import * as ServiceOptions from "@sallyport/core/ServiceOptions"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as WebhookUrl from "./webhookUrl.ts"

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

/** Holds the settings, durations in whole milliseconds. */
export interface Settings {
  readonly allowWebhook: (url: URL) => boolean
  readonly intervalMillis: number
  readonly reconcileMillis: number
  readonly webhookTimeoutMillis: number
}

/** Decodes the options of subscriptions. A rule for webhooks can stand in code only. */
export const settings = (rule: Options["allowWebhook"]) =>
  ServiceOptions.make({
    prefix: "SALLYPORT_SUBSCRIPTIONS",
    invalid: (problem) => new InvalidStreamSubscriptionsOptions({ problem }),
    decode: Effect.fnUntraced(function*<E>(read: ServiceOptions.Reader<Options, E>): Effect.fn.Return<Settings, E> {
      const allowLoopback = yield* read.flag("allowLoopback", false)
      return {
        allowWebhook: rule ?? ((url) => WebhookUrl.isPublic(url) || (allowLoopback && WebhookUrl.isLoopback(url))),
        intervalMillis: yield* read.millis("interval", "500 millis"),
        reconcileMillis: yield* read.millis("reconcileInterval", "30 seconds"),
        webhookTimeoutMillis: yield* read.millis("webhookTimeout", "10 seconds")
      }
    })
  })
