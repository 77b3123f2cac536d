/**
 * Where a reader of many runs stands, as text: all runs that started up to a time are read, but for those that are named, each
 * with the number of its last event that was read. A run is named by its start, which no other run of the owner has.
 */
import * as Option from "effect/Option"

/** Says how far one run is read. */
export interface RunPlace {
  readonly startedAtMillis: number
  readonly seq: number
}

/** Says how far many runs are read. */
export interface RunFeedCursor {
  readonly startedAtMillis: number
  readonly open: ReadonlyArray<RunPlace>
}

/** How many runs a reader follows at the same time at most. Proxies take a cursor of so many: headers have 8 KB. */
export const maxOpen = 400

/** Says which runs a cursor is about: it means nothing to readers of others. */
export type RunFeedKind = "owner" | "thread"

// Numbers have 36 digits, which keeps the cursor of many runs short.
const form = /^([ot])([0-9a-z]{1,11})((?:-[0-9a-z]{1,11}\.[0-9a-z]{1,11})*)$/
const write = (value: number): string => value.toString(36)
const read = (text: string | undefined): number => Number.parseInt(text ?? "", 36)

/** Writes where a reader stands. */
export const render = (kind: RunFeedKind, { open, startedAtMillis }: RunFeedCursor): string =>
  kind.slice(0, 1) + write(startedAtMillis) +
  open.map((place) => `-${write(startedAtMillis - place.startedAtMillis)}.${write(place.seq)}`).join("")

/** Reads where a reader stands; none if the text is no such cursor. */
export const parse = (kind: RunFeedKind, text: string): Option.Option<RunFeedCursor> => {
  const [, letter, start, rest = ""] = form.exec(text) ?? []
  const startedAtMillis = read(start)
  const open = rest.split("-").slice(1).map((place): RunPlace => {
    const [behind, seq] = place.split(".")
    return { startedAtMillis: startedAtMillis - read(behind), seq: read(seq) }
  })
  const numbers = open.flatMap((place) => [place.startedAtMillis, place.seq])
  return letter === kind.slice(0, 1) && open.length <= maxOpen &&
      [startedAtMillis, ...numbers].every((value) => Number.isSafeInteger(value) && value >= 0) &&
      new Set(open.map((place) => place.startedAtMillis)).size === open.length
    ? Option.some({ startedAtMillis, open })
    : Option.none()
}
