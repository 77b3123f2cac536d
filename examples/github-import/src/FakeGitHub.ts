/**
 * Serves on a loopback port the part of GitHub's REST API that this example uses, with one private repository.
 */
import { Context, Effect, Layer, Option } from "effect"
import { HttpRouter, HttpServer, HttpServerRequest, HttpServerResponse } from "effect/http"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { createServer } from "node:http"

/** The token that opens the repository. */
export const goodToken = "github_pat_example"

/** A token that GitHub knows, but without access to a private repository. */
export const strangersToken = "github_pat_stranger"

/** The files of `octo/private`. */
export const files: Readonly<Record<string, string>> = {
  "README.md": "# Private\n\nHello, “world”.\n",
  "src/main.ts": "export const answer = 42\n"
}

/** Tells the server how to answer. */
export class FakeGitHub extends Context.Service<FakeGitHub, {
  readonly url: string
  readonly state: { mode: "normal" | "rate-limited" | "down"; requests: number }
}>()("@sallyport-examples/github-import/FakeGitHub") {}

const shaOf = (path: string): string => Buffer.from(path).toString("hex").padEnd(40, "0").slice(0, 40)

const json = (body: unknown, status = 200, headers: Record<string, string> = {}) =>
  HttpServerResponse.jsonUnsafe(body, { status, headers })

const serve = (state: FakeGitHub["Service"]["state"]) => {
  const guarded = (answer: (request: HttpServerRequest.HttpServerRequest) => HttpServerResponse.HttpServerResponse) =>
    Effect.map(HttpServerRequest.HttpServerRequest, (request) => {
      state.requests++
      if (state.mode === "down") return json({ message: "Bad gateway" }, 502)
      if (state.mode === "rate-limited") {
        const headers = { "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1800000000" }
        return json({ message: "API rate limit exceeded" }, 403, headers)
      }
      const authorization = request.headers["authorization"]
      if (authorization === `Bearer ${goodToken}`) return answer(request)
      return authorization === undefined || authorization === `Bearer ${strangersToken}`
        ? json({ message: "Not Found" }, 404)
        : json({ message: "Bad credentials" }, 401)
    })
  return Layer.mergeAll(
    HttpRouter.add("GET", "/user", guarded(() => json({ login: "octo" }))),
    HttpRouter.add("GET", "/repos/octo/private", guarded(() => json({ full_name: "octo/private", private: true }))),
    HttpRouter.add(
      "GET",
      "/repos/octo/private/git/trees/HEAD",
      guarded(() =>
        json({
          tree: [
            { path: "src", type: "tree", sha: shaOf("src") },
            ...Object.keys(files).map((path) => ({ path, type: "blob", sha: shaOf(path) }))
          ]
        })
      )
    ),
    HttpRouter.add(
      "GET",
      "/repos/octo/private/git/blobs/:sha",
      guarded((request) => {
        const found = Option.fromUndefinedOr(
          Object.entries(files).find(([path]) => request.url.endsWith(`/${shaOf(path)}`))
        )
        return Option.match(found, {
          onNone: () => json({ message: "Not Found" }, 404),
          onSome: ([, text]) => json({ encoding: "base64", content: `${Buffer.from(text).toString("base64")}\n` })
        })
      })
    ),
    HttpRouter.add("GET", "/*", guarded(() => json({ message: "Not Found" }, 404)))
  )
}

/** Starts the server on a port that the system chooses. */
export const layer: Layer.Layer<FakeGitHub> = Layer.unwrap(Effect.sync(() => {
  const state: FakeGitHub["Service"]["state"] = { mode: "normal", requests: 0 }
  return Layer.effect(
    FakeGitHub,
    HttpServer.HttpServer.useSync(({ address }) =>
      FakeGitHub.of({ url: `http://127.0.0.1:${"port" in address ? address.port : 0}`, state })
    )
  ).pipe(
    Layer.provideMerge(HttpRouter.serve(serve(state), { disableListenLog: true, disableLogger: true })),
    Layer.provide(NodeHttpServer.layer(() => createServer(), { host: "127.0.0.1", port: 0 })),
    Layer.orDie
  )
}))
