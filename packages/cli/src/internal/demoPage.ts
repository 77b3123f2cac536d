/** The markup, style and script of the demonstration page. The script is what a browser runs as it stands. */

export const body = `<main>
  <h1>Sallyport</h1>
  <p id="status" role="status">Looking at your session…</p>
  <section id="run" hidden>
    <p id="count" aria-live="polite">–</p>
    <progress id="progress" max="30" value="0"></progress>
    <p id="connection"></p>
    <button id="start">Count to 30</button>
    <button id="abort" class="quiet" hidden>Stop</button>
    <button id="logout" class="quiet">Log out</button>
  </section>
  <a id="pair" href="pair" hidden>Pair this browser</a>
</main>`

export const style = `
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: Canvas; color: CanvasText }
main { width: min(24rem, 100vw - 3rem); padding: 2rem 0 }
h1 { font-size: 1.5rem; margin: 0 0 .5rem }
[hidden] { display: none !important }
#count { font: 600 4rem/1 ui-monospace, monospace; margin: 1.5rem 0 1rem }
progress { width: 100%; accent-color: #2457d6 }
#connection { color: GrayText; min-height: 1.5em; margin: .5rem 0 1rem }
button, a { font: inherit; padding: .6rem 1rem; border: 0; border-radius: .5rem; background: #2457d6; color: #fff;
  text-decoration: none; display: inline-block; cursor: pointer }
button.quiet { background: none; color: inherit; box-shadow: inset 0 0 0 1px GrayText }
button:disabled { opacity: .5; cursor: default }
`

export const script = `
const threadId = "demonstration"
const $ = (id) => document.getElementById(id)
let source
let run

const say = (text) => { $("status").textContent = text }
const connection = (text) => { $("connection").textContent = text }

const call = async (path, options) => {
  const response = await fetch(path, options)
  if (response.status === 401) { signedOut(); throw new Error("signed out") }
  const body = response.status === 204 ? undefined : await response.json()
  if (!response.ok) throw new Error(body?.message ?? "The server answered " + response.status)
  return body
}

const signedOut = () => {
  source?.close()
  $("run").hidden = true
  $("pair").hidden = false
  say("This browser is not paired.")
}

const running = (yes) => {
  $("start").disabled = yes
  $("abort").hidden = !yes
}

// The browser's EventSource reconnects by itself, with the id of the last event that it saw.
const follow = (next, after) => {
  run = next
  running(true)
  source?.close()
  source = new EventSource("api/runs/" + run.runId + "/events?after=" + after)
  source.addEventListener("open", () => connection("Following the run."))
  source.addEventListener("data", (event) => {
    const { count } = JSON.parse(event.data)
    $("count").textContent = count
    $("progress").value = count
    document.body.dataset.events = (document.body.dataset.events ?? "") + event.lastEventId + ":" + count + " "
  })
  source.addEventListener("end", (event) => {
    source.close()
    running(false)
    const end = JSON.parse(event.data)
    document.body.dataset.end = end.status
    connection(end.status === "succeeded" ? "The run has ended." : "The run ended: " + (end.reason ?? end.status) + ".")
  })
  source.addEventListener("failure", (event) => {
    const failure = JSON.parse(event.data)
    if (failure.code === "session_ended") return signedOut()
    connection(failure.message)
    if (!failure.retryable) { source.close(); running(false) }
  })
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CONNECTING) connection("Connection lost; trying again…")
    else if (source.readyState === EventSource.CLOSED) signedOut()
  })
}

$("start").addEventListener("click", async () => {
  $("start").disabled = true
  delete document.body.dataset.events
  delete document.body.dataset.end
  try {
    const started = await call("api/runs", {
      method: "POST",
      headers: { "content-type": "application/json", "idempotency-key": crypto.randomUUID() },
      body: JSON.stringify({ threadId, input: {} })
    })
    follow(started.run, 0)
  } catch (error) {
    running(false)
    connection(error.message)
  }
})

$("abort").addEventListener("click", () => call("api/runs/" + run.runId + "/abort", { method: "POST" }).catch((error) => connection(error.message)))
$("logout").addEventListener("click", () => call("api/auth/logout", { method: "POST" }).then(signedOut, (error) => connection(error.message)))

const state = await call("api/auth/session").catch(() => undefined)
if (state?.authenticated) {
  say("Signed in as " + state.session.subject + ", on " + (state.session.device.label ?? "this browser") + ".")
  $("run").hidden = false
  const active = await call("api/threads/" + threadId + "/active-run")
  if (active.run?.status === "running") follow(active.run, 0)
} else if (state) {
  signedOut()
} else {
  say("The server cannot be reached.")
}
`
