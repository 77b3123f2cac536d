/**
 * The keys of an issuer (OpenID Connect Discovery 1.0 section 4, RFC 7517 section 5), read when they are needed, kept for a
 * while, and read again for a key that is not known; both seldom, whatever strangers send.
 */
import * as BoundedHttp from "@sallyport/core/BoundedHttp"
import * as Outage from "@sallyport/core/Outage"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Jose from "jose"
import { isSecureUrl, type IssuerSettings } from "./identityOptions.ts"

/** Bounds a document of an issuer; one with 20 certificates beside its keys has some 40 KiB. */
const maxBytes = 65_536
/** How soon keys that could not be read are asked for again. */
const retryMillis = 5_000

/** Reports keys that cannot be read now. */
export class KeysUnavailable extends Schema.TaggedError<KeysUnavailable>()("KeysUnavailable", {
  issuer: Schema.String,
  problem: Schema.String
}) {
  override get message() {
    return `The keys of ${this.issuer} cannot be read: ${this.problem}`
  }
}

/** Reports that no key has the id, the form and the purpose that a header asks for. */
class NoSuchKey extends Schema.TaggedError<NoSuchKey>()("NoSuchKey", {}) {}
/** Reports that several keys do, or that the one is malformed or too short. */
class UnusableKey extends Schema.TaggedError<UnusableKey>()("UnusableKey", {}) {}

/** Takes what makes a public key. Certificates, and what else stands beside it, don't matter. */
const PublicKey = Schema.Struct({
  kty: Schema.Literals(["RSA", "EC", "OKP"]),
  kid: Schema.optionalKey(Schema.String),
  alg: Schema.optionalKey(Schema.String),
  use: Schema.optionalKey(Schema.String),
  key_ops: Schema.optionalKey(Schema.mutable(Schema.Array(Schema.String))),
  crv: Schema.optionalKey(Schema.String),
  n: Schema.optionalKey(Schema.String),
  e: Schema.optionalKey(Schema.String),
  x: Schema.optionalKey(Schema.String),
  y: Schema.optionalKey(Schema.String)
})

const decodeKey = Schema.decodeUnknownOption(PublicKey)
const decodeSet = Schema.decodeUnknownOption(Schema.Struct({ keys: Schema.Array(Schema.Unknown) }))
const decodeDiscovery = Schema.decodeUnknownOption(Schema.Struct({ issuer: Schema.String, jwks_uri: Schema.String }))

interface Known {
  readonly keys: Jose.LocalJWKSet
  readonly untilMillis: number
}

/** Looks up a key of an issuer by the header of a token. */
export interface IssuerKeys {
  /** Returns the one key that a header can mean, or none. */
  readonly find: (header: Jose.JWSHeaderParameters) => Effect.Effect<Option.Option<Jose.CryptoKey>, KeysUnavailable>
}

/**
 * Makes what holds the keys of an issuer. They are read in the scope of the service, so that a caller that goes away
 * interrupts no one else's read.
 */
export const make = Effect.fnUntraced(function*(
  { issuer, jwksUri }: IssuerSettings,
  { keysLifetimeMillis, rereadMillis }: { readonly keysLifetimeMillis: number; readonly rereadMillis: number },
  { createLocalJWKSet, errors }: typeof Jose
) {
  const http = yield* HttpClient.HttpClient
  const scope = yield* Effect.scope
  const outage = Outage.make({
    of: "keys of an issuer",
    begins: `The keys of ${issuer} cannot be read, so no one gets in by its identities`,
    ends: `The keys of ${issuer} can be read again`
  })()
  yield* Effect.addFinalizer(() => outage.left)
  const unavailable = (problem: string) => new KeysUnavailable({ issuer, problem })
  let known: Known | undefined
  let reading: Deferred.Deferred<Known, KeysUnavailable> | undefined
  let mayReadFromMillis = -Infinity
  let failure = unavailable("they have not been read yet")

  const document = (url: string) =>
    Effect.mapError(BoundedHttp.readJson(url, maxBytes), ({ problem }) => unavailable(`${url}: ${problem}`))

  const discover = Effect.gen(function*() {
    if (jwksUri !== undefined) return jwksUri
    const url = `${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`
    const found = Option.getOrUndefined(decodeDiscovery((yield* document(url)).value))
    if (found === undefined) return yield* unavailable(`${url} names no issuer and jwks_uri`)
    if (found.issuer !== issuer) return yield* unavailable(`${url} is of another issuer`)
    // An https issuer does not send us to plain http, not even on this machine.
    return isSecureUrl(found.jwks_uri, { loopback: issuer.startsWith("http:") })
      ? found.jwks_uri
      : yield* unavailable(`the jwks_uri in ${url} is no https address`)
  })

  const read = Effect.gen(function*() {
    const url = yield* discover
    const { keptMillis, value } = yield* document(url)
    const set = decodeSet(value)
    if (Option.isNone(set)) return yield* unavailable(`${url} is no JWK Set`)
    // One key that is unknown to us does not make the others unknown (RFC 7517 section 5).
    const keys = set.value.keys.flatMap((key) => Option.toArray(decodeKey(key)))
    const lifetimeMillis = Math.min(Math.max(keptMillis, rereadMillis), keysLifetimeMillis)
    return {
      keys: createLocalJWKSet({ keys }),
      untilMillis: (yield* Clock.currentTimeMillis) + lifetimeMillis
    }
  }).pipe(
    Effect.provideService(HttpClient.HttpClient, http),
    Effect.timeout(Duration.seconds(5)),
    Effect.catchTag("TimeoutError", () => Effect.fail(unavailable("they take too long to come"))),
    Effect.tapCause(outage.failed),
    Effect.tap(() => outage.worked)
  )

  /** Reads the keys, unless they were read after `seen` was looked at, or too short a time ago. */
  const reread = (seen: Known | undefined) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(Clock.currentTimeMillis, (nowMillis) => {
        if (reading !== undefined) return restore(Deferred.await(reading))
        const fresh = known !== undefined && known.untilMillis > nowMillis ? known : undefined
        if (fresh !== undefined && (fresh !== seen || nowMillis < mayReadFromMillis)) return Effect.succeed(fresh)
        if (nowMillis < mayReadFromMillis) return Effect.fail(failure)
        const started = Deferred.makeUnsafe<Known, KeysUnavailable>()
        reading = started
        return read.pipe(
          Effect.onExit((exit) =>
            Effect.map(Clock.currentTimeMillis, (endMillis) => {
              reading = undefined
              if (exit._tag === "Success") {
                known = exit.value
                mayReadFromMillis = Math.min(endMillis + rereadMillis, exit.value.untilMillis)
              } else {
                failure = Option.getOrElse(Cause.findErrorOption(exit.cause), () => unavailable("the server stops"))
                mayReadFromMillis = endMillis + Math.min(rereadMillis, retryMillis)
              }
              Deferred.doneUnsafe(started, exit)
            })
          ),
          Effect.forkIn(scope, { startImmediately: true }),
          Effect.andThen(restore(Deferred.await(started)))
        )
      })
    )

  const select = (from: Known, header: Jose.JWSHeaderParameters) =>
    Effect.tryPromise({
      try: () => from.keys(header),
      catch: (error) => error instanceof errors.JWKSNoMatchingKey ? new NoSuchKey() : new UnusableKey()
    })

  const find: IssuerKeys["find"] = Effect.fnUntraced(function*(header) {
    const nowMillis = yield* Clock.currentTimeMillis
    const first = known !== undefined && known.untilMillis > nowMillis ? known : yield* reread(known)
    return yield* select(first, header).pipe(
      Effect.catchTag("NoSuchKey", () => Effect.flatMap(reread(first), (again) => select(again, header))),
      Effect.map(Option.some),
      Effect.catchTag(["NoSuchKey", "UnusableKey"], () => Effect.succeedNone)
    )
  })

  return { find }
})
