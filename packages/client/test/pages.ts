/**
 * Serves pages whose modules a browser loads directly from this workspace, without a bundler: TypeScript without its
 * types, and packages through an import map.
 */
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as NFS from "node:fs"
import { stripTypeScriptTypes } from "node:module"
import * as NPath from "node:path"
import { fileURLToPath } from "node:url"

const packages = fileURLToPath(new URL("../../", import.meta.url))
const effect = NPath.dirname(fileURLToPath(import.meta.resolve("effect")))

const importMap = JSON.stringify({
  imports: {
    "@sallyport/client": "/modules/client/src/index.ts",
    "@sallyport/client/": "/modules/client/src/",
    "@sallyport/contract/": "/modules/contract/src/",
    "@sallyport/core/": "/modules/core/src/",
    "effect": "/effect/index.js",
    "effect/": "/effect/",
    ...Object.fromEntries(
      NFS.globSync("*/index.js", { cwd: effect }).map((file) => [`effect/${NPath.dirname(file)}`, `/effect/${file}`])
    )
  }
})

/** Finds the file that the path of a module means. */
const fileOf = (path: string): string | undefined => {
  const [, root, ...rest] = path.split("/")
  if (root !== "modules" && root !== "effect") return undefined
  const file = NPath.join(root === "modules" ? packages : effect, ...rest)
  const extension = root === "modules" ? ".ts" : ".js"
  const found = file.endsWith(extension) ? file : `${file}${extension}`
  return NFS.existsSync(found) ? found : undefined
}

const script = (file: string | undefined) => {
  if (file === undefined) return HttpServerResponse.empty({ status: 404 })
  const text = NFS.readFileSync(file, "utf8")
  return HttpServerResponse.text(file.endsWith(".ts") ? stripTypeScriptTypes(text) : text, {
    contentType: "text/javascript"
  })
}

const answer = Effect.map(HttpServerRequest.HttpServerRequest, ({ url }) => script(fileOf(url)))

/** Serves a page at two paths that runs one module of this workspace, and the modules that it needs. */
const layerPage = (address: string): Layer.Layer<never, never, HttpRouter.HttpRouter> =>
  Layer.mergeAll(
    HttpRouter.add("GET", "/modules/*", answer),
    HttpRouter.add("GET", "/effect/*", answer),
    ...(["/", "/waiting"] as const).map((path) =>
      HttpRouter.add(
        "GET",
        path,
        HttpServerResponse.html(
          `<!doctype html><script type="importmap">${importMap}</script><script type="module" src="${address}"></script>`
        )
      )
    )
  )

/** Serves a page at `/` that runs one module of this directory. */
export const layer = (module: string): Layer.Layer<never, never, HttpRouter.HttpRouter> =>
  layerPage(`/modules/client/test/${module}`)

/** Serves a page at `/` that runs a file from anywhere, as it is when it is asked for. */
export const layerFile = (file: string): Layer.Layer<never, never, HttpRouter.HttpRouter> =>
  Layer.merge(layerPage("/program"), HttpRouter.add("GET", "/program", Effect.sync(() => script(file))))
