/**
 * Tells the platform that a run goes on after the answer to the request that started it.
 */
import * as Context from "effect/Context"

/**
 * Receives a promise for each run that a request starts in this process; it is kept when the run has ended. By default it
 * does nothing, which is right where a process lives on. Platforms that end background work with the answer (workerd, edge
 * functions) have a `waitUntil`: a host that does not provide it there loses its runs, which end as `stale_run`.
 *
 * **Example** (Starting runs on such a platform)
 *
 * ```ts
 * import { WaitUntil } from "@sallyport/core/runs"
 * import { Context } from "effect"
 *
 * interface Handler {
 *   (request: Request, context: Context.Context<never>): Promise<Response>
 * }
 *
 * export const toFetch = (handler: Handler) =>
 *   (request: Request, platform: { readonly waitUntil: (work: Promise<void>) => void }) =>
 *     handler(request, Context.make(WaitUntil.WaitUntil, (work) => platform.waitUntil(work)))
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export const WaitUntil: Context.Reference<(work: Promise<void>) => void> = Context.Reference<
  (work: Promise<void>) => void
>(
  "@sallyport/core/runs/WaitUntil",
  { defaultValue: () => () => {} }
)
