/** Keeps values ready for use, and drops the one that was not used for longest. */
export const makeRecentlyUsed = <A>(capacity: number) => {
  const values = new Map<string, A>()
  return {
    get: (key: string): A | undefined => {
      const value = values.get(key)
      if (value === undefined) return undefined
      values.delete(key)
      values.set(key, value)
      return value
    },
    set: (key: string, value: A): void => {
      values.delete(key)
      values.set(key, value)
      if (values.size <= capacity) return
      for (const oldest of values.keys()) {
        values.delete(oldest)
        break
      }
    }
  }
}
