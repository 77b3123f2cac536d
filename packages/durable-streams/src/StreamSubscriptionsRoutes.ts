/**
 * The protocol's subscriptions over HTTP, below `__ds` of the root of streams.
 *
 * Managing a subscription asks for a session with the scope `streams:write`, looking at one for `streams:read`. Who works
 * on a wake proves it by the token that came with it: a callback needs no session.
 */
import { AuthPolicy } from "@sallyport/core/access/AuthPolicy"
import { CurrentSession } from "@sallyport/core/access/CurrentSession"
import type { SessionCredentialService } from "@sallyport/core/access/SessionCredentialService"
import * as Input from "@sallyport/core/Input"
import * as Authentication from "@sallyport/http/Authentication"
import * as ByteSize from "effect/ByteSize"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { formatOffset } from "./DurableStream.ts"
import type { CommonOptions, Options } from "./DurableStreamsRoutes.ts"
import { viewOf } from "./internal/pendingStreams.ts"
import * as Request from "./internal/request.ts"
import * as Wire from "./internal/wire.ts"
import {
  type SigningKey,
  StreamSubscriptions,
  StreamSubscriptionsError,
  type Subscription,
  TokenInvalid
} from "./StreamSubscriptions.ts"

const maxBodySize = ByteSize.kibibytes(256)

/** A host may have one object of options for these routes and those of the streams. */
const optionRules: Record<keyof Options, Input.Rule> = {
  prefix: Input.text,
  owner: Input.callable,
  maxBodySize: Input.any,
  maxJsonSize: Input.any,
  longPollTimeout: Input.any,
  sseDuration: Input.any,
  heartbeatInterval: Input.any
}

const Body = Schema.Struct({
  type: Schema.Literals(["webhook", "pull-wake"]),
  pattern: Schema.optional(Schema.NullOr(Schema.NonEmptyString)),
  streams: Schema.optional(Schema.Array(Schema.NonEmptyString).check(Schema.isMaxLength(1000))),
  webhook: Schema.optional(Schema.NullOr(Schema.Struct({ url: Schema.String }))),
  wake_stream: Schema.optional(Schema.NullOr(Schema.String)),
  lease_ttl_ms: Schema.optional(Schema.Natural),
  description: Schema.optional(Schema.NullOr(Schema.String))
})
const Streams = Schema.Struct({ streams: Schema.Array(Schema.NonEmptyString).check(Schema.isMaxLength(1000)) })
const Worker = Schema.Struct({ worker: Schema.NonEmptyString })
const Settlement = Schema.Struct({
  wake_id: Schema.String,
  generation: Schema.Natural,
  acks: Schema.optional(
    Schema.Array(Schema.Struct({ stream: Schema.String, offset: Schema.String })).check(Schema.isMaxLength(1000))
  ),
  done: Schema.optional(Schema.Boolean)
})

const invalid = (expected: string) => Wire.error(400, "INVALID_REQUEST", `The body must be ${expected}`)

/** Reads a body of JSON, and fails with the answer to one that is not of its form. */
const jsonOf = <A>(schema: Schema.Codec<A, unknown>, expected: string) => {
  const decode = Schema.decodeUnknownEffect(Schema.fromJsonString(schema))
  const decoder = new TextDecoder()
  return Effect.gen(function*() {
    const request = yield* HttpServerRequest.HttpServerRequest
    const text = decoder.decode(yield* Request.bodyOf(request, maxBodySize))
    if (!Input.isBoundedJson(text)) return yield* Effect.fail(invalid(expected))
    return yield* Effect.mapError(decode(text), () => invalid(expected))
  })
}

const createBody = jsonOf(
  Body,
  "a JSON object with type (webhook or pull-wake), pattern or streams, and webhook.url or wake_stream"
)
const streamsBody = jsonOf(Streams, "a JSON object with streams, an array of up to 1000 paths")
const workerBody = jsonOf(Worker, "a JSON object with worker, a name")
const settlementBody = jsonOf(Settlement, "a JSON object with wake_id, generation, acks (up to 1000) and done")

const bearer = /^Bearer +([^\s]+) *$/i

const tokenOf = Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ headers }) => {
  const token = bearer.exec(headers.authorization ?? "")?.[1]
  return token === undefined
    ? Effect.fail(new StreamSubscriptionsError({ reason: new TokenInvalid() }))
    : Effect.succeed(Redacted.make(token, { label: "wake-token" }))
})

const json = (body: unknown, status = 200) =>
  HttpServerResponse.jsonUnsafe(body, { status, headers: { ...Wire.securityHeaders, "cache-control": "no-store" } })

const noContent = HttpServerResponse.empty({ status: 204, headers: Wire.securityHeaders })

const view = ({ links, row }: Subscription, key: SigningKey) => ({
  id: row.subscriptionId,
  subscription_id: row.subscriptionId,
  type: row.type,
  pattern: row.pattern,
  streams: links.map((link) => ({
    path: link.path,
    link_type: link.explicit ? "explicit" : "glob",
    acked_offset: formatOffset({ streamId: link.streamId, position: link.acked })
  })),
  webhook: row.webhookUrl === null ? null : {
    url: row.webhookUrl,
    signing: { alg: "ed25519", kid: key.kid, jwks_url: `${row.rootUrl}/__ds/jwks.json` }
  },
  wake_stream: row.wakeStream,
  lease_ttl_ms: row.leaseMillis,
  created_at: DateTime.formatIso(DateTime.makeUnsafe(row.createdAtMillis)),
  status: row.failures > 0 ? "failed" : "active",
  description: row.description
})

/**
 * Adds the protocol's routes for subscriptions to the router, beside those of `DurableStreamsRoutes`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: CommonOptions): Layer.Layer<
  never,
  never,
  StreamSubscriptions | SessionCredentialService | AuthPolicy | HttpRouter.HttpRouter
> => {
  Input.demand("StreamSubscriptionsRoutes.layer", optionRules, options ?? {})
  const prefix = options?.prefix ?? "/streams"
  const ownerOf = options?.owner ?? Request.ownerOfSubject
  const root = `${prefix}/__ds` as const
  const { answer } = Request

  const params = HttpRouter.params
  const name = Effect.gen(function*() {
    const { id = "" } = yield* params
    return { owner: ownerOf(yield* CurrentSession), subscriptionId: id }
  })

  const open = Layer.effectDiscard(Effect.gen(function*() {
    const router = yield* HttpRouter.HttpRouter
    const subscriptions = yield* StreamSubscriptions
    const jwks = HttpServerResponse.jsonUnsafe({ keys: [subscriptions.signingKey.jwk] }, {
      contentType: "application/jwk-set+json",
      headers: { ...Wire.securityHeaders, "cache-control": "public, max-age=300" }
    })
    const settle = Effect.gen(function*() {
      const token = yield* tokenOf
      const { acks = [], done = false, generation, wake_id } = yield* settlementBody
      const { nextWake } = yield* subscriptions.settle({
        token,
        subscriptionId: (yield* params).id ?? "",
        wakeId: wake_id,
        generation,
        acks: acks.map(({ offset, stream }) => ({ path: stream, offset })),
        done
      })
      return json({ ok: true, next_wake: nextWake })
    })
    const release = Effect.gen(function*() {
      const token = yield* tokenOf
      const { generation, wake_id } = yield* settlementBody
      yield* subscriptions.settle({
        token,
        subscriptionId: (yield* params).id ?? "",
        wakeId: wake_id,
        generation,
        done: true
      })
      return noContent
    })
    yield* router.add("GET", `${root}/jwks.json`, jwks)
    yield* router.add("POST", `${root}/subscriptions/:id/callback`, answer(settle))
    yield* router.add("POST", `${root}/subscriptions/:id/ack`, answer(settle))
    yield* router.add("POST", `${root}/subscriptions/:id/release`, answer(release))
  }))

  const reading = Layer.effectDiscard(Effect.gen(function*() {
    const router = yield* HttpRouter.HttpRouter
    const subscriptions = yield* StreamSubscriptions
    const get = Effect.gen(function*() {
      return json(view(yield* subscriptions.get(yield* name), subscriptions.signingKey))
    })
    yield* router.add("GET", `${root}/subscriptions/:id`, answer(get))
  })).pipe(Layer.provide(Authentication.guard("streams:read").layer))

  const writing = Layer.effectDiscard(Effect.gen(function*() {
    const router = yield* HttpRouter.HttpRouter
    const subscriptions = yield* StreamSubscriptions
    const policy = yield* AuthPolicy

    const put = Effect.gen(function*() {
      const request = yield* HttpServerRequest.HttpServerRequest
      const body = yield* createBody
      const target = body.type === "webhook"
        ? { type: body.type, url: body.webhook?.url ?? "" }
        : { type: body.type, wakeStream: body.wake_stream ?? "" }
      const { created, ...subscription } = yield* subscriptions.create({
        ...(yield* name),
        target,
        pattern: body.pattern ?? undefined,
        streams: body.streams,
        lease: body.lease_ttl_ms,
        description: body.description ?? undefined,
        rootUrl: Request.rootOf(request, policy, prefix)
      })
      return json(view(subscription, subscriptions.signingKey), created ? 201 : 200)
    })
    const remove = Effect.gen(function*() {
      yield* subscriptions.delete(yield* name)
      return noContent
    })
    const link = Effect.gen(function*() {
      const { streams } = yield* streamsBody
      yield* subscriptions.link({ ...(yield* name), streams })
      return noContent
    })
    const unlink = Effect.gen(function*() {
      const path = Option.fromNullishOr((yield* params)["*"])
      if (Option.isSome(path)) yield* subscriptions.unlink({ ...(yield* name), path: path.value })
      return noContent
    })
    const claim = Effect.gen(function*() {
      const { worker } = yield* workerBody
      const claimed = yield* subscriptions.claim({ ...(yield* name), worker })
      return json({
        wake_id: claimed.wakeId,
        generation: claimed.generation,
        token: Redacted.value(claimed.token),
        streams: claimed.streams.map(viewOf),
        lease_ttl_ms: claimed.leaseMillis
      })
    })
    yield* router.add("PUT", `${root}/subscriptions/:id`, answer(put))
    yield* router.add("DELETE", `${root}/subscriptions/:id`, answer(remove))
    yield* router.add("POST", `${root}/subscriptions/:id/streams`, answer(link))
    yield* router.add("DELETE", `${root}/subscriptions/:id/streams/*`, answer(unlink))
    yield* router.add("POST", `${root}/subscriptions/:id/claim`, answer(claim))
  })).pipe(Layer.provide(Authentication.guard("streams:write").layer))

  return Layer.mergeAll(open, reading, writing)
}
