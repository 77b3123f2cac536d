/**
 * Decisions that runs wait for.
 *
 * A run waits in the process that executes it, so the decision must reach that process. With several processes, keep
 * decisions in a table and let the run look there too.
 */
import { Context, Deferred, Effect, Layer } from "effect"

export class Approvals extends Context.Service<Approvals, {
  /** Waits for the decision on a run. One run waits for one decision at a time. */
  readonly wait: (runId: string) => Effect.Effect<boolean>
  /** Decides, and returns whether the run was waiting for a decision: of n decisions one counts. */
  readonly decide: (runId: string, approved: boolean) => Effect.Effect<boolean>
}>()("@sallyport-examples/agent-run/Approvals") {
  static readonly layer = Layer.sync(Approvals, () => {
    const waiting = new Map<string, Deferred.Deferred<boolean>>()
    return Approvals.of({
      wait: (runId) =>
        Effect.acquireUseRelease(
          Effect.tap(Deferred.make<boolean>(), (decision) => Effect.sync(() => waiting.set(runId, decision))),
          Deferred.await,
          () => Effect.sync(() => waiting.delete(runId))
        ),
      decide: (runId, approved) =>
        Effect.suspend(() => {
          const decision = waiting.get(runId)
          return decision === undefined ? Effect.succeed(false) : Deferred.succeed(decision, approved)
        })
    })
  })
}
