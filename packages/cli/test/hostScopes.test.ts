/** What the pages say of the scopes and identities of a host that has its own. */
import { assert, describe, it } from "@effect/vitest"
import * as AccessScope from "@sallyport/core/access/AccessScope"
import * as ReplayRepository from "@sallyport/core/access/ReplayRepository"
import * as ConnectClientStore from "@sallyport/core/connect/ConnectClientStore"
import * as DeviceAuthorization from "@sallyport/core/connect/DeviceAuthorization"
import * as IdentityProviders from "@sallyport/http/IdentityProviders"
import * as Sallyport from "@sallyport/http/Sallyport"
import * as PublicHttp from "@sallyport/node/PublicHttp"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type { Page } from "playwright-core"
import * as Browser from "../../../test-support/browser.ts"
import { type ServerOptions, start } from "../../http/test/support.ts"
import { click, text } from "./pages.ts"

const { step } = Browser

const [read, write] = Schema.decodeUnknownSync(Schema.Tuple([AccessScope.AccessScope, AccessScope.AccessScope]))([
  "notes:read",
  "notes:write"
])
const everything = [...AccessScope.builtin, read, write]

/** Starts a server with two scopes of its own, of which one has words, and other words for one of ours. */
const serve = (routes: NonNullable<ServerOptions["routes"]>) =>
  start({ routes }).pipe(
    Effect.provideService(AccessScope.Vocabulary, everything),
    Effect.provideService(AccessScope.Titles, {
      ...AccessScope.titles,
      "runs:operate": "Start <and> stop",
      "notes:write": "Write notes"
    }),
    Effect.map((server) => ({ ...server, url: `http://127.0.0.1:${server.port}` }))
  )

const newPage = Effect.flatMap(
  Effect.flatMap(Browser.browser, Browser.profile),
  (context) => step(() => context.newPage())
)

/** Returns what a page says of a term. */
const factOf = (page: Page, term: string) =>
  step(async () => (await page.locator(`dt:text-is("${term}") + dd`).innerText()).split("\n", 1)[0])

describe("the scopes of a host", () => {
  it.live(
    "BOOT-14 AUTH-02: /pair says them in the host's words, and calls only those everything that lack none of the host's",
    () =>
      Effect.gen(function*() {
        const server = yield* serve(Sallyport.layer())
        const page = yield* newPage
        for (
          const [scopes, words] of [
            [everything, "do everything"],
            [["runs:read", "runs:operate", write, read], "watch runs, start <and> stop, write notes, and notes:read"],
            [
              AccessScope.builtin,
              "watch runs, see who has access, let devices in and revoke them, manage everyone’s access, approve devices " +
              "that ask, see, set and remove credentials, and start <and> stop"
            ],
            [everything.filter((scope) => scope !== "runs:read"), undefined],
            [[write], "write notes"]
          ] as const
        ) {
          const code = yield* server.code({ scopes })
          yield* step(() => page.goto("about:blank"))
          yield* step(() => page.goto(`${server.url}/pair#token=${code}`))
          yield* text(page, /^Pair this browser with /m)
          const said = yield* factOf(page, "May")
          if (words === undefined) assert.notInclude(said, "everything")
          else assert.strictEqual(said, words)
        }
      }),
    300_000
  )

  it.live(
    "CONN-14 AUTH-02: /device and the lists say them in the host's words, and of a device also what it was not given",
    () =>
      Effect.gen(function*() {
        const server = yield* serve(
          Layer.provide(
            Sallyport.layer(),
            Layer.orDie(Layer.provideMerge(DeviceAuthorization.layer, ConnectClientStore.layer))
          )
        )
        const page = yield* newPage
        const code = yield* server.code({ scopes: everything })
        yield* step(() => page.goto(`${server.url}/pair#token=${code}`))
        yield* click(page, "Pair this browser")
        yield* step(() => page.waitForURL(`${server.url}/`))

        // A device can call its program anything, also by the address of another.
        const program = "https://other.example/program"
        const ask = (path: string, parameters: Record<string, string>) =>
          server.send({
            path,
            headers: { "content-type": "application/x-www-form-urlencoded", "user-agent": "television/1" },
            body: new URLSearchParams({ client_id: program, ...parameters }).toString()
          })
        const asked = yield* ask("/oauth/device_authorization", {
          scope: `runs:read runs:operate ${read} ${write}`
        })
        assert.strictEqual(asked.status, 200, asked.text)
        yield* step(() => page.goto(String(asked.json.verification_uri_complete)))
        yield* click(page, "Look it up")
        yield* text(page, /Is this your device/)
        const names = yield* step(() =>
          page.locator(".sp-checks label > span").evaluateAll((spans) =>
            spans.map((span) => span.firstChild?.textContent)
          )
        )
        assert.deepStrictEqual(names, [
          "Watch runs",
          "Start <and> stop",
          "notes:read",
          "Write notes"
        ])
        yield* step(() => page.getByLabel("Write notes").uncheck())
        yield* step(() => page.getByLabel("Start <and> stop").uncheck())
        yield* click(page, "Let it in")
        yield* text(page, /“television\/1” is in/)
        const given = yield* ask("/oauth/token", {
          grant_type: "urn:ietf:params:oauth:grant-type:device_code",
          device_code: String(asked.json.device_code)
        })
        assert.strictEqual(given.json.scope, `runs:read ${read}`, given.text)

        yield* step(() => page.goto(`${server.url}/connections`))
        yield* step(() => page.getByText("1 device is approved").click())
        yield* text(
          page,
          /let in to watch runs and notes:read; it asked to watch runs, start <and> stop, notes:read, and write notes/
        )
        yield* text(page, /May do everything/)
        yield* text(
          page,
          /television\/1[^]*program “https:\/\/other\.example\/program”[^]*May watch runs and notes:read/
        )
        yield* text(
          page,
          /approved “television\/1” of https:\/\/other\.example\/program\. It may watch runs and notes:read; it asked to watch runs, /
        )
      }),
    300_000
  )
})

describe("the identities of a host", () => {
  it.live(
    "AGENT-06: /connections says whose come in without a link, and nothing of it where none do",
    () =>
      Effect.gen(function*() {
        const page = yield* newPage
        for (const taken of [["https://login.example", "https://b.example/x"], []]) {
          const server = yield* serve(
            Layer.provide(
              Sallyport.layer(),
              taken.length === 0
                ? Layer.empty
                : Layer.orDie(
                  IdentityProviders.layerWith({
                    issuers: taken.map((issuer) => ({ issuer, audiences: ["us"] })),
                    admit: () => Effect.succeed({ subject: "owner", scopes: ["runs:read"] })
                  }).pipe(Layer.provide([PublicHttp.layer, ReplayRepository.layerMemory]))
                )
            )
          )
          const code = yield* server.code()
          yield* step(() => page.goto(`${server.url}/pair#token=${code}`))
          yield* click(page, "Pair this browser")
          yield* step(() => page.waitForURL(`${server.url}/`))
          yield* step(() => page.goto(`${server.url}/connections`))
          yield* text(page, /This device/)
          const head = yield* step(() => page.locator("header.sp-head").innerText())
          if (taken.length === 0) assert.notInclude(head, "without a link")
          else {
            assert.include(
              head,
              "People whom this server admits by an account at https://login.example and https://b.example/x come in without a link."
            )
          }
        }
      }),
    300_000
  )
})
