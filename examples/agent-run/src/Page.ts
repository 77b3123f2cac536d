/**
 * The page: it starts the agent, shows the events of its run, and joins that run again after a reload or a lost
 * connection.
 */
import { HtmlDocument } from "@sallyport/http"
import { Effect } from "effect"
import { SecureRandom } from "effect/crypto"
import { HttpRouter } from "effect/http"
import { script } from "./pageScript.ts"

const body = `<main>
  <h1>Release notes</h1>
  <p id="status" role="status">…</p>
  <section id="agent" hidden>
    <ol id="log"></ol>
    <p id="connection" role="status"></p>
    <p id="question" hidden><span></span> <button id="yes">Yes</button> <button id="no">No</button></p>
    <button id="start">Write release notes</button>
    <button id="continue" hidden>Continue</button>
    <button id="stop" hidden>Stop</button>
  </section>
  <a id="pair" href="pair" hidden>Pair this browser</a>
</main>`

const style = `
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
main { max-width: 36rem; margin: 3rem auto; padding: 0 1rem }
[hidden] { display: none !important }
ol { padding-left: 1.5rem }
li.reused { opacity: .6 }
#connection { min-height: 1.5em; opacity: .8 }
button { font: inherit; padding: .4rem .9rem }
`

/** Adds the page to the router, as `GET /`. */
export const layer = HttpRouter.use(Effect.fnUntraced(function*(router) {
  const random = yield* SecureRandom.SecureRandom
  const page = HtmlDocument.make({ title: "Release notes", body, style, script })
  yield* router.add("GET", "/", Effect.provideService(page, SecureRandom.SecureRandom, random))
}))
