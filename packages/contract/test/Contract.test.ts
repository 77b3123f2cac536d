import { assert, describe, it } from "@effect/vitest"
import { Label } from "@sallyport/contract/AccessSchemas"
import { Authentication, describeSecurity, RequiredScopes, requires } from "@sallyport/contract/Authentication"
import { CredentialApi } from "@sallyport/contract/CredentialGroup"
import { SallyportApi } from "@sallyport/contract/SallyportApi"
import * as WireError from "@sallyport/contract/WireError"
import * as Context from "effect/Context"
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as OpenApi from "effect/http-api/OpenApi"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Fs from "node:fs"
import { builtinModules } from "node:module"
import * as Path from "node:path"

const endpoints = () => {
  const found: Array<{
    readonly name: string
    readonly guarded: boolean
    readonly scopes: Option.Option<ReadonlyArray<string>>
    readonly statuses: ReadonlySet<number>
  }> = []
  HttpApi.reflect(SallyportApi, {
    onGroup: () => undefined,
    onEndpoint: ({ endpoint, errors, group }) => {
      found.push({
        name: `${group.identifier}.${endpoint.identifier}`,
        guarded: Array.from(endpoint.middlewares).some((middleware) => middleware.key === Authentication.key),
        scopes: Context.getOption(endpoint.annotations, RequiredScopes),
        statuses: new Set(errors.keys())
      })
    }
  })
  return found
}

describe("the contract", () => {
  it("AUTH-02: states the scopes of every endpoint but those with which one signs in", () => {
    const scopes = Object.fromEntries(endpoints().map(({ name, scopes }) => [name, Option.getOrNull(scopes)]))
    assert.deepStrictEqual(scopes, {
      "session.state": null,
      "session.bootstrap": null,
      "session.preview": null,
      "session.token": null,
      "session.deviceAuthorization": null,
      "session.ticket": [],
      "session.logout": [],
      "session.list": ["access:read"],
      "session.rename": ["access:write"],
      "session.requestScopes": [],
      "session.answerScopes": ["access:write"],
      "session.revoke": ["access:write"],
      "session.revokeOthers": ["access:write"],
      "session.revokeIssuedBefore": ["access:manage"],
      "pairing.issue": ["access:write"],
      "pairing.list": ["access:read"],
      "pairing.revoke": ["access:write"],
      "access.follow": ["access:read"],
      "access.history": ["access:read"],
      "connect.securityMode": ["connect:manage"],
      "connect.setSecurityMode": ["connect:manage"],
      "connect.clients": ["connect:manage"],
      "connect.find": ["connect:manage"],
      "connect.approve": ["connect:manage"],
      "connect.reject": ["connect:manage"],
      "connect.revoke": ["connect:manage"],
      "connect.block": ["connect:manage"],
      "health.live": null,
      "health.ready": null,
      "runs.list": ["runs:read"],
      "runs.start": ["runs:operate"],
      "runs.follow": ["runs:read"],
      "runs.followThread": ["runs:read"],
      "runs.get": ["runs:read"],
      "runs.events": ["runs:read"],
      "runs.active": ["runs:read"],
      "runs.answer": ["runs:operate"],
      "runs.abort": ["runs:operate"],
      "runs.abortThread": ["runs:operate"]
    })
    for (const { guarded, name, scopes } of endpoints()) assert.strictEqual(guarded, Option.isSome(scopes), name)
  })

  it("lists with every endpoint the answers that any request of its kind can get", () => {
    for (const { guarded, name, statuses } of endpoints()) {
      for (const status of guarded ? [400, 401, 403, 413, 415, 503] : [400, 413, 503]) {
        if (name === "session.token" && status === 415) continue
        // It asks nothing that could be unavailable.
        if (name === "health.live" && status === 503) continue
        assert.isTrue(statuses.has(status), `${name} lacks ${status}`)
      }
    }
  })

  it("gives each error the status of design section 5", () => {
    const statuses = Object.entries(WireError).map(([name, error]) => [
      name,
      error.ast.annotations?.httpApiStatus
    ])
    assert.deepStrictEqual(Object.fromEntries(statuses), {
      InvalidRequest: 400,
      Unauthorized: 401,
      Forbidden: 403,
      NotFound: 404,
      Conflict: 409,
      Gone: 410,
      TooLarge: 413,
      UnsupportedMediaType: 415,
      IdempotencyConflict: 422,
      TooManyRequests: 429,
      Unavailable: 503,
      InternalError: 500,
      OAuthError: 400,
      OAuthInvalidClient: 401,
      OAuthTooManyRequests: 429,
      OAuthUnavailable: 503,
      OAuthInternalError: 500
    })
  })

  it("bounds names as people type them", () => {
    const isLabel = Schema.decodeUnknownOption(Label)
    for (const label of ["Ada’s phone", " trimmed ", "📱", "x".repeat(128), "📱".repeat(128)]) {
      assert.isTrue(Option.isSome(isLabel(label)), label)
    }
    for (const label of ["", "  ", "x".repeat(129), "a\u0000", "a\u007f", "a\tb", "\ud83d", 1, null]) {
      assert.isTrue(Option.isNone(isLabel(label)), JSON.stringify(label))
    }
  })
})

describe("requires", () => {
  const endpoint = HttpApiEndpoint.get("read", "/notes", { success: Schema.String })
  const scopesOf = (self: { readonly annotations: Context.Context<never> }) =>
    Option.getOrNull(Context.getOption(self.annotations, RequiredScopes))

  it("AUTH-02: adds up: a later demand takes no earlier one back", () => {
    assert.isNull(scopesOf(endpoint))
    assert.deepStrictEqual(scopesOf(endpoint.pipe(requires(null))), [])
    assert.deepStrictEqual(scopesOf(endpoint.pipe(requires("runs:read"), requires(null))), ["runs:read"])
    assert.deepStrictEqual(scopesOf(endpoint.pipe(requires("runs:read"), requires("runs:operate"))), [
      "runs:read",
      "runs:operate"
    ])
  })

  it("keeps what a host says of its endpoint in OpenAPI, and names the ways to prove a session", () => {
    class Api extends HttpApi.make("host").add(
      HttpApiGroup.make("notes").add(
        endpoint.annotate(OpenApi.Override, { deprecated: true }).pipe(requires("runs:read"))
      )
    ).annotate(OpenApi.Transform, describeSecurity) {}
    const document = OpenApi.fromApi(Api)
    assert.deepInclude(document.paths["/notes"]?.get, {
      deprecated: true,
      security: [{ bearer: [] }, { dpop: [] }, { cookie: [] }]
    })
    assert.deepStrictEqual(Object.keys(document.components.securitySchemes), ["bearer", "dpop", "cookie"])
  })
})

describe("the package", () => {
  it("has the version that the descriptions of its APIs name", () => {
    const manifest: { readonly version: string } = JSON.parse(
      Fs.readFileSync(Path.resolve(import.meta.dirname, "../package.json"), "utf8")
    )
    for (const { info } of [OpenApi.fromApi(SallyportApi), OpenApi.fromApi(CredentialApi)]) {
      assert.strictEqual(info.version, manifest.version)
    }
  })

  it("is safe for browsers: nothing that it reaches is of Node", () => {
    const root = Path.resolve(import.meta.dirname, "../../..")
    const resolve = (from: string, specifier: string): string | undefined => {
      if (specifier.startsWith(".")) return Path.resolve(Path.dirname(from), specifier)
      const own = /^@sallyport\/([\w-]+)\/([\w/]+)$/.exec(specifier)
      if (own !== null) return Path.join(root, "packages", own[1] ?? "", "src", `${own[2]}.ts`)
      const effect = /^effect\/(.+)$/.exec(specifier)
      return effect === null ? undefined : [
        Path.join(root, "node_modules/effect/dist", `${effect[1]}.js`),
        Path.join(root, "node_modules/effect/dist", effect[1] ?? "", "index.js")
      ].find((path) => Fs.existsSync(path))
    }
    const seen = new Set<string>()
    const outside = new Set<string>()
    const visit = (file: string) => {
      if (seen.has(file)) return
      seen.add(file)
      const source = Fs.readFileSync(file, "utf8").replace(/\/\*[\s\S]*?\*\//g, "")
      const imports = source.matchAll(/^\s*(?:import|export)\s(?!type\s)(?:[^"';]*?\sfrom\s)?["']([^"']+)["']/gm)
      const dynamic = source.matchAll(/\b(?:import|require)\(\s*["']([^"']+)["']/g)
      for (const [, specifier = ""] of [...imports, ...dynamic]) {
        const target = resolve(file, specifier)
        if (target === undefined) outside.add(specifier)
        else visit(target)
      }
    }
    visit(Path.join(root, "packages/contract/src/index.ts"))
    assert.isTrue(Array.from(seen).some((file) => file.endsWith("packages/core/src/runs/Run.ts")))
    assert.isAbove(seen.size, 50)
    const ofNode = Array.from(outside).filter((specifier) =>
      specifier.startsWith("node:") || builtinModules.includes(specifier) || specifier.includes("platform-node")
    )
    assert.deepStrictEqual(ofNode, [])
    assert.deepStrictEqual(Array.from(outside).filter((specifier) => specifier.startsWith("@sallyport/")), [])
  })
})
