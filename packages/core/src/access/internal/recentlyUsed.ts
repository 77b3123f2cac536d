/** Keeps values ready for use, and drops the one that was not used for longest. */
export const makeRecentlyUsed = <A>(capacity: number) => {
  const values = new Map<string, A>()
  // The key that was used last has its place already, and is the one that is most often used next.
  let newest: string | undefined
  return {
    get: (key: string): A | undefined => {
      const value = values.get(key)
      if (value === undefined || key === newest) return value
      values.delete(key)
      values.set(newest = key, value)
      return value
    },
    set: (key: string, value: A): void => {
      values.delete(key)
      values.set(newest = key, value)
      if (values.size <= capacity) return
      for (const oldest of values.keys()) {
        values.delete(oldest)
        break
      }
    }
  }
}
