/**
 * Reads a secret from the file descriptor `argv[2]` with the limits `argv[3]` (bytes) and `argv[4]` (milliseconds), and
 * prints one JSON line: what it got as hex, or the reason of the error, and whether the descriptor is still open.
 * `argv[5]` is the number of reads.
 */
import * as SecretFd from "@sallyport/node/SecretFd"
import * as Effect from "effect/Effect"
import * as Hex from "effect/encoding/Hex"
import * as Redacted from "effect/Redacted"
import { fstatSync } from "node:fs"

const fd = Number(process.argv[2])

const isOpen = () => {
  try {
    fstatSync(fd)
    return true
  } catch {
    return false
  }
}

process.stdout.write("ready\n")

const program = SecretFd.readSecretFromFd(fd, {
  maxBytes: Number(process.argv[3]),
  timeout: Number(process.argv[4])
}).pipe(
  Effect.match({
    onSuccess: (secret) => ({ secret: Hex.encode(Redacted.value(secret)), open: isOpen() }),
    onFailure: (error) => ({ reason: error.reason._tag, message: error.message, open: isOpen() })
  })
)

// Nothing here ends the process: it ends because nothing is left to wait for.
process.stdout.write(`${JSON.stringify(await Effect.runPromise(program))}\n`)
