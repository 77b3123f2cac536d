/** Holds the markup, style and script of the demonstration page. A browser runs the script unchanged. */

export const body = `<main>
  <h1>Sallyport</h1>
  <p id="status" role="status">Looking at your session…</p>
  <section id="run" hidden>
    <p id="count" aria-hidden="true">–</p>
    <progress id="progress" max="30" value="0" aria-label="How far the run has counted"></progress>
    <p id="connection" role="status"></p>
    <button id="start">Count to 30</button>
    <button id="abort" class="quiet" hidden>Stop</button>
    <button id="logout" class="quiet">Log out</button>
  </section>
  <a id="pair" href="pair" hidden>Pair this browser</a>
</main>`

export const style = `
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif;
  --accent: #2457d6; --on-accent: #fff; --muted: #595959 }
@media (prefers-color-scheme: dark) { :root { --accent: #8ab0ff; --on-accent: #0b1a3d; --muted: #b3b3b3 } }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: Canvas; color: CanvasText }
main { width: min(24rem, 100vw - 3rem); padding: 2rem 0 }
h1 { font-size: 1.5rem; margin: 0 0 .5rem }
[hidden] { display: none !important }
#count { font: 600 4rem/1 ui-monospace, monospace; font-variant-numeric: tabular-nums; margin: 1.5rem 0 1rem }
progress { width: 100%; accent-color: var(--accent) }
#connection { color: var(--muted); min-height: 1.5em; margin: .5rem 0 1rem }
button, a { font: inherit; padding: .6rem 1rem; border: 0; border-radius: .5rem; background: var(--accent);
  color: var(--on-accent); text-decoration: none; display: inline-block; cursor: pointer }
button.quiet { background: none; color: inherit; box-shadow: inset 0 0 0 1px var(--muted) }
button:disabled { opacity: .5; cursor: default }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px }
`

export const script = `
const threadId = "demonstration"
const $ = (id) => document.getElementById(id)
let source
let run
// The cursor: the id of the newest event on this page.
let seen = 0
// The key of a start without an answer. The next click repeats that start, so the work never runs twice.
let unanswered

const say = (text) => { $("status").textContent = text }
const connection = (text) => { $("connection").textContent = text }

const call = async (path, options) => {
  const response = await fetch(path, options)
  if (response.status === 401) { signedOut(); throw new Error("This browser is not paired.") }
  const body = response.status === 204 ? undefined : await response.json().catch(() => undefined)
  if (!response.ok) {
    const message = typeof body?.message === "string" ? body.message : "The server answered " + response.status + "."
    throw Object.assign(new Error(message), { answer: body ?? {} })
  }
  return body
}

/** Returns the sentence for a failed call: the server's own, or that the server cannot be reached. */
const sentence = (error) => error instanceof TypeError ? "The server cannot be reached; try again." : error.message

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

const clear = () => {
  seen = 0
  $("count").textContent = "–"
  $("progress").value = 0
  delete document.body.dataset.events
  delete document.body.dataset.end
}

const describeEnd = (end) => {
  if (end.status === "succeeded") return "The run has ended."
  if (end.status === "aborted") return "The run was stopped."
  return "The run failed: " + (end.error?.message ?? end.reason ?? "no reason was given") + "."
}

// The browser's EventSource reconnects by itself, with the id of the last event that it saw.
const follow = (next) => {
  if (run?.runId !== next.runId) clear()
  run = next
  running(run.status === "running")
  source?.close()
  source = new EventSource("api/runs/" + run.runId + "/events?after=" + seen)
  source.addEventListener("open", () => connection("Following the run."))
  source.addEventListener("data", (event) => {
    const { count } = JSON.parse(event.data)
    seen = event.lastEventId
    $("count").textContent = count
    $("progress").value = count
    document.body.dataset.events = (document.body.dataset.events ?? "") + event.lastEventId + ":" + count + " "
  })
  source.addEventListener("end", (event) => {
    source.close()
    running(false)
    const end = JSON.parse(event.data)
    document.body.dataset.end = (document.body.dataset.end ?? "") + (end.reason ?? end.status) + " "
    connection(describeEnd(end))
  })
  source.addEventListener("failure", (event) => {
    const failure = JSON.parse(event.data)
    if (failure.code === "session_ended") return signedOut()
    connection(failure.message)
    if (!failure.retryable) { source.close(); running(false) }
  })
  source.addEventListener("error", () => {
    connection("Connection lost; trying again…")
    // An EventSource stops after an answer that is an error, and does not say which; the session says whether to
    // continue.
    if (source.readyState === EventSource.CLOSED) setTimeout(open, 1000)
  })
}

/** Follows the thread's run, if one is running or ended recently. Returns whether there is one. */
const join = async () => {
  const active = await call("api/threads/" + threadId + "/active-run")
  if (active.run) follow(active.run)
  return active.run !== null
}

/** Shows the signed-in subject, and follows an existing run; tries again while the server cannot be reached. */
const open = async () => {
  try {
    const state = await call("api/auth/session")
    if (!state.authenticated) return signedOut()
    say("Signed in as " + state.session.subject + ", on " + (state.session.device.label ?? "this browser") + ".")
    $("run").hidden = false
    await join()
  } catch (error) {
    if ($("run").hidden) { if ($("pair").hidden) say("The server cannot be reached; trying again…") }
    else connection("Connection lost; trying again…")
    if ($("pair").hidden) setTimeout(open, 1000)
  }
}

$("start").addEventListener("click", async () => {
  $("start").disabled = true
  try {
    unanswered ??= crypto.randomUUID()
    const started = await call("api/runs", {
      method: "POST",
      headers: { "content-type": "application/json", "idempotency-key": unanswered },
      body: JSON.stringify({ threadId, input: {} })
    })
    unanswered = undefined
    follow(started.run)
  } catch (error) {
    running(false)
    connection(sentence(error))
    if (error.answer === undefined) return
    unanswered = undefined
    // Another page has started one.
    if (error.answer.code === "thread_busy") join().catch(() => {})
  }
})

$("abort").addEventListener("click", () =>
  call("api/runs/" + run.runId + "/abort", { method: "POST" }).catch((error) => connection(sentence(error))))
$("logout").addEventListener("click", () =>
  call("api/auth/logout", { method: "POST" }).then(signedOut, (error) => connection(sentence(error))))

await open()
`
