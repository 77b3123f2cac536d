import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { assert, describe, it } from "@effect/vitest"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as SessionToken from "@sallyport/core/access/SessionToken"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as fc from "fast-check"
import * as Jose from "jose"
import { createHmac } from "node:crypto"
import * as SigningKeys from "../../src/access/internal/signingKeys.ts"
import { SessionId } from "../../src/access/Session.ts"
import { Environment, services, shown } from "./accessSupport.ts"

const encode = (value: unknown): string => Base64Url.encode(new TextEncoder().encode(JSON.stringify(value)))

const secretName = "session-signing-keys"

/** Reads the JWK Set as a program other than ours would. */
const storedJwks = Effect.gen(function*() {
  const store = yield* SecretStore.SecretStore
  const secret = Option.getOrThrow(yield* store.get(secretName))
  const set: { readonly keys: ReadonlyArray<Jose.JWK & { readonly k: string; readonly kid: string }> } = JSON.parse(
    new TextDecoder().decode(Redacted.value(secret))
  )
  return set
})

const claims: SessionToken.Claims = {
  sid: SessionId.make("s1"),
  sub: "ada",
  jti: "AAAAAAAAAAAAAAAAAAAAAA",
  iat: 1_700_000_000
}

/** Makes a key, a token of ours, and a forger who knows the key and signs what we would not. */
const fixture = Effect.gen(function*() {
  const keys = yield* SigningKeys.load()
  const token = Redacted.value(yield* SessionToken.sign(keys.active, claims))
  const jwk = (yield* storedJwks).keys[0]
  if (jwk === undefined) return yield* Effect.die("no key")
  const secret = Buffer.from(jwk.k, "base64url")
  const header = { alg: "HS256", typ: SessionToken.type, kid: jwk.kid }
  const signed = (signingInput: string, hash = "sha256") =>
    `${signingInput}.${createHmac(hash, secret).update(signingInput).digest("base64url")}`
  const forge = (protectedHeader: unknown, payload: unknown = claims, hash = "sha256") =>
    signed(`${encode(protectedHeader)}.${encode(payload)}`, hash)
  const verify = (text: string) => SessionToken.verify(keys, Redacted.make(text))
  return { keys, token, secret, header, signed, forge, verify }
})

describe("SessionToken", () => {
  it.effect("SESS-01: is a compact JWS whose claims come back", () =>
    Effect.gen(function*() {
      const { header, token, verify } = yield* fixture
      assert.match(token, /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{43}$/)
      assert.deepStrictEqual(Jose.decodeProtectedHeader(token), header)
      assert.deepStrictEqual(yield* verify(token), Option.some(claims))
    }).pipe(Effect.provide(Environment)))

  it.effect("SESS-01: a JWT library with the stored JWK verifies an issued token, and another key does not", () =>
    Effect.gen(function*() {
      const sessions = yield* SessionCredentialService.SessionCredentialService
      const issued = yield* sessions.issue({ subject: "ada", scopes: ["runs:read"], method: "bearer-access-token" })
      const token = Redacted.value(issued.token)
      const set = yield* storedJwks
      const options = { algorithms: ["HS256"], typ: "sallyport-session+jwt", currentDate: new Date(0) }
      const { payload, protectedHeader } = yield* Effect.promise(() => {
        const jwk = set.keys.find(({ kid }) => kid === Jose.decodeProtectedHeader(token).kid)
        return jwk === undefined ?
          Promise.reject(new Error("no such kid")) :
          Jose.importJWK(jwk, "HS256").then((key) => Jose.jwtVerify(token, key, options))
      })
      assert.strictEqual(protectedHeader.typ, "sallyport-session+jwt")
      assert.strictEqual(payload.sub, "ada")
      assert.strictEqual(payload["sid"], issued.session.id)
      const rejected = yield* Effect.exit(
        Effect.tryPromise(() => Jose.jwtVerify(token, new Uint8Array(32).fill(7), options))
      )
      assert.isTrue(Exit.isFailure(rejected))
    }).pipe(Effect.provide(services())))

  it.effect("SESS-01 L-06: refuses every other form of a good token", () =>
    Effect.gen(function*() {
      const { forge, signed, token, verify } = yield* fixture
      const [head = "", payload = "", signature = ""] = token.split(".")
      const tampered: Record<string, string> = {
        "empty": "",
        "a fourth segment": `${token}.anything`,
        "an empty fourth segment": `${token}.`,
        "five segments, as a JWE has": `${token}.a.b`,
        "two segments": `${head}.${payload}`,
        "one segment": head,
        "an empty header": `.${payload}.${signature}`,
        "an empty payload": `${head}..${signature}`,
        "a signed empty payload": signed(`${head}.`),
        "an empty signature": `${head}.${payload}.`,
        "a padded signature": `${token}=`,
        "a padded header": `${head}=.${payload}.${signature}`,
        "a signed padded payload": signed(`${head}.${payload}=`),
        "a leading space": ` ${token}`,
        "a trailing space": `${token} `,
        "a trailing line break": `${token}\n`,
        "an inner line break": `${head}.\n${payload}.${signature}`,
        "a signed inner line break": signed(`${head}.${payload.slice(0, 8)}\n${payload.slice(8)}`),
        "a NUL": `${token}\u0000`,
        "a scheme": `Bearer ${token}`,
        "plain base64 instead of base64url": `${head}.${payload}.${signature.slice(0, 42)}+`,
        "a shortened signature": `${head}.${payload}.${signature.slice(0, 40)}`,
        "a doubled signature": `${head}.${payload}.${signature}${signature}`,
        "a segment of impossible length": `${head}.${payload}.${signature}AA`,
        "swapped segments": `${payload}.${head}.${signature}`,
        "1 MB": "A".repeat(1_000_000),
        "1 MB of dots": ".".repeat(1_000_000),
        "a good token followed by 1 MB": token + "A".repeat(1_000_000),
        "a signed token that is too long": forge(Jose.decodeProtectedHeader(token), {
          ...claims,
          sub: "a".repeat(4_000)
        })
      }
      for (const [what, text] of Object.entries(tampered)) {
        assert.isTrue(Option.isNone(yield* verify(text)), what)
      }
      assert.isTrue(Option.isSome(yield* verify(token)))
    }).pipe(Effect.provide(Environment)))

  it.effect("SESS-01 L-06: refuses the non-canonical last characters that lenient decoders take for the same bytes", () =>
    Effect.gen(function*() {
      const { header, signed, verify } = yield* fixture
      const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
      let variants = 0
      // Subjects of several lengths, so that headers and payloads end in each of the three ways.
      for (const sub of ["a", "ab", "abc"]) {
        const token = signed(`${encode(header)}.${encode({ ...claims, sub })}`)
        assert.isTrue(Option.isSome(yield* verify(token)), sub)
        const segments = token.split(".")
        for (const [index, segment] of segments.entries()) {
          const bytes = Buffer.from(segment, "base64url")
          for (const last of alphabet) {
            const variant = segment.slice(0, -1) + last
            if (variant === segment || !Buffer.from(variant, "base64url").equals(bytes)) continue
            variants++
            const altered = segments.with(index, variant)
            assert.isTrue(Option.isNone(yield* verify(altered.join("."))), altered.join("."))
            // The same with a signature that fits the altered text.
            if (index < 2) assert.isTrue(Option.isNone(yield* verify(signed(altered.slice(0, 2).join(".")))))
          }
        }
      }
      assert.isAbove(variants, 9)
    }).pipe(Effect.provide(Environment)))

  it.effect("SESS-01: refuses every other header, even when it is signed with our key", () =>
    Effect.gen(function*() {
      const { forge, header, keys, secret, verify } = yield* fixture
      assert.isTrue(Option.isSome(yield* verify(forge(header))), "the forger can forge")
      const headers: Record<string, unknown> = {
        "no alg": { typ: header.typ, kid: header.kid },
        "another alg": { ...header, alg: "RS256" },
        "alg in another case": { ...header, alg: "hs256" },
        "alg none": { ...header, alg: "none" },
        "HS384 by name": { ...header, alg: "HS384" },
        "no typ": { alg: "HS256", kid: header.kid },
        "another typ": { ...header, typ: "JWT" },
        "typ in another case": { ...header, typ: "SALLYPORT-SESSION+JWT" },
        "typ with a prefix": { ...header, typ: `application/${header.typ}` },
        "no kid": { alg: "HS256", typ: header.typ },
        "an empty kid": { ...header, kid: "" },
        "an unknown kid": { ...header, kid: "another" },
        "a kid of an object's prototype": { ...header, kid: "__proto__" },
        "kid as an array": { ...header, kid: [header.kid] },
        "crit": { ...header, crit: ["exp"] },
        "b64": { ...header, b64: false, crit: ["b64"] },
        "jku": { ...header, jku: "https://evil.example/keys" },
        "jwk": { ...header, jwk: { kty: "oct", k: "AAAA" } },
        "x5u": { ...header, x5u: "https://evil.example/cert" },
        "cty": { ...header, cty: "JWT" },
        "zip": { ...header, zip: "DEF" },
        "an array": [header],
        "null": null,
        "text": "HS256"
      }
      for (const [what, other] of Object.entries(headers)) {
        assert.isTrue(Option.isNone(yield* verify(forge(other))), what)
      }
      assert.isTrue(Option.isNone(yield* verify(forge({ ...header, alg: "HS384" }, claims, "sha384"))), "real HS384")
      assert.isTrue(Option.isNone(yield* verify(forge({ ...header, alg: "HS512" }, claims, "sha512"))), "real HS512")
      assert.isTrue(
        Option.isNone(yield* verify(`${encode({ ...header, alg: "none" })}.${encode(claims)}.`)),
        "unsecured"
      )
      const rsa = yield* Effect.promise(() => Jose.generateKeyPair("RS256"))
      const signedByRsa = yield* Effect.promise(() =>
        new Jose.SignJWT({ ...claims }).setProtectedHeader({ ...header, alg: "RS256" }).sign(rsa.privateKey)
      )
      assert.isTrue(Option.isNone(yield* verify(signedByRsa)), "RS256")
      const other = createHmac("sha256", Buffer.alloc(32)).update(`${encode(header)}.${encode(claims)}`).digest(
        "base64url"
      )
      assert.isTrue(Option.isNone(yield* verify(`${encode(header)}.${encode(claims)}.${other}`)), "another key")
      assert.strictEqual(secret.length, 32)
      assert.strictEqual(keys.byId.size, 1)
    }).pipe(Effect.provide(Environment)))

  it.effect("SESS-01: refuses payloads that are not our claims, even when they are signed with our key", () =>
    Effect.gen(function*() {
      const { forge, header, signed, verify } = yield* fixture
      const { jti, ...withoutJti } = claims
      for (
        const payload of [
          null,
          [],
          "text",
          {},
          withoutJti,
          { ...claims, sid: "" },
          { ...claims, sub: 7 },
          { ...claims, iat: "now" },
          { ...claims, iat: -1 },
          { ...claims, exp: "never" }
        ]
      ) assert.isTrue(Option.isNone(yield* verify(forge(header, payload))), JSON.stringify(payload))
      for (const bytes of ["{", "\u0000", "{}{}", "\ufffd"]) {
        const text = signed(`${encode(header)}.${Base64Url.encode(new TextEncoder().encode(bytes))}`)
        assert.isTrue(Option.isNone(yield* verify(text)), bytes)
      }
      assert.isAbove(jti.length, 0)
    }).pipe(Effect.provide(Environment)))

  it.effect("SESS-01 L-06: any single change of a character, insertion or deletion is refused", () =>
    Effect.gen(function*() {
      const { keys } = yield* fixture
      const ascii = fc.integer({ min: 0x20, max: 0x7e }).map((code) => String.fromCharCode(code))
      const change = fc.record({
        sub: fc.string({ minLength: 1, maxLength: 40 }),
        at: fc.nat(),
        character: fc.oneof({ weight: 4, arbitrary: fc.constantFrom(..."ABYZabyz0189-_.=") }, {
          weight: 1,
          arbitrary: ascii
        }),
        how: fc.constantFrom("replace", "insert", "delete")
      })
      const property = fc.asyncProperty(
        change,
        ({ at, character, how, sub }) =>
          Effect.runPromise(
            Effect.gen(function*() {
              const token = Redacted.value(yield* SessionToken.sign(keys.active, { ...claims, sub }))
              const position = at % token.length
              const altered = token.slice(0, position) + (how === "delete" ? "" : character) +
                token.slice(how === "insert" ? position : position + 1)
              const verified = yield* SessionToken.verify(keys, Redacted.make(altered))
              return Option.isSome(verified) === (altered === token)
            }).pipe(Effect.provide(NodeCrypto.layer))
          )
      )
      yield* Effect.promise(() => fc.assert(property, { numRuns: 1_000 }))
      assert.strictEqual(keys.byId.size, 1)
    }).pipe(Effect.provide(Environment)))

  it.effect("SESS-01: every single character of one token replaced by every other is refused", () =>
    Effect.gen(function*() {
      const { token, verify } = yield* fixture
      const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
      const altered: Array<string> = []
      for (let position = 0; position < token.length; position++) {
        for (const character of alphabet) {
          if (character !== token.charAt(position)) {
            altered.push(token.slice(0, position) + character + token.slice(position + 1))
          }
        }
      }
      const accepted = yield* Effect.filter(altered, (text) => Effect.map(verify(text), Option.isSome), {
        concurrency: 16
      })
      assert.deepStrictEqual(accepted, [])
    }).pipe(Effect.provide(Environment)))
})

const store = (text: string) =>
  SecretStore.SecretStore.use((secrets) => secrets.set(secretName, Redacted.make(new TextEncoder().encode(text))))

describe("signing keys", () => {
  it.effect("L-05: services that are built at once over one store sign with one key and verify each other's tokens", () =>
    Effect.gen(function*() {
      const made = yield* Effect.all(
        Array.from({ length: 8 }, () => SessionCredentialService.make({})),
        { concurrency: "unbounded" }
      )
      const issued = yield* Effect.forEach(
        made,
        (service, index) => service.issue({ subject: `s${index}`, scopes: [], method: "bearer-access-token" })
      )
      const kids = new Set(issued.map(({ token }) => Jose.decodeProtectedHeader(Redacted.value(token)).kid))
      assert.strictEqual(kids.size, 1)
      assert.strictEqual((yield* storedJwks).keys.length, 1)
      for (const service of made) {
        for (const { session, token } of issued) assert.strictEqual((yield* service.verify(token)).id, session.id)
      }
    }).pipe(Effect.provide(Environment)))

  it.effect("SESS-01: the stored set is a JWK Set of 256-bit HS256 keys", () =>
    Effect.gen(function*() {
      yield* SigningKeys.load()
      const set = yield* storedJwks
      assert.deepStrictEqual(Object.keys(set), ["keys"])
      for (const { k, ...rest } of set.keys) {
        assert.strictEqual(Buffer.from(k, "base64url").length, 32)
        assert.deepStrictEqual({ ...rest, kid: "" }, { kty: "oct", alg: "HS256", use: "sig", kid: "" })
      }
    }).pipe(Effect.provide(Environment)))

  it.effect("SEC-08: a corrupt set stops the layer with an error that names the secret and the remedy, not the key", () =>
    Effect.gen(function*() {
      const k = Base64Url.encode(new TextEncoder().encode("this-is-the-secret-signing-key-!"))
      const jwk = { kty: "oct", alg: "HS256", use: "sig", kid: "k1", k }
      const corrupt: Record<string, string> = {
        "empty": "",
        "not JSON": `{"keys":[{"k":"${k}"`,
        "the bare key": k,
        "no keys": JSON.stringify({ keys: [] }),
        "a bare JWK": JSON.stringify(jwk),
        "another algorithm": JSON.stringify({ keys: [{ ...jwk, alg: "HS512" }] }),
        "another use": JSON.stringify({ keys: [{ ...jwk, use: "enc" }] }),
        "no kid": JSON.stringify({ keys: [{ ...jwk, kid: undefined }] }),
        "not base64url": JSON.stringify({ keys: [{ ...jwk, k: `${k}*` }] }),
        "an empty key": JSON.stringify({ keys: [{ ...jwk, k: "" }] }),
        "a short key": JSON.stringify({ keys: [{ ...jwk, k: k.slice(0, 40) }] }),
        "two keys of one kid": JSON.stringify({ keys: [jwk, jwk] })
      }
      for (const [what, text] of Object.entries(corrupt)) {
        yield* store(text)
        const error = yield* Effect.flip(SessionCredentialService.make({}))
        if (error._tag !== "SecretStoreError") return assert.fail(`${what}: ${error._tag}`)
        assert.strictEqual(error.reason._tag, "Corrupt", what)
        assert.include(error.message, secretName)
        assert.include(error.message, "Restore the secret from a backup, or remove it")
        assert.notInclude(shown(error), k.slice(0, 12), what)
        assert.notInclude(shown(error), "this-is-the-secret", what)
      }
      yield* store(JSON.stringify({ keys: [jwk] }))
      yield* SessionCredentialService.make({})
    }).pipe(Effect.provide(Environment)))

  it.effect("L-02: keys that cannot be stored or read stop the layer", () =>
    Effect.gen(function*() {
      const failure = new SecretStore.SecretStoreError({
        reason: new SecretStore.StorageFailure({ operation: "create", secretName, cause: new Error("disk full") })
      })
      const secrets = yield* SecretStore.SecretStore
      for (
        const broken of [
          { ...secrets, create: () => Effect.fail(failure) },
          { ...secrets, get: () => Effect.fail(failure) },
          // A store that forgets what it has just acknowledged.
          { ...secrets, create: () => Effect.succeed(true) }
        ]
      ) {
        const error = yield* Effect.flip(
          Effect.provideService(SessionCredentialService.make({}), SecretStore.SecretStore, broken)
        )
        assert.strictEqual(error._tag, "SecretStoreError")
      }
    }).pipe(Effect.provide(Environment)))

  it.effect("SESS-01: the first key signs, and every key of the set verifies", () =>
    Effect.gen(function*() {
      const before = yield* SessionCredentialService.make({})
      const old = yield* before.issue({ subject: "ada", scopes: [], method: "bearer-access-token" })
      const { keys } = yield* storedJwks
      const fresh = {
        kty: "oct",
        alg: "HS256",
        use: "sig",
        kid: "fresh",
        k: Base64Url.encode(new Uint8Array(32).fill(9))
      }
      yield* store(JSON.stringify({ keys: [fresh, ...keys] }))
      const after = yield* SessionCredentialService.make({})
      assert.strictEqual((yield* after.verify(old.token)).id, old.session.id)
      const issued = yield* after.issue({ subject: "ada", scopes: [], method: "bearer-access-token" })
      assert.strictEqual(Jose.decodeProtectedHeader(Redacted.value(issued.token)).kid, "fresh")
      yield* store(JSON.stringify({ keys: [fresh] }))
      const later = yield* SessionCredentialService.make({})
      const error = yield* Effect.flip(later.verify(old.token))
      assert.strictEqual(error.reason._tag, "SessionRefused")
    }).pipe(Effect.provide(Environment)))

  it.effect("SEC-08: a loaded key does not show", () =>
    Effect.gen(function*() {
      const keys = yield* SigningKeys.load()
      const jwk = (yield* storedJwks).keys[0]
      assert.isDefined(jwk)
      assert.notInclude(shown(keys), jwk?.k ?? "")
    }).pipe(Effect.provide(Environment)))
})
