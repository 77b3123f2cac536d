import { isRunId, parseCursor, type RunId } from "@sallyport/core/runs/Run"

/** A place in a run's log, which names the run, so that it can't be taken for a place in another one's. */
export interface Position {
  readonly runId: RunId
  readonly seq: number
}

export const formatPosition = ({ runId, seq }: Position): string => `${runId}.${seq}`

/** Reads what {@link formatPosition} writes; anything else is `undefined`. */
export const parsePosition = (text: string): Position | undefined => {
  const dot = text.indexOf(".")
  const runId = text.slice(0, Math.max(dot, 0))
  const seq = parseCursor(text.slice(dot + 1))
  return seq !== undefined && isRunId(runId) ? { runId, seq } : undefined
}
