/** The application: it is the server, and opens windows that are signed in. */
import { BootstrapCredentialService, PairingUrl, type Session, SessionCredentialService } from "@sallyport/core"
import { Console, Context, Effect, FileSystem, Layer, Option, Redacted, Stream } from "effect"
import { HttpServer } from "effect/http"
import { Desktop } from "./Desktop.ts"
import * as Server from "./Server.ts"

/** Tells a session that a window has: only this program issues links as the operator, and only to its windows. */
const isOfWindow = ({ session }: { readonly session: Session.Session }) => session.letInBy.actor === "operator"

/** Ends the sessions of earlier starts. Their cookies were in memory, and went with the windows. */
const endEarlierSessions = Effect.gen(function*() {
  const sessions = yield* SessionCredentialService.SessionCredentialService
  const earlier = (yield* sessions.list()).filter(isOfWindow)
  yield* Effect.forEach(earlier, ({ session }) => sessions.revoke(session.id, "operator"), { discard: true })
})

/** Returns what a window opens: the page, or if no window is signed in, a link that signs it in, once and within a minute. */
const addressOfWindow = Effect.fnUntraced(function*(base: string) {
  const bootstrap = yield* BootstrapCredentialService.BootstrapCredentialService
  const sessions = yield* SessionCredentialService.SessionCredentialService
  if ((yield* sessions.list()).some(isOfWindow)) return Redacted.make(`${base}/`)
  const { code } = yield* bootstrap.issue({
    issuedBy: "operator",
    scopes: "all",
    kind: "machine",
    lifetime: "1 minute"
  })
  return yield* Effect.fromResult(PairingUrl.make(base, code))
})

/**
 * Runs the application until it is quit. What was begun last ends first: the windows, the server with its runs, the
 * database, and then this process is no longer the one instance.
 */
export const run = Effect.gen(function*() {
  const desktop = yield* Desktop
  const found = yield* desktop.ready
  if (Option.isNone(found)) return yield* Console.log("The application runs already, and opens a window")
  const { openWindow, quit, secondInstances } = found.value

  const fs = yield* FileSystem.FileSystem
  yield* fs.makeDirectory(desktop.stateDirectory, { recursive: true, mode: 0o700 })
  const server = yield* Layer.build(Server.layer(desktop.stateDirectory))
  const base = HttpServer.formatAddress(Context.get(server, HttpServer.HttpServer).address)
  yield* Effect.provideContext(endEarlierSessions, server)
  const open = Effect.flatMap(Effect.provideContext(addressOfWindow(base), server), openWindow)
  yield* open
  yield* Console.log(`The application has a window on ${base}`)

  const further = Stream.runForEach(
    secondInstances,
    () => open.pipe(Effect.catch((error) => Effect.logWarning(error.message)))
  )
  yield* Effect.raceFirst(quit, Effect.andThen(further, Effect.never))
}).pipe(Effect.scoped)
