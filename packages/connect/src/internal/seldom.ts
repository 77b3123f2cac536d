/**
 * Tells the log of what strangers can make happen any number of times, such as messages that are not signed as they should be.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

const periodMillis = 60_000

/**
 * Makes what logs an event: the first by a line, and no other within a minute, which the next line counts. Those between are
 * logged at the level of debugging.
 */
export const make = (
  message: string,
  log: (...message: ReadonlyArray<unknown>) => Effect.Effect<void>
): (details: object) => Effect.Effect<void> => {
  let quietUntilMillis = -Infinity
  let unsaid = 0
  return (details) =>
    Effect.flatMap(Clock.currentTimeMillis, (nowMillis) => {
      if (nowMillis < quietUntilMillis) {
        unsaid++
        return Effect.logDebug(message, details)
      }
      const othersSinceTheLastLine = unsaid
      quietUntilMillis = nowMillis + periodMillis
      unsaid = 0
      return log(message, othersSinceTheLastLine === 0 ? details : { ...details, othersSinceTheLastLine })
    })
}
