/**
 * The page that a pairing address opens. It takes the code from the fragment, says what the code gives and what that
 * changes, and signs the browser in when it is told to; then it goes on. Under `desktop-managed-local` it does not ask.
 *
 * It is one self-contained document: no script, style or font from elsewhere, which its content security policy states.
 */
import { path as pairPath } from "@sallyport/core/access/PairingUrl"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import type * as Layer from "effect/Layer"
import { body, script, style } from "./internal/pairPage.ts"

/**
 * Lists the settings of {@link layer}.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** Where the browser goes once it is signed in: a path of this server. Default `/`. */
  readonly continueTo?: `/${string}` | undefined
}

/**
 * Answers with a self-contained HTML document under a content security policy that admits its own script and style only,
 * in no frame, and kept out of caches.
 *
 * @category responses
 * @since 0.1.0
 */
export const document = (options: {
  readonly title: string
  readonly body: string
  readonly style: string
  readonly script: string
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
<script nonce="${nonce}" type="module">${options.script}</script>
</body>
</html>
`
    return HttpServerResponse.text(html, {
      contentType: "text/html; charset=utf-8",
      headers: {
        "cache-control": "no-store",
        "content-security-policy":
          `default-src 'none'; script-src 'nonce-${nonce}'; style-src 'nonce-${nonce}'; connect-src 'self'; ` +
          "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "x-content-type-options": "nosniff"
      }
    })
  })

/**
 * Adds the page to the router, as `GET /pair`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options?: Options
): Layer.Layer<never, never, HttpRouter.HttpRouter | SecureRandom.SecureRandom> =>
  HttpRouter.use(Effect.fnUntraced(function*(router) {
    const random = yield* SecureRandom.SecureRandom
    const page = document({
      title: "Pair this device",
      body,
      style,
      // A "<" would let the path end the script.
      script: `const continueTo = ${JSON.stringify(options?.continueTo ?? "/").replaceAll("<", "\\u003c")}\n${script}`
    }).pipe(Effect.provideService(SecureRandom.SecureRandom, random))
    yield* router.add("GET", pairPath, page)
  }))
