/**
 * What the application needs of the desktop that it runs on. `ElectronDesktop.ts` implements it with Electron, and
 * `NodeDesktop.ts` with plain Node and a Chromium that has no display.
 */
import { Context, Effect, type Option, type Redacted, Schema, type Scope, type Stream } from "effect"

/** Reports what the desktop could not do. */
export class DesktopError extends Schema.TaggedError<DesktopError>()("DesktopError", {
  step: Schema.String,
  problem: Schema.String
}) {
  override get message() {
    return `The application could not ${this.step}: ${this.problem}`
  }
}

/** Describes the one instance of the application that runs. */
export interface Instance {
  /** Opens a window. It closes with the scope, if it was not closed before. All windows have one profile. */
  readonly openWindow: (url: Redacted.Redacted) => Effect.Effect<void, DesktopError, Scope.Scope>
  /** Emits each time that a further window is asked for: the application was started again. */
  readonly secondInstances: Stream.Stream<void>
  /** Completes when the application is to end: the person has quit, or closed the last window. */
  readonly quit: Effect.Effect<void>
}

/** Provides the desktop. */
export class Desktop extends Context.Service<Desktop, {
  /** The directory in which the application keeps what it needs at its next start. */
  readonly stateDirectory: string
  /**
   * Waits until windows can be opened, and is the one instance until the scope closes. None if another process is: that one
   * is told, and this one has nothing to do.
   */
  readonly ready: Effect.Effect<Option.Option<Instance>, DesktopError, Scope.Scope>
}>()("@sallyport-examples/electron/Desktop") {}

/** Runs a step of the desktop's. Its error says no fragment of an address: that is where the code of a link stands. */
export const attempt = <A>(step: string, run: () => Promise<A>): Effect.Effect<A, DesktopError> =>
  Effect.tryPromise({
    try: run,
    catch: (cause) =>
      new DesktopError({ step, problem: (String(cause).split("\n", 1)[0] ?? "").replaceAll(/#\S*/g, "") })
  })
