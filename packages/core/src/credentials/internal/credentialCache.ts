/**
 * What a process remembers of credentials that it has resolved, until something says that they changed.
 */

/** Makes an empty cache, which forgets everything rather than hold more than `capacity`. */
export const make = <A extends { readonly key: string }>(capacity: number) => {
  const entries = new Map<string, A>()
  const idsByKey = new Map<string, Set<string>>()
  // Counts invalidations. A row that was read before one must not be remembered after it.
  let generation = 0

  const forgetAll = (): void => {
    generation++
    entries.clear()
    idsByKey.clear()
  }

  return {
    /** Counts how often something was found to be out of date, whether or not it was remembered. */
    generation: (): number => generation,

    get: (id: string): A | undefined => entries.get(id),

    /** Remembers what was read at a generation, unless something was forgotten since. */
    remember: (id: string, entry: A, readAt: number): void => {
      if (readAt !== generation) return
      if (entries.size >= capacity) forgetAll()
      entries.set(id, entry)
      const ids = idsByKey.get(entry.key)
      if (ids === undefined) idsByKey.set(entry.key, new Set([id]))
      else ids.add(id)
    },

    /** Forgets a key, for every caller. */
    forget: (key: string): void => {
      generation++
      for (const id of idsByKey.get(key) ?? []) entries.delete(id)
      idsByKey.delete(key)
    },

    forgetAll
  }
}
