/**
 * Reads the documents with which clients describe themselves. A host that puts {@link layer} beside the authorization server
 * takes such clients.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import * as Input from "../Input.ts"
import * as BoundedHttp from "../BoundedHttp.ts"
import { makeRecentlyUsed } from "./internal/recentlyUsed.ts"
import { isDocumentUrl, type OAuthClient, readDocument } from "./OAuthClient.ts"

/**
 * Reports a document that cannot be used, or not be read. The problem is told to the person who is asked for consent.
 *
 * @category errors
 * @since 0.1.0
 */
export class ClientDocumentRefused extends Schema.TaggedError<ClientDocumentRefused>()("ClientDocumentRefused", {
  problem: Schema.String
}) {
  override get message() {
    return `The document of the client cannot be used: ${this.problem}`
  }
}

/**
 * Provides the clients that documents describe.
 *
 * @category services
 * @since 0.1.0
 */
export class ClientDocuments extends Context.Service<ClientDocuments, {
  /** Tells whether an id is an address that a document can have. */
  readonly isAddress: (id: string) => boolean
  /**
   * Returns the client whose document is at an address. Only the status 200 counts, no redirect is followed, and the document
   * is JSON of at most 5 KiB. It is remembered for as long as its `Cache-Control` says, at most a day; what is wrong with one
   * is not remembered. Four are read at a time for callers who are signed in, and four for all others, who cannot delay the
   * first or make the service forget what it has read for them.
   */
  readonly read: (id: string, by?: { readonly signedIn: boolean }) => Effect.Effect<OAuthClient, ClientDocumentRefused>
}>()("@sallyport/core/access/ClientDocuments") {}

/**
 * Lists the options of documents.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** Whether documents on this machine may be read over plain HTTP, for development. Default false. */
  readonly loopback?: boolean | undefined
}

const maxBytes = 5 * 1024
/**
 * Creates the service on an HTTP client that reaches public addresses only: `PublicHttp` of `@sallyport/node` checks each
 * address that it connects to.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: (options?: Options) => Effect.Effect<
  ClientDocuments["Service"],
  never,
  HttpClient.HttpClient
> = Effect.fnUntraced(function*(options?: Options) {
  Input.demand("ClientDocuments", { loopback: Input.flag }, options ?? {})
  const http = yield* HttpClient.HttpClient
  // Anyone can name an address: a few are read at a time, and each ends soon.
  const makeReader = Effect.map(Semaphore.make(4), (few) => ({
    few,
    known: makeRecentlyUsed<{ readonly client: OAuthClient; readonly untilMillis: number }>(256)
  }))
  const forSignedIn = yield* makeReader
  const forStrangers = yield* makeReader
  const refuse = (problem: string) => new ClientDocumentRefused({ problem })

  const fetch = (id: string, few: Semaphore.Semaphore) =>
    Effect.gen(function*() {
      const { keptMillis, value } = yield* BoundedHttp.readJson(id, maxBytes)
      return { client: readDocument(id, value), keptMillis }
    }).pipe(
      Effect.provideService(HttpClient.HttpClient, http),
      few.withPermits(1),
      Effect.timeout(Duration.seconds(5)),
      Effect.catchTags({
        DocumentUnreadable: ({ problem }) => Effect.fail(refuse(problem)),
        TimeoutError: () => Effect.fail(refuse("it takes too long to come"))
      })
    )

  return ClientDocuments.of({
    isAddress: (id) => isDocumentUrl(id, options),
    read: Effect.fn("ClientDocuments.read")(function*(id, by) {
      if (!isDocumentUrl(id, options)) return yield* refuse("its address is no https address with a path")
      const { few, known } = by?.signedIn === true ? forSignedIn : forStrangers
      const before = forSignedIn.known.get(id) ?? known.get(id)
      if (before !== undefined && before.untilMillis > (yield* Clock.currentTimeMillis)) return before.client
      const { client, keptMillis } = yield* fetch(id, few)
      if (typeof client === "string") return yield* refuse(client)
      if (keptMillis > 0) known.set(id, { client, untilMillis: (yield* Clock.currentTimeMillis) + keptMillis })
      return client
    })
  })
})

/**
 * Provides the service on the ambient HTTP client, with given options; see {@link make}.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: Options): Layer.Layer<ClientDocuments, never, HttpClient.HttpClient> =>
  Layer.effect(ClientDocuments, make(options))

/**
 * Provides the service on the ambient HTTP client, with documents at https addresses only.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<ClientDocuments, never, HttpClient.HttpClient> = layerWith({})
