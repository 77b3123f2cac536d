import * as Mcp from "@modelcontextprotocol/client"
import { assert, describe, it } from "@effect/vitest"
import { ClientDocuments } from "@sallyport/core"
import { PublicHttp } from "@sallyport/node"
import { TestClient } from "@sallyport/testing/host"
import { Effect, Layer, Redacted } from "effect"
import * as Http from "node:http"
import type { Page } from "playwright-core"
import { commandLine } from "../../../packages/cli/test/commandLine.ts"
import { axe, text } from "../../../packages/react/test/support.ts"
import * as Browser from "../../../test-support/browser.ts"
import * as Scopes from "../src/Scopes.ts"
import * as Server from "../src/Server.ts"

const { step } = Browser

/** Serves the document of a client, the page that its answer goes to, and the pages of another site. */
const elsewhere = Effect.gen(function*() {
  const pages = new Map<string, string>()
  const server = Http.createServer((request, response) => {
    const path = (request.url ?? "").split("?")[0] ?? ""
    response.writeHead(200, { "content-type": path.endsWith(".json") ? "application/json" : "text/html" })
    response.end(pages.get(path) ?? "<!doctype html><title>Done</title>")
  })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
    () =>
      Effect.sync(() => {
        server.closeAllConnections()
        server.close()
      })
  )
  const address = server.address()
  const port = typeof address === "object" && address !== null ? address.port : 0
  const origin = `http://127.0.0.1:${port}`
  const clientId = `${origin}/client.json`
  pages.set(
    "/client.json",
    JSON.stringify({
      client_id: clientId,
      client_name: "Gardening assistant",
      redirect_uris: ["http://127.0.0.1/callback"],
      token_endpoint_auth_method: "none"
    })
  )
  return { clientId, origin, otherSite: `http://localhost:${port}`, pages, redirectUri: `${origin}/callback` }
})

const opened = Effect.gen(function*() {
  const documents = Layer.provide(
    ClientDocuments.layerWith({ loopback: true }),
    PublicHttp.layerWith({ loopback: true })
  )
  const context = yield* Layer.build(Layer.provide(Server.layer({ documents, port: 0 }), Scopes.layer))
  return yield* Effect.provide(Effect.all({ code: TestClient.issueCode(), url: TestClient.serverUrl }), context)
})

/** Keeps what the SDK asks an application to keep. */
const makeApplication = (clientId: string, redirectUri: string) => {
  let tokens: Parameters<Mcp.OAuthClientProvider["saveTokens"]>[0] | undefined
  let verifier = ""
  let opened: URL | undefined
  return {
    opened: () => opened?.href ?? "",
    provider: {
      redirectUrl: redirectUri,
      clientMetadata: { client_name: "Gardening assistant", redirect_uris: [redirectUri] },
      clientInformation: () => ({ client_id: clientId }),
      state: () => "st-1",
      tokens: () => tokens,
      saveTokens: (saved: typeof tokens) => void (tokens = saved),
      // What was granted is over; the next call asks a person again.
      invalidateCredentials: () => void (tokens = undefined),
      redirectToAuthorization: (url: URL) => void (opened = url),
      saveCodeVerifier: (text: string) => void (verifier = text),
      codeVerifier: () => verifier
    } satisfies Mcp.OAuthClientProvider
  }
}

/** Presses Tab until the control with these words has the focus, and then Enter. */
const choose = (page: Page, words: string) =>
  step(async () => {
    for (let presses = 0; presses < 20; presses++) {
      await page.keyboard.press("Tab")
      if (await page.evaluate((words) => document.activeElement?.textContent === words, words)) {
        return page.keyboard.press("Enter")
      }
    }
    throw new Error(`Tab does not reach “${words}”`)
  })

describe("an MCP server that programs sign in to", () => {
  it.live(
    "AGENT-04 AGENT-05 SESS-08: the MCP SDK signs in by discovery and a person's keyboard, calls the tools, and is out once revoked in the list",
    () =>
      Effect.gen(function*() {
        const { code, url } = yield* opened
        const { clientId, origin, otherSite, pages, redirectUri } = yield* elsewhere
        const chromium = yield* Browser.browser
        const page = yield* Effect.flatMap(Browser.profile(chromium), (context) => step(() => context.newPage()))
        const application = makeApplication(clientId, redirectUri)
        const address = new URL(`${url}/mcp`)
        const makeTransport = () =>
          new Mcp.StreamableHTTPClientTransport(address, { authProvider: application.provider })
        const makeClient = () => new Mcp.Client({ name: "gardening-assistant", version: "1" })

        const first = makeTransport()
        const refused = yield* step(() => makeClient().connect(first).then(() => "connected", (error) => error.name))
        assert.strictEqual(refused, "UnauthorizedError")

        // The browser is not paired: the page takes a code, and then asks.
        yield* step(() => page.goto(application.opened()))
        yield* step(() => page.getByRole("heading", { name: "Sign in to let Gardening assistant in" }).waitFor())
        yield* axe(page, "signing in")
        yield* step(() => page.getByLabel("A pairing code of this server").focus())
        yield* step(() => page.keyboard.type(Redacted.value(code).toLowerCase()))
        yield* step(() => page.keyboard.press("Enter"))
        const question = page.getByRole("heading", { name: "Let Gardening assistant in?" })
        yield* step(() => question.waitFor())
        yield* axe(page, "consent")
        const asked = yield* step(() => page.innerText("main"))
        for (const words of [origin.slice(7), "Greenhouse tools", "Water the greenhouse greenhouse:water"]) {
          assert.include(asked, words)
        }

        // No page elsewhere gets a yes: not one that frames the question, nor one that sends the form by itself, whether it is
        // of another site, or of the same one, whose requests carry the cookie.
        pages.set("/frame", `<!doctype html><iframe src="${application.opened().replaceAll("&", "&amp;")}"></iframe>`)
        pages.set(
          "/form",
          `<!doctype html><form method="post" action="${application.opened().replaceAll("&", "&amp;")}">` +
            `<input name="decision" value="allow"><input name="scope" value="greenhouse:read"><button>Go</button></form>`
        )
        for (const site of [otherSite, origin]) {
          yield* step(() => page.goto(`${site}/frame`))
          yield* step(async () => {
            const frame = await (await page.waitForSelector("iframe")).contentFrame()
            await frame?.waitForLoadState()
            assert.notInclude(await frame?.content(), "Gardening assistant")
          })
          yield* step(() => page.goto(`${site}/form`))
          yield* step(() => page.getByRole("button", { name: "Go" }).click())
          yield* step(() => page.getByRole("heading", { name: "This sign-in cannot go on" }).waitFor())
          assert.isTrue(page.url().startsWith(url))
        }
        yield* axe(page, "a fault")

        yield* step(() => page.goto(application.opened()))
        yield* step(() => question.waitFor())
        yield* choose(page, "Allow")
        yield* step(() => page.waitForURL(`${redirectUri}?*`))
        yield* step(() => first.finishAuth(new URL(page.url()).searchParams))

        const client = makeClient()
        yield* step(() => client.connect(makeTransport()))
        const beds = yield* step(() => client.callTool({ name: "beds", arguments: {} }))
        assert.deepStrictEqual(beds.structuredContent, { beds: { tomatoes: 40, basil: 55 } })
        const watered = yield* step(() => client.callTool({ name: "water", arguments: { bed: "basil" } }))
        assert.deepStrictEqual(watered.structuredContent, { moisture: 65, by: `owner through ${clientId}` })

        // Every page and the terminal call what it may do as the host does: in the list of connections, of who asks for more,
        // and of devices that ask.
        yield* step(() => page.goto(`${url}/connections`))
        yield* text(page, /May read the greenhouse’s sensors and water the greenhouse/)
        const post = (path: string, body: string, headers: Record<string, string>) =>
          Effect.promise(async () => {
            const answer = await fetch(`${url}${path}`, {
              method: "POST",
              body,
              headers: { connection: "close", ...headers }
            })
            const json: Readonly<Record<string, string>> = await answer.json()
            return json
          })
        const pairing = (scopes: ReadonlyArray<string>) =>
          Effect.gen(function*() {
            const code = yield* step(() =>
              page.evaluate(async (scopes) => {
                const answer = await fetch("/api/auth/pairing-links", {
                  method: "POST",
                  headers: { "content-type": "application/json" },
                  body: JSON.stringify({ scopes })
                })
                return String((await answer.json()).code)
              }, scopes)
            )
            const token = yield* post(
              "/oauth/token",
              new URLSearchParams({
                grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
                subject_token: code,
                subject_token_type: "urn:sallyport:token-type:bootstrap-credential"
              }).toString(),
              { "content-type": "application/x-www-form-urlencoded", origin: url }
            )
            return token.access_token ?? JSON.stringify(token)
          })
        const gardener = yield* pairing(["greenhouse:read"])
        yield* post("/api/auth/session/scopes", JSON.stringify({ scopes: ["greenhouse:water"] }), {
          "content-type": "application/json",
          authorization: `Bearer ${gardener}`
        })
        yield* text(page, /Asking for more[^]*It asks to do this as well\s+Water the greenhouse/)
        yield* text(page, /asks to do more: water the greenhouse\./)
        const owner = yield* pairing(["access:read"])
        const terminal = yield* commandLine(["sessions", "list", "--url", url], { env: { SALLYPORT_TOKEN: owner } })
        assert.include(terminal.stdout, "asks for greenhouse:water (Water the greenhouse): ", terminal.stderr)

        // The person ends it in the list of connections.
        const revoke = page.getByLabel("Revoke Gardening assistant", { exact: true })
        yield* step(() => revoke.click())
        yield* step(() => page.locator("dialog button", { hasText: "Revoke Gardening assistant" }).click())
        yield* step(() => revoke.waitFor({ state: "detached" }))
        const after = yield* step(() =>
          client.callTool({ name: "beds", arguments: {} }).then(() => "called", (error) => error.name)
        )
        assert.strictEqual(after, "UnauthorizedError")
        yield* step(() => client.close())
      })
  )
})
