import * as Duration from "effect/Duration"
import type { Options } from "../Runs.ts"
import type { BudgetSettings } from "./budget.ts"

/** Holds the settings that {@link Options} decode to. */
export interface Settings extends BudgetSettings {
  readonly idleTimeout: Duration.Duration
  readonly steadyAfter: Duration.Duration
  readonly requestTimeout: Duration.Duration
  readonly maxEventLength: number
}

/** Fills in the defaults. */
export const toSettings = (options: Options): Settings => {
  const heartbeat = Duration.fromInputUnsafe(options.heartbeatInterval ?? "15 seconds")
  const requestTimeout = Duration.fromInputUnsafe(options.requestTimeout ?? "30 seconds")
  const idleTimeout = Duration.times(heartbeat, 2)
  return {
    maxAttempts: options.maxAttempts ?? 16,
    maxDuration: Duration.toMillis(options.maxDuration ?? "2 minutes"),
    baseDelay: Duration.toMillis(options.baseDelay ?? "500 millis"),
    maxDelay: Duration.toMillis(options.maxDelay ?? "15 seconds"),
    maxAttemptDuration: Duration.toMillis(Duration.max(requestTimeout, Duration.times(idleTimeout, 2))),
    idleTimeout,
    steadyAfter: heartbeat,
    requestTimeout,
    maxEventLength: options.maxEventLength ?? 4 * 1024 * 1024
  }
}
