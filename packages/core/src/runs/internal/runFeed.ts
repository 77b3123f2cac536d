/**
 * Follows many runs for one reader: all of an owner's, or those of a thread.
 *
 * The reader takes what the runs have in turn, a page of one run at a time, and waits when none has anything. New runs come
 * in the order of their start; of runs that have ended already one is read at a time. Within a thread a run comes after those
 * that started before it, if they ended before it began.
 */
import * as Arr from "effect/Array"
import * as Channel from "effect/Channel"
import * as Effect from "effect/Effect"
import type * as Pull from "effect/Pull"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { isEnded, type RunEventEncoded } from "../Run.ts"
import { type RunEventRepository, type RunRow, toRun } from "../RunEventRepository.ts"
import type { Followed } from "./runCalls.ts"
import { type RunEventLogError, storage } from "./runErrors.ts"
import * as Cursor from "./runFeedCursor.ts"
import type { Following, Page, RunReader } from "./runFollowing.ts"
import * as Tails from "./runTails.ts"

interface Entry {
  readonly row: RunRow
  readonly reader: RunReader
  /** The number of the last event that was given. */
  seq: number
  /** Whether an event of the run was given, now or before. */
  begun: boolean
  /** What was taken and is not given yet. */
  held: Page | undefined
}

type Given = Arr.NonEmptyReadonlyArray<Followed<RunEventEncoded>>

/** Follows runs from a place on. `open` are the runs that the cursor names, as they were just now. */
export const follow = (options: {
  readonly following: Following
  readonly repository: RunEventRepository["Service"]
  readonly ownerKey: string
  readonly threadId: string | undefined
  readonly startedAtMillis: number
  readonly open: ReadonlyArray<{ readonly row: RunRow; readonly seq: number }>
}): Stream.Stream<Followed<RunEventEncoded>, RunEventLogError> => {
  const { following, ownerKey, repository, threadId } = options
  const { tails } = following
  const kind = threadId === undefined ? "owner" : "thread"

  const begin = (source: Tails.Follower, entries: Array<Entry>): Pull.Pull<Given, RunEventLogError> => {
    let startedAtMillis = options.startedAtMillis
    let pending: RunRow | undefined

    const open = (row: RunRow, seq: number): Entry => {
      const entry: Entry = {
        row,
        reader: following.read(row, tails.join(row.runId, seq)),
        seq,
        begun: seq > 0,
        held: undefined
      }
      entries.push(entry)
      return entry
    }
    const close = (entry: Entry): void => {
      entries.splice(entries.indexOf(entry), 1)
      tails.leave(entry.reader.follower)
    }
    const cursor = (): string =>
      Cursor.render(kind, {
        startedAtMillis,
        open: entries.map(({ row, seq }) => ({ startedAtMillis: row.startedAtMillis, seq }))
      })

    const give = (entry: Entry, page: Page): Given => {
      entry.held = undefined
      entry.begun = true
      return Arr.map(page, (event) => {
        entry.seq = Option.getOrElse(event.seq, () => entry.seq)
        if (event.kind === "end") close(entry)
        return { _tag: "Event", cursor: cursor(), threadId: entry.row.threadId, event }
      })
    }

    /** Looks whether a run has something, and closes it if it has come to its end. */
    const peek = Effect.fnUntraced(function*(entry: Entry) {
      entry.held ??= yield* entry.reader.take
      if (entry.held === undefined && entry.reader.isDone()) close(entry)
      return entry.held
    })

    /** Gives what the other runs of a thread had before a time. */
    const earlier = Effect.fnUntraced(function*(run: RunRow, atMillis: number) {
      let first = { atMillis, startedAtMillis: run.startedAtMillis }
      let found: { readonly entry: Entry; readonly page: Page } | undefined
      for (const entry of entries.filter(({ row }) => row.threadId === run.threadId && row.runId !== run.runId)) {
        if (entry.held === undefined) entry.reader.follower.look = true
        const held = yield* peek(entry)
        if (held === undefined) continue
        const other = { atMillis: held[0].atMillis, startedAtMillis: entry.row.startedAtMillis }
        const order = other.atMillis - first.atMillis || other.startedAtMillis - first.startedAtMillis
        if (order > 0) continue
        first = other
        found = { entry, page: held }
      }
      return found === undefined ? undefined : give(found.entry, found.page)
    })

    const serve = Effect.fnUntraced(function*(entry: Entry) {
      const page = yield* peek(entry)
      if (page === undefined) return undefined
      return (entry.begun ? undefined : yield* earlier(entry.row, page[0].atMillis)) ?? give(entry, page)
    })

    const isFull = () => entries.length >= Cursor.maxOpen
    const mayHaveNews = () =>
      (source.look || !Tails.isCaughtUp(source)) && !isFull() && entries.every(({ row }) => !isEnded(row.status))

    /** Looks for the next run, and begins to follow it once what its thread had before is given. */
    const discover = Effect.gen(function*() {
      if (!mayHaveNews()) return undefined
      if (pending === undefined) {
        source.look = false
        const known = source.tail.last
        const which = { _tag: "After", startedAtMillis, limit: 1 } as const
        pending = (yield* storage(repository.listFollowed({ ownerKey, threadId, which })))[0]
        if (pending === undefined) {
          source.cursor = Math.max(source.cursor, known)
          tails.reached(source.tail, source.cursor)
          return undefined
        }
      }
      const row = pending
      const before = yield* earlier(row, row.startedAtMillis)
      if (before !== undefined) return before
      pending = undefined
      startedAtMillis = row.startedAtMillis
      source.cursor = Math.max(source.cursor, startedAtMillis)
      // There may be more.
      source.look = true
      open(row, 0)
      return Arr.of<Followed<RunEventEncoded>>({ _tag: "Begun", cursor: cursor(), run: toRun(row) })
    })

    for (const { row, seq } of options.open) open(row, seq)
    return Effect.gen(function*() {
      while (true) {
        const begun = yield* discover
        if (begun !== undefined) return begun
        for (let left = entries.length; left > 0; left--) {
          const entry = entries.shift()
          if (entry === undefined) break
          entries.push(entry)
          const given = yield* serve(entry)
          if (given !== undefined) return given
        }
        if (mayHaveNews()) continue
        const followers = entries.map(({ reader }) => reader.follower)
        yield* Tails.wait(isFull() ? followers : [source, ...followers])
      }
    }).pipe(Effect.withTracerEnabled(false))
  }

  return Stream.fromChannel(Channel.fromTransformBracket((_upstream, _scope, scope) =>
    Effect.gen(function*() {
      const entries: Array<Entry> = []
      const source = yield* Scope.provide(tails.follow(ownerKey, options.startedAtMillis), scope)
      source.look = true
      yield* Scope.addFinalizer(
        scope,
        Effect.sync(() => {
          for (const { reader } of entries) tails.leave(reader.follower)
        })
      )
      return begin(source, entries)
    })
  ))
}
