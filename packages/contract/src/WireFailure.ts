/**
 * How an answer that is an error is made and logged: with the trace id under which the log has its reason.
 */
import * as Metrics from "@sallyport/core/Metrics"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"

/** An id of the same form for a request that no tracer follows, so that an answer can be found in the log all the same. */
const randomTraceId: Effect.Effect<string> = Effect.map(
  Effect.all(Array.from({ length: 4 }, () => Random.nextIntBetween(1, 0xffffffff))),
  (words) => words.map((word) => word.toString(16).padStart(8, "0")).join("")
)

/**
 * Holds the trace id of a request that no tracer follows, from the first time on that it is asked for. `Edge` provides it.
 *
 * @category services
 * @since 0.1.0
 */
export const UntracedRequest: Context.Reference<{ traceId?: string } | undefined> = Context.Reference<
  { traceId?: string } | undefined
>(
  "@sallyport/contract/WireFailure/UntracedRequest",
  { defaultValue: () => undefined }
)

/**
 * Returns the trace id of the current request, or one of its own if no tracer follows it: the same each time within a request.
 *
 * @category getters
 * @since 0.1.0
 */
export const traceId: Effect.Effect<string> = Effect.matchEffect(Effect.currentSpan, {
  onFailure: () =>
    Effect.flatMap(
      UntracedRequest,
      (request) =>
        request?.traceId === undefined
          ? Effect.tap(randomTraceId, (traceId) =>
            Effect.sync(() => {
              if (request !== undefined) request.traceId = traceId
            }))
          : Effect.succeed(request.traceId)
    ),
  onSuccess: (span) => Effect.succeed(span.traceId)
})

/**
 * Names the address below which there is a page about each code, such as `https://docs.example/errors/`. An error then has
 * the address of its page: `docs`, or `error_uri` at the token endpoint. By default there is none.
 *
 * @category services
 * @since 0.1.0
 */
export const ErrorPages: Context.Reference<string | undefined> = Context.Reference<string | undefined>(
  "@sallyport/contract/WireFailure/ErrorPages",
  { defaultValue: () => undefined }
)

/**
 * Adds the address of the page about a code to an error that is about to be answered.
 *
 * @category combinators
 * @since 0.1.0
 */
export const withPage = <E extends object>(code: string, error: E): Effect.Effect<E> =>
  Effect.map(ErrorPages, (base) => {
    if (base === undefined) return error
    const address = `${base.replace(/\/$/, "")}/${code}`
    return Object.assign(error, { docs: address, error_uri: address })
  })

/**
 * Describes why a request is answered with an error, in a sentence for the caller.
 *
 * @category models
 * @since 0.1.0
 */
export interface Reason {
  readonly message: string
}

/**
 * Fails with an error, and logs its code under the trace id: if the fault is ours, as a warning with the cause, which the
 * caller is not told.
 *
 * @category constructors
 * @since 0.1.0
 */
export const answer = <E extends object>(
  code: string,
  reason: Reason,
  error: (traceId: string) => E,
  ours = false
): Effect.Effect<never, E> =>
  Effect.flatMap(
    traceId,
    (traceId) =>
      (ours ? Effect.logWarning(`Answered ${code}`, Cause.fail(reason)) : Effect.logDebug(`Answered ${code}`)).pipe(
        Effect.annotateLogs({ traceId }),
        Effect.andThen(Metrics.failures(1, { code })),
        Effect.andThen(Effect.flatMap(withPage(code, error(traceId)), Effect.fail))
      )
  )

/**
 * Makes a function that fails with a wire error: its class and code, and the sentence of whatever went wrong.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <Code extends string, E extends object>(
  error: new(fields: {
    readonly code: Code
    readonly message: string
    readonly retryable: boolean
    readonly traceId: string
  }) => E,
  code: Code,
  retryable = false,
  ours = retryable
) =>
(reason: Reason): Effect.Effect<never, E> =>
  answer(code, reason, (traceId) => new error({ code, message: reason.message, retryable, traceId }), ours)
