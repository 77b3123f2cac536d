/** Deletes ended links, sessions and runs, and ends runs whose process is gone, in the background. */
import { BootstrapCredentialService, RunEventLog, SessionCredentialService } from "@sallyport/core"
import { Layer } from "effect"

// #region upkeep
/**
 * Sweeps links and sessions, ends runs whose process is gone, and sweeps old runs. Several processes may do this at
 * once.
 */
export const layer = Layer.mergeAll(
  BootstrapCredentialService.layerSweeper(),
  SessionCredentialService.layerSweeper(),
  RunEventLog.layerReaper(),
  RunEventLog.layerSweeper()
)
// #endregion upkeep
