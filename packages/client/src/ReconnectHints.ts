/**
 * Tells the client when to connect again at once, rather than when its wait is over.
 */
import * as Input from "@sallyport/core/Input"
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"

/**
 * Says what has happened to the device: it is `online` again, so that its connections from before are lost; or its program
 * is `visible` again after a time in which they may have been lost.
 *
 * @category models
 * @since 0.1.0
 */
export type Hint = "online" | "visible"

const visible = Stream.suspend(() =>
  typeof document === "undefined"
    ? Stream.empty
    : Stream.filter(
      Stream.fromEventListener(document, "visibilitychange"),
      () => document.visibilityState === "visible"
    )
)

const browser: Stream.Stream<Hint> = Stream.suspend(() => {
  if (typeof addEventListener !== "function") return Stream.never
  return Stream.mergeAll([
    Stream.map(Stream.fromEventListener(globalThis, "online"), () => "online" as const),
    Stream.map(visible, () => "visible" as const),
    // A page that the browser had put aside has lost its connections.
    Stream.fromEventListener<PageTransitionEvent>(globalThis, "pageshow").pipe(
      Stream.filter(({ persisted }) => persisted),
      Stream.map(() => "online" as const)
    )
  ], { concurrency: "unbounded" })
})

/**
 * Provides the hints of the device. By default they are the events `online`, `visibilitychange` and `pageshow` of the
 * browser, and outside of browsers there are none.
 *
 * **Details**
 *
 * A hint ends a wait between two attempts, but not before the time of `Retry-After`, and at most once a second. With
 * `online` an open connection is replaced; with `visible` only if nothing came through it for longer than a heartbeat
 * takes.
 *
 * **Gotchas**
 *
 * Each wait and each connection runs the stream from its beginning. Emit changes only, not the present state.
 *
 * @category services
 * @since 0.1.0
 */
export const ReconnectHints: Context.Reference<Stream.Stream<Hint>> = Context.Reference(
  "@sallyport/client/ReconnectHints",
  { defaultValue: () => browser }
)

/**
 * Provides hints of the host, such as those of a phone's operating system, in place of the browser's.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (hints: Stream.Stream<Hint>): Layer.Layer<never> =>
  Layer.sync(ReconnectHints, () => {
    Input.demand("ReconnectHints.layer", { hints: Input.required({ is: Stream.isStream, expected: "a stream" }) }, {
      hints
    })
    return hints
  })
