/**
 * What may be sent as a proof or as a token, what the server says to it, and why. The tests send each of them over a
 * socket, and docs/dpop-and-tokens.md has the same table: `npm run bad-input` writes it.
 */
import { createHmac, generateKeyPairSync, randomUUID, sign } from "node:crypto"
import type { OutgoingHttpHeaders } from "node:http"
import { athOf, claimsOf, encode, headerOf, type Json, type Key, prove, signature } from "./dpopSupport.ts"

/** What a row is made from: a server at `https://sallyport.example`, a session of `key` there, and one without a key. */
export interface Kit {
  /** Where it is sent: the address that the server is told it has. */
  readonly url: string
  readonly port: number
  readonly key: Key
  readonly otherKey: Key
  readonly p384: Key
  readonly token: string
  readonly otherToken: string
  readonly bearerToken: string
  readonly nowMillis: number
  /** The nonces of a server that asks for them: of this period, the one before, and two before. */
  readonly nonces: { readonly current: string; readonly previous: string; readonly old: string }
  readonly signingKey: { readonly kid: string; readonly bytes: Buffer }
}

export interface Row {
  /** What is sent, for a reader of the table. */
  readonly sent: string
  /** `accepted`, or what the server says: the `code` of its answer, and what is wrong with the proof. */
  readonly verdict: string
  readonly why: string
  /** The headers that are sent, and what has to be accepted before, if anything. */
  readonly craft: (kit: Kit) => { readonly headers: OutgoingHttpHeaders; readonly after?: OutgoingHttpHeaders }
}

export interface Section {
  readonly title: string
  readonly about: string
  readonly nonces: boolean
  readonly rows: ReadonlyArray<Row>
}

// -----------------------------------------------------------------------------
// Building blocks
// -----------------------------------------------------------------------------

const withProof = (kit: Kit, dpop: string | ReadonlyArray<string> | undefined): OutgoingHttpHeaders => ({
  authorization: `DPoP ${kit.token}`,
  ...(dpop === undefined ? {} : { dpop: typeof dpop === "string" ? dpop : [...dpop] })
})

const goodClaims = (kit: Kit): Json =>
  claimsOf({ method: "GET", url: kit.url, nowMillis: kit.nowMillis, token: kit.token })

/** Makes a row from what its proof has other than a good one. */
const proof = (
  sent: string,
  verdict: string,
  why: string,
  change: (kit: Kit) => { readonly header?: Json; readonly claims?: Json; readonly key?: Key }
): Row => ({
  sent,
  verdict,
  why,
  craft: (kit) => {
    const { claims, header, key = kit.key } = change(kit)
    return { headers: withProof(kit, prove(key, { ...headerOf(key), ...header }, { ...goodClaims(kit), ...claims })) }
  }
})

/** Makes a row from the text of a good proof. */
const text = (
  sent: string,
  verdict: string,
  why: string,
  change: (proof: string, kit: Kit) => string | ReadonlyArray<string> | undefined
): Row => ({
  sent,
  verdict,
  why,
  craft: (kit) => ({ headers: withProof(kit, change(prove(kit.key, headerOf(kit.key), goodClaims(kit)), kit)) })
})

const order = BigInt("0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551")

/** Returns the other signature that is as good: `(r, n - s)`. */
const malleate = (proof: string): string => {
  const [header = "", claims = "", last = ""] = proof.split(".")
  const bytes = Buffer.from(last, "base64url")
  const s = order - BigInt(`0x${bytes.subarray(32).toString("hex")}`)
  const other = Buffer.concat([bytes.subarray(0, 32), Buffer.from(s.toString(16).padStart(64, "0"), "hex")])
  return `${header}.${claims}.${other.toString("base64url")}`
}

const replaceSignature = (proof: string, bytes: (bytes: Buffer, input: string) => Buffer): string => {
  const input = proof.slice(0, proof.lastIndexOf("."))
  return `${input}.${bytes(Buffer.from(proof.slice(input.length + 1), "base64url"), input).toString("base64url")}`
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

/** Sets an unused bit of the last character, so that a lenient decoder reads the same bytes. */
const looseBits = (segmented: string): string =>
  `${segmented.slice(0, -1)}${alphabet[alphabet.indexOf(segmented.slice(-1)) | 1] ?? ""}`

const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 })

const invalid = (problem: string): string => `invalid_dpop_proof: ${problem}`

// -----------------------------------------------------------------------------
// Proofs
// -----------------------------------------------------------------------------

const proofs: ReadonlyArray<Row> = [
  proof("a proof as a client makes it", "accepted", "RFC 9449 section 4.3", () => ({})),

  // The header field and the form of the JWT
  text("no `DPoP` header", invalid("missing"), "a bound token never works alone", () => undefined),
  text("an empty `DPoP` header", invalid("missing"), "as none", () => ""),
  text(
    "the same proof in two `DPoP` headers",
    invalid("more than one"),
    "section 4.3, check 1",
    (good) => [good, good]
  ),
  text("two segments", invalid("malformed"), "a JWS has three", (good) => good.slice(0, good.lastIndexOf("."))),
  text("a fourth segment", invalid("malformed"), "a JWS has three (L-06)", (good) => `${good}.e30`),
  text(
    "an empty signature",
    invalid("malformed"),
    "a segment has at least one byte",
    (good) => good.replace(/[^.]+$/, "")
  ),
  text("padded base64url", invalid("malformed"), "RFC 7515 section 2: no padding", (good) => `${good}==`),
  text(
    "base64 with `+` or `/`",
    invalid("malformed"),
    "RFC 7515 section 2: the URL-safe alphabet",
    // Another character for the same bits would be as good to a lenient decoder, which is not what this row is about.
    (good) => `${good.slice(0, -2)}${good.at(-2) === "-" ? "/" : "+"}${good.slice(-1)}`
  ),
  text(
    "an unused bit of the last character set",
    invalid("malformed"),
    "one text for the same bytes, or a replay could look new",
    looseBits
  ),
  proof("5,000 characters", invalid("malformed"), "at most 4,096 characters are read", () => ({
    claims: { padding: "x".repeat(5_000) }
  })),
  {
    sent: "a header that is no JSON",
    verdict: invalid("malformed"),
    why: "RFC 7515 section 5.2",
    craft: (kit) => ({ headers: withProof(kit, prove(kit.key, "dpop+jwt", goodClaims(kit))) })
  },
  {
    sent: "claims in an array",
    verdict: invalid("malformed"),
    why: "RFC 7519 section 7.2: an object",
    craft: (kit) => ({ headers: withProof(kit, prove(kit.key, headerOf(kit.key), JSON.stringify([goodClaims(kit)]))) })
  },
  {
    sent: "a byte order mark before the claims",
    verdict: invalid("malformed"),
    why: "RFC 8259 section 8.1: no JSON",
    craft: (kit) => ({
      headers: withProof(kit, prove(kit.key, headerOf(kit.key), `\uFEFF${JSON.stringify(goodClaims(kit))}`))
    })
  },

  // typ, alg and other header parameters
  proof("no `typ`", invalid("wrong typ"), "section 4.3, check 4", () => ({ header: { typ: undefined } })),
  proof(
    "`typ` `JWT`",
    invalid("wrong typ"),
    "another kind of token passes for none",
    () => ({ header: { typ: "JWT" } })
  ),
  proof("`typ` `DPOP+JWT`", invalid("wrong typ"), "the value is fixed", () => ({ header: { typ: "DPOP+JWT" } })),
  proof("no `alg`", invalid("unsupported alg"), "section 4.3, check 5", () => ({ header: { alg: undefined } })),
  proof("`alg` `none`, signed all the same", invalid("unsupported alg"), "section 4.3, check 5", () => ({
    header: { alg: "none" }
  })),
  {
    sent: "`alg` `HS256`, with the public key as the secret",
    verdict: invalid("unsupported alg"),
    why: "a symmetric algorithm proves no possession",
    craft: (kit) => {
      const input = `${encode({ ...headerOf(kit.key), alg: "HS256" })}.${encode(goodClaims(kit))}`
      const mac = createHmac("sha256", JSON.stringify(kit.key.jwk)).update(input).digest("base64url")
      return { headers: withProof(kit, `${input}.${mac}`) }
    }
  },
  {
    sent: "`alg` `RS256` with an RSA key",
    verdict: invalid("unsupported alg"),
    why: "not among the `algs` of the challenge",
    craft: (kit) => {
      const jwk = rsa.publicKey.export({ format: "jwk" })
      const input = `${encode({ typ: "dpop+jwt", alg: "RS256", jwk })}.${encode(goodClaims(kit))}`
      return {
        headers: withProof(kit, `${input}.${sign("sha256", Buffer.from(input), rsa.privateKey).toString("base64url")}`)
      }
    }
  },
  proof("`crit`", invalid("unexpected header"), "RFC 7515 section 4.1.11: an extension that is not understood", () => ({
    header: { crit: ["exp"], exp: 1 }
  })),
  proof("`jku`", invalid("unexpected header"), "the key is that of `jwk`; no address is ever fetched", () => ({
    header: { jku: "https://evil.example/keys" }
  })),
  proof("`x5c`", invalid("unexpected header"), "the key is that of `jwk`; certificates are not read", () => ({
    header: { x5c: ["MIIB"] }
  })),
  proof("a header parameter that no reader knows", "accepted", "RFC 7515 section 4: it is ignored", () => ({
    header: { kid: "mine", "urn:example:note": 1 }
  })),

  // The key
  proof("no `jwk`", invalid("invalid jwk"), "section 4.2", () => ({ header: { jwk: undefined } })),
  proof(
    "`jwk` with the private part",
    invalid("private jwk"),
    "section 4.3, check 7: such a key is no secret any more",
    (
      kit
    ) => ({ header: { jwk: kit.key.privateJwk } })
  ),
  proof("a symmetric `jwk`", invalid("private jwk"), "`k` is a secret", () => ({
    header: { jwk: { kty: "oct", k: "AAAA" } }
  })),
  proof("the `jwk` of another key", invalid("bad signature"), "the key of the token did not sign it", (kit) => ({
    key: kit.otherKey,
    header: { jwk: kit.key.jwk }
  })),
  proof(
    "a good proof of another key",
    "unauthorized",
    "the token is bound to one key (L-20): `invalid_token`",
    (kit) => ({
      key: kit.otherKey
    })
  ),
  proof("a point that is not on the curve", invalid("invalid jwk"), "RFC 7518 section 6.2.1, invalid curve attacks", (
    kit
  ) => ({ header: { jwk: { ...kit.key.jwk, y: kit.otherKey.jwk.y } } })),
  proof(
    "a coordinate without its leading zeros",
    invalid("invalid jwk"),
    "RFC 7518 section 6.2.1.2: the full length",
    () => ({
      header: { jwk: { kty: "EC", crv: "P-256", x: "AQ", y: "AQ" } }
    })
  ),
  proof("`alg` `ES256` with a key on P-384", invalid("invalid jwk"), "RFC 7518 section 3.4", (kit) => ({
    header: { jwk: kit.p384.jwk }
  })),
  proof("`jwk` with `use` `enc`", invalid("invalid jwk"), "RFC 7517 section 4.2: a key for something else", (kit) => ({
    header: { jwk: { ...kit.key.jwk, use: "enc" } }
  })),
  proof("`jwk` with `key_ops` without `verify`", invalid("invalid jwk"), "RFC 7517 section 4.3", (kit) => ({
    header: { jwk: { ...kit.key.jwk, key_ops: ["deriveBits"] } }
  })),
  proof("`jwk` with another `alg`", invalid("invalid jwk"), "RFC 7517 section 4.4", (kit) => ({
    header: { jwk: { ...kit.key.jwk, alg: "ES384" } }
  })),
  proof("`jwk` as browsers export it", "accepted", "`ext`, `key_ops` and `kid` don't make the key", (kit) => ({
    header: { jwk: { ...kit.key.jwk, ext: true, key_ops: ["verify"], kid: "mine" } }
  })),

  // The signature
  text(
    "a signature in DER",
    invalid("bad signature"),
    "RFC 7518 section 3.4: `r` and `s`, one after the other",
    (good, kit) => replaceSignature(good, (_, input) => sign("sha256", Buffer.from(input), kit.key.privateKey))
  ),
  text(
    "a signature of zeros",
    invalid("bad signature"),
    "neither `r` nor `s` may be zero (CVE-2022-21449)",
    (good) => replaceSignature(good, (bytes) => Buffer.alloc(bytes.length))
  ),
  text(
    "a signature cut short",
    invalid("bad signature"),
    "64 bytes for ES256",
    (good) => replaceSignature(good, (bytes) => bytes.subarray(0, 63))
  ),
  text("claims changed after signing", invalid("bad signature"), "section 4.3, check 6", (good, kit) => {
    const [header, , last] = good.split(".")
    return `${header}.${encode(goodClaims(kit))}.${last}`
  }),
  text(
    "the other `s` of an ECDSA signature",
    "accepted",
    "it signs as well; `jti` is what tells proofs apart",
    malleate
  ),

  // jti
  proof("no `jti`", invalid("missing claim"), "section 4.3, check 3", () => ({ claims: { jti: undefined } })),
  proof("an empty `jti`", invalid("invalid jti"), "it names nothing", () => ({ claims: { jti: "" } })),
  proof("a `jti` that is a number", invalid("invalid jti"), "RFC 7519 section 4.1.7: a string", () => ({
    claims: { jti: 1 }
  })),
  proof("a `jti` of 257 characters", invalid("invalid jti"), "at most 256; a UUID has 36", () => ({
    claims: { jti: "j".repeat(257) }
  })),
  proof("a `jti` with a path, a quote and a line break", "accepted", "it is stored as a digest (L-23)", () => ({
    claims: { jti: `../../${randomUUID()}'; DROP TABLE x --\n` }
  })),

  // htm and htu
  proof("no `htm`", invalid("missing claim"), "section 4.3, check 3", () => ({ claims: { htm: undefined } })),
  proof("`htm` of another method", invalid("wrong htm"), "section 4.3, check 8", () => ({ claims: { htm: "POST" } })),
  proof("`htm` in lower case", invalid("wrong htm"), "RFC 9110 section 9.1: methods are case-sensitive", () => ({
    claims: { htm: "get" }
  })),
  proof("no `htu`", invalid("missing claim"), "section 4.3, check 3", () => ({ claims: { htu: undefined } })),
  proof("`htu` that is no string", invalid("wrong htu"), "section 4.2", (kit) => ({ claims: { htu: [kit.url] } })),
  proof(
    "`htu` that is a path alone",
    invalid("wrong htu"),
    "section 4.2: a URI",
    () => ({ claims: { htu: "/whoami" } })
  ),
  proof("`htu` with a query", "accepted", "section 4.3, check 9: query and fragment are ignored", (kit) => ({
    claims: { htu: `${kit.url}?a=b` }
  })),
  proof("`htu` with a fragment", "accepted", "section 4.3, check 9", (kit) => ({ claims: { htu: `${kit.url}#a` } })),
  proof("`htu` with scheme and host in capitals", "accepted", "RFC 3986 section 6.2.2.1", () => ({
    claims: { htu: "HTTPS://Sallyport.EXAMPLE/whoami" }
  })),
  proof("`htu` with the default port", "accepted", "RFC 3986 section 6.2.3", () => ({
    claims: { htu: "https://sallyport.example:443/whoami" }
  })),
  proof("`htu` with another port", invalid("wrong htu"), "another server", () => ({
    claims: { htu: "https://sallyport.example:8443/whoami" }
  })),
  proof("`htu` with the scheme `http`", invalid("wrong htu"), "made for a channel without TLS", () => ({
    claims: { htu: "http://sallyport.example/whoami" }
  })),
  proof("`htu` of another host", invalid("wrong htu"), "a proof that another server was sent", () => ({
    claims: { htu: "https://evil.example/whoami" }
  })),
  proof("`htu` of a host that begins like this one", invalid("wrong htu"), "hosts are compared whole", () => ({
    claims: { htu: "https://sallyport.example.evil.example/whoami" }
  })),
  proof("`htu` with user information", invalid("wrong htu"), "it would hide the host from a reader", () => ({
    claims: { htu: "https://sallyport.example@sallyport.example/whoami" }
  })),
  proof("`htu` of another path", invalid("wrong htu"), "a proof is for one resource", () => ({
    claims: { htu: "https://sallyport.example/api/auth/sessions" }
  })),
  proof("`htu` with a trailing slash", invalid("wrong htu"), "RFC 3986 section 6.2: another path", (kit) => ({
    claims: { htu: `${kit.url}/` }
  })),
  proof("`htu` with the path in capitals", invalid("wrong htu"), "paths are case-sensitive", () => ({
    claims: { htu: "https://sallyport.example/WHOAMI" }
  })),
  proof("`htu` with a letter percent-encoded", "accepted", "RFC 3986 section 6.2.2.2", () => ({
    claims: { htu: "https://sallyport.example/%77hoami" }
  })),
  proof(
    "`htu` with a slash percent-encoded",
    invalid("wrong htu"),
    "RFC 3986 section 2.2: a reserved character",
    () => ({
      claims: { htu: "https://sallyport.example%2Fwhoami" }
    })
  ),
  proof("`htu` with dot segments", "accepted", "RFC 3986 section 6.2.2.3", () => ({
    claims: { htu: "https://sallyport.example/x/../whoami" }
  })),
  proof("`htu` with backslashes", invalid("wrong htu"), "no URI, though parsers of URLs take it", () => ({
    claims: { htu: "https:\\\\sallyport.example\\whoami" }
  })),
  proof("`htu` with a space before it", invalid("wrong htu"), "no URI", (kit) => ({ claims: { htu: ` ${kit.url}` } })),

  // Time
  proof("no `iat`", invalid("missing claim"), "section 4.3, check 3", () => ({ claims: { iat: undefined } })),
  proof("`iat` as text", invalid("invalid time"), "RFC 7519 section 2: a number", (kit) => ({
    claims: { iat: String(Math.floor(kit.nowMillis / 1000)) }
  })),
  {
    sent: "`iat` beyond any number",
    verdict: invalid("invalid time"),
    why: "`1e999` reads as infinity",
    craft: (kit) => ({
      headers: withProof(
        kit,
        prove(
          kit.key,
          headerOf(kit.key),
          JSON.stringify({ ...goodClaims(kit), iat: 0 }).replace("\"iat\":0", "\"iat\":1e999")
        )
      )
    })
  },
  proof("`iat` in milliseconds", invalid("from the future"), "RFC 7519 section 2: seconds", (kit) => ({
    claims: { iat: kit.nowMillis }
  })),
  proof("`iat` 50 seconds ago", "accepted", "a proof may be 60 seconds old", (kit) => ({
    claims: { iat: kit.nowMillis / 1000 - 50 }
  })),
  proof("`iat` 70 seconds ago", invalid("stale"), "section 4.3, check 11; the answer has the server's time", (kit) => ({
    claims: { iat: kit.nowMillis / 1000 - 70 }
  })),
  proof("`iat` in 5 seconds", "accepted", "a clock may run 10 seconds ahead", (kit) => ({
    claims: { iat: kit.nowMillis / 1000 + 5 }
  })),
  proof(
    "`iat` in 30 seconds",
    invalid("from the future"),
    "section 11.2: made in advance; the answer has the server's time",
    (
      kit
    ) => ({ claims: { iat: kit.nowMillis / 1000 + 30 } })
  ),
  proof("`exp` in the past", invalid("stale"), "RFC 7519 section 4.1.4", (kit) => ({
    claims: { exp: kit.nowMillis / 1000 - 20 }
  })),
  proof("`nbf` in the future", invalid("from the future"), "RFC 7519 section 4.1.5", (kit) => ({
    claims: { nbf: kit.nowMillis / 1000 + 20 }
  })),

  // ath
  proof("no `ath`", invalid("missing ath"), "section 4.3, check 12", () => ({ claims: { ath: undefined } })),
  proof("`ath` of another token of the same key", invalid("wrong ath"), "section 7: one token", (kit) => ({
    claims: { ath: athOf(kit.otherToken) }
  })),
  proof("`ath` in hex", invalid("wrong ath"), "section 4.2: base64url", (kit) => ({
    claims: { ath: Buffer.from(athOf(kit.token), "base64url").toString("hex") }
  })),

  // Replay
  {
    sent: "a proof for the second time",
    verdict: invalid("replayed"),
    why: "section 11.1",
    craft: (kit) => {
      const headers = withProof(kit, prove(kit.key, headerOf(kit.key), goodClaims(kit)))
      return { headers, after: headers }
    }
  },
  {
    sent: "a spent `jti` in a newly signed proof",
    verdict: invalid("replayed"),
    why: "what is spent is the `jti`",
    craft: (kit) => {
      const claims = goodClaims(kit)
      const make = () => withProof(kit, prove(kit.key, headerOf(kit.key), claims))
      return { headers: make(), after: make() }
    }
  },
  {
    sent: "a spent proof with the other `s` of its signature",
    verdict: invalid("replayed"),
    why: "the text is new, the `jti` is not",
    craft: (kit) => {
      const good = prove(kit.key, headerOf(kit.key), goodClaims(kit))
      return { headers: withProof(kit, malleate(good)), after: withProof(kit, good) }
    }
  }
]

const nonces: ReadonlyArray<Row> = [
  proof("no nonce", "use_dpop_nonce", "section 9; the answer has one in `DPoP-Nonce`", () => ({})),
  proof("a nonce that the server did not make", "use_dpop_nonce", "its tag is wrong", (kit) => ({
    claims: { nonce: `${kit.nonces.current.slice(0, -4)}AAAA` }
  })),
  proof("a nonce that is no string", "use_dpop_nonce", "section 4.2: a string", () => ({ claims: { nonce: 1 } })),
  proof(
    "a nonce of two periods ago",
    "use_dpop_nonce",
    "it has expired",
    (kit) => ({ claims: { nonce: kit.nonces.old } })
  ),
  proof("the nonce of the period before", "accepted", "a nonce is good for one more period", (kit) => ({
    claims: { nonce: kit.nonces.previous }
  })),
  proof("the nonce of this period", "accepted", "section 8", (kit) => ({ claims: { nonce: kit.nonces.current } }))
]

// -----------------------------------------------------------------------------
// Tokens
// -----------------------------------------------------------------------------

const bearer = (sent: string, verdict: string, why: string, craft: (kit: Kit) => string): Row => ({
  sent,
  verdict,
  why,
  craft: (kit) => ({ headers: { authorization: craft(kit) } })
})

/** Signs claims with the server's own key, as it would not. */
const forge = (kit: Kit, header: Json, claims: Json | undefined, hash = "sha256"): string => {
  const [, payload = ""] = kit.bearerToken.split(".")
  const input = `${encode({ alg: "HS256", typ: "sallyport-session+jwt", kid: kit.signingKey.kid, ...header })}.${
    claims === undefined ? payload : encode(claims)
  }`
  return `${input}.${createHmac(hash, kit.signingKey.bytes).update(input).digest("base64url")}`
}

const tokens: ReadonlyArray<Row> = [
  bearer("a bearer token", "accepted", "RFC 6750", (kit) => `Bearer ${kit.bearerToken}`),
  bearer(
    "a bearer token with a fourth segment",
    "unauthorized",
    "three segments (L-06)",
    (kit) => `Bearer ${kit.bearerToken}.e30`
  ),
  bearer(
    "a bearer token without its signature",
    "unauthorized",
    "three segments",
    (kit) => `Bearer ${kit.bearerToken.replace(/\.[^.]+$/, "")}`
  ),
  bearer(
    "a bearer token with an unused bit set",
    "unauthorized",
    "one text for one token (L-06)",
    (kit) => `Bearer ${looseBits(kit.bearerToken)}`
  ),
  bearer("a bearer token with padding", "unauthorized", "RFC 7515 section 2", (kit) => `Bearer ${kit.bearerToken}=`),
  bearer("`alg` `none`, without a signature", "unauthorized", "only `HS256` verifies", (kit) => {
    const [, payload] = kit.bearerToken.split(".")
    return `Bearer ${encode({ alg: "none", typ: "sallyport-session+jwt", kid: kit.signingKey.kid })}.${payload}.`
  }),
  bearer(
    "`alg` `none`, signed with the right key",
    "unauthorized",
    "only `HS256` verifies",
    (kit) => `Bearer ${forge(kit, { alg: "none" }, undefined)}`
  ),
  bearer(
    "`alg` `HS512`, signed with the right key",
    "unauthorized",
    "`alg` is pinned",
    (kit) => `Bearer ${forge(kit, { alg: "HS512" }, undefined, "sha512")}`
  ),
  bearer("`alg` `ES256`, signed by the client's key", "unauthorized", "`alg` is pinned", (kit) => {
    const [, payload] = kit.bearerToken.split(".")
    const input = `${
      encode({ alg: "ES256", typ: "sallyport-session+jwt", kid: kit.signingKey.kid, jwk: kit.key.jwk })
    }.${payload}`
    return `Bearer ${input}.${signature(kit.key, input).toString("base64url")}`
  }),
  bearer(
    "an unknown `kid`, signed with the right key",
    "unauthorized",
    "there is no such key",
    (kit) => `Bearer ${forge(kit, { kid: "other" }, undefined)}`
  ),
  bearer(
    "no `kid`, signed with the right key",
    "unauthorized",
    "keys are not tried",
    (kit) => `Bearer ${forge(kit, { kid: undefined }, undefined)}`
  ),
  bearer(
    "`typ` `JWT`, signed with the right key",
    "unauthorized",
    "RFC 8725 section 3.11",
    (kit) => `Bearer ${forge(kit, { typ: "JWT" }, undefined)}`
  ),
  bearer(
    "a new token of a live session, signed with the right key",
    "unauthorized",
    "a token counts by its row",
    (kit) => {
      const [, payload = ""] = kit.bearerToken.split(".")
      const claims: Json = JSON.parse(Buffer.from(payload, "base64url").toString())
      return `Bearer ${forge(kit, {}, { ...claims, jti: "AAAAAAAAAAAAAAAAAAAAAA" })}`
    }
  ),
  bearer(
    "a bound token as a bearer",
    "unauthorized",
    "section 7.2: without its key it is worth nothing",
    (kit) => `Bearer ${kit.token}`
  ),
  {
    sent: "a bound token as a bearer, with a good proof beside it",
    verdict: "unauthorized",
    why: "the scheme says that nothing is proven",
    craft: (kit) => ({
      headers: {
        ...withProof(kit, prove(kit.key, headerOf(kit.key), goodClaims(kit))),
        authorization: `Bearer ${kit.token}`
      }
    })
  },
  {
    sent: "a bearer token as a bound one, with a good proof",
    verdict: "unauthorized",
    why: "it is bound to no key, so the proof proves nothing",
    craft: (kit) => ({
      headers: {
        authorization: `DPoP ${kit.bearerToken}`,
        dpop: prove(
          kit.key,
          headerOf(kit.key),
          claimsOf({ method: "GET", url: kit.url, nowMillis: kit.nowMillis, token: kit.bearerToken })
        )
      }
    })
  },
  {
    sent: "a bound token in the cookie",
    verdict: "unauthorized",
    why: "as a bearer",
    craft: (kit) => ({ headers: { cookie: `__Host-sallyport_session=${kit.token}` } })
  }
]

const cookies: ReadonlyArray<Row> = [
  {
    sent: "the cookie of another port of this host",
    verdict: "unauthorized",
    why: "cookies are not kept apart by port, so the name carries it (HTTP-01)",
    craft: (kit) => ({
      headers: { host: `127.0.0.1:${kit.port}`, cookie: `sallyport_session_${kit.port + 1}=${kit.bearerToken}` }
    })
  },
  {
    sent: "the cookie's name behind TLS, on a loopback address",
    verdict: "unauthorized",
    why: "each policy has one name",
    craft: (kit) => ({
      headers: { host: `127.0.0.1:${kit.port}`, cookie: `__Host-sallyport_session=${kit.bearerToken}` }
    })
  },
  {
    sent: "a cookie with a fourth segment",
    verdict: "unauthorized",
    why: "as a token in the header",
    craft: (kit) => ({
      headers: { host: `127.0.0.1:${kit.port}`, cookie: `sallyport_session_${kit.port}=${kit.bearerToken}.e30` }
    })
  },
  {
    sent: "a proof for another port of this host",
    verdict: invalid("wrong htu"),
    why: "another server of this machine was sent it, and passes it on",
    craft: (kit) => {
      const url = `http://127.0.0.1:${kit.port + 1}/whoami`
      return {
        headers: {
          ...withProof(kit, prove(kit.key, headerOf(kit.key), { ...goodClaims(kit), htu: url })),
          host: `127.0.0.1:${kit.port + 1}`
        }
      }
    }
  },
  {
    sent: "a proof for a name that a user points at this machine",
    verdict: "cross_origin",
    why: "DNS rebinding: the `Host` of a loopback server is a loopback name; nothing else of the request is looked at",
    craft: (kit) => {
      const url = `http://rebound.example:${kit.port}/whoami`
      return {
        headers: {
          ...withProof(kit, prove(kit.key, headerOf(kit.key), { ...goodClaims(kit), htu: url })),
          host: `rebound.example:${kit.port}`
        }
      }
    }
  },
  {
    sent: "a proof for this server",
    verdict: "accepted",
    why: "the `Host` names a loopback address and the right port",
    craft: (kit) => ({
      headers: {
        ...withProof(
          kit,
          prove(kit.key, headerOf(kit.key), { ...goodClaims(kit), htu: `http://localhost:${kit.port}/whoami` })
        ),
        host: `localhost:${kit.port}`
      }
    })
  }
]

export const sections: ReadonlyArray<Section> = [
  {
    title: "DPoP proofs",
    about: "Sent with a bound token to `GET https://sallyport.example/whoami`. \"Section\" is one of RFC 9449.",
    nonces: false,
    rows: proofs
  },
  {
    title: "DPoP proofs where a nonce is asked for",
    about: "Good proofs but for the nonce, sent to a server with `nonceLifetime`.",
    nonces: true,
    rows: nonces
  },
  {
    title: "Tokens",
    about:
      "Sent to the same address. Those that are \"signed with the right key\" are what a thief of the signing key could make.",
    nonces: false,
    rows: tokens
  },
  {
    title: "On a loopback address",
    about: "Sent to a server on `127.0.0.1` that was told no public address.",
    nonces: false,
    rows: cookies
  }
]

// -----------------------------------------------------------------------------
// The page
// -----------------------------------------------------------------------------

export const begin = "<!-- table: npm run bad-input -->"
export const end = "<!-- end of table -->"

const cell = (text: string): string => text.replaceAll("|", "\\|").replaceAll("\n", " ")

/** Returns the tables as the page has them. */
export const markdown = (): string =>
  sections.map(({ about, rows, title }) =>
    [
      `### ${title}`,
      "",
      about,
      "",
      "| sent | verdict | why |",
      "| --- | --- | --- |",
      ...rows.map(({ sent, verdict, why }) => `| ${cell(sent)} | ${cell(verdict)} | ${cell(why)} |`)
    ].join("\n")
  ).join("\n\n")
