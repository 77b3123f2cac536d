/**
 * Puts what a reader is sent together: events, an end that comes from elsewhere, and a sign of life when nothing else is.
 *
 * A reader of a live stream waits most of the time, and there may be thousands that wait for the same event. So this is a
 * single place to hand chunks over, and no tree of merged streams: what is ready is given at once, and one page more is
 * taken from the events at most while the connection is busy. If the server can be written to directly, even that place is
 * left out: what has the events writes them to the connection.
 */
import * as Writer from "@sallyport/core/Writer"
import type * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Channel from "effect/Channel"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as HttpServerError from "effect/http/HttpServerError"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
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
  readonly events: Writer.Push<Arr.NonEmptyReadonlyArray<A>, Failure>
  /** Completes when the stream must end: with a failure to report, or with none if the server is shutting down. */
  readonly until: Effect.Effect<Option.Option<Failure>>
  readonly heartbeatInterval: Duration.Duration
  /** What is sent before anything else. */
  readonly opening: Option.Option<Chunk>
  /** Answers, once the opening has gone out, how to write the rest to the connection; if it can't be, the stream gives it. */
  readonly writer?: ((opening: Chunk) => Effect.Effect<() => Option.Option<Writer.Writer<Chunk>>>) | undefined
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

/** Begins to send, when the opening has been taken: directly if that can be, by what the returned effect gives if not. */
const begin = <A, Failure, Chunk>(options: Options<A, Failure, Chunk>) =>
  Effect.gen(function*() {
    const scope = yield* Effect.scope
    const sender = yield* Effect.withFiber(Effect.succeed)
    const { failure } = options

    /** Pushes the events, and answers what is left to tell. */
    const followed = (writer: Writer.Writer<Chunk>): Effect.Effect<Option.Option<Chunk>> =>
      options.events({ write: (page) => writer.write(options.page(page)), drained: writer.drained }).pipe(
        Effect.as(Option.none<Chunk>()),
        Effect.catchCause((cause) =>
          Option.match(Cause.findErrorOption(cause), {
            onSome: (error) => Effect.asSome(failure(error)),
            onNone: () => {
              const others = Cause.fromReasons<never>(cause.reasons.filter((reason) => !Cause.isFailReason(reason)))
              return options.defect === undefined || Cause.hasInterrupts(others)
                ? Effect.failCause(others)
                : Effect.asSome(options.defect(others))
            }
          })
        )
      )
    const stopped = Effect.flatMap(options.until, (last) => Effect.transposeOption(Option.map(last, failure)))
    const cut = Effect.sync(() => sender.interruptUnsafe(undefined, HttpServerError.ClientAbort.annotation))

    /** Writes everything after the opening to the connection. */
    const direct = (writer: Writer.Writer<Chunk>): Effect.Effect<void> =>
      Effect.gen(function*() {
        let hasRoom = true
        const noting: Writer.Writer<Chunk> = {
          write: (chunk) => {
            hasRoom = writer.write(chunk)
            return hasRoom
          },
          drained: Effect.tap(writer.drained, () =>
            Effect.sync(() => {
              hasRoom = true
            }))
        }
        const finish = (last: Option.Option<Chunk>) =>
          Effect.suspend(() => {
            if (Option.isSome(last)) writer.write(last.value)
            return writer.drained
          })
        // A reader that has no room is being sent something.
        const beats = Effect.sync(() => hasRoom && noting.write(options.heartbeat)).pipe(
          Effect.delay(options.heartbeatInterval),
          Effect.forever
        )
        const end = yield* Effect.raceAllFirst([
          Effect.as(Effect.flatMap(followed(noting), finish), undefined),
          stopped,
          beats
        ])
        if (end === undefined) return
        yield* Effect.forkIn(Effect.delay(cut, lastMillis), scope)
        yield* finish(end)
      })

    /** Holds what the reader of a stream takes. */
    const held = Effect.gen(function*() {
      let ready: ReadonlyArray<Chunk> = []
      let ended: Exit.Exit<void> | undefined
      // The reader that waits for a chunk, and the events that wait for room. Never both.
      let reader: (() => void) | undefined
      let events: (() => void) | undefined

      const hasRoom = () => ready.length < 2
      const put = (chunk: Chunk): void => {
        ready = [...ready, chunk]
        reader?.()
      }
      const end = (exit: Exit.Exit<void>): void => {
        ended = exit
        reader?.()
      }
      const writer: Writer.Writer<Chunk> = {
        write: (chunk) => {
          put(chunk)
          return hasRoom()
        },
        drained: Effect.callback((resume) => {
          if (hasRoom()) return resume(Effect.void)
          events = () => {
            events = undefined
            resume(Effect.void)
          }
          return Effect.sync(() => {
            events = undefined
          })
        })
      }
      const pump = yield* followed(writer).pipe(
        Effect.map((last) => Option.isSome(last) && put(last.value)),
        Effect.exit,
        Effect.andThen((exit) =>
          Effect.sync(() => {
            if (ended === undefined) end(Exit.asVoid(exit))
          })
        ),
        Effect.forkIn(scope)
      )
      yield* stopped.pipe(
        Effect.flatMap((last) =>
          Effect.suspend(() => {
            if (ended !== undefined) return Effect.void
            ready = Option.toArray(last)
            end(Exit.void)
            return Effect.andThen(Fiber.interrupt(pump), Effect.sleep(lastMillis))
          })
        ),
        // The scope closes when the reader has had everything, and there is nothing to interrupt then.
        Effect.andThen(cut),
        Effect.forkIn(scope)
      )
      yield* Effect.sync(() => {
        // A reader that does not wait is being sent something.
        if (reader !== undefined && ready.length === 0) put(options.heartbeat)
      }).pipe(Effect.delay(options.heartbeatInterval), Effect.forever, Effect.forkIn(scope))

      const take: Effect.Effect<readonly [Chunk], Cause.Done> = Effect.suspend(() => {
        const [next, ...others] = ready
        if (next !== undefined) {
          ready = others
          events?.()
          return Effect.succeed([next] as const)
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

    const begun = (writer: Option.Option<Writer.Writer<Chunk>>): Effect.Effect<readonly [Chunk], Cause.Done> =>
      Option.isSome(writer)
        ? Effect.flatMap(direct(writer.value), () => Cause.done())
        : Effect.flatMap(held, (take) => {
          next = take
          return take
        })
    let next = begun(Option.none())
    if (Option.isSome(options.opening)) {
      const opening = options.opening.value
      const writer = options.writer === undefined ? () => Option.none() : yield* options.writer(opening)
      next = Effect.sync(() => {
        next = Effect.suspend(() => begun(writer()))
        return [opening]
      })
    }
    return Effect.suspend(() => next)
  })

/**
 * Answers how to write to the connection of the current request after a first chunk; see `Writer.ResponseWriter`.
 *
 * @category combinators
 * @since 0.1.0
 */
export const responseWriter = (
  first: Uint8Array
): Effect.Effect<() => Option.Option<Writer.Writer<Uint8Array>>> =>
  Effect.flatMap(
    Writer.ResponseWriter,
    (writerOf) =>
      Effect.map(Effect.serviceOption(HttpServerRequest.HttpServerRequest), (request) =>
        Option.isSome(request) ? writerOf(request.value, first) : () => Option.none())
  )
