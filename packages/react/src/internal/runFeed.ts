/**
 * Follows the runs that a page shows over one connection, however many there are. What a run had before is read by a request
 * of its own, which ends.
 */
import * as Runs from "@sallyport/client/Runs"
import type { RunsError } from "@sallyport/client/RunsError"
import type { RunView } from "@sallyport/contract/RunGroup"
import { latest } from "@sallyport/core/runs/Run"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

/** Takes what a run does, and whether the connection is open; then the run is as it was before that. */
export interface Listener {
  readonly onConnection: (run: Option.Option<RunView>) => Effect.Effect<void>
  readonly onEvents: (events: ReadonlyArray<Runs.RunEvent>) => Effect.Effect<void>
}

/** Tells what the connection is and brings. */
export type News =
  | { readonly _tag: "Connection"; readonly isOpen: boolean }
  | { readonly _tag: "Failure"; readonly error: RunsError }
  | { readonly _tag: "Event"; readonly event: Runs.FollowedEvent }

/** How often a run that waits for its turn is looked at: no event tells that it has its turn. */
export const betweenTurns = Duration.seconds(2)

/** A page that stays open goes on when its server is back, however long that takes. */
const whileAway = {
  schedule: Schedule.spaced("1 second"),
  while: ({ reason }: RunsError) => reason._tag === "Unreachable"
}

/** Makes a feed. `watch` runs the connection, which is there as long as a run is followed. */
export const make = (watch: (effect: Effect.Effect<void, never, Runs.Runs>) => () => void) => {
  const followers = new Set<Queue.Queue<News>>()
  let stop: (() => void) | undefined
  let isOpen = false
  let failure = Option.none<RunsError>()

  const tell = (news: News) =>
    Effect.sync(() => {
      for (const follower of followers) Queue.offerUnsafe(follower, news)
    })
  const fail = (error: RunsError) =>
    Effect.suspend(() => {
      failure = Option.some(error)
      return tell({ _tag: "Failure", error })
    })
  const connection = Runs.Runs.use((runs) =>
    runs.followAll({
      after: latest,
      onConnection: (now) =>
        Effect.suspend(() => {
          isOpen = now
          return tell({ _tag: "Connection", isOpen })
        })
    }).pipe(
      Stream.runForEach((event) => tell({ _tag: "Event", event })),
      // It begins again with what comes next, and what was missed meanwhile is read.
      Effect.retry({ while: ({ reason }) => reason._tag === "RunExpired" }),
      Effect.retry(whileAway),
      Effect.catch(fail)
    )
  )

  const join: Effect.Effect<Queue.Queue<News>, never, Scope.Scope> = Effect.acquireRelease(
    Effect.map(Queue.unbounded<News>(), (follower) => {
      followers.add(follower)
      stop ??= watch(connection)
      return follower
    }),
    (follower) =>
      Effect.sync(() => {
        followers.delete(follower)
        // A page that changes what it shows leaves one run and follows another one in the same turn.
        queueMicrotask(() => {
          if (followers.size > 0) return
          stop?.()
          stop = undefined
          isOpen = false
          failure = Option.none()
        })
      })
  )

  /**
   * Gives what the connection brings, until it fails. The first that it gives says whether it is open; what comes while
   * `onNews` works is given together.
   */
  const followAll = Effect.fnUntraced(function*<E, R>(
    onNews: (news: ReadonlyArray<News>) => Effect.Effect<void, E, R>
  ): Effect.fn.Return<never, E | RunsError, R | Scope.Scope> {
    const follower = yield* join
    if (Option.isSome(failure)) return yield* Effect.fail(failure.value)
    yield* onNews([{ _tag: "Connection", isOpen }])
    while (true) {
      const news = yield* Queue.takeAll(follower)
      for (const each of news) if (each._tag === "Failure") return yield* Effect.fail(each.error)
      yield* onNews(news)
    }
  }, Effect.scoped)

  /** Follows a run to its end, from its first event on, each once and in order. */
  const followRun = Effect.fnUntraced(function*(
    runId: string,
    listener: Listener
  ): Effect.fn.Return<void, RunsError, Runs.Runs | Scope.Scope> {
    const runs = yield* Runs.Runs
    const follower = yield* join
    let last = 0
    let ended = false
    let isQueued = false
    const give = (events: ReadonlyArray<Runs.RunEvent>) =>
      Effect.suspend(() => {
        const event = events.at(-1)
        if (event?._tag === "Data") last = event.cursor
        ended ||= event?._tag === "End"
        isQueued = false
        return listener.onEvents(events)
      })
    /** Reads what the run has that was not given. What comes later, the connection tells. */
    const catchUp = Effect.gen(function*() {
      const run = yield* runs.get(runId)
      const { completedAt, lastSeq } = run
      isQueued = run.status === "queued"
      yield* listener.onConnection(Option.some(run))
      if (completedAt === null && lastSeq <= last) return
      yield* runs.follow({ runId, after: last }).pipe(
        Stream.takeUntil((event) => event._tag === "End" || (completedAt === null && event.cursor >= lastSeq)),
        Stream.runForEachArray(give)
      )
    }).pipe(
      Effect.tapError(({ reason }) =>
        reason._tag === "Unreachable" ? listener.onConnection(Option.none()) : Effect.void
      ),
      Effect.retry(whileAway)
    )
    if (Option.isSome(failure)) return yield* Effect.fail(failure.value)
    if (isOpen) yield* catchUp
    while (true) {
      if (ended) return
      const taken = Queue.takeAll(follower)
      const arrived = yield* isQueued && isOpen ? Effect.timeoutOption(taken, betweenTurns) : Effect.asSome(taken)
      if (Option.isNone(arrived)) {
        yield* catchUp
        continue
      }
      const given: Array<Runs.RunEvent> = []
      let next = last
      for (const news of arrived.value) {
        if (news._tag === "Failure") return yield* Effect.fail(news.error)
        if (news._tag === "Event") {
          const { event } = news
          if (event._tag === "Run" || event.runId !== runId || ended) continue
          const seq = event._tag === "Data" ? Option.some(event.seq) : event.seq
          const first = event._tag === "Data" ? event.firstSeq ?? event.seq : Option.getOrElse(seq, () => next + 1)
          if (Option.exists(seq, (seq) => seq <= next)) continue
          if (first === next + 1) {
            next = Option.getOrElse(seq, () => next)
            given.push(
              event._tag === "Data"
                ? { _tag: "Data", runId: event.runId, cursor: event.seq, data: event.data }
                : { _tag: "End", runId: event.runId, cursor: event.seq, end: event.end }
            )
            continue
          }
        }
        if (given.length > 0) yield* give(given.splice(0))
        if (news._tag === "Connection" && !news.isOpen) yield* listener.onConnection(Option.none())
        else if (!ended) yield* catchUp
        next = last
      }
      if (given.length > 0) yield* give(given)
    }
  }, Effect.scoped)

  return { followAll, followRun }
}
