import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it } from "@effect/vitest"
import * as DpopProof from "@sallyport/core/access/DpopProof"
import * as ProofSignature from "@sallyport/core/access/ProofSignature"
import * as ReplayRepository from "@sallyport/core/access/ReplayRepository"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { TestClock } from "effect/testing"
import * as fc from "fast-check"
import { createHash, generateKeyPairSync, randomUUID, sign } from "node:crypto"

const method = "GET"
const url = "https://sallyport.example/notes"

const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url")

const makeKey = () => {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" })
  const { crv, kty, x, y } = publicKey.export({ format: "jwk" })
  const jwk = { crv, kty, x, y }
  return {
    thumbprint: createHash("sha256").update(JSON.stringify(jwk)).digest("base64url"),
    prove: (claims: Readonly<Record<string, unknown>>) => {
      const input = `${encode({ typ: "dpop+jwt", alg: "ES256", jwk })}.${
        encode({ jti: randomUUID(), htm: method, htu: url, ...claims })
      }`
      const signature = sign("sha256", Buffer.from(input), { key: privateKey, dsaEncoding: "ieee-p1363" })
      return `${input}.${signature.toString("base64url")}`
    }
  }
}

/** Provides the check on stores in memory; several of these on one layer of stores are several processes. */
const dpop = (options: DpopProof.Options = {}) => Layer.fresh(DpopProof.layerWith(options))
const stores = Layer.fresh(Layer.merge(ReplayRepository.layerMemory, SecretStore.layerMemory)).pipe(
  Layer.provideMerge(NodeCrypto.layer)
)
const layer = (options: DpopProof.Options = {}) => Layer.provide(dpop(options), stores)

const problemOf = (error: DpopProof.DpopProofError): string =>
  error.reason._tag === "InvalidProof" ? error.reason.problem : error.reason._tag

const start = TestClock.setTime(1_800_000_000_000)

/** Checks a proof, and spends it. */
const verify = (service: DpopProof.DpopProof["Service"], request: DpopProof.ProofRequest) =>
  Effect.tap(service.check(request), ({ spend }) => spend)

describe("DpopProof", () => {
  it.effect("refuses a proof for another access token, also next to ones that were good", () =>
    Effect.gen(function*() {
      yield* start
      const { prove } = makeKey()
      const service = yield* DpopProof.DpopProof
      const outcome = (tokenOfProof: string, token: string) =>
        verify(service, {
          proof: prove({
            iat: 1_800_000_000,
            ath: createHash("sha256").update(tokenOfProof).digest("base64url")
          }),
          method,
          url,
          accessToken: Redacted.make(token)
        }).pipe(Effect.match({ onFailure: problemOf, onSuccess: () => "good" }))
      for (const [tokenOfProof, token] of [["one", "one"], ["one", "one"], ["two", "two"]] as const) {
        assert.strictEqual(yield* outcome(tokenOfProof, token), "good")
      }
      for (const [tokenOfProof, token] of [["one", "two"], ["two", "one"], ["one", "three"]] as const) {
        assert.strictEqual(yield* outcome(tokenOfProof, token), "wrong-ath")
      }
    }).pipe(Effect.provide(layer())))

  it.effect("takes the proof of RFC 9449 section 4.1, whose key has the thumbprint of section 6.1", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(1_562_262_616_000)
      const service = yield* DpopProof.DpopProof
      const proof =
        "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZ" +
        "OXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6Il" +
        "AtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3R" +
        "va2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37x" +
        "RZT3Lg"
      const { proofKeyThumbprint } = yield* verify(service, {
        proof,
        method: "POST",
        url: "https://server.example.com/token"
      })
      assert.strictEqual(proofKeyThumbprint, "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I")
    }).pipe(Effect.provide(layer())))

  it.effect("takes a proof from its skew before to its age after iat, to the millisecond", () =>
    Effect.gen(function*() {
      yield* start
      const service = yield* DpopProof.DpopProof
      const key = makeKey()
      const now = yield* Clock.currentTimeMillis
      const at = (offsetMillis: number) =>
        service.check({ proof: key.prove({ iat: (now + offsetMillis) / 1000 }), method, url })
      yield* at(-60_000)
      yield* at(10_000)
      assert.strictEqual(problemOf(yield* Effect.flip(at(-60_001))), "stale")
      assert.strictEqual(problemOf(yield* Effect.flip(at(10_001))), "from-the-future")
    }).pipe(Effect.provide(layer())))

  it.effect("SESS-10: a proof is refused for as long as any process of the store would take it, its clock behind or not", () =>
    Effect.gen(function*() {
      yield* start
      const replays = yield* ReplayRepository.ReplayRepository
      const first = yield* DpopProof.DpopProof.pipe(Effect.provide(dpop()))
      const second = yield* DpopProof.DpopProof.pipe(Effect.provide(dpop()))
      const proof = makeKey().prove({ iat: (yield* Clock.currentTimeMillis) / 1000 })
      yield* verify(first, { proof, method, url })
      assert.strictEqual(problemOf(yield* Effect.flip(verify(second, { proof, method, url }))), "replayed")
      // The first one's clock is 10 seconds ahead when it sweeps; to the second the proof is still young enough.
      yield* TestClock.adjust("70 seconds")
      yield* replays.sweep({ nowMillis: yield* Clock.currentTimeMillis, limit: 100 })
      yield* TestClock.adjust("-10 seconds")
      assert.strictEqual(problemOf(yield* Effect.flip(verify(second, { proof, method, url }))), "replayed")
      yield* TestClock.adjust("1 second")
      assert.strictEqual(problemOf(yield* Effect.flip(verify(second, { proof, method, url }))), "stale")
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* replays.sweep({ nowMillis: yield* Clock.currentTimeMillis, limit: 100 }), 1)
    }).pipe(Effect.provide(stores)))

  it.effect("SESS-10: of 64 racers with one proof exactly one spends it", () =>
    Effect.gen(function*() {
      yield* start
      const service = yield* DpopProof.DpopProof
      const proof = makeKey().prove({ iat: (yield* Clock.currentTimeMillis) / 1000 })
      const exits = yield* Effect.all(
        Array.from({ length: 64 }, () => Effect.exit(verify(service, { proof, method, url }))),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(exits.filter(({ _tag }) => _tag === "Success").length, 1)
    }).pipe(Effect.provide(layer())))

  it.effect("SESS-10: a nonce is the same to every process, good for its period and the next, and offered when it is not", () =>
    Effect.gen(function*() {
      yield* start
      const nonceLifetime = "1 minute"
      const first = yield* DpopProof.DpopProof.pipe(Effect.provide(dpop({ nonceLifetime })))
      const second = yield* DpopProof.DpopProof.pipe(Effect.provide(dpop({ nonceLifetime })))
      const key = makeKey()
      const check = (service: DpopProof.DpopProof["Service"], nonce: unknown) =>
        Effect.flatMap(
          Clock.currentTimeMillis,
          (now) => service.check({ proof: key.prove({ iat: now / 1000, nonce }), method, url })
        )
      const nonce = Option.getOrThrow(yield* first.nonce)
      assert.strictEqual(Option.getOrThrow(yield* second.nonce), nonce)
      const offered = yield* Effect.flip(check(second, undefined))
      assert.strictEqual(offered.reason._tag === "NonceRequired" ? offered.reason.nonce : "", nonce)
      yield* check(second, nonce)
      yield* TestClock.adjust("1 minute")
      yield* check(second, nonce)
      for (const other of [`${nonce}x`, nonce.toUpperCase(), nonce.split(".")[0], nonce.split(".")[1], ".", ""]) {
        assert.strictEqual(problemOf(yield* Effect.flip(check(second, other))), "NonceRequired")
      }
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(problemOf(yield* Effect.flip(check(second, nonce))), "NonceRequired")
      // A nonce of other settings, with the same key, is none.
      const slower = yield* DpopProof.DpopProof.pipe(Effect.provide(dpop({ nonceLifetime: "2 minutes" })))
      const current = Option.getOrThrow(yield* first.nonce)
      assert.strictEqual(problemOf(yield* Effect.flip(check(slower, current))), "NonceRequired")
    }).pipe(Effect.provide(stores)))

  it.effect("keeps a bounded number of keys ready, those used last, and none that has signed nothing", () => {
    const prepared: Array<string> = []
    const counting = Layer.effect(
      ProofSignature.ProofSignature,
      Effect.map(ProofSignature.ProofSignature, (signatures): ProofSignature.Signatures => ({
        prepare: (algorithm, jwk) =>
          Effect.suspend(() => {
            prepared.push(jwk.x)
            return signatures.prepare(algorithm, jwk)
          })
      }))
    )
    return Effect.gen(function*() {
      yield* start
      const service = yield* DpopProof.DpopProof
      const now = yield* Clock.currentTimeMillis
      const [a, b, c] = [makeKey(), makeKey(), makeKey()]
      const check = (key: typeof a) => service.check({ proof: key.prove({ iat: now / 1000 }), method, url })
      for (const key of [a, b, a, a, b]) yield* check(key)
      assert.strictEqual(prepared.length, 2)
      // A key that has not signed what it stands in takes no other proof's place.
      const forged = c.prove({ iat: now / 1000 }).replace(/[^.]+$/, a.prove({ iat: 0 }).split(".")[2] ?? "")
      for (let count = 0; count < 5; count++) {
        assert.strictEqual(
          problemOf(yield* Effect.flip(service.check({ proof: forged, method, url }))),
          "bad-signature"
        )
      }
      yield* check(a)
      yield* check(b)
      assert.strictEqual(prepared.length, 7)
      for (const key of [c, b, c, b]) yield* check(key)
      assert.strictEqual(prepared.length, 8)
      yield* check(a)
      assert.strictEqual(prepared.length, 9)
    }).pipe(Effect.provide(layer({ keyCacheCapacity: 2 }).pipe(Layer.provide(counting))))
  })

  it.effect("refuses settings with which it could not work", () =>
    Effect.gen(function*() {
      const wrong: ReadonlyArray<DpopProof.Options> = [
        { maxAge: 0 },
        { maxAge: "-1 seconds" },
        { maxAge: Infinity },
        { clockSkew: "-1 seconds" },
        { nonceLifetime: 0 },
        { nonceLifetime: Infinity },
        { keyCacheCapacity: 0 },
        { keyCacheCapacity: 1.5 }
      ]
      for (const options of wrong) {
        const error = yield* Effect.flip(Effect.scoped(Layer.build(layer(options))))
        assert.strictEqual(error._tag, "InvalidDpopProofOptions", JSON.stringify(options))
      }
      const secrets = yield* SecretStore.SecretStore
      yield* secrets.set("dpop-nonce-key", Redacted.make(new Uint8Array(31)))
      const error = yield* Effect.flip(Effect.scoped(Layer.build(dpop({ nonceLifetime: "1 minute" }))))
      assert.include(error.message, "dpop-nonce-key")
    }).pipe(Effect.provide(stores)))

  it.effect("refuses every proof that differs from a good one in a character", () =>
    Effect.gen(function*() {
      yield* start
      const service = yield* DpopProof.DpopProof
      const key = makeKey()
      const proof = key.prove({ iat: (yield* Clock.currentTimeMillis) / 1000 })
      const request = { method, url, proofKeyThumbprint: key.thumbprint }
      yield* service.check({ ...request, proof })
      const clock = yield* Clock.Clock
      const problems = new Set<string>()
      const characters = [..."ABab09-_.=, é\0"]
      yield* Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(fc.nat(proof.length - 1), fc.constantFrom(...characters), async (at, character) => {
            fc.pre(proof[at] !== character)
            const changed = `${proof.slice(0, at)}${character}${proof.slice(at + 1)}`
            const exit = await Effect.runPromiseExit(
              Effect.flip(service.check({ ...request, proof: changed })).pipe(Effect.provideService(Clock.Clock, clock))
            )
            assert.strictEqual(exit._tag, "Success", changed)
            if (exit._tag === "Success") problems.add(problemOf(exit.value))
          }),
          { numRuns: 300 }
        )
      )
      assert.includeMembers(Array.from(problems), ["malformed", "bad-signature", "more-than-one"])
    }).pipe(Effect.provide(layer())))

  it.effect("says nothing of a proof in its errors", () =>
    Effect.gen(function*() {
      yield* start
      const service = yield* DpopProof.DpopProof
      const proof = makeKey().prove({ iat: 0, jti: "the-jti-of-a-client" })
      const error = yield* Effect.flip(service.check({ proof, method, url }))
      const text = `${String(error)} ${JSON.stringify(error)}`
      assert.notInclude(text, "the-jti-of-a-client")
      assert.notInclude(text, proof.slice(0, 20))
      assert.include(error.message, "1800000000")
    }).pipe(Effect.provide(layer())))
})
