/**
 * What a person reads and decides at the authorization endpoint.
 */
import type { Session } from "@sallyport/core/access/Session"
import { isLoopbackRedirect } from "@sallyport/core/access/OAuthClient"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as HtmlDocument from "../HtmlDocument.ts"
import type { AuthorizationRequest } from "./authorizationRequest.ts"

const { escape } = HtmlDocument

const style = `
:root { color-scheme: light dark; --accent: light-dark(#2a4fb8, #9db8ff); --on-accent: light-dark(#fff, #0d1740);
  --ink: light-dark(#17181c, #f0f1f4); --quiet: light-dark(#555963, #a9adb8); --line: light-dark(#d9dbe1, #34363d);
  font: 16px/1.5 system-ui, sans-serif }
body { margin: 0; display: grid; place-items: start center; padding: clamp(1rem, 8vh, 6rem) 1rem; color: var(--ink);
  background: light-dark(#f4f5f7, #0e0f13) }
main { box-sizing: border-box; max-width: 36rem; width: 100%; padding: clamp(1.25rem, 5vw, 2.25rem); border-radius: 1rem;
  border: 1px solid var(--line); background: light-dark(#fff, #191a1e) }
h1 { margin: 0 0 1rem; font-size: 1.5rem; line-height: 1.25; overflow-wrap: anywhere }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .5rem 1rem; margin: 1rem 0; padding: 1rem 0;
  border: solid var(--line); border-width: 1px 0 }
dt { color: var(--quiet) } dd { margin: 0; overflow-wrap: anywhere }
fieldset { border: 0; margin: 1rem 0; padding: 0 } legend { padding: 0; font-weight: 600 }
fieldset label { display: block; padding: .5rem 0 } code { color: var(--quiet) } input { accent-color: var(--accent) }
.note { border-left: .25rem solid light-dark(#a35c00, #f0b429); padding-left: .75rem }
input[type=text] { font: inherit; color: inherit; width: 100%; box-sizing: border-box; padding: .625rem; border-radius: .5rem;
  border: 1px solid var(--quiet); background: transparent }
.acts { display: flex; flex-wrap: wrap; gap: .75rem }
button { font: inherit; font-weight: 600; flex: 1 1 10rem; min-height: 3rem; border-radius: .625rem; cursor: pointer;
  border: 1px solid var(--quiet); background: transparent; color: inherit }
button.first { border-color: var(--accent); background: var(--accent); color: var(--on-accent) }
a { color: var(--accent); overflow-wrap: anywhere }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px }
`

/** Returns the source of a content security policy that an address belongs to. */
const sourceOf = (uri: string): string => {
  const url = new URL(uri)
  // A policy cannot name an IPv6 address.
  return url.protocol === "https:" || (url.protocol === "http:" && !url.hostname.startsWith("["))
    ? url.origin
    : url.protocol
}

/** Returns the host of an address, or its scheme if it leads to a program. */
const hostOf = (uri: string): string => {
  const url = new URL(uri)
  return url.host === "" ? url.protocol : url.host
}

const whoAsks = ({ client }: AuthorizationRequest): string =>
  /^https?:/.test(client.id) ? hostOf(client.id) : "registered by the operator of this server"

const facts = (entries: ReadonlyArray<readonly [string, string]>): string =>
  `<dl>${entries.map(([term, text]) => `<dt>${escape(term)}</dt><dd>${escape(text)}</dd>`).join("")}</dl>`

/** Answers a fault with a page that leads nowhere, or by a link `back` to the program. */
export const fault = (message: string, status: number, back?: string) =>
  Effect.map(
    HtmlDocument.make({
      title: "Sign-in failed",
      style,
      body: `<main><h1>This sign-in cannot go on</h1><p>${escape(message)}</p>` +
        `<p>Nothing was granted. Go back to the program, and start again there.</p>${
          back === undefined ? "" : `<p><a href="${escape(back)}">Go back to ${escape(hostOf(back))}</a></p>`
        }</main>`
    }),
    (response) => HttpServerResponse.setStatus(response, status)
  )

/** Asks for a pairing code, in a browser that is not signed in, or whose session may not consent. */
export const signIn = (request: AuthorizationRequest, problem: string | undefined) =>
  HtmlDocument.make({
    title: "Sign in",
    style,
    formAction: "'self'",
    body: `<main><h1>Sign in to let ${escape(request.client.name)} in</h1>
${facts([["Program", request.client.name], ["Known as", whoAsks(request)], ["For", request.target.name]])}
${problem === undefined ? "" : `<p class="note" role="alert">${escape(problem)}</p>`}
<form method="post">
<label for="code">A pairing code of this server</label>
<input type="text" id="code" name="code" autocomplete="one-time-code" autocapitalize="characters" spellcheck="false" required autofocus>
<p>This browser is then signed in. You are asked about the program next.</p>
<div class="acts"><button class="first" name="decision" value="sign-in">Sign in</button></div>
</form></main>`
  })

/** Asks whether a client may have what it asks for. */
export const consent = (request: AuthorizationRequest, options: {
  readonly session: Session
  readonly lifetime: Duration.Duration
  readonly seal: string
  /** What scopes allow, in words. */
  readonly titles: Readonly<Record<string, string>>
}) => {
  const { client, redirectUri, scopes, target } = request
  const { absoluteExpiresAt } = options.session
  const atYourEnd = absoluteExpiresAt === null
    ? ""
    : ` with your own session (${DateTime.formatIso(absoluteExpiresAt)}),`
  const held = scopes.filter((scope) => options.session.scopes.includes(scope))
  const lacking = scopes.filter((scope) => !held.includes(scope))
  return HtmlDocument.make({
    title: `Let ${escape(client.name)} in?`,
    style,
    formAction: `'self' ${sourceOf(redirectUri)}`,
    body: `<main><h1>Let ${escape(client.name)} in?</h1>
${
      facts([
        ["Program", client.name],
        ["Known as", whoAsks(request)],
        ["Answer goes to", hostOf(redirectUri)],
        ["For", target.name === target.uri ? target.uri : `${target.name} (${target.uri})`],
        ["On behalf of", options.session.subject],
        [
          "Ends",
          `after ${Duration.format(options.lifetime)} without use,${atYourEnd} or when you end it under Connections`
        ]
      ])
    }
${
      isLoopbackRedirect(redirectUri)
        ? `<p class="note">The answer goes to a program on the machine of this browser. Any program there can say that it is ` +
          `${escape(client.name)}. Go on only if you have just started this sign-in yourself.</p>`
        : ""
    }
<form method="post">
<fieldset><legend>It may then</legend>
${
      held.map((scope) =>
        `<label><input type="checkbox" name="scope" value="${escape(scope)}" checked> ${
          options.titles[scope] === undefined ? "" : `${escape(options.titles[scope])} `
        }<code>${escape(scope)}</code></label>`
      ).join("\n")
    }
</fieldset>
${
      lacking.length === 0
        ? ""
        : `<p>It also asks for ${
          lacking.map((scope) => {
            const title = options.titles[scope]
            return escape(title === undefined ? scope : `“${title}” (${scope})`)
          }).join(", ")
        }, which you do not hold and cannot hand on.</p>`
    }
<input type="hidden" name="seal" value="${escape(options.seal)}">
<div class="acts">${held.length === 0 ? "" : `<button class="first" name="decision" value="allow">Allow</button>`}
<button name="decision" value="deny">Deny</button></div>
</form></main>`
  })
}
