/**
 * The newest page of each stream that readers of this process follow, read once and shared by all who wait for it.
 *
 * A page is shared only until the store hints at a change of its stream: a reader that is given a page of before a change
 * is told of the change when it waits for the next one. So it is for readers that follow; others read from the store.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import type { StreamPage } from "../DurableStream.ts"
import { markOf } from "../DurableStreamRepository.ts"
import type { DurableStreamsError } from "./streamErrors.ts"

/** Shares the reads of one process. */
export interface SharedReads {
  /** Returns the page after another one, read by the first caller. */
  readonly after: (
    page: StreamPage,
    read: Effect.Effect<StreamPage, DurableStreamsError>
  ) => Effect.Effect<StreamPage, DurableStreamsError>
  /** Returns the page after another one, if it has been read and nothing has hinted at a change since. */
  readonly held: (page: StreamPage) => StreamPage | undefined
  /** Returns the mark of a stream (see `markOf`) as of the last look at it, if nothing has hinted at a change since. */
  readonly mark: (id: number) => number | undefined
  /** Is told of a hint at a change of a stream. */
  readonly changed: (id: number) => void
  /** Is told that anything may have changed. */
  readonly anythingChanged: () => void
}

// Of more streams than these, or of larger pages, the readers read for themselves.
const maxStreams = 256
const maxPageBytes = 64 * 1024

interface Shared {
  readonly from: number
  readonly fiber: Fiber.Fiber<StreamPage, DurableStreamsError>
}

/** Tells whether a page may be given to the next caller: it is small, and its stream changes by hints alone. */
const canShare = ({ pieces, stream, upToDate }: StreamPage, id: number): boolean =>
  upToDate && stream.id === id && stream.ttlMillis === null && stream.expiresAtMillis === null &&
  pieces.reduce((bytes, piece) => bytes + piece.length, 0) <= maxPageBytes

/** Makes an empty registry. Reads that are under way end with the scope. */
export const make: Effect.Effect<SharedReads, never, Scope.Scope> = Effect.map(Effect.scope, (scope) => {
  const byStream = new Map<number, Shared>()

  const begin = (id: number, from: number, read: Effect.Effect<StreamPage, DurableStreamsError>) =>
    // No reader's disconnecting interrupts what others wait for. A store in this process has answered already.
    Effect.map(Effect.forkIn(read, scope, { startImmediately: true }), (fiber): Shared => {
      const shared = { from, fiber }
      byStream.delete(id)
      byStream.set(id, shared)
      const [oldest] = byStream.keys()
      if (byStream.size > maxStreams && oldest !== undefined) byStream.delete(oldest)
      fiber.addObserver((exit) => {
        if (byStream.get(id) === shared && !(Exit.isSuccess(exit) && canShare(exit.value, id))) byStream.delete(id)
      })
      return shared
    })

  const pageOf = (id: number): StreamPage | undefined => {
    const exit = byStream.get(id)?.fiber.pollUnsafe()
    return exit !== undefined && Exit.isSuccess(exit) ? exit.value : undefined
  }

  return {
    after: (page, read) =>
      Effect.suspend(() => {
        const { id } = page.stream
        const known = byStream.get(id)
        return known?.from === page.next
          ? Fiber.join(known.fiber)
          : Effect.flatMap(begin(id, page.next, read), ({ fiber }) => Fiber.join(fiber))
      }),
    held: ({ next, stream: { id } }) => {
      const page = pageOf(id)
      return page?.from === next ? page : undefined
    },
    mark: (id) => {
      const page = pageOf(id)
      return page === undefined ? undefined : markOf(page.stream)
    },
    changed: (id) => void byStream.delete(id),
    anythingChanged: () => byStream.clear()
  }
})
