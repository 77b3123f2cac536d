/**
 * How long a session may go on, as its issuer asks.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"

/** The longest lifetime that can be asked for, in milliseconds: 10 years. */
const maximumMillis = 315_576_000_000

/** Returns a lifetime in whole milliseconds, or undefined if it is none, or longer than it may be. */
export const toMillis = (lifetime: Duration.Input): number | undefined => {
  const millis = Math.round(Option.match(Duration.fromInput(lifetime), { onNone: () => 0, onSome: Duration.toMillis }))
  return millis > 0 && millis <= maximumMillis ? millis : undefined
}

/** Returns the earliest of some times, or the shortest of some lifetimes; null stands for none. */
export const earliest = (...times: ReadonlyArray<number | null>): number | null => {
  const given = times.filter((time) => time !== null)
  return given.length === 0 ? null : Math.min(...given)
}
