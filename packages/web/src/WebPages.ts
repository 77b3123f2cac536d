/**
 * Serves the pages that people see, built from the components of `@sallyport/react`. They speak to the API that the host
 * has mounted, on the cookie of the browser.
 *
 * The files are read once, when the layer is built, and served from memory. Their content security policy admits no
 * script, style or frame from elsewhere, and nothing inline.
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Hash from "effect/Hash"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import type * as Layer from "effect/Layer"
import * as Path from "effect/Path"
import * as Schema from "effect/Schema"

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
  /** What people call this server. Default the name in its address. */
  readonly name?: string | undefined
  /**
   * A style sheet that the pages load after their own: `:root { --accent: #7a1f5c }`. `docs/pages.md` lists the custom
   * properties.
   */
  readonly styleSheet?: string | undefined
}

/**
 * Reports that the built pages are not there or cannot be read, while the layer is built.
 *
 * @category errors
 * @since 0.1.0
 */
export class PagesNotReadable extends Schema.TaggedError<PagesNotReadable>()("PagesNotReadable", {
  path: Schema.String,
  cause: Schema.Defect()
}) {
  override get message() {
    return `The pages cannot be read from ${this.path}; \`npm run pages\` builds them in a checkout, and the package ` +
      `brings them built`
  }
}

/** Lists for each source the file that was built from it. */
const Manifest = Schema.fromJsonString(Schema.Record(Schema.String, Schema.Struct({ file: Schema.String })))

const directory = new URL("../dist/pages/", import.meta.url)

const notReadable = (cause: unknown) => new PagesNotReadable({ path: directory.pathname, cause })

/** Reads what was built: each file by its path, and which one was built from a source. */
const built = Effect.gen(function*() {
  const fileSystem = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const root = yield* path.fromFileUrl(directory)
  const manifest = yield* Schema.decodeEffect(Manifest)(yield* fileSystem.readFileString(`${root}manifest.json`))
  const files = yield* Effect.forEach(
    Object.values(manifest),
    ({ file }) => Effect.map(fileSystem.readFile(`${root}${file}`), (content) => [file, content] as const)
  )
  const fileOf = (source: string) =>
    Effect.mapError(Effect.fromNullishOr(manifest[source]?.file), () => notReadable(`no ${source} was built`))
  return { files, fileOf }
}).pipe(Effect.mapError(notReadable))

const escaped = (text: string) => text.replaceAll(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`)

const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
  "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

const contentTypes: Readonly<Record<string, string>> = {
  css: "text/css; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  svg: "image/svg+xml"
}

/** Answers with a file whose name changes with its content, or with 304 to a browser that has it. */
const asset = (name: string, content: Uint8Array) => {
  const etag = `"${name}"`
  const headers = { etag, "cache-control": "public, max-age=31536000, immutable" }
  const contentType = contentTypes[name.replace(/^.*\./, "")] ?? "application/octet-stream"
  const whole = HttpServerResponse.uint8Array(content, { contentType, headers })
  const unchanged = HttpServerResponse.empty({ status: 304, headers })
  return HttpServerRequest.HttpServerRequest.useSync((request) => {
    const known = (request.headers["if-none-match"] ?? "").split(",").map((tag) => tag.trim().replace(/^W\//, ""))
    return known.includes(etag) || known.includes("*") ? unchanged : whole
  })
}

/**
 * Adds the pages to the router, and the files that they load: `GET /connections`, the owner's page.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: Options = {}
): Layer.Layer<never, PagesNotReadable, HttpRouter.HttpRouter | FileSystem.FileSystem | Path.Path> =>
  HttpRouter.use(Effect.fnUntraced(function*(whole) {
    const router = options.prefix === undefined ? whole : whole.prefixed(options.prefix)
    const { fileOf, files } = yield* built
    const theme = options.styleSheet ?? ""
    const themeFile = `assets/theme-${(Hash.string(theme) >>> 0).toString(36)}.css`
    for (const [name, content] of [...files, [themeFile, new TextEncoder().encode(theme)] as const]) {
      yield* router.add("GET", `/${name}`, asset(name, content))
    }

    const styles = [yield* fileOf("pages/pages.css"), themeFile]
    const page = Effect.fnUntraced(function*(path: `/${string}`, source: string, title: string) {
      const script = yield* fileOf(`pages/${source}.tsx`)
      const settings = { api: options.api ?? "", name: options.name ?? "" }
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
${styles.map((name) => `<link rel="stylesheet" href="${root}${name}">`).join("\n")}
<script type="module" src="${root}${script}"></script>
</head>
<body>
<div id="root" data-root="${root}"${
          Object.entries(settings).map(([key, value]) => ` data-${key}="${escaped(value)}"`).join("")
        }></div>
<noscript>This page needs JavaScript.</noscript>
</body>
</html>
`
      yield* router.add(
        "GET",
        path,
        HttpServerRequest.HttpServerRequest.useSync(({ originalUrl }) =>
          HttpServerResponse.text(html(/^[^?#]*[^/]\/+(?:[?#]|$)/.test(originalUrl) ? "../" : "./"), {
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
    })
    yield* page("/connections", "connections", "Connections")
  }))
