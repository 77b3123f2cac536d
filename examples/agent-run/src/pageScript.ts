/**
 * Holds the page's script, which a browser runs unchanged.
 *
 * It keeps no state beside what it shows. The server keeps the run: a loaded page asks for it by its thread, and an
 * `EventSource` that has lost its connection asks for the events after the last one that it saw.
 */
export const script = `
const threadId = "release-notes"
const $ = (id) => document.getElementById(id)
let source
let run

const say = (text) => { $("connection").textContent = text }

const call = async (path, options) => {
  const response = await fetch(path, options)
  if (response.status === 204) return undefined
  const body = await response.json().catch(() => undefined)
  if (response.ok) return body
  if (response.status === 401) signedOut()
  throw Object.assign(new Error(body?.message ?? "The server answered " + response.status + "."), { code: body?.code })
}

const post = (path, body, headers) =>
  call(path, { method: "POST", headers: { "content-type": "application/json", ...headers }, body: JSON.stringify(body) })

const signedOut = () => {
  source?.close()
  $("agent").hidden = true
  $("pair").hidden = false
  $("status").textContent = "This browser is not paired."
}

const show = (event) => {
  const item = document.createElement("li")
  item.dataset.seq = event.lastEventId
  const data = JSON.parse(event.data)
  switch (data._tag) {
    case "Text": item.textContent = data.text; break
    case "Finding":
      item.textContent = data.change + " of " + data.of + ": " + data.summary
      item.className = data.reused ? "reused" : ""
      break
  }
  if (data.question !== undefined) {
    item.textContent = $("question").firstElementChild.textContent = data.question.ask.text
    $("question").hidden = false
  }
  if (data.answer !== undefined) {
    item.textContent = data.answer.value === true ? "Yes." : "No."
    $("question").hidden = true
  }
  $("log").append(item)
}

const showEnd = (end) => {
  source.close()
  $("question").hidden = true
  $("stop").hidden = true
  $("start").hidden = false
  document.body.dataset.end = (document.body.dataset.end ?? "") + (end.reason ?? end.status) + " "
  // A run that ended with its server can be continued.
  $("continue").hidden = end.status !== "failed"
  run = { ...run, endReason: end.reason }
  say(end.status === "succeeded" ? "Done." : end.error?.message ?? "The run was stopped.")
}

const follow = (next) => {
  source?.close()
  run = next
  $("log").replaceChildren()
  delete document.body.dataset.end
  $("start").hidden = $("continue").hidden = $("question").hidden = true
  $("stop").hidden = false
  source = new EventSource("api/runs/" + run.runId + "/events")
  source.addEventListener("open", () => say("Following the run."))
  source.addEventListener("data", show)
  source.addEventListener("end", (event) => showEnd(JSON.parse(event.data)))
  source.addEventListener("failure", (event) => {
    const { message, retryable } = JSON.parse(event.data)
    if (!retryable) source.close()
    say(message)
  })
  source.addEventListener("error", () => {
    say("Connection lost; trying again…")
    // An EventSource gives up if the answer is an error.
    if (source.readyState === EventSource.CLOSED) setTimeout(open, 500)
  })
}

// The key identifies the intent: the same click starts one run, however often it is sent.
const start = async (key, continuation) => {
  try {
    follow((await post("api/runs", { threadId, input: { release: "1.0" }, continuation }, { "idempotency-key": key })).run)
  } catch (error) {
    // Another page has started one.
    if (error.code === "thread_busy") return join()
    if (!(error instanceof TypeError) && error.code !== "unavailable") return say(error.message)
    say("The server cannot be reached; trying again…")
    setTimeout(() => start(key, continuation), 500)
  }
}

const join = async () => {
  const active = await call("api/threads/" + threadId + "/active-run")
  if (active.run !== null) follow(active.run)
}

const open = async () => {
  try {
    const state = await call("api/auth/session")
    if (!state.authenticated) return signedOut()
    $("status").textContent = "Signed in as " + state.session.subject + "."
    $("agent").hidden = false
    await join()
  } catch {
    setTimeout(open, 500)
  }
}

$("start").addEventListener("click", () => {
  $("start").hidden = true
  start(crypto.randomUUID())
})

// A run is continued once, however many pages do so: they use the same key.
$("continue").addEventListener("click", () => {
  $("continue").hidden = true
  start("continue " + run.runId, {
    attemptedRunIds: [...(run.continuation?.attemptedRunIds ?? []), run.runId],
    reason: run.endReason ?? "unknown"
  })
})

const attempt = (promise) => promise.catch((error) => say(error.message))
const decide = (approved) => attempt(post("api/runs/" + run.runId + "/answers", { name: "publish", value: approved }))
$("yes").addEventListener("click", () => decide(true))
$("no").addEventListener("click", () => decide(false))
$("stop").addEventListener("click", () => attempt(post("api/runs/" + run.runId + "/abort")))

await open()
`
