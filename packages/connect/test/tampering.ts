/**
 * Attacks on a JWT of the protocol, generated from the schema of its claims: every claim and every member of the header
 * changed, removed, retyped and added, with the signature left as it was and signed again by the party that could; every other kind
 * of message in its place; other keys and algorithms; and times that are none of its own.
 */
import { type PublicKey, typ } from "@sallyport/contract/ConnectProtocol"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { createHash, createHmac, createPrivateKey, createPublicKey, type KeyObject, sign } from "node:crypto"

/** What a JSON object holds, whatever its form. */
export type Fields = Readonly<Record<string, unknown>>

/** The fields of a struct of the protocol. */
export type StructFields = Readonly<Record<string, Schema.Codec<unknown, unknown>>>

/** A key pair of the tests' own. */
export interface Key {
  readonly privateKey: KeyObject
  readonly publicKey: PublicKey
}

/** Makes the key pair of a seed, as the two sides do (RFC 8410), named by its thumbprint (RFC 7638). */
export const keyOf = (seed: Uint8Array): Key => {
  const head = Buffer.from("302e020100300506032b657004220420", "hex")
  const privateKey = createPrivateKey({ key: Buffer.concat([head, seed]), format: "der", type: "pkcs8" })
  const { x = "" } = createPublicKey(privateKey).export({ format: "jwk" })
  const kid = createHash("sha256").update(JSON.stringify({ crv: "Ed25519", kty: "OKP", x })).digest("base64url")
  return { privateKey, publicKey: { kty: "OKP", crv: "Ed25519", x, kid } }
}

const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url")

/** Writes a JWT by hand, whatever its header and its claims. */
export const write = (header: Fields, claims: unknown, by: Key | string): string => {
  const signed = `${encode(header)}.${encode(claims)}`
  if (typeof by === "string") return `${signed}.${by}`
  return `${signed}.${sign(null, Buffer.from(signed), by.privateKey).toString("base64url")}`
}

/** A message as its author means it. */
export interface Honest {
  readonly header: Fields
  readonly claims: Fields
  readonly key: Key
}

/** The header that a key's messages have. */
export const headerOf = (kind: string, key: Key): Fields => ({ alg: "EdDSA", typ: kind, kid: key.publicKey.kid })

/** The times of a message that is good now. */
export const timesNow = () => {
  const iat = Math.floor(Date.now() / 1_000)
  return { iat, exp: iat + 60 }
}

/** A change of some fields. */
export interface Mutation {
  readonly title: string
  readonly kind: "changed" | "removed" | "retyped" | "added"
  readonly name: string
  readonly apply: (fields: Fields) => Fields
}

const without = (fields: Fields, name: string): Fields => {
  const { [name]: _, ...rest } = fields
  return rest
}

/** Another value much like one: of the same type, if that is told. */
const near = (value: unknown): unknown =>
  typeof value === "number"
    ? value + 1_000_000
    : typeof value === "string"
    ? `${value.slice(0, -1)}${value.endsWith("A") ? "B" : "A"}`
    : value === null
    ? 1
    : { jkt: "A".repeat(43) }

/** Values of other types. */
const retypes = (value: unknown): ReadonlyArray<unknown> => [
  typeof value === "string" ? 1 : typeof value === "number" ? String(value) : "text",
  [value],
  { value },
  true,
  ...(value === null ? [] : [null])
]

/** Lists the changes of each field of a struct: to other values, some of them as good, to none, and to other types. */
export const mutationsOf = Effect.fnUntraced(function*(fields: StructFields) {
  const all: Array<Mutation> = []
  for (const [name, schema] of Object.entries(fields)) {
    const isValue = Schema.is(Schema.toEncoded(schema))
    const valid = yield* Effect.orDie(Arbitrary.sampleEffect(Arbitrary.schema(Schema.toEncoded(schema)), { count: 3 }))
    const put = (kind: Mutation["kind"], title: string, value: (before: unknown) => unknown) =>
      all.push({
        title: `${kind} ${name} ${title}`,
        kind,
        name,
        apply: (before) => ({ ...before, [name]: value(before[name]) })
      })
    put("changed", "to one near it", near)
    for (const [index, value] of valid.entries()) {
      // One that happens to be the very value is no change.
      put(
        "changed",
        `to another (${index})`,
        (before) => JSON.stringify(before) === JSON.stringify(value) ? near(before) : value
      )
    }
    for (let index = 0; index < 5; index++) {
      put("retyped", `(${index})`, (before) => {
        const retyped = retypes(before)[index] ?? [before]
        // What the schema takes is no value of another type.
        return isValue(retyped) ? [before] : retyped
      })
    }
    all.push({ title: `removed ${name}`, kind: "removed", name, apply: (before) => without(before, name) })
  }
  for (const name of ["admin", "scope", "nbf", "__proto__x"]) {
    all.push({ title: `added ${name}`, kind: "added", name, apply: (before) => ({ ...before, [name]: 1 }) })
  }
  return all
})

/** A JWT that a test has another believe. */
export interface Attack {
  readonly title: string
  readonly forge: (honest: Honest) => string
}

/** Who else signs. */
export const stranger = keyOf(new Uint8Array(32).fill(7))

const headers: ReadonlyArray<readonly [title: string, change: (header: Fields) => Fields]> = [
  ...["alg", "typ", "kid"].flatMap((name): ReadonlyArray<readonly [string, (header: Fields) => Fields]> => [
    [`without ${name}`, (header) => without(header, name)],
    [`with another ${name}`, (header) => ({ ...header, [name]: near(header[name]) })],
    [`with a number as ${name}`, (header) => ({ ...header, [name]: 1 })],
    [`with a list as ${name}`, (header) => ({ ...header, [name]: [header[name]] })]
  ]),
  ["of another alg name of the same key", (header) => ({ ...header, alg: "Ed25519" })],
  ["with typ in capitals", (header) => ({ ...header, typ: String(header.typ).toUpperCase() })],
  ["with typ as a media type", (header) => ({ ...header, typ: `application/${String(header.typ)}` })],
  ["with an unknown crit", (header) => ({ ...header, crit: ["sudo"], sudo: true })],
  ["with a crit of a claim", (header) => ({ ...header, crit: ["exp"], exp: 1 })],
  ["with an empty crit", (header) => ({ ...header, crit: [] })],
  ["unencoded", (header) => ({ ...header, crit: ["b64"], b64: false })],
  ["with a key in it", (header) => ({ ...header, jwk: stranger.publicKey })],
  ["with the address of a key", (header) => ({ ...header, jku: "https://keys.example" })],
  ["with a member of its own", (header) => ({ ...header, more: 1 })]
]

const kinds: ReadonlyArray<string> = Object.values(typ)

/**
 * Generates the attacks on a message. `bound` names the claims that its reader holds against what it knows, so that another
 * good value is refused even if its author signed it; one of any other claim is another message.
 */
export const attacksOn = Effect.fnUntraced(function*(message: {
  readonly typ: string
  readonly claims: StructFields
  readonly bound: ReadonlyArray<string>
}) {
  const attacks: Array<Attack> = []
  const add = (title: string, forge: Attack["forge"]) => attacks.push({ title, forge })
  /** Keeps the signature of the honest message. */
  const kept = (header: Fields, claims: unknown, honest: Honest) =>
    write(header, claims, write(honest.header, honest.claims, honest.key).split(".")[2] ?? "")

  for (const { apply, kind, name, title } of yield* mutationsOf(message.claims)) {
    add(`${title}, not signed again`, (honest) => kept(honest.header, apply(honest.claims), honest))
    // Times have attacks of their own below.
    if (kind === "changed" && !message.bound.includes(name)) continue
    add(`${title}, signed again`, ({ claims, header, key }) => write(header, apply(claims), key))
  }
  for (const [title, change] of headers) {
    add(`${title}, not signed again`, (honest) => kept(change(honest.header), honest.claims, honest))
    add(`${title}, signed again`, ({ claims, header, key }) => write(change(header), claims, key))
    add(`${title}, by a stranger`, ({ claims, header }) => write(change(header), claims, stranger))
  }
  for (const kind of kinds) {
    if (kind === message.typ) continue
    add(`as a ${kind}`, ({ claims, header, key }) => write({ ...header, typ: kind }, claims, key))
  }

  add("by a stranger in its author's name", ({ claims, header }) => write(header, claims, stranger))
  add("by a stranger", ({ claims, header }) => write(headerOf(String(header.typ), stranger), claims, stranger))
  for (const alg of ["none", "None", ""]) {
    add(`without a signature, by with ${alg}`, ({ claims, header }) => write({ ...header, alg }, claims, ""))
  }
  add("with the public key as a shared secret", ({ claims, header, key }) => {
    const signed = write({ ...header, alg: "HS256" }, claims, "").slice(0, -1)
    const secret = Buffer.from(key.publicKey.x, "base64url")
    return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`
  })

  const at = (title: string, times: (now: number) => { readonly iat: unknown; readonly exp: unknown }) =>
    add(title, ({ claims, header, key }) => write(header, { ...claims, ...times(Math.floor(Date.now() / 1_000)) }, key))
  at("expired", (now) => ({ iat: now - 80, exp: now - 20 }))
  at("long expired", (now) => ({ iat: now - 100_000, exp: now - 99_900 }))
  at("from the future", (now) => ({ iat: now + 60, exp: now + 120 }))
  at("good for a second too long", (now) => ({ iat: now, exp: now + 301 }))
  at("good for ever", (now) => ({ iat: now, exp: Number.MAX_SAFE_INTEGER }))
  at("good since the beginning", (now) => ({ iat: 0, exp: now + 60 }))
  at("from the middle of a second", (now) => ({ iat: now - 0.5, exp: now + 60 }))

  const spelled = (title: string, spell: (token: string) => string) =>
    add(title, ({ claims, header, key }) => spell(write(header, claims, key)))
  spelled("of two segments", (token) => token.slice(0, token.lastIndexOf(".")))
  spelled("without a signature", (token) => token.slice(0, token.lastIndexOf(".") + 1))
  spelled("of four segments", (token) => `${token}.`)
  spelled("of five segments", (token) => `${token}.AA.AA`)
  spelled("with padding", (token) => `${token}==`)
  spelled("with a space after it", (token) => `${token} `)
  spelled("with a line before it", (token) => `\n${token}`)
  spelled("empty", () => "")
  spelled("of dots", () => "..")
  spelled("without claims", (token) => token.replace(/\.[^.]*\./, ".."))
  spelled("too long", (token) => token + "A".repeat(9_000))
  add("of a list of claims", ({ claims, header, key }) => write(header, [claims], key))
  add("of claims that are none", ({ header, key }) => write(header, null, key))
  return attacks
})
