/**
 * Runs a program on Sallyport's services. It does not say where they keep their state.
 */
import { BootstrapCredentialService, RunEventLog, SessionCredentialService } from "@sallyport/core"
import { Effect, Layer, Stream } from "effect"

/** Provides the services, on any repositories and secrets. */
export const layerServices = Layer.mergeAll(
  BootstrapCredentialService.layer,
  SessionCredentialService.layer,
  RunEventLog.layer
)

// #region sign-in
/** Signs a device in: issues a code, and redeems it for a session. Returns its token. */
export const signIn = Effect.fn("signIn")(function*(subject: string) {
  const bootstrap = yield* BootstrapCredentialService.BootstrapCredentialService
  const { code } = yield* bootstrap.issue({ issuedBy: "operator", subject, scopes: ["runs:read", "runs:operate"] })
  const { token } = yield* bootstrap.redeem({ credential: code, method: "bearer-access-token" })
  return token
})
// #endregion sign-in

// #region run
/** Counts to three in a run, and returns the events that a reader sees, with the run's id. */
export const count = Effect.fn("count")(function*(subject: string, idempotencyKey: string) {
  const log = yield* RunEventLog.RunEventLog
  const owner = { subject }
  const { created, run } = yield* log.execute(
    { threadId: "counting", idempotencyKey, request: { to: 3 }, owner },
    Effect.fnUntraced(function*(run) {
      for (let count = 1; count <= 3; count++) yield* run.append({ count })
      return { counted: 3 }
    })
  )
  const events = yield* Stream.runCollect(yield* log.events({ runId: run.runId, owner }))
  return { created, runId: run.runId, events: events.map(({ data }) => data) }
})
// #endregion run
