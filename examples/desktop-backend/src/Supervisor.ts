/**
 * The application's side of the handover: starts the backend, hands it a new credential, waits until it is ready, and
 * starts it again when it ends.
 */
import { Clock, Deferred, Duration, Effect, Redacted, Schema, Stream, SubscriptionRef } from "effect"
import { SecureRandom } from "effect/crypto"
import { Base64Url } from "effect/encoding"
import { ChildProcess } from "effect/process"
import * as Handover from "./Handover.ts"

/** Describes a backend that accepts connections. */
export interface Backend {
  readonly pid: number
  readonly url: string
  /** Lets one window in, once, within its lifetime. Each start has its own credential. */
  readonly credential: Redacted.Redacted
}

/** Says how the backend is: starting, ready, or ended and about to be started again. */
export type State =
  | { readonly _tag: "Starting" }
  | { readonly _tag: "Ready"; readonly backend: Backend }
  | { readonly _tag: "Down"; readonly reason: string; readonly retryInMillis: number }

/** Lists the settings of a backend. */
export interface Options {
  /** The program, and what Node needs to run it. */
  readonly command: readonly [program: string, ...args: ReadonlyArray<string>]
  readonly stateDirectory: string
  /** The port of the first start; by default the system chooses one. Later starts keep the port while it is free. */
  readonly port?: number | undefined
  /** Further variables for the backend's environment. Put no secret there. */
  readonly env?: Record<string, string> | undefined
  /** How long a start may take. Default 1 minute. */
  readonly startTimeout?: Duration.Input | undefined
  /** The first delay before a restart, which doubles with each start that soon fails. Default 100 milliseconds. */
  readonly firstDelay?: Duration.Input | undefined
  /** The longest delay, and how long a backend has to be ready for the delays to start over. Default 10 seconds. */
  readonly maximumDelay?: Duration.Input | undefined
}

// 256 bits in base64url.
const newCredential = Effect.gen(function*() {
  const random = yield* SecureRandom.SecureRandom
  return Redacted.make(Base64Url.encode(yield* random.randomBytes(32)), { label: "seeded-credential" })
})

const decodeMessage = Schema.decodeUnknownOption(Handover.Message)

const lines = <E>(bytes: Stream.Stream<Uint8Array, E>) => Stream.splitLines(Stream.decodeText(bytes))

/**
 * Keeps a backend running until the scope closes, and returns its state, which callers can follow. There is one process
 * at a time: the next one starts after the system has reported the end of the last one.
 */
export const supervise = Effect.fn("Supervisor.supervise")(function*(options: Options) {
  const state = yield* SubscriptionRef.make<State>({ _tag: "Starting" })
  const [program, ...args] = options.command
  const firstDelayMillis = Duration.toMillis(options.firstDelay ?? "100 millis")
  const maximumDelayMillis = Duration.toMillis(options.maximumDelay ?? "10 seconds")
  const startTimeout = options.startTimeout ?? "1 minute"
  let port = options.port ?? 0

  // #region start
  /** Runs one backend to its end. Returns why it ended, and how long it was ready. */
  const runOnce = Effect.gen(function*() {
    yield* SubscriptionRef.set(state, { _tag: "Starting" })
    const credential = yield* newCredential
    const child = yield* ChildProcess.make(program, args, {
      env: { ...options.env, DESKTOP_STATE: options.stateDirectory, DESKTOP_PORT: String(port) },
      extendEnv: true,
      // Nothing is written to it, and the system closes it when this process ends.
      stdin: "pipe",
      additionalFds: {
        [`fd${Handover.credentialFd}`]: {
          type: "input",
          stream: Stream.succeed(new TextEncoder().encode(Redacted.value(credential)))
        }
      },
      forceKillAfter: "5 seconds"
    })

    const answer = yield* Deferred.make<typeof Handover.Message.Type>()
    const log = (line: string) => Effect.annotateLogs(Effect.logInfo(line), { backend: child.pid })
    // It is read to the end: a backend whose pipe is full blocks.
    yield* lines(child.stderr).pipe(Stream.runForEach(log), Effect.ignore, Effect.forkScoped)
    yield* lines(child.stdout).pipe(
      Stream.runForEach((line) => {
        const message = decodeMessage(line)
        return message._tag === "Some" ? Deferred.succeed(answer, message.value) : log(line)
      }),
      Effect.ignore,
      Effect.forkScoped
    )
    // A process that a signal has ended has no exit code; the cause says which signal.
    const ended = Effect.match(child.exitCode, {
      onFailure: ({ message, reason }) => reason.cause instanceof Error ? reason.cause.message : message,
      onSuccess: (code) => `it exited with ${code}`
    })

    const started = yield* Effect.raceFirst(Deferred.await(answer), ended).pipe(
      Effect.timeoutOrElse({
        duration: startTimeout,
        orElse: () =>
          Effect.succeed(`it was not ready within ${Duration.format(Duration.fromInputUnsafe(startTimeout))}`)
      })
    )
    if (typeof started === "string") return { reason: started, readyMillis: 0 }
    if (started._tag === "PortTaken") {
      port = 0
      return { reason: `port ${started.port} is taken`, readyMillis: 0 }
    }
    // The window's address, and with it its cookie, stays the same when the backend is started again.
    port = Number(new URL(started.url).port)
    yield* SubscriptionRef.set(state, {
      _tag: "Ready",
      backend: { pid: child.pid, url: started.url, credential }
    })
    const readyAt = yield* Clock.currentTimeMillis
    const reason = yield* ended
    return { reason, readyMillis: (yield* Clock.currentTimeMillis) - readyAt }
  }).pipe(
    Effect.scoped,
    Effect.catchTag("PlatformError", (error) => Effect.succeed({ reason: error.message, readyMillis: 0 }))
  )
  // #endregion start

  let delayMillis = firstDelayMillis
  yield* Effect.gen(function*() {
    const { readyMillis, reason } = yield* runOnce
    if (readyMillis >= maximumDelayMillis) delayMillis = firstDelayMillis
    const retryInMillis = delayMillis
    delayMillis = Math.min(delayMillis * 2, maximumDelayMillis)
    yield* Effect.logWarning("The backend has ended").pipe(Effect.annotateLogs({ reason, retryInMillis }))
    yield* SubscriptionRef.set(state, { _tag: "Down", reason, retryInMillis })
    yield* Effect.sleep(retryInMillis)
  }).pipe(Effect.forever, Effect.forkScoped)

  return state
})
