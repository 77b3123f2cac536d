/**
 * How runs end: the reasons that the log gives by itself, and the data of terminal events.
 */
import * as Cause from "effect/Cause"
import * as Exit from "effect/Exit"
import type * as Schema from "effect/Schema"
import { isEnded, type RunEnd } from "../Run.ts"
import type { RunRow } from "../RunEventRepository.ts"
import { encode, utf8Length } from "./runJson.ts"

/**
 * Names the reason of a run whose process died, or lost its database, for longer than the lease.
 *
 * @category constants
 * @since 0.1.0
 */
export const staleRun = "stale_run"
/**
 * Names the reason of a run whose process was shut down.
 *
 * @category constants
 * @since 0.1.0
 */
export const serverShutdown = "server_shutdown"
/**
 * Names the reason of a run that was aborted before it began, unless the caller that aborted it gave another.
 *
 * @category constants
 * @since 0.1.0
 */
export const abortedBeforeStart = "aborted_before_start"

/**
 * Names the reason of a run that was aborted for another run of its thread, which asked for that.
 *
 * @category constants
 * @since 0.1.0
 */
export const interruptedByRun = "interrupted_by_run"

/** Describes an end, with the data of its terminal event. */
export interface EncodedEnd {
  readonly end: RunEnd
  readonly data: string
}

/** Returns the data of a terminal event. */
export const endData = (end: RunEnd): string => JSON.stringify(end)

const encodeEnd = (end: RunEnd): EncodedEnd => ({ end, data: endData(end) })
const failedWith = (reason: string, message: string): EncodedEnd =>
  encodeEnd({ status: "failed", reason, error: { message } })

/** The data of the terminal event of a run whose lease has expired. */
export const staleData: string = failedWith(staleRun, "The server that executed the run has gone").data

/** The end of a run that was begun to be executed again and again, and has never come forward. */
export const spentEnd: EncodedEnd = failedWith(
  staleRun,
  "The server that executed the run has gone, each time it was begun"
)

/** The data of the terminal event of a run that another one has interrupted. */
export const interruptedData: string = endData({ status: "aborted", reason: interruptedByRun })

/** The data of the terminal event of a run that was aborted before it began. */
export const abortedBeforeStartData: string = endData({ status: "aborted", reason: abortedBeforeStart })

/** Returns the end that a row tells of, for a log that holds none. */
export const endOfRow = (row: RunRow): RunEnd => ({
  status: isEnded(row.status) ? row.status : "failed",
  ...(row.endReason === null ? {} : { reason: row.endReason })
})

/** Returns the end of a run whose program has ended. A cause is not shown to readers. */
export const endOfExit = (exit: Exit.Exit<Schema.Json | void, unknown>, options: {
  readonly closing: boolean
  readonly maxEventBytes: number
}): EncodedEnd => {
  if (Exit.isSuccess(exit)) {
    const result = exit.value
    if (result === undefined) return encodeEnd({ status: "succeeded" })
    const data = encode({ status: "succeeded", result })
    if (data === undefined || encode(result) === undefined) {
      return failedWith("invalid_result", "The run ended with a result that is not JSON")
    }
    return utf8Length(data) > options.maxEventBytes
      ? failedWith("result_too_large", "The run ended with a result that is too large")
      : { end: { status: "succeeded", result }, data }
  }
  if (!Cause.hasInterruptsOnly(exit.cause)) return failedWith("program_failed", "The run failed")
  return options.closing
    ? failedWith(serverShutdown, "The server was shut down before the run was done")
    : failedWith("interrupted", "The run was interrupted")
}
