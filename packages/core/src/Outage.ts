/**
 * Tells the log of an outage: one line when it begins, with the cause, and one when it is over, with how long it took.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

/**
 * Describes one who meets an outage. Failures that follow the first are logged at the level of debugging.
 *
 * @category models
 * @since 0.1.0
 */
export interface Witness {
  /** Notes a failure. An interruption is none. */
  readonly failed: (cause: Cause.Cause<unknown>) => Effect.Effect<void>
  /** Notes a success. */
  readonly worked: Effect.Effect<void>
}

/**
 * Makes what tells of outages of one thing, and returns how another one begins to watch it. However many meet the outage, the
 * log has one line when the first does, and one when none does any more.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (sentences: {
  /** What cannot be done, and what happens meanwhile. */
  readonly begins: string
  /** What works again; how long it took follows. */
  readonly ends: string
}): () => Witness => {
  let failing = 0
  let sinceMillis = 0
  return () => {
    let fails = false
    return {
      failed: (cause) =>
        Effect.suspend(() => {
          if (Cause.hasInterruptsOnly(cause)) return Effect.void
          const first = failing === 0
          if (!fails) failing++
          fails = true
          if (!first) return Effect.logDebug(sentences.begins, cause)
          return Effect.andThen(
            Effect.map(Clock.currentTimeMillis, (nowMillis) => {
              sinceMillis = nowMillis
            }),
            Effect.logWarning(sentences.begins, cause)
          )
        }),
      worked: Effect.suspend(() => {
        if (!fails) return Effect.void
        fails = false
        if (--failing > 0) return Effect.void
        return Effect.flatMap(
          Clock.currentTimeMillis,
          (nowMillis) =>
            Effect.logInfo(`${sentences.ends}, after ${Duration.format(Duration.millis(nowMillis - sinceMillis))}`)
        )
      })
    }
  }
}

const bySource = new WeakMap<object, Map<string, () => Witness>>()

/**
 * Returns a witness of the outages of a source, such as a repository, that all of its followers in a process share.
 *
 * @category constructors
 * @since 0.1.0
 */
export const ofSource = (source: object, sentences: Parameters<typeof make>[0]): Witness => {
  let known = bySource.get(source)
  if (known === undefined) bySource.set(source, known = new Map())
  let watch = known.get(sentences.begins)
  if (watch === undefined) known.set(sentences.begins, watch = make(sentences))
  return watch()
}
