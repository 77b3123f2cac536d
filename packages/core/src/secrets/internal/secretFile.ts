/**
 * The names and the contents of the files that the file layer of `SecretStore` writes.
 *
 * - `<name>~<version>` holds one version of a secret, or the mark that it was removed.
 * - `<name>~<version>~<32 hex digits>` is such a file while it is being written.
 * - `~<32 hex digits>` is an empty file that a start writes to learn its own user id.
 *
 * `~` is not in the alphabet of names, so that no name can be mistaken for another kind of file.
 */
import * as Digest from "effect/crypto/Digest"
import * as Effect from "effect/Effect"

/** What a directory entry is to the store. */
export type Entry =
  | { readonly _tag: "Version"; readonly name: string; readonly version: number }
  | { readonly _tag: "Temporary"; readonly name: string; readonly version: number }
  | { readonly _tag: "Probe" }

// Fifteen digits stay below 2^53, so that a version is exact as a number.
const entryPattern = /^([a-z0-9][a-z0-9._-]{0,127})~([1-9][0-9]{0,14})(~[0-9a-f]{32})?$/

/** The highest version that an entry can have. No number of real changes comes near it. */
export const maxVersion = 999_999_999_999_999

const probePattern = /^~[0-9a-f]{32}$/

/** Tells what a directory entry is; undefined when the store did not write it. */
export const parseEntry = (entry: string): Entry | undefined => {
  if (probePattern.test(entry)) return { _tag: "Probe" }
  const match = entryPattern.exec(entry)
  const name = match?.[1]
  if (match === null || name === undefined) return undefined
  return { _tag: match[3] === undefined ? "Version" : "Temporary", name, version: Number(match[2]) }
}

/** Names the file of one version. */
export const versionEntry = (name: string, version: number): string => `${name}~${version}`

/** Names the file in which a version is written before it gets its own name. */
export const temporaryEntry = (name: string, version: number, suffixHex: string): string =>
  `${name}~${version}~${suffixHex}`

/** Names a probe file. */
export const probeEntry = (suffixHex: string): string => `~${suffixHex}`

// "SPSS", the format's version, the kind of content, two bytes for later use.
const magic = [0x53, 0x50, 0x53, 0x53]
const formatVersion = 1
const kindValue = 1
const kindRemoved = 2
const prefixLength = 8
const lengthLength = 4
const checksumLength = 32

/** The size in bytes of a file that marks a removal. Every file with a value, also an empty one, is larger. */
export const removedSize = prefixLength + checksumLength

const encoder = new TextEncoder()

// The entry's name is part of what is summed: a file copied over another secret or another version is foreign there.
const checksum = (
  digest: Digest.Digest["Service"],
  entry: string,
  content: Uint8Array
): Effect.Effect<Uint8Array> => {
  const label = encoder.encode(entry)
  const input = new Uint8Array(label.length + 1 + content.length)
  input.set(label)
  input.set(content, label.length + 1)
  return digest.digest(Digest.sha256, input)
}

/** Encodes the content of the file `entry`: a value, or the mark of a removal for undefined. */
export const encode = (
  digest: Digest.Digest["Service"],
  entry: string,
  value: Uint8Array | undefined
): Effect.Effect<Uint8Array> => {
  const bodyLength = value === undefined ? 0 : lengthLength + value.length
  const file = new Uint8Array(prefixLength + bodyLength + checksumLength)
  file.set(magic)
  file[4] = formatVersion
  file[5] = value === undefined ? kindRemoved : kindValue
  if (value !== undefined) {
    new DataView(file.buffer).setUint32(prefixLength, value.length)
    file.set(value, prefixLength + lengthLength)
  }
  const content = file.subarray(0, prefixLength + bodyLength)
  return Effect.map(checksum(digest, entry, content), (sum) => {
    file.set(sum, content.length)
    return file
  })
}

/** What a file says, or why it cannot be trusted. */
export type Decoded =
  | { readonly _tag: "Value"; readonly value: Uint8Array }
  | { readonly _tag: "Removed" }
  | { readonly _tag: "Corrupt"; readonly problem: string }

const corrupt = (problem: string): Effect.Effect<Decoded> => Effect.succeed({ _tag: "Corrupt", problem })

/** Decodes the content of the file `entry`. The problem of a corrupt file never quotes the file. */
export const decode = (
  digest: Digest.Digest["Service"],
  entry: string,
  file: Uint8Array
): Effect.Effect<Decoded> => {
  if (file.length === 0) return corrupt("the file is empty")
  if (magic.some((byte, index) => index < file.length && file[index] !== byte)) {
    return corrupt("the file was not written by this store")
  }
  if (file.length < removedSize) return corrupt(`the file is truncated to ${file.length} bytes`)
  if (file[4] !== formatVersion) {
    return corrupt(`the file has format ${file[4]}, and this program knows ${formatVersion}`)
  }
  const content = file.subarray(0, file.length - checksumLength)
  if (file[5] === kindValue) {
    if (content.length < prefixLength + lengthLength) return corrupt("the file is truncated")
    const expected = new DataView(file.buffer, file.byteOffset).getUint32(prefixLength)
    const found = content.length - prefixLength - lengthLength
    if (found !== expected) return corrupt(`the file holds ${found} bytes of a value of ${expected} bytes`)
  } else if (file[5] !== kindRemoved || file.length !== removedSize) {
    return corrupt("the file has an unknown content")
  }
  return Effect.map(checksum(digest, entry, content), (sum): Decoded => {
    if (sum.some((byte, index) => byte !== file[content.length + index])) {
      return { _tag: "Corrupt", problem: "the checksum does not match the content" }
    }
    return file[5] === kindRemoved
      ? { _tag: "Removed" }
      // A copy, because platforms may hand out a slice of a shared buffer.
      : { _tag: "Value", value: new Uint8Array(content.subarray(prefixLength + lengthLength)) }
  })
}
