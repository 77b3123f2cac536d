/**
 * Reads a secret that a parent process hands over on a file descriptor.
 *
 * Arguments and environment variables of a process are readable by others (`ps`, `/proc/<pid>/environ`) and inherited by
 * its children. A pipe is read once, by this process, and leaves nothing behind.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as NFS from "node:fs"
import * as Net from "node:net"
import type { Readable } from "node:stream"

/**
 * Reports a descriptor that is not open, or is not a pipe, socket or file.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotReadable extends Schema.TaggedError<NotReadable>()("NotReadable", {
  problem: Schema.String,
  cause: Schema.optional(Schema.Defect())
}) {
  override get message(): string {
    return `${this.problem}. Start this process with a pipe there, and write the secret to it`
  }
}

/**
 * Reports a parent that closed the descriptor without writing.
 *
 * @category errors
 * @since 0.1.0
 */
export class Empty extends Schema.TaggedError<Empty>()("Empty", {}) {
  override get message(): string {
    return "it was closed before anything was written to it. See why the parent process ended"
  }
}

/**
 * Reports more bytes than a secret may have. None of them is kept.
 *
 * @category errors
 * @since 0.1.0
 */
export class TooLarge extends Schema.TaggedError<TooLarge>()("TooLarge", { maxBytes: Schema.Int }) {
  override get message(): string {
    return `it holds more than ${this.maxBytes} bytes. Write the secret alone to it`
  }
}

/**
 * Reports a parent that kept the descriptor open. What it had written is dropped.
 *
 * @category errors
 * @since 0.1.0
 */
export class TimedOut extends Schema.TaggedError<TimedOut>()("TimedOut", { timeoutMillis: Schema.Number }) {
  override get message(): string {
    return `it was not closed within ${this.timeoutMillis} ms. Close it in the parent process, and in its other children, after the secret`
  }
}

/**
 * Wraps every failure to read a secret from a descriptor; branch on `reason` with `Effect.catchReason`.
 *
 * @category errors
 * @since 0.1.0
 */
export class SecretFdError extends Schema.TaggedError<SecretFdError>()("SecretFdError", {
  fd: Schema.Number,
  reason: Schema.Union([NotReadable, Empty, TooLarge, TimedOut])
}) {
  override get message(): string {
    return `No secret could be read from file descriptor ${this.fd}: ${this.reason.message}`
  }
}

/** Opens a descriptor according to its kind, so that a wait for it can be cancelled: a blocked `read` cannot be. */
const openStream = (fd: number): Readable => {
  const stat = NFS.fstatSync(fd)
  if (stat.isFIFO() || stat.isSocket()) return new Net.Socket({ fd, readable: true, writable: false })
  if (stat.isFile()) return NFS.createReadStream("", { fd, autoClose: true })
  throw new TypeError("it is a directory, a terminal or another device")
}

/**
 * Reads a descriptor to its end, closes it, and returns the bytes unchanged, including a line break at the end.
 *
 * **Details**
 *
 * It reads at most `maxBytes` (default 64 KiB) for at most `timeout` (default 10 seconds): a parent that never closes
 * its end causes an error, and does not hang the start. The descriptor is closed in every case, on interruption too.
 *
 * **Gotchas**
 *
 * Read the descriptor once, early, before other child processes are started.
 *
 * @category operations
 * @since 0.1.0
 */
export const readSecretFromFd = Effect.fn("SecretFd.readSecretFromFd")(function*(
  fd: number,
  options?: {
    readonly maxBytes?: number | undefined
    readonly timeout?: Duration.Input | undefined
  }
): Effect.fn.Return<Redacted.Redacted<Uint8Array>, SecretFdError> {
  const maxBytes = options?.maxBytes ?? 64 * 1024
  const timeout = Duration.fromInputUnsafe(options?.timeout ?? "10 seconds")
  const fail = (reason: SecretFdError["reason"]) => new SecretFdError({ fd, reason })
  const notReadable = (cause: unknown) =>
    fail(new NotReadable({ problem: cause instanceof Error ? cause.message : "it cannot be read", cause }))

  const read = Effect.callback<Redacted.Redacted<Uint8Array>, SecretFdError>((resume) => {
    const stream = open(fd)
    if (stream instanceof Error) return resume(Effect.fail(notReadable(stream)))
    const chunks: Array<Buffer> = []
    let length = 0
    const wipe = (): void => {
      for (const chunk of chunks) chunk.fill(0)
      chunks.length = 0
    }
    // The result comes when the descriptor is closed, so it is always closed when this effect has ended.
    let outcome: Effect.Effect<Redacted.Redacted<Uint8Array>, SecretFdError> = Effect.fail(fail(new Empty()))
    stream.on("data", (chunk: Buffer) => {
      chunks.push(chunk)
      length += chunk.length
      if (length <= maxBytes) return
      outcome = Effect.fail(fail(new TooLarge({ maxBytes })))
      stream.destroy()
    })
    stream.on("end", () => {
      if (length === 0) return
      const bytes = new Uint8Array(length)
      let offset = 0
      for (const chunk of chunks) {
        bytes.set(chunk, offset)
        offset += chunk.length
      }
      outcome = Effect.succeed(Redacted.make(bytes, { label: `fd ${fd}` }))
      stream.destroy()
    })
    stream.on("error", (cause) => {
      outcome = Effect.fail(notReadable(cause))
    })
    stream.on("close", () => {
      wipe()
      resume(outcome)
    })
    return Effect.callback<void>((closed) => {
      if (stream.closed) return closed(Effect.void)
      stream.once("close", () => closed(Effect.void))
      stream.destroy()
    })
  })
  return yield* Effect.timeoutOrElse(read, {
    duration: timeout,
    orElse: () => Effect.fail(fail(new TimedOut({ timeoutMillis: Duration.toMillis(timeout) })))
  })
})

/** Opens a stream, or returns why that was refused: the system's error for a descriptor that is not open is thrown. */
const open = (fd: number): Readable | Error => {
  try {
    return openStream(fd)
  } catch (cause) {
    return cause instanceof Error ? cause : new Error(String(cause))
  }
}
