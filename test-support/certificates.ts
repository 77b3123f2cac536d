/** Makes certificates for servers of tests, good ones and such as clients must refuse, with keys of their own. */
import { createHash, generateKeyPairSync, type KeyObject, randomBytes, sign } from "node:crypto"

const der = (tag: number, ...parts: ReadonlyArray<Uint8Array>): Buffer => {
  const content = Buffer.concat(parts)
  const length = content.length < 128
    ? [content.length]
    : content.length < 256
    ? [0x81, content.length]
    : [0x82, content.length >> 8, content.length & 255]
  return Buffer.concat([Buffer.from([tag, ...length]), content])
}
const sequence = (...parts: ReadonlyArray<Uint8Array>) => der(0x30, ...parts)
const text = (value: string) => der(0x0C, Buffer.from(value))
const bits = (value: Uint8Array) => der(0x03, Buffer.from([0]), value)
/** Writes a number of an algorithm or an extension, given its bytes. */
const oid = (...bytes: ReadonlyArray<number>) => der(0x06, Buffer.from(bytes))
const time = (date: Date) => der(0x18, Buffer.from(date.toISOString().replaceAll(/[-:T]|\.\d+/g, "")))
const nameOf = (common: string) => sequence(der(0x31, sequence(oid(0x55, 4, 3), text(common))))
const ecdsaWithSha256 = sequence(oid(0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, 2))
const extension = (id: number, value: Uint8Array) =>
  sequence(oid(0x55, 0x1D, id), der(0x01, Buffer.from([0xFF])), der(0x04, value))

export interface Authority {
  readonly name: string
  readonly key: KeyObject
  readonly certificate: string
}

export interface Issued {
  readonly key: string
  readonly cert: string
}

const issue = (options: {
  readonly name: string
  readonly by?: Authority
  readonly isAuthority: boolean
  readonly from: Date
  readonly until: Date
}) => {
  const { by, from, isAuthority, name, until } = options
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" })
  const extensions = [
    extension(19, sequence(...(isAuthority ? [der(0x01, Buffer.from([0xFF]))] : []))),
    ...(isAuthority ? [] : [extension(17, sequence(der(0x82, Buffer.from(name))))])
  ]
  const body = sequence(
    der(0xA0, der(0x02, Buffer.from([2]))),
    der(0x02, Buffer.from([1]), randomBytes(8)),
    ecdsaWithSha256,
    nameOf(by?.name ?? name),
    sequence(time(from), time(until)),
    nameOf(name),
    publicKey.export({ type: "spki", format: "der" }),
    der(0xA3, sequence(...extensions))
  )
  const whole = sequence(body, ecdsaWithSha256, bits(sign("sha256", body, by?.key ?? privateKey)))
  const certificate = `-----BEGIN CERTIFICATE-----\n${
    whole.toString("base64").replaceAll(/.{64}(?=.)/g, "$&\n")
  }\n-----END CERTIFICATE-----\n`
  return { privateKey, certificate }
}

const hours = (count: number) => new Date(Date.now() + count * 3_600_000)

/** Makes an authority that no system knows. */
export const authority = (): Authority => {
  const name = `Sallyport test ${createHash("sha256").update(randomBytes(8)).digest("hex").slice(0, 8)}`
  const { certificate, privateKey } = issue({ name, isAuthority: true, from: hours(-24), until: hours(24 * 365) })
  return { name, key: privateKey, certificate }
}

/** Makes a certificate for a host name, signed by itself without an authority. Times are in hours from now. */
export const certificate = (
  name: string,
  by?: Authority,
  from = -1,
  until = 24 * 90
): Issued => {
  const { certificate, privateKey } = issue({
    name,
    ...(by === undefined ? {} : { by }),
    isAuthority: false,
    from: hours(from),
    until: hours(until)
  })
  return { cert: certificate, key: String(privateKey.export({ type: "pkcs8", format: "pem" })) }
}
