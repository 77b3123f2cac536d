/** The markup, style and script of the pairing page. The script is what a browser runs as it stands. */

export const body = `<main>
  <h1>Pair this device</h1>
  <p id="status" role="status">Looking for a pairing code…</p>
  <section id="ask" tabindex="-1" aria-label="What pairing gives" hidden>
    <dl>
      <dt>Signs this browser in as</dt>
      <dd id="subject"></dd>
      <dt>Pairing link</dt>
      <dd id="label"></dd>
      <dt>May use</dt>
      <dd id="scopes"></dd>
      <dt>Stays signed in</dt>
      <dd id="lifetime"></dd>
    </dl>
    <p id="change"></p>
    <button id="confirm" type="button">Pair this browser</button>
    <button id="cancel" type="button" class="quiet">Not now</button>
  </section>
  <form id="form" hidden>
    <label for="code">Pairing code</label>
    <input id="code" name="code" autocomplete="one-time-code" autocapitalize="characters" spellcheck="false"
      placeholder="XXXX-XXXX-XXXX-XXXX" maxlength="64" required aria-describedby="status hint">
    <p id="hint">It is shown by the server at its start, or by a device that is already paired.</p>
    <button id="submit" type="submit">Pair</button>
  </form>
  <a id="continue" href="/" hidden>Continue</a>
</main>`

export const style = `
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif;
  --accent: #2457d6; --on-accent: #fff; --muted: #595959; --error: #b3261e }
@media (prefers-color-scheme: dark) {
  :root { --accent: #8ab0ff; --on-accent: #0b1a3d; --muted: #b3b3b3; --error: #ff9c94 }
}
body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: Canvas; color: CanvasText }
main { width: min(24rem, 100vw - 3rem); padding: 2rem 0 }
h1 { font-size: 1.5rem; margin: 0 0 .5rem }
form { display: grid; gap: .5rem; margin-top: 1.5rem }
[hidden] { display: none !important }
dl { margin: 1.5rem 0 0 }
dt { font-size: .875rem; color: var(--muted) }
dd { margin: 0 0 .75rem; font-weight: 600; overflow-wrap: anywhere; unicode-bidi: isolate }
#scopes { font: .9375rem/1.6 ui-monospace, monospace }
#change:empty { display: none }
#change { border-left: 3px solid var(--accent); padding-left: .75rem; overflow-wrap: anywhere }
#ask:focus { outline: none }
label { font-weight: 600 }
input { font: 1.25rem ui-monospace, monospace; padding: .5rem .75rem;
  border: 1px solid var(--muted); border-radius: .5rem; background: Canvas; color: CanvasText }
input[aria-invalid="true"] { border-color: var(--error) }
button, a { font: inherit; padding: .6rem 1rem; border: 0; border-radius: .5rem; background: var(--accent);
  color: var(--on-accent); text-decoration: none; justify-self: start; display: inline-block; margin-top: .5rem;
  cursor: pointer }
button.quiet { background: none; color: inherit; box-shadow: inset 0 0 0 1px var(--muted) }
button:disabled { opacity: .5; cursor: default }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px }
#hint { margin: 0; font-size: .875rem; color: var(--muted) }
#status[data-state="error"] { color: var(--error) }
`

export const script = `
const $ = (id) => document.getElementById(id)
const status = $("status")
const form = $("form")
const code = $("code")
const next = $("continue")
const buttons = [$("submit"), $("confirm"), $("cancel")]
// Beside this page, wherever the host has mounted it, and also if the address ends in a slash.
const endpoint = (path) => new URL("api/auth/" + path, location.origin + location.pathname.replace(/\\/+$/, ""))
next.href = continueTo

// The code leaves the address bar and the history before anything else happens.
const takeToken = () => {
  const token = new URLSearchParams(location.hash.slice(1)).get("token")
  if (location.hash !== "") history.replaceState(null, "", location.pathname)
  return token
}
const token = takeToken()

const show = (text, state) => {
  status.textContent = text
  status.dataset.state = state
  code.setAttribute("aria-invalid", String(state === "error"))
}

const enter = (text, state) => {
  show(text, state)
  $("ask").hidden = true
  form.hidden = false
  code.focus()
}

const call = async (path, body) => {
  const response = await fetch(endpoint(path), body === undefined ? {} : {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body)
  })
  const answer = await response.json().catch(() => undefined)
  if (response.ok && answer !== undefined) return answer
  throw new Error(
    typeof answer?.message === "string" ? answer.message : "The server could not pair this device; try again."
  )
}

// A click in state would come too late: whatever comes while one step is under way is refused here, at once.
let busy = false
const once = (step) => async (...args) => {
  if (busy) return
  busy = true
  for (const button of buttons) button.disabled = true
  try {
    await step(...args)
  } catch (error) {
    enter(
      error instanceof TypeError ? "The server cannot be reached; check that it is running, then try again." : error.message,
      "error"
    )
  } finally {
    busy = false
    for (const button of buttons) button.disabled = false
    if (!form.hidden) code.focus()
  }
}

// If the answer is lost, the next click asks for the same session. No page without TLS has crypto.randomUUID.
const attempts = new Map()
const attemptKey = (credential) => {
  const made = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("")
  if (!attempts.has(credential)) attempts.set(credential, made)
  return attempts.get(credential)
}

const redeem = async (credential) => {
  show("Pairing…", "busy")
  await call("bootstrap", {
    credential,
    attemptKey: attemptKey(credential),
    label: navigator.userAgentData?.platform || navigator.platform || "Browser"
  })
  form.hidden = true
  $("ask").hidden = true
  show("This device is paired.", "done")
  next.hidden = false
  location.replace(continueTo)
}

const words = (seconds) => {
  const [unit, length] = seconds >= 172800 ? ["days", 86400] : seconds >= 7200 ? ["hours", 3600] : ["minutes", 60]
  return Math.round(seconds / length) + " " + unit + " after its last use"
}

// What the code would give, and what that changes for this browser.
let asked
const ask = (credential, preview, state) => {
  asked = credential
  $("subject").textContent = preview.subject
  $("label").textContent = preview.label ?? "without a name"
  $("scopes").textContent = preview.scopes.join(", ") || "nothing but its own session"
  $("lifetime").textContent = words(preview.lifetimeSeconds)
  $("change").textContent = !state.authenticated
    ? ""
    : state.session.subject === preview.subject
    ? "This browser is signed in as " + preview.subject + " already. Pairing gives it a new session."
    : "This browser is signed in as " + state.session.subject + ". Pairing signs it in as " + preview.subject + " instead."
  form.hidden = true
  $("ask").hidden = false
  show("Pair this browser with the server at " + location.host + "?", "ready")
  $("ask").focus()
}

// A link can be opened by accident. A code that is typed is meant, and asks for no more if it replaces no session.
const begin = once(async (credential, typed) => {
  show("Looking at the pairing code…", "busy")
  const state = await call("session")
  if (state.policy.kind === "desktop-managed-local" || (typed && !state.authenticated)) return redeem(credential)
  ask(credential, await call("bootstrap/preview", { credential }), state)
})

form.addEventListener("submit", (event) => {
  event.preventDefault()
  if (code.value.trim() !== "") begin(code.value.trim(), true)
})
$("confirm").addEventListener("click", once(() => redeem(asked)))
$("cancel").addEventListener("click", () => {
  if (busy) return
  asked = undefined
  enter("Nothing was changed. The code can still be used until it expires.", "ready")
})

// A pairing address that is opened on this page changes the fragment only, and loads nothing.
addEventListener("hashchange", () => {
  const token = takeToken()
  if (token) begin(token, false)
})

if (token) begin(token, false)
else enter("Enter the code to let this device in.", "ready")
`
