/**
 * Takes away what browsers and Node have and React Native lacks. It is imported before everything else.
 */

/** A `fetch` whose answers are streams, as `expo/fetch` has it. The global one is no longer there. */
export const streamingFetch = globalThis.fetch

const missing = [
  "crypto",
  "Crypto",
  "CryptoKey",
  "SubtleCrypto",
  "EventSource",
  "WebSocket",
  "navigator",
  "localStorage",
  "sessionStorage",
  "document",
  "indexedDB",
  "fetch",
  "BroadcastChannel",
  "addEventListener"
]

for (const name of missing) Reflect.deleteProperty(globalThis, name)

/** What could not be taken away. */
export const left = missing.filter((name) => name in globalThis)
