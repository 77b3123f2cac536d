import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Sse from "effect/encoding/Sse"
import * as Exit from "effect/Exit"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Pull from "effect/Pull"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { UnexpectedAnswer, type Unreachable } from "../ClientError.ts"
import { Broken, connectionLost, failureOf, type Refusal, send, within } from "./answer.ts"
import { betweenHintsMillis, type Budget, now } from "./budget.ts"
import type { Settings } from "./runsOptions.ts"

/** Describes what an event of the stream means for its reader. */
export type Step<A, E> =
  /** The event is the next one. */
  | { readonly _tag: "Emit"; readonly value: A }
  /** The event is the next one, and the last. */
  | { readonly _tag: "Last"; readonly value: A }
  /** There is nothing to do: the event was seen before, or is of a kind that only later versions know. */
  | { readonly _tag: "Skip" }
  /** The stream can't go on. */
  | { readonly _tag: "Fail"; readonly error: E | Broken }

/** Describes a stream to read. */
export interface ReaderOptions<A, E> {
  /** Requests the events after those read so far. */
  readonly connect: Effect.Effect<HttpClientResponse.HttpClientResponse, unknown, Scope.Scope>
  /** Takes the next event. It is called once for each, in their order. */
  readonly take: (event: Sse.Event) => Step<A, E>
  readonly budget: Budget
  readonly settings: Settings
  /** Is told that a connection is open, and before each wait that it is not. */
  readonly onConnection?: ((isOpen: boolean) => Effect.Effect<void>) | undefined
}

/** Marks an answer after which the server has nothing more to send. */
export const noContent = "NoContent"

interface Connection<E> {
  readonly scope: Scope.Closeable
  readonly openedAt: number
  readonly pull: Pull.Pull<Arr.NonEmptyReadonlyArray<Uint8Array>, unknown>
  readonly decoder: TextDecoder
  readonly parser: Sse.Parser
  /** The events that the parser has found, in the order of the stream. */
  readonly found: Array<Sse.AnyEvent>
  /** The failure of the connection, raised after the events before it have been emitted. */
  failure: E | Broken | UnexpectedAnswer | undefined
  /** Whether the connection has brought progress. */
  progressed: boolean
  /** The time of day from which on the reader has waited for the next bytes. It does not wait while its consumer is busy. */
  waitingSince: number | undefined
  /** Fails if a hint says that the connection is lost. */
  readonly lost: Deferred.Deferred<never, Broken>
}

/**
 * Reads Server-Sent Events, over as many connections as needed and the budget allows. Nothing is read ahead: the next
 * bytes are requested when the consumer asks for events.
 *
 * Effect's own decoder fails with `Retry` at each `retry:`, which would end the stream, so only its parser is used.
 */
export const read = <A, E extends { readonly _tag: string }>(
  options: ReaderOptions<A, E>
): Stream.Stream<A, E | Refusal | Unreachable | typeof noContent> => {
  const { onConnection = () => Effect.void, settings } = options
  const steadyAfter = Duration.toMillis(settings.steadyAfter)
  const suspectAfter = steadyAfter * 1.25

  /** Watches the hints as long as the connection is open. */
  const watch = (connection: Connection<E>) =>
    options.budget.hints.pipe(
      Stream.switchMap((hint) =>
        Stream.fromEffect(Effect.gen(function*() {
          if (hint === "online") {
            if ((yield* now) - connection.openedAt < betweenHintsMillis) return
          } else {
            const { waitingSince } = connection
            if (waitingSince === undefined) return
            // The monotonic clock stands still while some computers sleep.
            const silence = Math.max(0, (yield* Clock.currentTimeMillis) - waitingSince)
            yield* Effect.sleep(Duration.millis(Math.max(0, suspectAfter - silence)))
            if (connection.waitingSince !== waitingSince) return
          }
          yield* Deferred.fail(
            connection.lost,
            new Broken({ kind: "connection", detail: "the device was offline meanwhile", hinted: true })
          )
        }))
      ),
      Stream.runDrain
    )

  const open = Effect.fnUntraced(function*(scope: Scope.Closeable): Effect.fn.Return<
    Connection<E>,
    Broken | Refusal | typeof noContent
  > {
    const response = yield* options.connect.pipe(send, within(settings.idleTimeout), Scope.provide(scope))
    if (response.status === 204) return yield* Effect.fail<typeof noContent>(noContent)
    if (response.status !== 200) return yield* within(settings.idleTimeout)(failureOf(response))
    if (!/^text\/event-stream\b/i.test(response.headers["content-type"] ?? "")) {
      return yield* new Broken({
        kind: "garbled",
        detail: "something that is not the server answered, such as a network's sign-in page",
        status: 200
      })
    }
    const found: Array<Sse.AnyEvent> = []
    const connection: Connection<E> = {
      scope,
      openedAt: yield* now,
      pull: yield* Scope.provide(Stream.toPull(response.stream), scope),
      decoder: new TextDecoder(),
      parser: Sse.makeParser((event) => found.push(event), { maxEventSize: settings.maxEventLength }),
      found,
      failure: undefined,
      progressed: false,
      waitingSince: undefined,
      lost: yield* Deferred.make<never, Broken>()
    }
    yield* Effect.forkIn(watch(connection), scope)
    yield* onConnection(true)
    return connection
  })

  const tooLong = new UnexpectedAnswer({
    status: 200,
    code: null,
    message:
      `The server sent an event of more than ${settings.maxEventLength} characters; raise maxEventLength to read it`
  })

  /** Takes the events that the parser has found. Returns the values to emit, and whether they were the last. */
  const takeFound = (connection: Connection<E>) => {
    const values: Array<A> = []
    for (const event of connection.found.splice(0)) {
      if (event._tag === "Retry") {
        options.budget.setRetryDelay(event.duration)
        continue
      }
      // The parser limits what it buffers; an event that arrives in one piece is not buffered.
      const step = event.data.length > settings.maxEventLength
        ? { _tag: "Fail" as const, error: tooLong }
        : options.take(event)
      if (step._tag === "Skip") continue
      if (step._tag === "Fail") {
        connection.failure = step.error
        return { values, last: false }
      }
      values.push(step.value)
      if (step._tag === "Last") return { values, last: true }
    }
    return { values, last: false }
  }

  /** Waits for the next bytes, and takes the events that they complete. */
  const advance = Effect.fnUntraced(function*(connection: Connection<E>) {
    if (connection.failure !== undefined) return yield* Effect.fail(connection.failure)
    connection.waitingSince = yield* Clock.currentTimeMillis
    const chunks = yield* connection.pull.pipe(
      Pull.catchDone(() =>
        Effect.fail(new Broken({ kind: "connection", detail: "the stream stopped before its end" }))
      ),
      Effect.mapError((error) =>
        error instanceof Broken ? error : connectionLost(error instanceof Error ? error.cause : undefined)
      ),
      within(settings.idleTimeout),
      Effect.raceFirst(Deferred.await(connection.lost))
    )
    connection.waitingSince = undefined
    for (const chunk of chunks) {
      const overflow = connection.parser.feed(connection.decoder.decode(chunk, { stream: true }))
      if (overflow === undefined) continue
      connection.failure = tooLong
      break
    }
    const taken = takeFound(connection)
    if (taken.values.length > 0 || (yield* now) - connection.openedAt >= steadyAfter) {
      connection.progressed = true
      options.budget.progress()
    }
    return taken
  })

  return Stream.unwrap(Effect.gen(function*() {
    const outer = yield* Scope.Scope
    let connection: Connection<E> | undefined
    let ended = false

    const close = Effect.suspend(() => {
      const open = connection
      connection = undefined
      return open === undefined ? Effect.void : Scope.close(open.scope, Exit.void)
    })

    const connected = Effect.gen(function*() {
      if (connection !== undefined) return connection
      const scope = yield* Scope.fork(outer)
      return connection = yield* Effect.onError(open(scope), (cause) => Scope.close(scope, Exit.failCause(cause)))
    })

    const next: Pull.Pull<Arr.NonEmptyReadonlyArray<A>, E | Refusal | Unreachable | typeof noContent> = Effect.gen(
      function*() {
        while (!ended) {
          const startedAt = connection?.openedAt ?? (yield* now)
          const step = yield* Effect.result(Effect.flatMap(connected, advance))
          if (Result.isFailure(step)) {
            const progressed = connection?.progressed === true
            yield* close
            if (!(step.failure instanceof Broken)) return yield* Effect.fail(step.failure)
            yield* onConnection(false)
            yield* progressed || step.failure.hinted === true
              ? options.budget.pause(step.failure)
              : options.budget.spend(step.failure, startedAt)
            continue
          }
          const { last, values } = step.success
          if (last) {
            ended = true
            yield* close
          }
          if (Arr.isArrayNonEmpty(values)) return values
        }
        return yield* Cause.done()
      }
    )
    return Stream.fromPull(Effect.succeed(next))
  }))
}
