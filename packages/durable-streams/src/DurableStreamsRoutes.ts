/**
 * The Durable Streams protocol over HTTP, behind the same authentication as the rest.
 *
 * A stream belongs to its creator: the same path below the prefix is another stream to another owner. Reading asks for
 * the scope `streams:read`, all else for `streams:write`.
 */
import type { AccessScope } from "@sallyport/core/access/AccessScope"
import { AuthPolicy } from "@sallyport/core/access/AuthPolicy"
import { CurrentSession } from "@sallyport/core/access/CurrentSession"
import type { RunOwner } from "@sallyport/core/runs/Run"
import type { Session } from "@sallyport/core/access/Session"
import type { SessionCredentialService } from "@sallyport/core/access/SessionCredentialService"
import * as Authentication from "@sallyport/http/Authentication"
import * as ByteSize from "effect/ByteSize"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Headers from "effect/http/Headers"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { formatOffset, isJson, parseOffset, type StreamInfo } from "./DurableStream.ts"
import type { ProducerPoint } from "./DurableStreamRepository.ts"
import { type CreateOptions, DurableStreams, type DurableStreamsError } from "./DurableStreams.ts"
import * as Live from "./internal/live.ts"
import * as Reader from "./internal/reader.ts"
import * as Request from "./internal/request.ts"
import * as Wire from "./internal/wire.ts"

export { InvalidStreamsRoutesOptions } from "./internal/live.ts"

declare module "@sallyport/core/access/AccessScope" {
  interface Registry {
    readonly "streams:read": true
    readonly "streams:write": true
  }
}

/**
 * Lists the scopes that these routes ask for; a host adds them to `AccessScope.Vocabulary`.
 *
 * @category constants
 * @since 0.1.0
 */
export const scopes: ReadonlyArray<AccessScope> = ["streams:read", "streams:write"]

/**
 * Says where the routes are, and to whom streams belong; the same for streams and subscriptions.
 *
 * @category options
 * @since 0.1.0
 */
export interface CommonOptions {
  /** The path below which streams are. Default `/streams`. */
  readonly prefix?: `/${string}` | undefined
  /** Returns to whom a session's streams belong. Default its subject. */
  readonly owner?: ((session: Session) => RunOwner) | undefined
}

/**
 * Lists the settings of the routes.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options extends CommonOptions, Live.Options {
  /** The largest body of a request. Default 8 MiB. */
  readonly maxBodySize?: ByteSize.ByteSize | undefined
  /**
   * The largest body of JSON, if that is less. Default 256 KiB: the worst of that size is parsed in a few milliseconds, for
   * which all other requests wait.
   */
  readonly maxJsonSize?: ByteSize.ByteSize | undefined
}

/** Returns the path of the stream that the request is about. */
const pathOf = Effect.map(HttpRouter.params, (params) => params["*"] ?? "")

const hasToken = (value: string | undefined): boolean => value !== undefined && value.toLowerCase() === "true"

// -----------------------------------------------------------------------------
// Request headers
// -----------------------------------------------------------------------------

const natural = /^(?:0|[1-9][0-9]{0,15})$/

const toNatural = (text: string): number | undefined => {
  const value = natural.test(text) ? Number(text) : Number.NaN
  return Number.isSafeInteger(value) ? value : undefined
}

type Headers = HttpServerRequest.HttpServerRequest["headers"]

const producerOf = (headers: Headers): Effect.Effect<ProducerPoint | undefined, DurableStreamsError> => {
  const id = headers["producer-id"]
  const epoch = headers["producer-epoch"]
  const seq = headers["producer-seq"]
  if (id === undefined && epoch === undefined && seq === undefined) return Effect.succeed(undefined)
  if (id === undefined || epoch === undefined || seq === undefined) {
    return Wire.invalid("Producer-Id, Producer-Epoch and Producer-Seq", "given together, or none of them")
  }
  if (id === "") return Wire.invalid("Producer-Id", "a name, at least one character")
  const point = { producerId: id, epoch: toNatural(epoch), seq: toNatural(seq) }
  const { epoch: epochNumber, seq: seqNumber } = point
  return epochNumber === undefined || seqNumber === undefined
    ? Wire.invalid("Producer-Epoch and Producer-Seq", "natural numbers up to 2^53 - 1")
    : Effect.succeed({ producerId: id, epoch: epochNumber, seq: seqNumber })
}

const rfc3339 = /^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:[Zz]|[+-]\d{2}:\d{2})$/

const lifetimeOf = (headers: Headers): Effect.Effect<{
  readonly ttl?: Duration.Duration
  readonly expiresAtMillis?: number
}, DurableStreamsError> => {
  const ttl = headers["stream-ttl"]
  const expiresAt = headers["stream-expires-at"]
  if (ttl !== undefined && expiresAt !== undefined) {
    return Wire.invalid("Stream-TTL", "absent if Stream-Expires-At is given")
  }
  if (ttl !== undefined) {
    const seconds = toNatural(ttl)
    return seconds === undefined || !Number.isSafeInteger(seconds * 1000)
      ? Wire.invalid("Stream-TTL", "a number of seconds in decimal digits, without sign, point or leading zeros")
      : Effect.succeed({ ttl: Duration.seconds(seconds) })
  }
  if (expiresAt === undefined) return Effect.succeed({})
  const time = rfc3339.test(expiresAt) ? DateTime.make(expiresAt) : Option.none()
  return Option.isNone(time)
    ? Wire.invalid("Stream-Expires-At", "a time as RFC 3339 writes it, such as 2027-01-31T12:00:00Z")
    : Effect.succeed({ expiresAtMillis: Math.max(0, DateTime.toEpochMillis(time.value)) })
}

const decodePath = Option.liftThrowable(decodeURIComponent)

const forkOf = (headers: Headers, prefix: string): Effect.Effect<
  CreateOptions["fork"],
  DurableStreamsError
> => {
  const from = headers["stream-forked-from"]
  const offset = headers["stream-fork-offset"]
  const sub = headers["stream-fork-sub-offset"]
  if (from === undefined) {
    return offset === undefined && sub === undefined
      ? Effect.succeed(undefined)
      : Wire.invalid("Stream-Forked-From", "given with Stream-Fork-Offset and Stream-Fork-Sub-Offset")
  }
  const path = from.startsWith(`${prefix}/`) ? decodePath(from.slice(prefix.length + 1)) : Option.none()
  if (Option.isNone(path)) {
    return Wire.invalid("Stream-Forked-From", `the path of a stream of this server, below ${prefix}/`)
  }
  const at = offset === undefined ? Option.none() : offset === "-1"
    ? Option.some({ streamId: 0, position: 0 })
    : parseOffset(offset)
  if (offset !== undefined && Option.isNone(at)) {
    return Wire.invalid("Stream-Fork-Offset", "-1 or an offset that this server has answered")
  }
  const further = sub === undefined ? 0 : toNatural(sub)
  if (further === undefined) return Wire.invalid("Stream-Fork-Sub-Offset", "a natural number in decimal digits")
  return Effect.succeed({ path: path.value, further, at: Option.getOrUndefined(at) })
}

// -----------------------------------------------------------------------------
// Routes
// -----------------------------------------------------------------------------

const describe = (stream: StreamInfo): Record<string, string> => ({
  ...Reader.describe(stream),
  ...(stream.ttlMillis === null ? {} : { "stream-ttl": String(Math.floor(stream.ttlMillis / 1000)) }),
  ...(stream.expiresAtMillis === null ? {} : {
    "stream-expires-at": DateTime.formatIso(DateTime.makeUnsafe(stream.expiresAtMillis))
  })
})

// Pages of other origins get no right to read anything by this; a host that wants that adds `HttpRouter.cors`.
const preflight = HttpServerResponse.empty({
  status: 204,
  headers: {
    ...Wire.securityHeaders,
    allow: "GET, HEAD, PUT, POST, DELETE, OPTIONS",
    "access-control-allow-methods": "GET, HEAD, PUT, POST, DELETE",
    "access-control-allow-headers": "authorization, content-type, if-none-match, stream-seq, stream-ttl, " +
      "stream-expires-at, stream-closed, stream-forked-from, stream-fork-offset, stream-fork-sub-offset, producer-id, " +
      "producer-epoch, producer-seq"
  }
})

/**
 * Adds the protocol's routes for streams below the prefix to the router.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<
  never,
  Live.InvalidStreamsRoutesOptions,
  DurableStreams | SessionCredentialService | AuthPolicy | HttpRouter.HttpRouter
> => {
  const prefix = options?.prefix ?? "/streams"
  const ownerOf = options?.owner ?? Request.ownerOfSubject
  const maxBodySize = options?.maxBodySize ?? ByteSize.mebibytes(8)
  const maxJsonSize = ByteSize.min(maxBodySize, options?.maxJsonSize ?? Authentication.defaultMaxBodySize)
  // A fork that names no content type has that of its source.
  const maxSizeOf = ({ "content-type": type, "stream-forked-from": source }: Headers.Headers) =>
    (type === undefined ? source !== undefined : isJson(type)) ? maxJsonSize : maxBodySize

  const name = Effect.gen(function*() {
    const session = yield* CurrentSession
    return { session, owner: ownerOf(session), path: yield* pathOf }
  })

  const reading = Layer.effectDiscard(Effect.gen(function*() {
    const router = yield* HttpRouter.HttpRouter
    const streams = yield* DurableStreams
    const live = yield* Live.make(options, ["maxBodySize", "maxJsonSize"])

    const get = Effect.gen(function*() {
      const request = yield* HttpServerRequest.HttpServerRequest
      const { owner, path, session } = yield* name
      if (request.method === "HEAD") {
        const stream = yield* streams.get({ owner, path })
        return HttpServerResponse.empty({
          status: 200,
          headers: { ...describe(stream), "content-type": stream.contentType }
        })
      }
      return yield* Reader.respond({
        request,
        params: yield* HttpServerRequest.ParsedSearchParams,
        source: {
          tag: (stream) => String(stream.id),
          read: (from) => streams.read({ owner, path, from }),
          readNext: (after) => streams.readNext({ owner, path, after }),
          push: (after) => streams.push({ owner, path, after })
        },
        live: live(session)
      })
    })
    yield* router.add("GET", `${prefix}/*`, Request.answer(get))
  })).pipe(Layer.provide(Authentication.guard("streams:read").layer))

  const writing = Layer.effectDiscard(Effect.gen(function*() {
    const router = yield* HttpRouter.HttpRouter
    const streams = yield* DurableStreams
    const policy = yield* AuthPolicy

    const put = Effect.gen(function*() {
      const request = yield* HttpServerRequest.HttpServerRequest
      const { headers } = request
      const { owner, path } = yield* name
      const lifetime = yield* lifetimeOf(headers)
      const fork = yield* forkOf(headers, prefix)
      const data = yield* Request.bodyOf(request, maxSizeOf(headers))
      const { created, stream } = yield* streams.create({
        owner,
        path,
        contentType: headers["content-type"],
        ...lifetime,
        closed: hasToken(headers["stream-closed"]),
        data,
        fork
      })
      const location = Request.rootOf(request, policy, prefix) +
        `/${path.split("/").map(encodeURIComponent).join("/")}`
      return HttpServerResponse.empty({
        status: created ? 201 : 200,
        headers: {
          ...describe(stream),
          "content-type": stream.contentType,
          ...(created ? { location } : {})
        }
      })
    })

    const post = Effect.gen(function*() {
      const request = yield* HttpServerRequest.HttpServerRequest
      const { headers } = request
      const { owner, path } = yield* name
      const producer = yield* producerOf(headers)
      const data = yield* Request.bodyOf(request, maxSizeOf(headers))
      const appended = yield* streams.append({
        owner,
        path,
        contentType: headers["content-type"],
        data,
        producer,
        seq: headers["stream-seq"],
        close: hasToken(headers["stream-closed"])
      })
      const answered: Record<string, string> = {
        ...Wire.securityHeaders,
        "stream-next-offset": formatOffset({ streamId: appended.streamId, position: appended.tail })
      }
      if (appended.closed) answered["stream-closed"] = "true"
      if (producer !== undefined) {
        answered["producer-epoch"] = String(producer.epoch)
        answered["producer-seq"] = String(appended.producerSeq ?? producer.seq)
      }
      // The protocol tells a producer by 200 that this append was stored, and by 204 that an earlier one was.
      const status = producer !== undefined && data.length > 0 && !appended.duplicate ? 200 : 204
      return HttpServerResponse.empty({ status, headers: answered })
    })

    const remove = Effect.gen(function*() {
      const { owner, path } = yield* name
      yield* streams.delete({ owner, path })
      return HttpServerResponse.empty({ status: 204, headers: Wire.securityHeaders })
    })

    yield* router.add("PUT", `${prefix}/*`, Request.answer(put))
    yield* router.add("POST", `${prefix}/*`, Request.answer(post))
    yield* router.add("DELETE", `${prefix}/*`, Request.answer(remove))
  })).pipe(Layer.provide(Authentication.guard("streams:write").layer))

  return Layer.mergeAll(reading, writing, HttpRouter.add("OPTIONS", `${prefix}/*`, preflight))
}
