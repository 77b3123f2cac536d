/**
 * Takes the pictures of `docs/pictures/` from a running backend: the pages, light and dark, on a desk and on a phone, and
 * the terminal beside them. The server stands behind a proxy, as one does that a phone can reach. `examples/react-host` is
 * built and started as its README says.
 */
import * as Effect from "effect/Effect"
import { mkdirSync } from "node:fs"
import { request } from "node:http"
import { createServer } from "node:https"
import { type AddressInfo, createServer as createProbe } from "node:net"
import { join } from "node:path"
import type { Browser as Chromium, BrowserContext, Page } from "playwright-core"
import { build } from "vite"
import { freshState, sallyport } from "../test-support/backend.ts"
import * as Browser from "../test-support/chromium.ts"
import { certificate } from "../test-support/certificates.ts"
import { program as run } from "../test-support/programs.ts"
import { onTerminal } from "../test-support/terminal.ts"
import { setup as pages } from "./pages.ts"

const { step } = Browser
const directory = join(import.meta.dirname, "../docs/pictures")
const host = "workbench.example"
const address = `https://${host}`

const desk = { width: 1120, height: 780 }
const phone = { width: 390, height: 780 }
const phoneAgent = "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Version/19.0 Mobile/15E148 Safari/604.1"

const portOf = (address: string | AddressInfo | null) =>
  typeof address === "object" && address !== null ? address.port : 0

/** Finds a port that is free: a server behind a proxy tells the address of the proxy alone. */
const freePort = Effect.callback<number>((resume) => {
  const probe = createProbe().listen(0, "127.0.0.1", () => {
    const port = portOf(probe.address())
    probe.close(() => resume(Effect.succeed(port)))
  })
})

/** Serves a server under its name, with TLS, and says which device of a network asks. */
const proxy = (server: number) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly port: number; readonly cut: (isCut: boolean) => void; readonly close: () => void }>(
      (resume) => {
        let refuses = false
        const tls = createServer(certificate(host), (incoming, outgoing) => {
          if (refuses) return void incoming.destroy()
          const isPhone = incoming.headers["user-agent"]?.includes("iPhone") ?? false
          const headers = {
            ...incoming.headers,
            "x-forwarded-for": isPhone ? "192.168.1.34" : "192.168.1.20",
            "x-forwarded-host": host,
            "x-forwarded-proto": "https"
          }
          const to = `http://127.0.0.1:${server}${incoming.url}`
          const forwarded = request(to, { method: incoming.method, headers }, (answer) => {
            outgoing.writeHead(answer.statusCode ?? 502, answer.headers)
            answer.on("error", () => outgoing.destroy()).pipe(outgoing)
          })
          forwarded.on("error", () => outgoing.destroy())
          outgoing.on("close", () => forwarded.destroy())
          incoming.pipe(forwarded)
        }).listen(0, "127.0.0.1", () => {
          resume(Effect.succeed({
            port: portOf(tls.address()),
            cut: (isCut) => {
              refuses = isCut
              if (isCut) tls.closeAllConnections()
            },
            close: () => {
              tls.closeAllConnections()
              tls.close()
            }
          }))
        })
      }
    ),
    ({ close }) => Effect.sync(close)
  )

const picture = (page: Page, name: string, colorScheme: "light" | "dark" = "light") =>
  step(async () => {
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" })
    await page.mouse.move(0, 0)
    await page.screenshot({ path: join(directory, `${name}.png`) })
  })

const open = Effect.fnUntraced(function*(context: BrowserContext, address: string) {
  const page = yield* step(() => context.newPage())
  yield* step(() => page.goto(address))
  return page
})

const colours: Readonly<Record<string, string>> = { 1: "strong", 31: "bad", 32: "good", 33: "doubtful" }

/** Draws what a terminal shows. */
const terminal = Effect.fnUntraced(function*(context: BrowserContext, screens: string) {
  const page = yield* open(context, "about:blank")
  const parts: Array<readonly [style: string, text: string]> = []
  const [before = "", ...coloured] = screens.trimEnd().replaceAll(/\r|\p{Cf}/gu, "").split("\u001B[")
  parts.push(["", before])
  for (const part of coloured) {
    const end = part.indexOf("m")
    parts.push([colours[part.slice(0, end)] ?? "", part.slice(end + 1)])
  }
  yield* step(() =>
    page.evaluate((parts) => {
      const sheet = document.head.appendChild(document.createElement("style"))
      sheet.textContent = "body { margin: 0 } " +
        "pre { margin: 0; padding: 24px; width: max-content; background: #18191d; color: #ecedef; font: 14px/22px monospace } " +
        ".prompt { color: #9ab8ff } .strong { font-weight: 700 } .good { color: #84dba6 } .bad { color: #ff9d94 } " +
        ".doubtful { color: #f3c774 }"
      const box = document.body.appendChild(document.createElement("pre"))
      for (const [style, text] of parts) {
        for (const line of text.split(/(?<=\n)/)) {
          const part = box.appendChild(document.createElement("span"))
          part.className = line.startsWith("$ ") ? "prompt" : style
          part.textContent = line
        }
      }
    }, parts)
  )
  yield* step(() => page.locator("pre").screenshot({ path: join(directory, "terminal.png") }))
})

const consent = "button[data-kind=primary][aria-disabled=false]"

/** Makes a link by the session of a page, and returns its code. */
const issue = (page: Page, options: object) =>
  step(() =>
    page.evaluate(async (options): Promise<string> => {
      const response = await fetch("/api/auth/pairing-links", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(options)
      })
      return (await response.json()).code
    }, options)
  )

/** Pairs a browser under a name, after its picture was taken, and waits for the page that it comes to. */
const pairAs = Effect.fnUntraced(function*(
  page: Page,
  name: string,
  { shown = Effect.void, next = ".sp-run" }: { readonly shown?: Effect.Effect<void>; readonly next?: string }
) {
  yield* step(() => page.locator(consent).waitFor())
  yield* step(() => page.getByLabel("Name of this device").fill(name))
  yield* step(() => page.evaluate(() => document.querySelector("input")?.blur()))
  yield* shown
  yield* step(() => page.locator(consent).click())
  yield* step(() => page.locator(next).first().waitFor())
})

const steps = (page: Page, state: "live" | "caught", count: number) =>
  step(() => page.locator(`.sp-steps i[data-state=${state}]`).nth(count - 1).waitFor())

/** Takes the pictures of the application that shows the components in its own colours. */
const greenhouse = Effect.fnUntraced(function*(chromium: Chromium) {
  const root = join(import.meta.dirname, "../examples/react-host")
  yield* Effect.promise(() => build({ root, configFile: join(root, "vite.config.ts") }))
  const server = yield* run(join(root, "src/main.ts"), [], { PORT: "0" })
  const pairingUrl = yield* Effect.orDie(server.printed(/http\S+(?= to pair)/))
  const { origin } = new URL(pairingUrl)
  const next = "#devices li"
  const page = yield* open(yield* Browser.profile(chromium, { viewport: desk }), pairingUrl)
  yield* pairAs(page, "Ada’s laptop", { next })
  const mobile = yield* Browser.profile(chromium, { viewport: phone, userAgent: phoneAgent })
  const code = yield* issue(page, { scopes: ["runs:read", "access:read", "access:write"] })
  const onPhone = yield* open(mobile, `${origin}/pair#token=${code}`)
  yield* pairAs(onPhone, "Ada’s phone", { next })
  yield* issue(page, { label: "The gardener’s tablet", scopes: ["runs:read"] })
  for (const each of [page, onPhone]) yield* step(() => each.locator("#links li").waitFor())
  yield* step(() => page.locator("#devices .sp-here").nth(1).waitFor())
  yield* picture(page, "host")
  yield* picture(onPhone, "phone-host", "dark")
})

const program = Effect.gen(function*() {
  yield* Effect.promise(pages)
  mkdirSync(directory, { recursive: true })
  const state = yield* freshState
  const here = ["--state-dir", state]
  const port = yield* freePort
  const behind = ["--public-url", address, "--trusted-proxy", "127.0.0.1"]
  const server = yield* sallyport([
    "serve",
    "--port",
    String(port),
    "--name",
    "workbench",
    "--json",
    ...behind,
    ...here
  ])
  const line = yield* Effect.orDie(server.printed(/^.*\n/))
  const { pairingUrl }: { readonly pairingUrl: string } = JSON.parse(line)
  const wire = yield* proxy(port)
  const command = Effect.fnUntraced(function*(...args: ReadonlyArray<string>) {
    const { screen } = yield* onTerminal([...args, ...here])
    return `$ sallyport ${args.join(" ")}\n\u001B[0m${screen}\n`
  })
  const issued = yield* sallyport(["sessions", "issue", "--label", "build-agent", "--scope", "runs:read", ...here])
  yield* issued.exit

  const chromium = yield* Browser.browserWith({
    args: [`--host-resolver-rules=MAP ${host}:443 127.0.0.1:${wire.port}`]
  })
  const context = yield* Browser.profile(chromium, { viewport: desk, ignoreHTTPSErrors: true })
  const page = yield* open(context, pairingUrl)
  yield* pairAs(page, "Ada’s laptop", { shown: picture(page, "pair") })
  yield* step(() => page.getByRole("button", { name: "Count to 30" }).click())
  yield* steps(page, "live", 5)
  // Away for a while: what was missed is caught up with.
  wire.cut(true)
  yield* Effect.sleep("4 seconds")
  wire.cut(false)
  yield* steps(page, "caught", 2)
  yield* steps(page, "live", 9)
  yield* picture(page, "start", "dark")
  yield* picture(page, "start-light")

  const mobile = yield* Browser.profile(chromium, {
    viewport: phone,
    ignoreHTTPSErrors: true,
    userAgent: phoneAgent
  })
  const code = yield* issue(page, { scopes: ["runs:read", "runs:operate", "access:read"] })
  const onPhone = yield* open(mobile, `${address}/pair#token=${code}`)
  yield* pairAs(onPhone, "Ada’s phone", { shown: picture(onPhone, "phone-pair", "dark") })
  yield* steps(onPhone, "live", 1)
  yield* picture(onPhone, "phone-start", "dark")
  yield* issue(page, { label: "Grandma’s tablet", scopes: ["runs:read"] })

  yield* step(() => page.goto(`${address}/connections`))
  yield* step(() => page.locator("#links li").first().waitFor())
  yield* step(() => page.locator(".sp-jump li").nth(4).waitFor())
  yield* step(() => page.locator("#devices .sp-here").nth(1).waitFor())
  yield* picture(page, "connections")
  yield* step(() => page.getByRole("button", { name: "Let another device in" }).click())
  yield* step(() => page.getByLabel("Name (optional)").fill("Kitchen tablet"))
  yield* step(() => page.getByRole("button", { name: "Make the link" }).click())
  yield* step(() => page.locator("dialog code").first().waitFor())
  yield* picture(page, "let-in")
  yield* step(() => onPhone.goto(`${address}/connections`))
  yield* step(() => onPhone.locator("#devices li").first().waitFor())
  yield* picture(onPhone, "phone-connections", "dark")
  yield* terminal(context, [yield* command("sessions", "list"), yield* command("links", "list")].join(""))
  yield* greenhouse(chromium)
})

await Effect.runPromise(Effect.scoped(program))
