/**
 * Serves the pages that people see, built from the components of `@sallyport/react`. They speak to the API that the host
 * has mounted, on the cookie of the browser.
 *
 * They are served from memory. Their content security policy admits no script, style or frame from elsewhere, and nothing
 * inline.
 */
import * as WireError from "@sallyport/contract/WireError"
import * as WireFailure from "@sallyport/contract/WireFailure"
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import * as Hash from "effect/Hash"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { type Accent, styleSheet } from "./internal/accent.ts"

export { Accent } from "./internal/accent.ts"

/**
 * Lists the settings of {@link layer}.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** The path below which the pages are mounted. Default none. */
  readonly prefix?: `/${string}` | undefined
  /** The path below which `Sallyport.layer` is mounted: its `prefix`. Default the path of the pages. */
  readonly api?: `/${string}` | undefined
  /** Where a browser goes once it is paired: a path of this server. Default the start page, or `/`. */
  readonly continueTo?: `/${string}` | undefined
  /** Whether `GET /` shows the start page of the reference backend, which tries a run. Default `false`. */
  readonly start?: boolean | undefined
  /** What people call this server: the `name` of its policy. Default the name in its address. */
  readonly name?: string | undefined
  /**
   * The colour of buttons, links and focus: `Accent.make("#7a1f5c")`. It is made darker or lighter as far as text in it and
   * on it needs that to be readable, in both schemes. Default a blue.
   */
  readonly accent?: Accent | undefined
  /**
   * A style sheet that the pages load after their own: `:root { --accent: #7a1f5c }`. `docs/pages.md` lists the custom
   * properties.
   */
  readonly styleSheet?: string | undefined
}

/**
 * Reports that there are no built pages, while the layer is built.
 *
 * @category errors
 * @since 0.1.0
 */
export class PagesNotBuilt extends Schema.TaggedError<PagesNotBuilt>()("PagesNotBuilt", {
  cause: Schema.Defect()
}) {
  override get message() {
    return "The pages are not built: `npm run pages` builds them in a checkout, and the package brings them built"
  }
}

/** Loads the pages. They are a module, so that they are also there on a platform without files, and in a bundle. */
const built = Effect.tryPromise({
  try: () => import("#pages"),
  catch: (cause) => new PagesNotBuilt({ cause })
})

const escaped = (text: string) => text.replaceAll(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`)

/** Names the path below which the pages stand, relative to the address at which one of them was asked for. */
const rootFrom = (page: string, url: string): string => {
  const [address = ""] = url.split(/[?#]/)
  if (page !== "/") return address.endsWith("/") ? "../" : "./"
  return address.endsWith("/") ? "./" : `./${address.slice(address.lastIndexOf("/") + 1)}/`
}

const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
  "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

/** Tells whether a client takes what is compressed with gzip (RFC 9110 section 12.5.3). */
const takesGzip = (accepted: string): boolean => {
  const weights = new Map(
    accepted.toLowerCase().split(",").map((entry) => {
      const [coding = "", ...parameters] = entry.split(";").map((part) => part.trim())
      return [coding, Number(parameters.find((part) => part.startsWith("q="))?.slice(2) ?? 1)]
    })
  )
  return (weights.get("gzip") ?? weights.get("x-gzip") ?? weights.get("*") ?? 0) > 0
}

/**
 * Answers with a file whose name changes with its content, compressed if that is there and the client takes it, or with
 * 304 to a browser that has it.
 */
const asset = (name: string, content: Uint8Array, gzip: Option.Option<Uint8Array>) => {
  const contentType = `text/${name.endsWith(".css") ? "css" : "javascript"}; charset=utf-8`
  const form = (bytes: Uint8Array, etag: string, encoding: Readonly<Record<string, string>>) => {
    const headers = { etag, vary: "accept-encoding", "cache-control": "public, max-age=31536000, immutable" }
    return {
      etag,
      // The bytes of the whole are the same for each answer.
      whole: HttpServerResponse.uint8Array(bytes, { contentType, headers: { ...headers, ...encoding } }),
      unchanged: HttpServerResponse.empty({ status: 304, headers })
    }
  }
  const plain = form(content, `"${name}"`, {})
  const compressed = Option.map(gzip, (bytes) => form(bytes, `"${name}.gz"`, { "content-encoding": "gzip" }))
  return HttpServerRequest.HttpServerRequest.useSync(({ headers }) => {
    const { etag, unchanged, whole } = Option.getOrElse(
      Option.filter(compressed, () => takesGzip(headers["accept-encoding"] ?? "")),
      () => plain
    )
    const known = (headers["if-none-match"] ?? "").split(",").map((tag) => tag.trim().replace(/^W\//, ""))
    return known.includes(etag) || known.includes("*") ? unchanged : whole
  })
}

const encodeNotFound = Schema.encodeSync(WireError.NotFound)

/** Answers what is no file of the pages as the API answers what it has not. */
const nothing = WireFailure.make(WireError.NotFound, "page_not_found")({
  message: "The pages have no such file; load the page again, it names those that there are"
}).pipe(
  Effect.flip,
  Effect.map((error) =>
    HttpServerResponse.jsonUnsafe(encodeNotFound(error), { status: 404, headers: { "cache-control": "no-store" } })
  )
)

/**
 * Adds the pages to the router, and the files that they load, below `/sallyport/`: `GET /pair`, which a pairing address
 * opens, `GET /connections`, the owner's page, and `GET /device`, which lets a device in by the code that it shows.
 * `Sallyport.layer` has them; a host that mounts the groups one by one, or the pages under another path, adds this layer.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: Options = {}
): Layer.Layer<never, PagesNotBuilt, HttpRouter.HttpRouter> =>
  HttpRouter.use(Effect.fnUntraced(function*(whole) {
    const router = options.prefix === undefined ? whole : whole.prefixed(options.prefix)
    const { default: { begin, files } } = yield* built
    const accent = options.accent === undefined ? "" : styleSheet(options.accent)
    const theme = `${accent}${options.styleSheet ?? ""}`
    const themeFile = `sallyport/theme-${(Hash.string(theme) >>> 0).toString(36)}.css`
    const encoder = new TextEncoder()
    for (const [name, { content, gzip }] of Object.entries(files)) {
      const compressed = Result.getSuccess(Base64.decode(gzip))
      yield* router.add("GET", `/${name}`, asset(name, encoder.encode(content), compressed))
    }
    yield* router.add("GET", `/${themeFile}`, asset(themeFile, encoder.encode(theme), Option.none()))
    yield* router.add("GET", "/sallyport/*", nothing)

    const page = (path: `/${string}`, name: keyof typeof begin, title: string) => {
      const settings = {
        api: options.api ?? "",
        "continue-to": options.continueTo ?? "",
        name: options.name ?? "",
        start: options.start === true ? "./" : ""
      }
      /** Everything is named relative to the page, so that it also stands below a path that a proxy takes away. */
      const html = (root: string) =>
        `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1, viewport-fit=cover">
<meta name="referrer" content="no-referrer">
<meta name="color-scheme" content="light dark">
<title>${escaped(options.name === undefined ? title : `${title} · ${options.name}`)}</title>
<link rel="icon" href="data:,">
${[begin.pages, themeFile].map((name) => `<link rel="stylesheet" href="${root}${name}">`).join("\n")}
<script type="module" src="${root}${begin[name]}"></script>
</head>
<body>
<div id="root" data-root="${root}"${
          Object.entries(settings).map(([key, value]) => ` data-${key}="${escaped(value)}"`).join("")
        }></div>
<noscript>This page needs JavaScript.</noscript>
</body>
</html>
`
      return router.add(
        "GET",
        path,
        HttpServerRequest.HttpServerRequest.useSync(({ originalUrl }) =>
          HttpServerResponse.text(html(escaped(rootFrom(path, originalUrl))), {
            contentType: "text/html; charset=utf-8",
            headers: {
              "cache-control": "no-store",
              "content-security-policy": contentSecurityPolicy,
              "referrer-policy": "no-referrer",
              "cross-origin-opener-policy": "same-origin",
              "x-content-type-options": "nosniff"
            }
          })
        )
      )
    }
    yield* page("/pair", "pair", "Pair this browser")
    yield* page("/connections", "connections", "Connections")
    yield* page("/device", "device", "Let a device in")
    if (options.start === true) yield* page("/", "start", "Start")
  }))
