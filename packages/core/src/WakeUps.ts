/**
 * Hints that a store may hold something new, for adapters that give them and services that follow a store.
 *
 * A hint says "look now" and is never data: a follower keeps its own cursor and reads the store. It may come for nothing,
 * and several may come as one, but after the last change at least one comes, or the stream of them fails. A follower whose
 * stream failed is out of date until it has subscribed again and looked.
 */
import type * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

/**
 * Says where to look: `anything`, or some keys, each with the position up to which there is something at least. What a
 * key and a position are is the port's to say: a run and the number of an event, for example.
 *
 * @category models
 * @since 0.1.0
 */
export type WakeUp = "anything" | ReadonlyMap<string, number>

/**
 * Hands hints from those who give them to those who wait for them, in one process.
 *
 * @category models
 * @since 0.1.0
 */
export interface WakeUps<E = never> {
  /** Hints at one key. To be called after the commit; a hint that comes before it is a hint at nothing. */
  readonly notify: (key: string, position: number) => void
  /** Passes a hint on. */
  readonly wake: (wakeUp: WakeUp) => void
  /** Fails every listener, because hints may have been lost. */
  readonly fail: (error: E) => void
  /**
   * Listens from now on. The stream begins with `anything`, so that its reader looks once it listens. It holds one hint at
   * most, into which all flow together that come before it is taken.
   */
  readonly subscribe: Effect.Effect<Stream.Stream<WakeUp, E>, never, Scope.Scope>
  /** Listens while the stream runs; see `subscribe`. */
  readonly listen: Stream.Stream<WakeUp, E>
}

// Past this many keys, to look at everything costs less than to keep them.
const maxKeys = 1_000

/**
 * Adds a hint to one that has not been taken yet.
 *
 * @category combinators
 * @since 0.1.0
 */
export const combine = (pending: WakeUp | undefined, wakeUp: WakeUp): WakeUp => {
  if (pending === undefined) return wakeUp
  if (pending === "anything" || wakeUp === "anything") return "anything"
  const keys = new Map(pending)
  for (const [key, position] of wakeUp) keys.set(key, Math.max(position, keys.get(key) ?? 0))
  return keys.size > maxKeys ? "anything" : keys
}

interface Listener<E> {
  pending: WakeUp | undefined
  failure: { readonly error: E } | undefined
  resume: (() => void) | undefined
}

/**
 * Makes a place to leave hints, without listeners.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <E = never>(): WakeUps<E> => {
  const listeners = new Set<Listener<E>>()

  const wake = (wakeUp: WakeUp): void => {
    for (const listener of listeners) {
      listener.pending = combine(listener.pending, wakeUp)
      listener.resume?.()
    }
  }

  const take = (listener: Listener<E>): Effect.Effect<Arr.NonEmptyReadonlyArray<WakeUp>, E> =>
    Effect.callback((resume) => {
      const proceed = () => {
        listener.resume = undefined
        const { failure, pending } = listener
        listener.pending = undefined
        resume(failure === undefined ? Effect.succeed([pending ?? "anything"]) : Effect.fail(failure.error))
      }
      if (listener.failure !== undefined || listener.pending !== undefined) return proceed()
      listener.resume = proceed
      return Effect.sync(() => {
        listener.resume = undefined
      })
    })

  const subscribe = Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => {
        const listener: Listener<E> = { pending: "anything", failure: undefined, resume: undefined }
        listeners.add(listener)
        return listener
      }),
      (listener) => Effect.sync(() => listeners.delete(listener))
    ),
    (listener) => Stream.fromPull(Effect.succeed(take(listener)))
  )

  return {
    notify: (key, position) => {
      if (listeners.size > 0) wake(new Map([[key, position]]))
    },
    wake,
    fail: (error) => {
      for (const listener of listeners) {
        listener.failure = { error }
        listener.resume?.()
      }
    },
    subscribe,
    listen: Stream.unwrap(subscribe)
  }
}
