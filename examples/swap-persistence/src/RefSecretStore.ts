/** A secret store on a `Ref`. `SecretStore.make` asks for a few operations, each one atomic step. */
// #region adapter
import { SecretStore } from "@sallyport/core"
import { Effect, Layer, Option, Redacted, Ref } from "effect"

interface Entry {
  readonly version: number
  readonly bytes: Uint8Array
}

const toVersion = ({ bytes, version }: Entry): SecretStore.SecretVersion => ({
  version,
  value: Redacted.make(bytes.slice())
})

const make = Effect.gen(function*() {
  const state = yield* Ref.make({ last: 0, secrets: new Map<SecretStore.SecretName, ReadonlyArray<Entry>>() })
  const entries = (name: SecretStore.SecretName) => Effect.map(Ref.get(state), ({ secrets }) => secrets.get(name) ?? [])

  /** Stores a value, or removes it, if the state is still the expected one; in one step. */
  const store = (name: SecretStore.SecretName, next: Option.Option<Redacted.Redacted<Uint8Array>>, expected?: number) =>
    Ref.modify(state, ({ last, secrets }) => {
      const before = secrets.get(name) ?? []
      if (expected !== undefined && expected !== (before[0]?.version ?? 0)) return [false, { last, secrets }]
      const after = new Map(secrets)
      if (Option.isNone(next)) after.delete(name)
      else after.set(name, [{ version: last + 1, bytes: Redacted.value(next.value).slice() }, ...before].slice(0, 2))
      // The counter only grows, so that no version of a name is ever used twice.
      return [true, { last: last + 1, secrets: after }]
    })

  return yield* SecretStore.make({
    read: (name) =>
      Effect.map(entries(name), ([current]) => ({
        version: current?.version ?? 0,
        value: Option.map(Option.fromUndefinedOr(current), (entry) => toVersion(entry).value)
      })),
    write: (name, next) => Effect.asVoid(store(name, next)),
    compareAndSet: (name, expected, next) => store(name, Option.some(next), expected),
    list: Effect.map(Ref.get(state), ({ secrets }) => Array.from(secrets.keys())),
    history: (name) => Effect.map(entries(name), (kept) => kept.map(toVersion))
  })
})

export const layer = Layer.effect(SecretStore.SecretStore, make)
// #endregion adapter
