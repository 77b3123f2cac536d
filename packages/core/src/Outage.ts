/**
 * Tells the log of an outage: one line when it begins, with the cause, and one when it is over, with how long it took. One
 * that begins again at once is over only when everything has worked for two seconds, so that what comes and goes does not
 * fill the log.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metrics from "./Metrics.ts"

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
  /** Stops watching. A witness that fails and goes away would keep the outage open for ever. */
  readonly left: Effect.Effect<void>
}

/** What fails again within this time has not been well in between. */
const steadyMillis = 2_000

/**
 * Makes what tells of outages of one thing, and returns how another one begins to watch it. However many meet the outage, the
 * log has one line when the first does, and one when none does any more.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (sentences: {
  /** What is away, in a word or two, for the metric of outages. */
  readonly of: string
  /** What cannot be done, and what happens meanwhile. */
  readonly begins: string
  /** What works again; how long it took follows. */
  readonly ends: string
}): () => Witness => {
  // Those for whom it fails, each with the time since when it has worked again, if it has.
  const failing = new Map<Witness, number | undefined>()
  const counted = (change: 1 | -1) => Metrics.outages(change, { of: sentences.of })
  let beganAt = 0
  let endedAt = -Infinity
  let isSteady = true
  const worked = (witness: Witness) =>
    Effect.flatMap(Clock.currentTimeMillis, (nowMillis) => {
      const since = failing.get(witness) ?? nowMillis
      failing.set(witness, since)
      if (!isSteady && nowMillis - since < steadyMillis) return Effect.void
      failing.delete(witness)
      if (failing.size > 0) return Effect.void
      endedAt = nowMillis
      return Effect.andThen(
        counted(-1),
        Effect.logInfo(`${sentences.ends}, after ${Duration.format(Duration.millis(since - beganAt))}`)
      )
    })
  return () => {
    const witness: Witness = {
      failed: (cause) =>
        Effect.suspend(() => {
          if (Cause.hasInterruptsOnly(cause)) return Effect.void
          const first = failing.size === 0
          failing.set(witness, undefined)
          return !first ? Effect.logDebug(sentences.begins, cause) : Effect.flatMap(
            Clock.currentTimeMillis,
            (nowMillis) => {
              beganAt = nowMillis
              isSteady = nowMillis - endedAt >= steadyMillis
              return Effect.andThen(counted(1), Effect.logWarning(sentences.begins, cause))
            }
          )
        }),
      worked: Effect.suspend(() => failing.has(witness) ? worked(witness) : Effect.void),
      left: Effect.suspend(() => failing.delete(witness) && failing.size === 0 ? counted(-1) : Effect.void)
    }
    return witness
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
