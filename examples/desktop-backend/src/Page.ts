/**
 * Serves the page in the window. It shows who is signed in and whether the access feed is connected, and reconnects by
 * itself.
 */
import { HtmlDocument } from "@sallyport/http"
import { Effect } from "effect"
import { SecureRandom } from "effect/crypto"
import { HttpRouter } from "effect/http"

const body = `<main>
  <h1>Desktop</h1>
  <p id="status" role="status">…</p>
  <p id="connection">…</p>
</main>`

const style = `
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
main { max-width: 32rem; margin: 4rem auto; padding: 0 1rem }
`

const script = `
const status = document.getElementById("status")
const connection = document.getElementById("connection")

const response = await fetch("/api/auth/session")
const state = await response.json()
status.textContent = state.authenticated ? "Signed in as " + state.session.subject : "Not signed in"

// An EventSource reconnects by itself, and sends the id of the last event that it has seen.
let connections = 0
const feed = new EventSource("/api/auth/access")
feed.onopen = () => {
  connections++
  document.body.dataset.connections = String(connections)
  connection.textContent = "Connected"
}
feed.onerror = () => {
  connection.textContent = feed.readyState === EventSource.CLOSED ? "Disconnected" : "Reconnecting…"
}
`

/** Adds the page to the router, as `GET /`. */
export const layer = HttpRouter.use(Effect.fnUntraced(function*(router) {
  const random = yield* SecureRandom.SecureRandom
  const page = HtmlDocument.make({ title: "Desktop", body, style, script })
  yield* router.add("GET", "/", Effect.provideService(page, SecureRandom.SecureRandom, random))
}))
