/**
 * How a follower waits: it looks, waits for a hint or for the poll interval, and looks again.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type * as Outage from "./Outage.ts"
import type { WakeUp } from "./WakeUps.ts"

/**
 * Describes where a follower hears of changes.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<E> {
  /** The hints of a store, which begin with `anything`. They may fail, and are then listened to again. */
  readonly wakeUps: Stream.Stream<WakeUp | void, E>
  /** How often to look without a hint. */
  readonly pollInterval: Duration.Duration
  /** How long to wait after a failure before listening again; twice as long after each further one, up to 5 seconds. */
  readonly retryDelay: Duration.Duration
  readonly outage: Outage.Witness
  /** Is told when the store gives a hint, so that hints are heard again. What is made up here is none. */
  readonly onHeard?: (() => void) | undefined
  /** Is told when hints may have been lost. */
  readonly onLost?: (() => void) | undefined
}

const longestRetryMillis = 5_000

/**
 * Returns hints that never fail: those of the store, `anything` once per poll interval, and `anything` after hints may have
 * been lost. A reader that looks at each is never behind for longer than the interval.
 *
 * @category constructors
 * @since 0.1.0
 */
export const hints = <E>(options: Options<E>): Stream.Stream<WakeUp> => {
  const { onHeard, onLost, outage, wakeUps } = options
  const pollMillis = Duration.toMillis(options.pollInterval)
  const firstDelayMillis = Math.min(pollMillis, Duration.toMillis(options.retryDelay))
  const anything = (): WakeUp => "anything"
  return Stream.suspend(() => {
    let delayMillis = firstDelayMillis
    const heard = wakeUps.pipe(
      Stream.tap(() => {
        delayMillis = firstDelayMillis
        onHeard?.()
        return outage.worked
      }),
      Stream.map((wakeUp): WakeUp => wakeUp ?? "anything"),
      Stream.catchCause((cause) =>
        Stream.drain(Stream.fromEffect(Effect.suspend(() => {
          onLost?.()
          return outage.failed(cause)
        })))
      ),
      Stream.concat(Stream.fromEffect(Effect.suspend(() => {
        const waitMillis = delayMillis
        delayMillis = Math.min(pollMillis, longestRetryMillis, delayMillis * 2)
        return Effect.as(Effect.sleep(waitMillis), anything())
      }))),
      Stream.forever
    )
    return Stream.merge(heard, Stream.map(Stream.tick(options.pollInterval), anything))
  })
}

/**
 * Follows until it is interrupted: looks at each hint, one after the other. A look that fails is an outage, and is made again
 * at the next hint.
 *
 * @category combinators
 * @since 0.1.0
 */
export const run = <E, E2, R>(
  options: Options<E> & { readonly look: (wakeUp: WakeUp) => Effect.Effect<void, E2, R> }
): Effect.Effect<never, never, R> => {
  const { look, outage } = options
  return Effect.suspend(() => {
    // An outage is over when hints are heard and a look has worked; one of the two is not enough.
    let deaf = false
    const listening: Outage.Witness = {
      failed: (cause) => {
        deaf = true
        return outage.failed(cause)
      },
      worked: Effect.sync(() => {
        deaf = false
      }),
      left: outage.left
    }
    return Stream.runForEach(
      hints({ ...options, outage: listening }),
      (wakeUp) =>
        Effect.matchCauseEffect(look(wakeUp), {
          onFailure: outage.failed,
          onSuccess: () => deaf ? Effect.void : outage.worked
        })
    ).pipe(Effect.andThen(Effect.never), Effect.ensuring(outage.left))
  }).pipe(Effect.withTracerEnabled(false))
}
