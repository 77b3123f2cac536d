/**
 * Stores that fail when a test says so, and what is logged meanwhile.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Stream from "effect/Stream"

/** Holds what was logged above the level of debugging, each line with its level. */
export class Lines extends Context.Service<Lines, Array<string>>()("test/Lines") {}

/** Returns what was logged. */
export const lines = Lines.useSync((logged) => logged.slice())

/** Keeps what is logged instead of printing it. */
export const layerLines: Layer.Layer<Lines> = Layer.unwrap(Effect.sync(() => {
  const logged: Array<string> = []
  const logger = Logger.make(({ logLevel, message }) => {
    logged.push(`${logLevel.toUpperCase()} ${Array.isArray(message) ? message.join(" ") : String(message)}`)
  })
  return Layer.merge(Layer.succeed(Lines, logged), Logger.layer([logger]))
}))

/** Makes repositories fail together, what they are asked and what listens to them. */
export class Store extends Context.Service<Store, {
  /** Returns the repository, which fails from `lose` to `restore`. */
  readonly failing: <S extends object>(repository: S) => S
  readonly lose: Effect.Effect<void>
  readonly restore: Effect.Effect<void>
}>()("test/Store") {
  static readonly layer: Layer.Layer<Store> = Layer.sync(Store, () => {
    const cause = new Error("the database is gone")
    const listening = new Set<() => void>()
    let isLost = false
    const lost = Effect.callback<never>((resume) => {
      const lose = () => resume(Effect.die(cause))
      if (isLost) return lose()
      listening.add(lose)
      return Effect.sync(() => listening.delete(lose))
    })
    const failing = (real: () => unknown) =>
      Effect.suspend(() => {
        const effect = isLost ? Effect.die(cause) : real()
        return Effect.isEffect(effect) ? effect : Effect.die(new Error("not an effect"))
      })
    return Store.of({
      failing: (repository) =>
        new Proxy(repository, {
          get(target, key) {
            const member: unknown = Reflect.get(target, key)
            if (typeof member === "function") {
              return (...args: ReadonlyArray<unknown>) => failing(() => Reflect.apply(member, target, args))
            }
            if (Effect.isEffect(member)) return failing(() => member)
            return Stream.isStream(member)
              ? Stream.suspend(() => isLost ? Stream.die(cause) : Stream.interruptWhen(member, lost))
              : member
          }
        }),
      lose: Effect.sync(() => {
        isLost = true
        for (const lose of listening) lose()
      }),
      restore: Effect.sync(() => {
        isLost = false
      })
    })
  })
}
