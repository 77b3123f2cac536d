import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import type { HttpClientError } from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type { DeviceKey, ProofRequest } from "../DeviceKey.ts"
import { textOf } from "./answer.ts"

/** Returns a client whose requests prove the device's key, and carry a token if there is one. */
export type Prove = <E>(
  client: HttpClient.HttpClient,
  token: Effect.Effect<Option.Option<Redacted.Redacted>, E>
) => HttpClient.HttpClient.With<HttpClientError | E>

/** What a server requires of proofs, as far as it is known. */
type Wish = Pick<ProofRequest, "nonce" | "clockOffsetSeconds">

/** What was sent with a proof. */
interface Sent {
  readonly url: URL
  readonly accessToken: Redacted.Redacted | undefined
  wish: Wish
}

/** A server can require two things: a nonce, and its own time. */
const maxCorrections = 2

const decodeProblem = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Struct({
  code: Schema.optionalKey(Schema.String),
  error: Schema.optionalKey(Schema.String),
  serverTimeSeconds: Schema.optionalKey(Schema.Natural),
  server_time_seconds: Schema.optionalKey(Schema.Natural)
})))

/**
 * Remembers what each server requires of proofs, by its origin: a nonce (RFC 9449 section 8), and its time if this
 * device's clock is wrong. A server that refuses a proof for one of these has not processed the request, so the request
 * is sent again.
 */
export const make = (key: DeviceKey["Service"]): Prove => {
  const wishes = new Map<string, Wish>()

  /** Learns from an answer. Returns it, to be read again, and whether a new proof may be accepted. */
  const learn = Effect.fnUntraced(function*(sent: Sent, response: HttpClientResponse.HttpClientResponse) {
    const { url: { origin }, wish: asked } = sent
    // Another request may have learned more meanwhile.
    const known = wishes.get(origin) ?? {}
    const nonce = response.headers["dpop-nonce"] ?? known.nonce
    wishes.set(origin, { ...known, nonce })
    if (response.status !== 400 && response.status !== 401) return { response, again: false }
    const text = yield* Effect.orElseSucceed(textOf(response), () => "")
    const { headers, status } = response
    const read = HttpClientResponse.fromWeb(response.request, new Response(text, { status, headers: { ...headers } }))
    const problem = decodeProblem(text)
    if (Option.isNone(problem)) return { response: read, again: false }
    const { code, error, server_time_seconds, serverTimeSeconds = server_time_seconds } = problem.value
    const refusal = code ?? error
    if (refusal === "use_dpop_nonce") return { response: read, again: nonce !== asked.nonce }
    if (refusal !== "invalid_dpop_proof" || serverTimeSeconds === undefined) return { response: read, again: false }
    const clockOffsetSeconds = serverTimeSeconds - Math.floor((yield* Clock.currentTimeMillis) / 1000)
    wishes.set(origin, { nonce, clockOffsetSeconds })
    return { response: read, again: Math.abs(clockOffsetSeconds - (asked.clockOffsetSeconds ?? 0)) > 1 }
  })

  const sign = Effect.fnUntraced(function*(request: HttpClientRequest.HttpClientRequest, sent: Sent) {
    const { accessToken, url } = sent
    sent.wish = wishes.get(url.origin) ?? {}
    const proof = yield* key.prove({ method: request.method, url: url.href, accessToken, ...sent.wish })
    return HttpClientRequest.setHeaders(request, {
      dpop: proof,
      ...(accessToken === undefined ? {} : { authorization: `DPoP ${Redacted.value(accessToken)}` })
    })
  })

  return (client, token) => {
    // Requests are signed before `HttpClient.withScope` sees them, which identifies a request by its reference.
    const signed = new WeakMap<HttpClientRequest.HttpClientRequest, Sent>()
    return client.pipe(
      HttpClient.mapRequestEffect((request) =>
        Effect.gen(function*() {
          const url = Option.getOrUndefined(HttpClientRequest.toUrl(request))
          // The client reports itself what is wrong with such an address.
          if (url === undefined) return request
          const sent: Sent = { url, accessToken: Option.getOrUndefined(yield* token), wish: {} }
          const next = yield* sign(request, sent)
          signed.set(next, sent)
          return next
        })
      ),
      HttpClient.transform((answered, request) =>
        Effect.gen(function*() {
          const response = yield* answered
          const sent = signed.get(request)
          if (sent === undefined) return response
          let learned = yield* learn(sent, response)
          for (let n = 0; n < maxCorrections && learned.again; n++) {
            learned = yield* learn(sent, yield* client.postprocess(sign(request, sent)))
          }
          return learned.response
        })
      )
    )
  }
}
