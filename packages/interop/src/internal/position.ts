import { isRunId, parseCursor, type RunId } from "@sallyport/core/runs/Run"
import * as Option from "effect/Option"

/** A position in a run's log. It names the run, so it is never used as a position in another run's log. */
export interface Position {
  readonly runId: RunId
  readonly seq: number
}

export const formatPosition = ({ runId, seq }: Position): string => `${runId}.${seq}`

/** Reads what {@link formatPosition} writes; anything else is none. */
export const parsePosition = (text: string): Option.Option<Position> => {
  const dot = text.indexOf(".")
  const runId = text.slice(0, Math.max(dot, 0))
  return isRunId(runId) ? Option.map(parseCursor(text.slice(dot + 1)), (seq) => ({ runId, seq })) : Option.none()
}
