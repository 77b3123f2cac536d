/**
 * What a person reads and decides at the authorization endpoint.
 */
import type { Session } from "@sallyport/core/access/Session"
import { isLoopbackRedirect } from "@sallyport/core/access/OAuthClient"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as HtmlDocument from "../HtmlDocument.ts"
import type { AuthorizationRequest } from "./authorizationRequest.ts"

const { escape } = HtmlDocument

const style = `
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { margin: 0; display: grid; place-items: start center; padding: 2rem 1rem }
main { max-width: 34rem; width: 100% }
h1 { font-size: 1.5rem; line-height: 1.25 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem }
dt { opacity: .75 } dd { margin: 0; overflow-wrap: anywhere }
fieldset { border: 1px solid #8888; border-radius: .5rem; margin: 1rem 0; padding: .75rem 1rem }
label { display: block; padding: .25rem 0 }
.note { border-left: .25rem solid #c80; padding-left: .75rem }
input[type=text] { font: inherit; width: 100%; box-sizing: border-box; padding: .5rem }
button { font: inherit; padding: .5rem 1.25rem; margin: .5rem .5rem 0 0 }
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

/** Answers a fault with a page that leads nowhere. */
export const fault = (message: string, status: number) =>
  Effect.map(
    HtmlDocument.make({
      title: "Sign-in failed",
      style,
      body: `<main><h1>This sign-in cannot go on</h1><p>${escape(message)}</p>` +
        "<p>Nothing was granted. Go back to the program, and start again there.</p></main>"
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
<button name="decision" value="sign-in">Sign in</button>
</form></main>`
  })

/** Asks whether a client may have what it asks for. */
export const consent = (request: AuthorizationRequest, options: {
  readonly session: Session
  readonly lifetime: Duration.Duration
  readonly seal: string
}) => {
  const { client, redirectUri, scopes, target } = request
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
        ["Until", `it was not used for ${Duration.format(options.lifetime)}, or you end it in the list of connections`]
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
        `<label><input type="checkbox" name="scope" value="${escape(scope)}" checked> ${escape(scope)}</label>`
      ).join("\n")
    }
</fieldset>
${
      lacking.length === 0
        ? ""
        : `<p>It also asks for ${escape(lacking.join(", "))}, which you do not hold and cannot hand on.</p>`
    }
<input type="hidden" name="seal" value="${escape(options.seal)}">
${held.length === 0 ? "" : `<button name="decision" value="allow">Allow</button>`}
<button name="decision" value="deny">Deny</button>
</form></main>`
  })
}
