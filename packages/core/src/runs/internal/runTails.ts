/**
 * The newest events of the runs that have readers in this process, read from the store once and shared by all of them.
 *
 * A tail holds events that are committed, with consecutive numbers. It is bounded, and no writer waits for a reader: one that
 * falls behind what is held reads pages from the store until it has caught up.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { SchedulerDispatcher } from "effect/Scheduler"
import type * as Scope from "effect/Scope"
import type { RunEventEncoded } from "../Run.ts"

/** Describes one reader of one run. */
export interface Follower {
  readonly tail: Tail
  /** The number of the last event that the reader took. */
  cursor: number
  /** True when the tail does not suffice: the reader is to look at the store, at events and row. */
  look: boolean
  /** Wakes the reader if it waits. */
  wake: (() => void) | undefined
}

/** Describes the newest events of one run; or how far the runs of an owner have come, and then it holds no events. */
export interface Tail {
  /** The id of the run, or the key of the owner. */
  readonly key: string
  readonly followers: Set<Follower>
  events: Array<RunEventEncoded>
  bytes: number
  /**
   * The number of the newest event known, or the start of the owner's newest run; -1 before any reader has read up to the
   * end of what is stored.
   */
  last: number
}

/** Keeps the tails of a process. */
export interface Tails {
  /** Adds a reader, which has to look at the store first, until it leaves. */
  readonly join: (key: string, cursor: number) => Follower
  readonly leave: (follower: Follower) => void
  /** Adds a reader for as long as the scope is open. */
  readonly follow: (key: string, cursor: number) => Effect.Effect<Follower, never, Scope.Scope>
  readonly get: (key: string) => Tail | undefined
  /** Lists the runs, and the owners, that have readers. */
  readonly keys: () => ReadonlyArray<string>
  /**
   * Adds events to a tail and wakes its readers. What it has already is passed over; after a gap it starts over, and the
   * readers before the gap read from the store.
   */
  readonly push: (tail: Tail, events: ReadonlyArray<RunEventEncoded>) => void
  /** Notes that a reader has read up to the end of what is stored. */
  readonly reached: (tail: Tail, position: number) => void
  /** Notes that there is something up to a position, for readers who look for it themselves. */
  readonly note: (tail: Tail, position: number) => void
  /** Sends the readers of a tail to the store. */
  readonly signal: (tail: Tail) => void
}

const seqOf = (event: RunEventEncoded | undefined): number =>
  event === undefined || Option.isNone(event.seq) ? 0 : event.seq.value

/** Returns the events after a reader's cursor, at most `limit`; `undefined` if the tail does not hold the next one. */
export const take = (follower: Follower, limit: number): ReadonlyArray<RunEventEncoded> | undefined => {
  const { cursor, tail } = follower
  const skipped = cursor - (tail.last - tail.events.length)
  if (skipped < 0 || skipped >= tail.events.length) return undefined
  // Most readers of a live run lack one event.
  return skipped === 0 && tail.events.length <= limit
    ? tail.events.slice()
    : tail.events.slice(skipped, skipped + limit)
}

/** Tells whether a reader has read all that the tail knows of. */
export const isCaughtUp = ({ cursor, tail }: Follower): boolean => tail.last >= 0 && cursor >= tail.last

/** Waits until one of some followers, all of one reader, is woken. */
export const wait = (followers: ReadonlyArray<Follower>): Effect.Effect<void> =>
  Effect.callback((resume) => {
    if (followers.some((follower) => follower.look || !isCaughtUp(follower))) return resume(Effect.void)
    const setWake = (wake: Follower["wake"]): void => {
      for (const follower of followers) follower.wake = wake
    }
    setWake(() => {
      setWake(undefined)
      resume(Effect.void)
    })
    return Effect.sync(() => setWake(undefined))
  })

const wakesAtOnce = 16

/** Makes an empty registry. `maxEvents` bounds each tail, `maxBytes` all of them together. */
export const make = (options: {
  readonly maxEvents: number
  readonly maxBytes: number
  readonly dispatcher: SchedulerDispatcher
}): Tails => {
  // In the order of their last event: if there is too much in all, the tails that have been silent give way.
  const tails = new Map<string, Tail>()
  let bytes = 0

  const drop = (tail: Tail, count: number): void => {
    for (const { data } of tail.events.splice(0, count)) {
      tail.bytes -= data.length
      bytes -= data.length
    }
  }

  // A reader that is woken goes on at once, up to what it writes, which goes out when the present task is over. So of many
  // readers only some are woken in one task: the first don't wait for the last, and neither does any other caller.
  const sleepers = new Set<Follower>()
  const wakeSome = (): void => {
    let woken = 0
    for (const follower of sleepers) {
      if (woken++ === wakesAtOnce) return options.dispatcher.scheduleTask(wakeSome, 0)
      sleepers.delete(follower)
      follower.wake?.()
    }
  }
  const wakeAll = (tail: Tail): void => {
    const isScheduled = sleepers.size > 0
    for (const follower of tail.followers) if (follower.wake !== undefined) sleepers.add(follower)
    if (!isScheduled) wakeSome()
  }

  const join: Tails["join"] = (key, cursor) => {
    let tail = tails.get(key)
    if (tail === undefined) {
      tail = { key, followers: new Set(), events: [], bytes: 0, last: -1 }
      tails.set(key, tail)
    }
    const follower: Follower = { tail, cursor, look: false, wake: undefined }
    tail.followers.add(follower)
    return follower
  }
  const leave: Tails["leave"] = (follower) => {
    const { tail } = follower
    tail.followers.delete(follower)
    sleepers.delete(follower)
    if (tail.followers.size > 0) return
    drop(tail, tail.events.length)
    tails.delete(tail.key)
  }
  const reached: Tails["reached"] = (tail, position) => {
    // Events after this position may have been pushed meanwhile, and those before it not.
    if (position <= tail.last) return
    drop(tail, tail.events.length)
    tail.last = position
  }

  return {
    join,
    leave,
    follow: (key, cursor) =>
      Effect.acquireRelease(
        Effect.sync(() => join(key, cursor)),
        (follower) => Effect.sync(() => leave(follower))
      ),
    get: (key) => tails.get(key),
    keys: () => Array.from(tails.keys()),
    push: (tail, events) => {
      const first = seqOf(events[0])
      const last = seqOf(events[events.length - 1])
      if (last <= tail.last || tail.followers.size === 0) return
      if (first > tail.last + 1) drop(tail, tail.events.length)
      const known = Math.max(0, tail.last + 1 - first)
      for (let i = known; i < events.length; i++) {
        const event = events[i]
        if (event === undefined) continue
        tail.events.push(event)
        tail.bytes += event.data.length
        bytes += event.data.length
      }
      tail.last = last
      if (tail.events.length > options.maxEvents) drop(tail, tail.events.length - options.maxEvents)
      tails.delete(tail.key)
      tails.set(tail.key, tail)
      for (const silent of tails.values()) {
        if (bytes <= options.maxBytes) break
        drop(silent, silent.events.length)
      }
      wakeAll(tail)
    },
    reached,
    note: (tail, position) => {
      reached(tail, position)
      wakeAll(tail)
    },
    signal: (tail) => {
      for (const follower of tail.followers) follower.look = true
      wakeAll(tail)
    }
  }
}
