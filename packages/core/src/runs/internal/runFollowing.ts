/**
 * Follows runs for their readers: one tailer for the process reads what is new, once, into tails that all readers share.
 *
 * What this process appends goes into the tails as it is committed, without a read. What others write is read when the
 * store hints at it, and now and then without a hint. Readers pull: a reader takes from the tail when its consumer asks,
 * and reads pages from the store if the tail does not hold what it needs, so that a slow one delays no other reader.
 */
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Channel from "effect/Channel"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import type * as Pull from "effect/Pull"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { run as followHints } from "../../Following.ts"
import * as Outage from "../../Outage.ts"
import { RepositoryError } from "../../RepositoryError.ts"
import type * as Writer from "../../Writer.ts"
import { isEnded, isRunId, type RunEventEncoded, type RunId } from "../Run.ts"
import type { RunEventRepository, RunEventRow, RunRow } from "../RunEventRepository.ts"
import { endData, endOfRow } from "./runEnds.ts"
import { CursorExpired, fail, type RunEventLogError, storage, StorageFailure } from "./runErrors.ts"
import type { Settings } from "./runOptions.ts"
import * as Tails from "./runTails.ts"

/** Holds events of one run that its reader takes at once. */
export type Page = Arr.NonEmptyReadonlyArray<RunEventEncoded>

/** Reads one run. */
export interface RunReader {
  readonly follower: Tails.Follower
  /** Takes the next events, if there are any now. */
  readonly take: Effect.Effect<Page | undefined, RunEventLogError>
  /** Takes the next events if the tail holds them. */
  readonly takeHeld: () => Page | undefined
  /** Tells whether the terminal event was taken, or lies before the cursor. */
  readonly isDone: () => boolean
}

/** Follows the runs of one process. */
export interface Following {
  /** Reads the events after a cursor, then follows the run to its terminal event. `row` is the run as it was just now. */
  readonly follow: (row: RunRow, after: number) => Stream.Stream<RunEventEncoded, RunEventLogError>
  /** Does what `follow` does, for a writer: while there is room, the fiber that commits an event writes it. */
  readonly push: (row: RunRow, after: number) => Writer.Push<Page, RunEventLogError>
  /** Reads a run for a reader that has joined its tail. `row` is the run as it was just now. */
  readonly read: (row: RunRow, follower: Tails.Follower) => RunReader
  readonly tails: Tails.Tails
  /** Is told what this process has committed. */
  readonly committed: (runId: string, firstSeq: number, events: ReadonlyArray<string>, atMillis: number) => void
}

// A page of events this large takes as long to send as many pages to read.
const pageBytes = 1024 * 1024
const maxLooksPerQuery = 100

const eventsOf = (runId: RunId, rows: ReadonlyArray<RunEventRow>): Array<RunEventEncoded> =>
  rows.map(({ atMillis, data, firstSeq, kind, seq }): RunEventEncoded => {
    const event = { runId, seq: Option.some(seq), kind, data, atMillis }
    return firstSeq == null ? event : { ...event, firstSeq }
  })

/** Tells whether events follow a cursor, and one another, without a gap. */
const isWhole = (rows: ReadonlyArray<RunEventRow>, cursor: number): boolean =>
  rows.every(({ firstSeq, seq }, index) => (firstSeq ?? seq) === (rows[index - 1]?.seq ?? cursor) + 1)

/** Tells whether a cursor lies within what the next event stands for. */
export const isWithin = (next: RunEventRow | undefined, cursor: number): boolean =>
  next !== undefined && (next.firstSeq ?? next.seq) <= cursor

/** Starts following, until the scope closes. */
export const make = Effect.fnUntraced(function*(options: {
  readonly repository: RunEventRepository["Service"]
  readonly settings: Settings
  readonly find: (runId: string) => Effect.Effect<RunRow, RunEventLogError>
}): Effect.fn.Return<Following, never, Scope.Scope> {
  const { find, repository, settings } = options
  const tails = Tails.make({
    maxEvents: settings.pageSize * 4,
    maxBytes: settings.maxTailBytes,
    dispatcher: (yield* Scheduler.Scheduler).makeDispatcher()
  })

  // ---- The tailer -------------------------------------------------------------------------------------------------

  // The runs that may have events which their tails lack, with the number up to which there are some.
  let behind = new Map<RunId, number>()
  const work = Latch.makeUnsafe(false)

  const isBehind = (tail: Tails.Tail, position: number): boolean => tail.last >= 0 && tail.last < position

  /** Has the tailer read a run up to a position, unless its tail has come that far already. */
  const advance = (runId: string, position: number): void => {
    const tail = tails.get(runId)
    if (tail === undefined) return
    // Its readers look for the new run.
    if (!isRunId(runId)) return tails.note(tail, position)
    // No reader has come to the end yet; the first reader that does may have read just before what this is about.
    if (tail.last < 0) return tails.signal(tail)
    if (!isBehind(tail, position)) return
    behind.set(runId, Math.max(position, behind.get(runId) ?? 0))
    work.openUnsafe()
  }

  const readTail = Effect.fnUntraced(function*(runId: RunId, position: number) {
    while (true) {
      const tail = tails.get(runId)
      if (tail === undefined || !isBehind(tail, position)) return
      // Readers that are further behind than a page read for themselves.
      const after = Math.max(tail.last, position - settings.pageSize)
      const rows = yield* repository.read({ runId, after, limit: settings.pageSize })
      // What was there is not there, or is no longer one event a number: the readers find out what has become of the run.
      if (rows.length === 0 || rows.at(-1)?.seq !== after + rows.length) return tails.signal(tail)
      tails.push(tail, eventsOf(runId, rows))
    }
  })

  yield* work.await.pipe(
    // A hint at a commit of this process comes before the events themselves do, which need no reading.
    Effect.andThen(Effect.yieldNow),
    Effect.andThen(Effect.suspend(() => {
      work.closeUnsafe()
      const taken = behind
      behind = new Map()
      return Effect.forEach(
        taken,
        ([runId, position]) =>
          Effect.catchCause(readTail(runId, position), (cause) =>
            // The readers look for themselves, and tell of it if that fails too.
            Effect.andThen(
              Effect.logDebug(`Could not read new events of run ${runId}`, cause),
              Effect.sync(() => {
                const tail = tails.get(runId)
                if (tail !== undefined) tails.signal(tail)
              })
            )),
        { concurrency: 8, discard: true }
      )
    })),
    Effect.forever,
    Effect.withTracerEnabled(false),
    Effect.forkScoped
  )

  const lookAtRuns = (runIds: ReadonlyArray<string>) =>
    Effect.map(repository.heads(runIds), (heads) => {
      const known = new Map(heads.map((head) => [head.runId, head]))
      for (const runId of runIds) {
        const head = known.get(runId)
        const tail = tails.get(runId)
        if (tail === undefined) continue
        if (head !== undefined && (!isEnded(head.status) || isBehind(tail, head.lastSeq))) {
          advance(runId, head.lastSeq)
        } else if (tail.events[tail.events.length - 1]?.kind !== "end") {
          // A run that has ended, or is gone, may have no terminal event to come.
          tails.signal(tail)
        }
      }
    })
  const lookAtOwners = (ownerKeys: ReadonlyArray<string>) =>
    Effect.map(repository.newestStarts(ownerKeys), (starts) => {
      for (const [ownerKey, startedAtMillis] of starts) advance(ownerKey, startedAtMillis)
    })
  const look = Effect.suspend(() => {
    const keys = tails.keys()
    const runIds = keys.filter(isRunId)
    const ownerKeys = keys.filter((key) => !isRunId(key))
    return Effect.andThen(
      Effect.forEach(Arr.chunksOf(runIds, maxLooksPerQuery), lookAtRuns, { discard: true }),
      Effect.forEach(Arr.chunksOf(ownerKeys, maxLooksPerQuery), lookAtOwners, { discard: true })
    )
  })
  // Every hint comes from the store, so that it never comes before the commit that it is about.
  yield* Effect.forkScoped(followHints({
    wakeUps: repository.wakeups,
    pollInterval: Duration.millis(settings.pollInterval),
    retryDelay: Duration.millis(250),
    outage: Outage.ofSource(repository, {
      of: "hints at runs",
      begins: "Lost the hints at new events of runs; readers look for them until they are back",
      ends: "New events of runs are heard of again"
    }),
    look: (wakeUp) =>
      wakeUp === "anything" ? look : Effect.sync(() => {
        for (const [runId, position] of wakeUp) advance(runId, position)
      })
  }))

  // ---- A reader ---------------------------------------------------------------------------------------------------

  const read = (row: RunRow, follower: Tails.Follower): RunReader => {
    const runId = row.runId
    // No writer hints at a run that had ended before; everything that it will ever have is in the store.
    const live = !isEnded(row.status)
    let done = false
    // Large events come in smaller pages.
    let limit = settings.pageSize
    const expect = (bytes: number, count: number): void => {
      if (bytes > 0) limit = Math.max(1, Math.min(settings.pageSize, Math.floor(pageBytes * count / bytes)))
    }
    expect(row.byteCount, row.eventCount)

    const give = (page: Page): Page => {
      follower.cursor = Option.getOrElse(page[page.length - 1]?.seq ?? Option.none(), () => follower.cursor)
      done = page[page.length - 1]?.kind === "end"
      return page
    }

    const readStore: Effect.Effect<Page | undefined, RunEventLogError> = Effect.gen(function*() {
      follower.look = false
      const { cursor } = follower
      const asked = limit
      const rows = yield* storage(repository.read({ runId, after: cursor, limit: asked }))
      const last = rows[rows.length - 1]
      if (last !== undefined) {
        if (!isWhole(rows, cursor)) {
          // A sweep deletes the oldest events first.
          if ((yield* find(runId)).expiredAtMillis !== null) return yield* fail(new CursorExpired({ runId }))
          if (isWithin(rows[0], cursor)) return yield* fail(new CursorExpired({ runId, compacted: true }))
          return yield* fail(
            new StorageFailure({
              cause: new RepositoryError({
                operation: "read",
                reason: "Corrupt",
                outcome: "unchanged",
                cause: new Error(`Of run ${runId}, the ${rows.length} events after ${cursor} end at ${last.seq}`)
              })
            })
          )
        }
        expect(rows.reduce((bytes, { data }) => bytes + data.length, 0), rows.length)
        const page = eventsOf(runId, rows)
        if (live && rows.length < asked && last.seq === cursor + rows.length) tails.push(follower.tail, page)
        return Arr.isReadonlyArrayNonEmpty(page) ? give(page) : undefined
      }
      const current = yield* find(runId)
      if (current.expiredAtMillis !== null) return yield* fail(new CursorExpired({ runId }))
      if (current.lastSeq > cursor) {
        // The event may have been stored between the two looks; one more look tells.
        const again = yield* storage(repository.read({ runId, after: cursor, limit: 1 }))
        if (again.length > 0) {
          follower.look = true
          return undefined
        }
      }
      if (!isEnded(current.status)) {
        tails.reached(follower.tail, cursor)
        return undefined
      }
      done = true
      if (current.endSeq !== null && current.endSeq <= cursor) return undefined
      const end: RunEventEncoded = {
        runId,
        seq: Option.none(),
        kind: "end",
        data: endData(endOfRow(current)),
        atMillis: current.completedAtMillis ?? current.startedAtMillis
      }
      return Arr.of(end)
    }).pipe(Effect.withTracerEnabled(false))

    const takeHeld: RunReader["takeHeld"] = () => {
      const page = live && !done && !follower.look ? Tails.take(follower, limit) : undefined
      return page !== undefined && Arr.isReadonlyArrayNonEmpty(page) ? give(page) : undefined
    }
    const take: RunReader["take"] = Effect.suspend(() => {
      const page = takeHeld()
      if (page !== undefined) return Effect.succeed(page)
      if (done || (live && !follower.look && Tails.isCaughtUp(follower))) return Effect.succeed(undefined)
      return Effect.flatMap(readStore, (page) => page === undefined ? take : Effect.succeed(page))
    })
    return { follower, take, takeHeld, isDone: () => done }
  }

  const pages = (reader: RunReader): Pull.Pull<Page, RunEventLogError> => {
    const next: Pull.Pull<Page, RunEventLogError> = Effect.flatMap(reader.take, (page) => {
      if (page !== undefined) return Effect.succeed(page)
      return reader.isDone() ? Cause.done() : Effect.flatMap(Tails.wait([reader.follower]), () => next)
    })
    return next
  }
  const follow = (row: RunRow, after: number): Stream.Stream<RunEventEncoded, RunEventLogError> =>
    // The scope is provided once: a stream that is unwrapped from an effect provides it again at each pull.
    Stream.fromChannel(
      Channel.fromTransformBracket((_upstream, _scope, scope) =>
        Effect.map(Scope.provide(tails.follow(row.runId, after), scope), (follower) => pages(read(row, follower)))
      )
    )

  const push = (row: RunRow, after: number): Writer.Push<Page, RunEventLogError> => (writer) =>
    Effect.scoped(Effect.gen(function*() {
      const reader = read(row, yield* tails.follow(row.runId, after))
      const { follower } = reader
      let hasRoom = true
      // The fiber sleeps for as long as the tail holds what comes next and there is room for it.
      const sleep = Effect.callback<void>((resume) => {
        const writeHeld = () => {
          try {
            for (let page = reader.takeHeld(); page !== undefined; page = reader.takeHeld()) {
              hasRoom = writer.write(page)
              if (!hasRoom) break
            }
          } catch (defect) {
            follower.wake = undefined
            return resume(Effect.die(defect))
          }
          const waits = hasRoom && !reader.isDone() && !follower.look && Tails.isCaughtUp(follower)
          follower.wake = waits ? writeHeld : undefined
          if (!waits) resume(Effect.void)
        }
        writeHeld()
        return Effect.sync(() => {
          follower.wake = undefined
        })
      })
      while (true) {
        const page = yield* reader.take
        if (page !== undefined) hasRoom = writer.write(page)
        if (reader.isDone()) return
        if (page === undefined) yield* sleep
        if (!hasRoom) yield* writer.drained
        hasRoom = true
      }
    }))

  return {
    follow,
    push,
    read,
    tails,
    committed: (runId, firstSeq, events, atMillis) => {
      const tail = tails.get(runId)
      // If the tail lacks what comes before, the hint at this commit has the tailer read it all.
      if (tail === undefined || tail.last < firstSeq - 1 || !isRunId(runId)) return
      tails.push(
        tail,
        events.map((data, index): RunEventEncoded => ({
          runId,
          seq: Option.some(firstSeq + index),
          kind: "data",
          data,
          atMillis
        }))
      )
    }
  }
})
