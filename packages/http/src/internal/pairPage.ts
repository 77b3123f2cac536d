/** The markup, style and script of the pairing page. The script is what a browser runs as it stands. */

export const body = `<main>
  <h1>Pair this device</h1>
  <p id="status" role="status">Looking for a pairing code…</p>
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
form[hidden], a[hidden] { display: none }
label { font-weight: 600 }
input { font: 1.25rem ui-monospace, monospace; padding: .5rem .75rem;
  border: 1px solid var(--muted); border-radius: .5rem; background: Canvas; color: CanvasText }
input[aria-invalid="true"] { border-color: var(--error) }
button, a { font: inherit; padding: .6rem 1rem; border: 0; border-radius: .5rem; background: var(--accent);
  color: var(--on-accent); text-decoration: none; justify-self: start; display: inline-block; margin-top: .5rem;
  cursor: pointer }
button:disabled { opacity: .5; cursor: default }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px }
#hint { margin: 0; font-size: .875rem; color: var(--muted) }
#status[data-state="error"] { color: var(--error) }
`

export const script = `
const status = document.getElementById("status")
const form = document.getElementById("form")
const code = document.getElementById("code")
const submit = document.getElementById("submit")
const next = document.getElementById("continue")
// Beside this page, wherever the host has mounted it, and also if the address ends in a slash.
const endpoint = new URL("api/auth/bootstrap", location.origin + location.pathname.replace(/\\/+$/, ""))
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

const ask = (text, state) => {
  show(text, state)
  form.hidden = false
  submit.disabled = false
  code.focus()
}

// A click in state would come too late: a second submission is refused here, at once.
let busy = false
const pair = async (credential) => {
  if (busy) return
  busy = true
  submit.disabled = true
  show("Pairing…", "busy")
  try {
    const response = await fetch(endpoint, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ credential, label: navigator.userAgentData?.platform || navigator.platform || "Browser" })
    })
    if (response.ok) {
      form.hidden = true
      show("This device is paired.", "done")
      next.hidden = false
      location.replace(continueTo)
      return
    }
    const error = await response.json().catch(() => undefined)
    ask(typeof error?.message === "string" ? error.message : "The server could not pair this device; try again.", "error")
  } catch {
    ask("The server cannot be reached; check that it is running, then try again.", "error")
  } finally {
    busy = false
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault()
  if (code.value.trim() !== "") pair(code.value.trim())
})

// A pairing address that is opened on this page changes the fragment only, and loads nothing.
addEventListener("hashchange", () => {
  const token = takeToken()
  if (token) pair(token)
})

if (token) pair(token)
else ask("Enter the code to let this device in.", "ready")
`
