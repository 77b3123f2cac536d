/** Reads what the pages say in their states, whole: a sentence that is not listed here fails as one that is missing. */
import { assert, describe, it } from "@effect/vitest"
import * as Credentials from "@sallyport/client/Credentials"
import * as PairingCode from "@sallyport/core/access/PairingCode"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { Page, Route } from "playwright-core"
import * as Browser from "../../../test-support/browser.ts"
import { type Client, connect, having, sentence, type ServerOptions, start } from "../../client/test/support.ts"
import { bundle, pageRoutes, postsOf, problemsOf, refuse, signIn, text } from "./support.ts"

const { step } = Browser

const timeout = 300_000

const opened = Effect.fnUntraced(function*(options: ServerOptions = {}) {
  const server = yield* start({ ...options, routes: pageRoutes(yield* bundle) })
  const chromium = yield* Browser.browser
  const context = yield* Browser.profile(chromium, { timezoneId: "UTC" })
  const page = yield* step(() => context.newPage())
  return { server, context, page, problems: problemsOf(page), posts: postsOf(page) }
})

/** Reads the lines of a part of the page, with one time for each that counts down. */
const linesOf = (page: Page, part: string) =>
  step(async () =>
    (await page.innerText(part)).split("\n")
      .map((line) => line.trim().replace(/\bin \d+:\d\d/, "in 0:00").replaceAll("\u202f", " "))
      .filter((line) => line !== "")
  )

/** Waits until a part of the page says these lines and no other. */
const says = Effect.fnUntraced(function*(page: Page, part: string, lines: ReadonlyArray<string>, of: string) {
  const deadline = Date.now() + 30_000
  yield* step(() => page.locator(part).first().waitFor())
  while (Date.now() < deadline) {
    if (JSON.stringify(yield* linesOf(page, part)) === JSON.stringify(lines)) return
    yield* Effect.sleep("50 millis")
  }
  assert.deepStrictEqual(yield* linesOf(page, part), lines, of)
})

const askForNew = "Ask for a new one: on a paired device, open Connections and choose “Let another device in”."

const enter = (told: ReadonlyArray<string>, count = "Complete.") => [
  "Pair this browser",
  "Enter the code that the server or a paired device shows. You can also paste the whole address.",
  ...told,
  "Pairing code",
  count,
  "Continue"
]

describe("what the pages say", () => {
  it.live(
    "BOOT-05 BOOT-06 C-31 L-15: each fault of pairing with its remedy, in words of its own, and signs no one in",
    () =>
      Effect.gen(function*() {
        const { context, page, posts, problems, server } = yield* opened()
        const { host } = new URL(server.url)
        const owner = yield* connect(server.url, having(yield* server.token()))
        const issued = Effect.map(owner.access.issueLink(), ({ code, link }) => ({ code: Redacted.value(code), link }))
        const never = Effect.map(PairingCode.generate("device"), Redacted.value).pipe(
          Effect.provide(SecureRandom.layerWebCrypto)
        )
        const expired = yield* owner.access.issueLink({ lifetime: "1 second" })
        const preview = "**/api/auth/bootstrap/preview"
        const routed = (handler: (route: Route) => Promise<unknown>) => step(() => page.route(preview, handler))
        const good = (yield* issued).code

        const rows: ReadonlyArray<
          readonly [
            state: string,
            lines: ReadonlyArray<string>,
            code: Effect.Effect<string, unknown>,
            requests: number,
            then?: Effect.Effect<unknown>
          ]
        > = [
          [
            "used",
            enter([
              "This code was used already.",
              "A code lets one device in. If that was not you, tell the owner, who sees the device under Connections. " +
              "Then ask for a new code."
            ]),
            Effect.gen(function*() {
              const { code } = yield* issued
              const jar = yield* connect(server.url, Credentials.layerCookieJar)
              yield* jar.access.pair({ code: Redacted.make(code) })
              return code
            }).pipe(Effect.scoped),
            1
          ],
          [
            "withdrawn",
            enter(["This code was withdrawn.", askForNew]),
            Effect.gen(function*() {
              const { code, link } = yield* issued
              yield* owner.access.revokeLink(link.id)
              return code
            }),
            1
          ],
          [
            "expired",
            enter(["This code has expired.", askForNew]),
            Effect.as(Effect.sleep("1100 millis"), Redacted.value(expired.code)),
            1
          ],
          [
            "unknown",
            enter([
              "The server does not know this code.",
              "It is of another server, or for another program only, or it ended more than a day ago. Ask for a new one."
            ]),
            never,
            1
          ],
          [
            "mistyped",
            enter([
              "This code has a typing error.",
              "Compare it with the screen that shows it. Nothing was sent, and the code still works."
            ]),
            Effect.succeed((good.startsWith("7") ? "8" : "7") + good.slice(1)),
            0
          ],
          [
            "too short",
            enter(["This code is not complete.", "It has 16 symbols; you entered 12."], "12 of 16 symbols"),
            Effect.succeed(""),
            0,
            step(async () => {
              await page.getByLabel("Pairing code").fill("7K3Q-9XWF-B2AB")
              await page.keyboard.press("Enter")
            })
          ],
          [
            "of another server",
            enter([
              "This address is of another server.",
              `Open it there: media.example.com. Or enter a code of this server, ${host}.`
            ], "16 letters and digits. Dashes and small letters don’t matter."),
            Effect.succeed(""),
            0,
            step(() =>
              page.getByLabel("Pairing code").evaluate((input, address) => {
                const clipboardData = new DataTransfer()
                clipboardData.setData("text", address)
                input.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }))
              }, `https://media.example.com/pair#token=${good}`)
            )
          ],
          [
            "without its database",
            enter(["The server cannot answer now.", "Try again in a minute. Your code was not used."]),
            Effect.as(routed(refuse(503, { _tag: "Unavailable", code: "unavailable" })), good),
            1
          ],
          [
            "starting",
            [
              "The server is starting",
              "This page goes on by itself as soon as the server answers. Your code is kept.",
              "Waiting for the server.",
              "This is usual for up to a minute after a start."
            ],
            Effect.as(routed((route) => route.fulfill({ status: 503, body: "a proxy" })), good),
            1
          ],
          [
            "down",
            [
              "The server does not answer",
              "Check that it runs and that this device is in the same network.",
              "Trying again by itself.",
              "Next try in 0:00. Your code is kept.",
              "Try now"
            ],
            Effect.as(routed((route) => route.abort("connectionrefused")), good),
            1
          ],
          [
            "offline",
            [
              "This device is offline",
              "Connect it to a network. The page goes on by itself then, and your code is kept.",
              "Try now"
            ],
            Effect.as(
              routed(async (route) => {
                await context.setOffline(true)
                await route.abort("internetdisconnected")
              }),
              good
            ),
            1
          ],
          [
            "limited",
            enter(["Too many wrong codes.", "You can try again in 0:00. Your code stays as it is."]),
            Effect.gen(function*() {
              const code = yield* never
              const other = yield* connect(server.url, having(Redacted.make("none")))
              while (true) {
                const reason = yield* Effect.flip(other.access.preview(Redacted.make(code)))
                if (reason.reason._tag === "TooManyRequests") return code
              }
            }).pipe(Effect.scoped),
            1
          ]
        ]
        for (const [state, lines, code, requests, then] of rows) {
          const given = yield* Effect.orDie(code)
          yield* step(() => page.goto("about:blank"))
          posts.length = 0
          yield* step(() => page.goto(`${server.url}/pairing${given === "" ? "" : `#token=${given}`}`))
          if (then !== undefined) yield* then
          yield* says(page, ".sp-gate", lines, state)
          // A server that is away is asked more often than once, by itself.
          assert.deepStrictEqual([...new Set(posts)], requests === 0 ? [] : ["/api/auth/bootstrap/preview"], state)
          const isField = lines[0] === "Pair this browser"
          if (isField && given !== "") {
            assert.strictEqual(yield* step(() => page.getByLabel("Pairing code").inputValue()), given, state)
          }
          yield* step(() => page.unroute(preview))
          yield* step(() => context.setOffline(false))
          assert.deepStrictEqual(yield* step(() => context.cookies()), [], state)
        }
        // What a fault is told for uses no code up.
        assert.isAbove((yield* owner.access.links).length, 0)
        assert.deepStrictEqual(problems, [])
      }),
    timeout
  )

  it.live(
    "BOOT-14 L-15: that a browser keeps no cookie, before the code is used, and then as whom it is paired and for how long",
    () =>
      Effect.gen(function*() {
        const { page, posts, problems, server } = yield* opened()
        const owner = yield* connect(server.url, having(yield* server.token()))
        const { code } = yield* owner.access.issueLink()
        yield* step(() =>
          page.addInitScript(() =>
            Object.defineProperty(navigator, "cookieEnabled", {
              get: () => document.body.dataset.cookies === "allowed"
            })
          )
        )
        yield* step(() => page.goto(`${server.url}/pairing?stay#token=${Redacted.value(code)}`))
        const pair = step(() => page.getByRole("button", { name: "Pair this browser" }).click())
        yield* pair
        yield* says(page, ".sp-gate", [
          "This browser keeps no cookies here",
          `Pairing needs one. Allow cookies for ${new URL(server.url).host}, then try again.`,
          "Try now"
        ], "without cookies")
        assert.notInclude(posts, "/api/auth/bootstrap")
        assert.lengthOf(yield* owner.access.links, 1)

        yield* step(() =>
          page.evaluate(() => {
            document.body.dataset.cookies = "allowed"
          })
        )
        yield* step(() => page.getByRole("button", { name: "Try now" }).click())
        yield* pair
        yield* says(page, ".sp-gate", [
          "This browser is paired",
          "You are signed in as owner on “Chrome on Linux”, until you sign out or don’t come for 30 days.",
          "Continue",
          "See all devices"
        ], "paired")
        assert.deepStrictEqual(yield* owner.access.links, [])
        assert.deepStrictEqual(problems, [])
      }),
    timeout
  )

  it.live(
    "C-43 HTTP-08 L-15: that an address without https is not for pairing, how to go on, and sends no code",
    () =>
      Effect.gen(function*() {
        const { page, posts, server } = yield* opened({ policy: "remote-reachable" })
        yield* step(() =>
          page.route("http://192.168.7.7:4590/**", async (route) => {
            const url = route.request().url().replace("192.168.7.7:4590", `127.0.0.1:${server.port}`)
            await route.fulfill({ response: await route.fetch({ url, headers: {} }) })
          })
        )
        yield* step(() => page.goto("about:blank"))
        const code = Redacted.value(yield* server.code())
        yield* step(() => page.goto(`http://192.168.7.7:4590/pairing#token=${code}`))
        yield* step(() => page.getByText("The server is yours, and has no https yet").click())
        yield* says(page, ".sp-gate", [
          "This address is not secure",
          "It starts with http. This server pairs over https only, so that others on the network cannot read the code. " +
          "Your code was not sent.",
          "Open https://192.168.7.7:4590",
          "The server is yours, and has no https yet",
          "On the machine itself, open http://localhost:4590; that works without https.",
          "For other devices, put a certificate in front and start it with --public-url https://…. " +
          "sallyport doctor tells what is missing."
        ], "without https")
        assert.deepStrictEqual(posts, [])
      }),
    timeout
  )

  it.live(
    "SESS-21 L-15: how the session of this browser has ended, by whom, when and from where",
    () =>
      Effect.gen(function*() {
        const { page, problems, server } = yield* opened()
        const { policy } = yield* step(async () => (await fetch(`${server.url}/api/auth/session`)).json())
        const revoked = "This device was revoked"
        const left = "This device has left"
        const time = "Jan 31, 2026, 2:03 PM"
        const rows = [
          ["revoked", "operator", null, revoked, `The operator revoked it at ${time}, in the server’s terminal.`],
          ["revoked", "ada", "Ada’s phone", revoked, `ada revoked it at ${time}, from Ada’s phone.`],
          ["revoked", null, null, revoked, `The server revoked it at ${time}.`],
          [
            "descended",
            "ada",
            "Ada’s phone",
            revoked,
            `ada revoked the device that let it in at ${time}, from Ada’s phone, and what that had let in.`
          ],
          ["signed-out", "ada", null, "This device was signed out", `It signed out at ${time}.`],
          ["unused", null, null, left, "You were away for 30 days, so it left by itself."],
          ["over", null, null, left, `It was let in until ${time}.`]
        ] as const
        for (const [how, actor, device, title, sentence] of rows) {
          const ended = { how, actor, device, at: "2026-01-31T14:03:00.000Z", lastSeenAt: "2026-01-01T14:03:00.000Z" }
          yield* step(() =>
            page.route(
              "**/api/auth/session",
              (route) =>
                route.fulfill({
                  contentType: "application/json",
                  body: JSON.stringify({ authenticated: false, policy, ended })
                })
            )
          )
          yield* step(() => page.goto(`${server.url}/connections`))
          yield* says(page, "main", [title, `${sentence} Pair it again to go on.`, "Enter a code"], sentence)
          yield* step(() => page.unroute("**/api/auth/session"))
        }
        assert.deepStrictEqual(problems, [])
      }),
    timeout
  )

  it.live(
    "FEED-03 FEED-04 L-15: each change as one sentence with its actor, also one of a later version",
    () =>
      Effect.gen(function*() {
        const { page, problems, server } = yield* opened()
        const at = "2026-01-31T14:03:00.000Z"
        const link = {
          id: "link-1",
          label: "Grandma’s",
          subject: "ada",
          scopes: ["runs:read"],
          remainingUses: 1,
          needsProof: false,
          createdBy: "ada",
          sessionLifetimeSeconds: null,
          sessionEndsAt: null,
          createdAt: at,
          expiresAt: at
        }
        const device = { label: "Tablet", kind: "tablet", userAgent: null, address: null }
        const session = {
          id: "session-1",
          subject: "ada",
          method: "browser-session-cookie",
          scopes: ["runs:read"],
          scopeRequest: null,
          proofKeyThumbprint: null,
          device,
          letInBy: { actor: "ada", sessionId: null, linkId: null },
          client: null,
          lifetimeSeconds: null,
          createdAt: at,
          lastSeenAt: at,
          expiresAt: at,
          absoluteExpiresAt: null,
          current: false
        }
        const renamed = { ...session, device: { ...device, label: "Kitchen tablet" } }
        const asking = { scopes: ["runs:operate"], requestedAt: at, expiresAt: at }
        const client = {
          proofKeyThumbprint: "a".repeat(43),
          account: "ada@example.com",
          label: "Pixel 9",
          deviceType: "phone",
          status: "pending",
          verificationCode: "BCDF-GHJK",
          firstSeenAt: at,
          requestedAt: at,
          pendingUntil: null,
          decidedAt: null,
          decidedBy: null,
          reason: null,
          lastSeenAt: null
        }
        const credential = {
          scope: "user",
          owner: "ada",
          key: "github",
          createdAt: at,
          updatedAt: at,
          updatedBy: "ada"
        }
        const of = { scope: "user", owner: "ada", key: "github" }
        // From the oldest on.
        const rows: ReadonlyArray<readonly [event: string, actor: string, data: object, sentence: string]> = [
          ["pairingLinkUpserted", "ada", { link }, "ada made the link “Grandma’s”, for one device."],
          [
            "pairingLinkUpserted",
            "operator",
            { link: { ...link, id: "link-2", label: null, remainingUses: 3 } },
            "The operator made a link without a name, for 3 devices."
          ],
          ["sessionUpserted", "ada", { session }, "Tablet is in, let in by ada. It may watch runs."],
          ["pairingLinkRemoved", "ada", { id: "link-1", reason: "consumed" }, "The link “Grandma’s” was used."],
          ["pairingLinkRemoved", "system", { id: "link-2", reason: "expired" }, "A link without a name ended unused."],
          ["pairingLinkRemoved", "ada", { id: "unknown", reason: "revoked" }, "ada withdrew a link."],
          ["sessionUpserted", "ada", { session: renamed }, "ada renamed Tablet to Kitchen tablet."],
          [
            "sessionUpserted",
            "ada",
            { session: { ...renamed, scopeRequest: asking } },
            "Kitchen tablet asks to do more: start and stop runs."
          ],
          [
            "sessionUpserted",
            "ada",
            { session: renamed },
            "ada did not let Kitchen tablet do more."
          ],
          [
            "sessionUpserted",
            "ada",
            { session: { ...renamed, scopes: ["runs:read", "runs:operate"] } },
            "ada let Kitchen tablet do more. It may watch, start and stop runs."
          ],
          [
            "sessionRemoved",
            "operator",
            { id: "session-1", reason: "revoked" },
            "The operator signed Kitchen tablet out."
          ],
          [
            "sessionRemoved",
            "system",
            { id: "unknown", reason: "expired" },
            "A device left: it was not used for long."
          ],
          ["connectClientUpserted", "connect", { client }, "“Pixel 9” asked to connect, for ada@example.com."],
          [
            "connectClientUpserted",
            "ada",
            { client: { ...client, status: "approved" } },
            "ada approved “Pixel 9” of ada@example.com."
          ],
          [
            "connectClientUpserted",
            "ada",
            { client: { ...client, status: "blocked", reason: "not ours" } },
            "ada blocked “Pixel 9” of ada@example.com: “not ours”."
          ],
          [
            "connectClientUpserted",
            "connect",
            { client: { ...client, status: "observed" } },
            "“Pixel 9” came in by its account, ada@example.com."
          ],
          [
            "connectClientRemoved",
            "system",
            { proofKeyThumbprint: client.proofKeyThumbprint, reason: "expired" },
            "A request to connect ended undecided."
          ],
          ["connectSecurityModeUpdated", "ada", { mode: "client-approval" }, "ada chose: only approved devices."],
          ["connectSecurityModeUpdated", "ada", { mode: "account" }, "ada chose: every device of the account."],
          ["connectSecurityModeUpdated", "ada", { mode: "of a later version" }, "ada chose how devices are approved."],
          [
            "credentialUpserted",
            "ada",
            { credential: { ...credential, rejectedUntil: null } },
            "ada set github of ada."
          ],
          [
            "credentialRead",
            "system",
            { source: "user", owner: "ada", key: "github", count: 3 },
            "The server was given github, 3 times."
          ],
          ["credentialRemoved", "ada", of, "ada removed github of ada."],
          ["hologramProjected", "ada", { of: "ada" }, "Something else changed (hologramProjected)."]
        ]
        const events = rows.map(([event, actor, data], index) => ({
          event,
          data: { revision: index + 1, actor, at, ...data }
        }))
        yield* step(() =>
          page.route("**/api/auth/access/events*", (route) =>
            route.fulfill({
              contentType: "application/json",
              body: JSON.stringify({ events: events.toReversed(), next: null })
            }))
        )
        yield* signIn(page, server.url, Redacted.value(yield* server.code()))
        yield* step(() => page.locator("#activity li").nth(rows.length - 1).waitFor())
        assert.deepStrictEqual(
          yield* step(() => page.locator("#activity li > span").allInnerTexts()),
          rows.map(([, , , sentence]) => sentence).toReversed()
        )
        // What the feed tells of is not told again if it is there already.
        const owner = yield* connect(server.url, having(yield* server.token()))
        yield* owner.access.issueLink({ label: "A new one" })
        yield* text(page, /Open links[^]*A new one/)
        assert.lengthOf(yield* step(() => page.locator("#activity li").all()), rows.length)
        assert.deepStrictEqual(problems, [])
      }),
    timeout
  )

  it.live("WEB-05 L-15: of each list that is empty what that means, or what to do", () =>
    Effect.gen(function*() {
      const { page, problems, server } = yield* opened()
      // The routes of credentials are the host's. What could not be read at first is read again.
      let isAway = true
      const whenBack = (body: object) => (route: Route) =>
        isAway
          ? route.abort("connectionreset")
          : route.fulfill({ contentType: "application/json", body: JSON.stringify(body) })
      yield* step(() => page.route("**/api/credentials/status", whenBack({ credentials: [] })))
      yield* signIn(page, server.url, Redacted.value(yield* server.code()))
      yield* text(page, /^Live$/m)
      assert.strictEqual(yield* step(() => page.locator("#credentials").count()), 0)
      isAway = false
      const nothing = (section: string) => `#${section} .sp-empty`
      yield* says(page, nothing("devices"), [
        "No other device is in.",
        "Let your phone in, and you can watch your runs from there."
      ], "devices")
      yield* says(page, nothing("links"), ["No link is open.", "No device can get in with a code right now."], "links")
      yield* says(page, nothing("credentials"), [
        "No credential is needed yet.",
        "Features of this server that need one list it here."
      ], "credentials")
      yield* says(page, nothing("runs"), [
        "Nothing has run yet.",
        "A run that is started anywhere shows here."
      ], "runs")
      yield* step(() => page.getByLabel("Search").fill("no such thing"))
      yield* says(page, nothing("activity"), ["Nothing matches “no such thing”.", "Clear the search"], "search")
      yield* step(() => page.getByRole("button", { name: "Clear the search" }).click())
      yield* step(() => page.locator(nothing("activity")).waitFor({ state: "detached" }))
      yield* step(() => page.getByRole("combobox").selectOption("credential"))
      yield* says(page, nothing("activity"), ["Nothing of this kind has happened.", "Clear the search"], "kind")

      // A server of another kind, that lets no device in through a relay, and keeps what happened for a second.
      const snapshot = { revision: 1, sessions: [], pairingLinks: [] }
      yield* step(() =>
        page.route("**/api/auth/access", (route) =>
          route.fulfill({
            contentType: "text/event-stream",
            body: `event: snapshot\nid: 1\ndata: ${JSON.stringify(snapshot)}\n\n`
          }))
      )
      yield* step(() =>
        page.route("**/api/auth/access/events*", whenBack({ events: [], next: null, retentionSeconds: 1 }))
      )
      isAway = true
      yield* step(() => page.reload())
      yield* says(page, "#activity [role=alert]", ["The answer did not arrive. Nothing was changed."], "not read")
      isAway = false
      yield* says(page, nothing("who"), [
        "This server takes no devices through a relay.",
        "sallyport connect link sets it up."
      ], "clients")
      yield* says(page, nothing("activity"), [
        "Nothing has changed yet.",
        "A change made anywhere shows here at once."
      ], "activity")
      yield* says(page, "#activity > .sp-hint:last-child", ["A change is kept for 1 second."], "retention")
      assert.deepStrictEqual(problems, [])
    }), timeout)

  it.live(
    "SESS-13 L-15: before something ends, what ends with it and what stays; and changes nothing until that is confirmed",
    () =>
      Effect.gen(function*() {
        const { page, posts, problems, server } = yield* opened()
        const owner = yield* connect(server.url, having(yield* server.token()))
        const letIn = (from: Client, label: string) =>
          Effect.gen(function*() {
            const { code } = yield* from.access.issueLink()
            const jar = yield* connect(server.url, Credentials.layerCookieJar)
            yield* jar.access.pair({ code, label })
            return jar
          })
        const phone = yield* letIn(owner, "Phone")
        const tablet = yield* letIn(phone, "Tablet")
        const television = yield* letIn(owner, "Television")
        yield* owner.access.logout
        yield* Effect.orDie(server.clients.request({
          proofKeyThumbprint: "a".repeat(43),
          account: "ada@example.com",
          label: "Pixel 9"
        }))
        yield* signIn(page, server.url, Redacted.value(yield* server.code()))
        yield* text(page, /^Live$/m)
        const press = (name: string) => step(() => page.getByRole("button", { name, exact: true }).click())
        const settled = step(() => page.waitForSelector("#waiting .sp-b[aria-disabled=false]"))
        const once = "It is signed out at once. It holds no connection open."
        const revoking = [
          "Its open links stop working.",
          "Runs that it started go on. You can stop them under Runs."
        ]
        const forGood = "This cannot be undone. The device needs a new code to come back."

        const rows: ReadonlyArray<
          readonly [open: Effect.Effect<unknown>, lines: ReadonlyArray<string>, keep: string]
        > = [
          [
            press("Revoke Television"),
            ["Revoke Television?", once, ...revoking, forGood, "Keep it", "Revoke Television"],
            "Keep it"
          ],
          [
            press("Revoke Phone"),
            [
              "Revoke Phone?",
              once,
              ...revoking,
              "Also revoke what it let in",
              "Tablet. It stays signed in otherwise.",
              forGood,
              "Keep it",
              "Revoke Phone"
            ],
            "Keep it"
          ],
          [
            press("Revoke all others…"),
            [
              "Revoke the 3 other devices?",
              "Phone, Tablet, and Television are signed out at once. They hold no connection open.",
              "Their open links stop working. A link of the operator stays.",
              "You stay signed in here. Credentials and runs stay.",
              "Keep them",
              "Revoke 3 devices"
            ],
            "Keep them"
          ],
          [
            Effect.andThen(settled, press("Block")),
            [
              "Block “Pixel 9”?",
              "It is turned away now, and every time it asks, without you being asked.",
              "Other devices of ada@example.com can still ask.",
              "Why (optional, for the activity)",
              "Don’t block",
              "Block “Pixel 9”"
            ],
            "Don’t block"
          ],
          [
            step(() => page.getByLabel("Every device of my account").click()),
            [
              "Every device of the account?",
              "A device that gets into the account gets in here, without a question. Blocked devices stay blocked.",
              "Keep asking me",
              "Let every device of the account in"
            ],
            "Keep asking me"
          ]
        ]
        posts.length = 0
        const before = (yield* television.access.sessions).map(({ id }) => id)
        for (const [open, lines, keep] of rows) {
          yield* open
          yield* says(page, "dialog", lines, lines[0] ?? "")
          yield* press(keep)
          yield* step(() => page.locator("dialog").waitFor({ state: "detached" }))
        }
        assert.deepStrictEqual(posts, [])
        assert.deepStrictEqual((yield* television.access.sessions).map(({ id }) => id), before)

        // And afterwards what has ended: that and no more.
        const told = (...lines: ReadonlyArray<string>) => says(page, "#devices .sp-told", lines, lines[0] ?? "")
        const isIn = (client: Client) => Effect.map(client.access.refresh, ({ authenticated }) => authenticated)
        yield* tablet.access.issueLink()
        yield* press("Revoke Phone")
        yield* step(() => page.getByLabel("Also revoke what it let in").check())
        yield* step(() => page.locator("dialog [data-kind=danger]").click())
        yield* told("Phone was revoked. So was 1 other. 0 connections closed. 1 open link stopped working.")
        assert.deepStrictEqual(yield* Effect.forEach([phone, tablet, television], isIn), [false, false, true])
        assert.deepStrictEqual(yield* television.access.links, [])
        yield* press("Revoke Television")
        yield* step(() => page.locator("dialog [data-kind=danger]").click())
        yield* told("Television was revoked. 0 connections closed.")
        assert.isFalse(yield* isIn(television))
        assert.deepStrictEqual(problems, [])
      }),
    timeout
  )

  it.live(
    "L-15 L-18: why an action was refused, by the code of the answer and not by its text, and that nothing is known if none came",
    () =>
      Effect.gen(function*() {
        const { page, problems, server } = yield* opened()
        const owner = yield* connect(server.url, having(yield* server.token()))
        const [own] = yield* owner.access.sessions
        assert(own !== undefined)
        yield* owner.access.renameSession(own.id, "Phone")
        yield* signIn(page, server.url, Redacted.value(yield* server.code()))
        yield* text(page, /^Live$/m)
        const rows: ReadonlyArray<readonly [answer: (route: Route) => Promise<unknown>, told: string]> = [
          [refuse(404, { _tag: "NotFound", code: "session_not_found" }), "It is gone already."],
          [
            refuse(409, { _tag: "Conflict", code: "current_session" }),
            "This is the device you are on. Choose “Sign out” instead."
          ],
          [
            refuse(403, { _tag: "Forbidden", code: "scope_required" }),
            "Your session may not do this. Ask the owner, or use a device that may."
          ],
          [
            refuse(403, { _tag: "Forbidden", code: "scope_not_held" }),
            "You cannot give what you may not do yourself."
          ],
          [
            refuse(503, { _tag: "Unavailable", code: "unavailable" }),
            "The server could not finish. It may have been done: look at the list before you try again."
          ],
          [
            (route) => route.abort("connectionreset"),
            "The answer did not arrive. It may have been done: the list shows what is so once the connection is back."
          ],
          // One that the page has no words for is told in those of the server.
          [refuse(400, { _tag: "InvalidRequest", code: "invalid_request" }), `${sentence}.`]
        ]
        for (const [answer, told] of rows) {
          yield* step(() => page.route("**/api/auth/sessions/revoke", answer))
          yield* step(() => page.getByRole("button", { name: "Revoke Phone", exact: true }).click())
          yield* step(() => page.locator("dialog [data-kind=danger]").click())
          yield* says(page, "dialog [role=alert]", [told], told)
          yield* step(() => page.getByRole("button", { name: "Keep it" }).click())
          yield* step(() => page.locator("dialog").waitFor({ state: "detached" }))
          // The fault goes with its question.
          assert.deepStrictEqual(yield* linesOf(page, "#devices [role=alert]"), [], told)
          yield* step(() => page.unroute("**/api/auth/sessions/revoke"))
        }
        assert.strictEqual((yield* owner.access.sessions).length, 2)
        assert.deepStrictEqual(problems, [])
      }),
    timeout
  )
})
