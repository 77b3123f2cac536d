/**
 * How long a read may take, and what ends it.
 */
import * as ConnectionEnd from "@sallyport/core/access/ConnectionEnd"
import type { Session } from "@sallyport/core/access/Session"
import type { SessionCredentialService } from "@sallyport/core/access/SessionCredentialService"
import * as ServiceOptions from "@sallyport/core/ServiceOptions"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { LiveOptions } from "./reader.ts"

/**
 * Reports options of the routes of streams that cannot work, while the layer is built.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidStreamsRoutesOptions extends Schema.TaggedError<InvalidStreamsRoutesOptions>()(
  "InvalidStreamsRoutesOptions",
  { problem: Schema.String }
) {
  override get message() {
    return `The options of the routes of streams cannot work: ${this.problem}`
  }
}

/** Lists what a host may set. */
export interface Options {
  /** How long a long-poll waits for data. Default 20 seconds. */
  readonly longPollTimeout?: Duration.Input | undefined
  /** After which time a stream of events ends, so that its reader connects again. Default 60 seconds. */
  readonly sseDuration?: Duration.Input | undefined
  /** How long a stream of events stays silent at most. Default 15 seconds. */
  readonly heartbeatInterval?: Duration.Input | undefined
}

/**
 * Makes a function that says how long the reads of a session may take. They end with the session, and with the server.
 * `others` names the options that only these routes have.
 */
export const make = Effect.fnUntraced(function*(
  options: Options | undefined,
  others: ReadonlyArray<string> = []
): Effect.fn.Return<
  (session: Session) => LiveOptions,
  InvalidStreamsRoutesOptions,
  SessionCredentialService
> {
  const awaitEnd = yield* ConnectionEnd.make
  const open = yield* ConnectionEnd.makeOpen
  const times = yield* ServiceOptions.decodeObject(options, {
    invalid: (problem) => new InvalidStreamsRoutesOptions({ problem }),
    decode: (read: ServiceOptions.Reader<Options, InvalidStreamsRoutesOptions>) =>
      Effect.all({
        longPollMillis: read.millis("longPollTimeout", "20 seconds"),
        sseMillis: read.millis("sseDuration", "60 seconds"),
        heartbeatMillis: read.millis("heartbeatInterval", "15 seconds")
      }),
    others: ["prefix", "owner", ...others]
  })
  // A reader whose session cannot be looked up connects again, and is told.
  return (session) => ({ ...times, open: open(session), until: Effect.asVoid(awaitEnd(session)) })
})
