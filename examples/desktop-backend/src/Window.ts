/**
 * Shows a window on the backend. It signs itself in, and has no network unless this application's backend listens.
 */
import { Effect, Redacted, Schedule, Schema, Stream, SubscriptionRef } from "effect"
import type { Browser, BrowserContext, Page } from "playwright-core"
import type { Backend, State } from "./Supervisor.ts"

/** Reports what the window could not do, with the browser's reason. */
export class WindowError extends Schema.TaggedError<WindowError>()("WindowError", {
  step: Schema.String,
  problem: Schema.String
}) {
  override get message() {
    return `The window could not ${this.step}: ${this.problem}`
  }
}

/** Describes a window: its page, and the network session, with the cookies, that the page runs in. */
export interface Window {
  readonly context: BrowserContext
  readonly page: Page
}

const attempt = <A>(step: string, run: () => Promise<A>) =>
  Effect.tryPromise({
    try: run,
    // Only the first line: the rest is the browser's log, with headers.
    catch: (cause) => new WindowError({ step, problem: String(cause).split("\n", 1)[0] ?? "" })
  })

/** Opens an empty window. It closes with the scope. */
export const open = (browser: Browser) =>
  Effect.acquireRelease(
    attempt("open", async (): Promise<Window> => {
      const context = await browser.newContext()
      return { context, page: await context.newPage() }
    }),
    ({ context }) => Effect.ignore(attempt("close", () => context.close()))
  )

const SessionState = Schema.Struct({ authenticated: Schema.Boolean })

// #region sign-in
/**
 * Signs the window in, unless it is signed in already. The request is made here, in the main process, on the window's
 * network session: the cookie of the answer goes into the window's jar as the server has set it, and the credential is
 * in no URL, no history and no script of a page.
 */
const signIn = Effect.fnUntraced(function*({ context }: Window, { credential, url }: Backend) {
  const answer = yield* attempt(
    "ask who is signed in",
    async () => (await context.request.get(`${url}/api/auth/session`)).json()
  )
  const { authenticated } = yield* Effect.orDie(Schema.decodeUnknownEffect(SessionState)(answer))
  if (authenticated) return false
  const response = yield* attempt("sign in", () =>
    context.request.post(`${url}/api/auth/bootstrap`, {
      data: { credential: Redacted.value(credential), label: "Desktop" }
    }))
  if (!response.ok()) return yield* new WindowError({ step: "sign in", problem: `the answer is ${response.status()}` })
  return true
})
// #endregion sign-in

// #region show
/** Shows a backend. A page that is loaded and signed in stays as it is, and reconnects by itself. */
const show = Effect.fnUntraced(function*(window: Window, backend: Backend) {
  yield* attempt("go online", () => window.context.setOffline(false))
  const signedInNow = yield* signIn(window, backend)
  const isThere = window.page.url() === `${backend.url}/`
  if (signedInNow || !isThere) yield* attempt("load", () => window.page.goto(`${backend.url}/`))
})

/** Follows the state of the backend for as long as the window is open. */
export const follow = (window: Window, state: SubscriptionRef.SubscriptionRef<State>) =>
  SubscriptionRef.changes(state).pipe(
    // Work for an earlier state is interrupted.
    Stream.switchMap((state) =>
      Stream.fromEffectDrain(
        (state._tag === "Ready"
          ? Effect.retry(show(window, state.backend), { schedule: Schedule.exponential("200 millis"), times: 5 })
          // A process that takes the port meanwhile must not get the cookie.
          : attempt("go offline", () => window.context.setOffline(true))).pipe(
            Effect.catchTag("WindowError", (error) => Effect.logWarning(error.message))
          )
      )
    ),
    Stream.runDrain
  )
// #endregion show
