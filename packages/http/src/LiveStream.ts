/**
 * Puts what a reader is sent together: events, an end that comes from elsewhere, and a sign of life when nothing else is.
 *
 * A reader of a live stream waits most of the time, and there may be thousands that wait for the same event. So this is a
 * single place to hand over one chunk, and no tree of merged streams: what is ready is given at once, and one page more is
 * taken from the events at most while the connection is busy.
 */
import type * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Channel from "effect/Channel"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as HttpServerError from "effect/http/HttpServerError"
import * as Option from "effect/Option"
import type * as Pull from "effect/Pull"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

/**
 * Describes what goes into a stream, and how each part is written.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options<A, Failure, Chunk> {
  readonly events: Stream.Stream<A, Failure>
  /** Ends the stream when it completes, with a failure to tell or without a word. */
  readonly until: Effect.Effect<Option.Option<Failure>>
  readonly heartbeatInterval: Duration.Duration
  /** What is sent before anything else. */
  readonly opening: Option.Option<Chunk>
  readonly heartbeat: Chunk
  readonly page: (page: Arr.NonEmptyReadonlyArray<A>) => Chunk
  /** Writes the failure that ends the stream, and may log it. */
  readonly failure: (failure: Failure) => Effect.Effect<Chunk>
  /** Writes the defect that ends the stream, and logs it. Without it the connection is cut. */
  readonly defect?: ((cause: Cause.Cause<never>) => Effect.Effect<Chunk>) | undefined
}

/** How long a reader may take to read what was on its way when its stream ended. */
const lastMillis = 5_000

/**
 * Makes the stream. A failure of the events is its last chunk, and so is what `until` has to tell: nothing that was on its
 * way goes out after it. A defect of the events is told in the same way, if there is a way to write it.
 *
 * A reader that does not read is not waited for: five seconds after `until` has completed, the fiber that sends it the stream
 * is interrupted as if the client had gone, and with it ends the connection.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <A, Failure, Chunk>(options: Options<A, Failure, Chunk>): Stream.Stream<Chunk> =>
  // The scope is provided once: a stream that is unwrapped from an effect provides it again at each pull.
  Stream.fromChannel(Channel.fromTransformBracket((_upstream, _scope, scope) =>
    Effect.map(Scope.provide(begin(options), scope), (take): Pull.Pull<readonly [Chunk]> => take)
  ))

const begin = <A, Failure, Chunk>(options: Options<A, Failure, Chunk>) =>
  Effect.gen(function*() {
    const sender = yield* Effect.withFiber(Effect.succeed)
    let ready = options.opening
    let ended: Exit.Exit<void> | undefined
    // The reader that waits for a chunk, and the events that wait for room. Never both.
    let reader: (() => void) | undefined
    let writer: (() => void) | undefined

    const put = (chunk: Chunk): void => {
      ready = Option.some(chunk)
      reader?.()
    }
    const end = (exit: Exit.Exit<void>): void => {
      ended = exit
      reader?.()
    }
    const room = (chunk: Chunk): Effect.Effect<void> =>
      Effect.callback((resume) => {
        writer = () => {
          writer = undefined
          put(chunk)
          resume(Effect.void)
        }
        return Effect.sync(() => {
          writer = undefined
        })
      })
    const offer = (chunk: Chunk): Effect.Effect<void> =>
      Effect.suspend(() => {
        if (Option.isSome(ready)) return room(chunk)
        put(chunk)
        return Effect.void
      })

    const pump = yield* options.events.pipe(
      Stream.runForEachArray((page) => offer(options.page(page))),
      Effect.catchCause((cause) =>
        Option.match(Cause.findErrorOption(cause), {
          onSome: (failure) => Effect.flatMap(options.failure(failure), offer),
          onNone: () => {
            const others = Cause.fromReasons<never>(cause.reasons.filter((reason) => !Cause.isFailReason(reason)))
            return options.defect === undefined || Cause.hasInterrupts(others)
              ? Effect.failCause(others)
              : Effect.flatMap(options.defect(others), offer)
          }
        })
      ),
      Effect.exit,
      Effect.andThen((exit) =>
        Effect.sync(() => {
          if (ended === undefined) end(exit)
        })
      ),
      Effect.forkScoped
    )
    yield* options.until.pipe(
      Effect.flatMap((last) => Effect.transposeOption(Option.map(last, options.failure))),
      Effect.flatMap((last) =>
        Effect.suspend(() => {
          if (ended !== undefined) return Effect.void
          writer = undefined
          ready = last
          end(Exit.void)
          return Effect.andThen(Fiber.interrupt(pump), Effect.sleep(lastMillis))
        })
      ),
      // The scope closes when the reader has had everything, and there is nothing to interrupt then.
      Effect.andThen(Effect.sync(() => sender.interruptUnsafe(undefined, HttpServerError.ClientAbort.annotation))),
      Effect.forkScoped
    )
    yield* Effect.sync(() => {
      // A reader that does not wait is being sent something.
      if (reader !== undefined && Option.isNone(ready)) put(options.heartbeat)
    }).pipe(Effect.delay(options.heartbeatInterval), Effect.forever, Effect.forkScoped)

    const take: Effect.Effect<readonly [Chunk], Cause.Done> = Effect.suspend(() => {
      if (Option.isSome(ready)) {
        const { value } = ready
        ready = Option.none()
        writer?.()
        return Effect.succeed([value] as const)
      }
      if (ended !== undefined) return Exit.isSuccess(ended) ? Cause.done() : Effect.failCause(ended.cause)
      return Effect.callback<readonly [Chunk], Cause.Done>((resume) => {
        reader = () => {
          reader = undefined
          resume(take)
        }
        return Effect.sync(() => {
          reader = undefined
        })
      })
    })
    return take
  })
