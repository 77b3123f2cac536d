import * as Effect from "effect/Effect"

/**
 * Runs an effect while it holds the Web Lock of a name, which all tabs of a browser's profile and origin share. If
 * there are no Web Locks, or the page may not use them, the effect runs without.
 */
export const hold = (name: string) => <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    // Outside of a secure context it is missing, although its type says otherwise.
    const { locks }: { readonly locks?: LockManager } = typeof navigator === "undefined" ? {} : navigator
    if (locks === undefined) return effect
    const ended = new AbortController()
    const granted = Effect.callback<void>((resume) => {
      const holding = () =>
        new Promise<void>((release) => {
          ended.signal.addEventListener("abort", () => release())
          if (ended.signal.aborted) release()
          resume(Effect.void)
        })
      locks.request(name, { signal: ended.signal }, holding).catch(() => resume(Effect.void))
    })
    return Effect.ensuring(Effect.andThen(granted, effect), Effect.sync(() => ended.abort()))
  })
