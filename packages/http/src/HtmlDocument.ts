/**
 * A page of the host's own as one self-contained document: no script, style or font from elsewhere, which its content
 * security policy states.
 */
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import * as HttpServerResponse from "effect/http/HttpServerResponse"

/**
 * Answers with a self-contained HTML document under a content security policy that admits its own script and style only,
 * in no frame, and kept out of caches.
 *
 * @category responses
 * @since 0.1.0
 */
export const make = (options: {
  readonly title: string
  readonly body: string
  readonly style: string
  /** None by default. */
  readonly script?: string | undefined
  /** Where its forms may be sent and redirected to, as sources of a content security policy. Nowhere by default. */
  readonly formAction?: string | undefined
}): Effect.Effect<HttpServerResponse.HttpServerResponse, never, SecureRandom.SecureRandom> =>
  Effect.gen(function*() {
    const random = yield* SecureRandom.SecureRandom
    const nonce = Base64Url.encode(yield* random.randomBytes(16))
    const html = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>${options.title}</title>
<link rel="icon" href="data:,">
<style nonce="${nonce}">${options.style}</style>
</head>
<body>
${options.body}
${options.script === undefined ? "" : `<script nonce="${nonce}" type="module">${options.script}</script>`}
</body>
</html>
`
    return HttpServerResponse.text(html, {
      contentType: "text/html; charset=utf-8",
      headers: {
        "cache-control": "no-store",
        "content-security-policy":
          `default-src 'none'; script-src 'nonce-${nonce}'; style-src 'nonce-${nonce}'; connect-src 'self'; ` +
          `img-src data:; base-uri 'none'; form-action ${options.formAction ?? "'none'"}; frame-ancestors 'none'`,
        "referrer-policy": "no-referrer",
        "x-frame-options": "DENY",
        "cross-origin-opener-policy": "same-origin",
        "x-content-type-options": "nosniff"
      }
    })
  })

const entities: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  "\"": "&quot;",
  "'": "&#39;"
}

/**
 * Writes text so that it is text in a document, in an attribute too.
 *
 * @category converting
 * @since 0.1.0
 */
export const escape = (text: string): string => text.replaceAll(/[&<>"']/g, (character) => entities[character] ?? "")
