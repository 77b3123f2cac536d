import { assert, describe, it } from "@effect/vitest"
import * as PublicHttp from "@sallyport/node/PublicHttp"
import * as Effect from "effect/Effect"
import type * as HttpClient from "effect/http/HttpClient"
import * as HttpClientError from "effect/http/HttpClientError"
import * as Http from "node:http"

const v4 = (address: string): PublicHttp.Resolved => ({ address, family: 4 })
const v6 = (address: string): PublicHttp.Resolved => ({ address, family: 6 })

/** Answers each look-up of a name with the next of its answers, and with the last of them from then on. */
const resolving = (answers: Readonly<Record<string, ReadonlyArray<ReadonlyArray<PublicHttp.Resolved>>>>) => {
  const asked: Array<string> = []
  const resolve = (name: string) =>
    Effect.suspend(() => {
      const all = answers[name] ?? []
      const found = all[Math.min(asked.filter((each) => each === name).length, all.length - 1)]
      asked.push(name)
      return found === undefined ? Effect.fail(new Error(`ENOTFOUND ${name}`)) : Effect.succeed(found)
    })
  return { asked, provide: Effect.provideService(PublicHttp.Resolver, resolve) }
}

/** Starts a server that counts its connections. */
const server = (host: string, answer: (response: Http.ServerResponse) => void = (response) => response.end("{}")) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.callback<Http.Server>((resume) => {
        const made = Http.createServer((request, response) => {
          request.resume()
          answer(response)
        })
        made.listen(0, host, () => resume(Effect.succeed(made)))
      }),
      (made) =>
        Effect.sync(() => {
          made.closeAllConnections()
          made.close()
        })
    ),
    (made) => {
      const seen = { connections: 0 }
      made.on("connection", () => seen.connections++)
      const address = made.address()
      return { seen, port: typeof address === "object" ? address?.port ?? 0 : 0 }
    }
  )

/** Says why the client did not send a request, or `undefined` if it did. */
const refusal = (client: HttpClient.HttpClient, url: string) =>
  client.get(url).pipe(
    Effect.scoped,
    Effect.match({
      onSuccess: () => undefined,
      onFailure: (error) => HttpClientError.isHttpClientError(error) ? PublicHttp.refusalOf(error)?.problem : undefined
    })
  )

const special = [
  "127.0.0.1",
  "127.255.255.254",
  "2130706433",
  "0x7f000001",
  "0x7f.1",
  "0177.0.0.1",
  "017700000001",
  "127.1",
  "127.0.0.1.",
  "１２７.０.０.１",
  "127%2e0%2e0%2e1",
  "0",
  "0.0.0.0",
  "10.0.0.1",
  "167772161",
  "012.1.2.3",
  "100.64.0.1",
  "100.100.100.200",
  "168.63.129.16",
  "169.254.169.254",
  "0xa9fea9fe",
  "2852039166",
  "172.16.0.1",
  "172.31.255.255",
  "192.0.0.192",
  "192.0.2.1",
  "192.88.99.1",
  "192.168.0.1",
  "0xc0a80001",
  "198.18.0.1",
  "198.51.100.1",
  "203.0.113.1",
  "224.0.0.1",
  "240.0.0.1",
  "255.255.255.255",
  "[::]",
  "[::1]",
  "[0:0:0:0:0:0:0:1]",
  "[::ffff:127.0.0.1]",
  "[::ffff:7f00:1]",
  "[::ffff:8.8.8.8]",
  "[::127.0.0.1]",
  "[::7f00:1]",
  "[::ffff:0:127.0.0.1]",
  "[64:ff9b::127.0.0.1]",
  "[64:ff9b::7f00:1]",
  "[64:ff9b:1::1]",
  "[100::1]",
  "[2001::1]",
  "[2001:0:7f00:1::]",
  "[2001:10::1]",
  "[2001:20::1]",
  "[2001:db8::1]",
  "[2002:7f00:1::]",
  "[2002:a00:1::1]",
  "[3fff::1]",
  "[5f00::1]",
  "[fc00::1]",
  "[fd00:ec2::254]",
  "[fe80::1]",
  "[fec0::1]",
  "[ff02::1]"
]

const publicAddresses = [
  "8.8.8.8",
  "1.1.1.1",
  "100.63.255.255",
  "172.32.0.1",
  "192.0.1.1",
  "[2606:4700::1111]",
  "[2a00::1]"
]

describe("an address that a stranger names", () => {
  it.effect("C-26 CONN-15: is refused in every form of one that is not public, and of what is no HTTPS URL", () =>
    Effect.gen(function*() {
      const check = yield* PublicHttp.makeCheck()
      const client = yield* PublicHttp.make()
      for (
        const url of [
          ...special.map((host) => `https://${host}/x`),
          "https://localhost",
          "https://LOCALHOST.",
          "https://a.localhost",
          "https://intranet",
          "https://db.internal",
          "https://printer.local.",
          "https://router.home.arpa",
          "https://user:pass@example.com",
          "https://user@example.com",
          "http://example.com",
          "http://127.0.0.1",
          "http://localhost",
          "http://8.8.8.8",
          "ftp://example.com",
          "file:///etc/passwd",
          "wss://example.com",
          "example.com",
          ""
        ]
      ) {
        assert.strictEqual((yield* Effect.flip(check(url)))._tag, "AddressRefused", url)
        if (/^https?:/.test(url)) assert.isDefined(yield* refusal(client, url), url)
      }
      for (const host of publicAddresses) yield* check(`https://${host}:8443/x`)
    }).pipe(Effect.scoped))

  it.effect("C-26 CONN-15: is refused if one of the addresses of its name is not public", () =>
    Effect.gen(function*() {
      const names: Record<string, ReadonlyArray<ReadonlyArray<PublicHttp.Resolved>>> = {
        "good.example": [[v4("93.184.216.34"), v6("2606:4700::1111")]],
        "mixed.example": [[v4("93.184.216.34"), v4("10.0.0.1")]],
        "mixed6.example": [[v4("93.184.216.34"), v6("::1")]],
        "odd.example": [[v4("not an address")]]
      }
      for (const [index, host] of special.entries()) {
        const address = URL.parse(`https://${host}`)?.hostname ?? ""
        names[`name${index}.example`] = [[address.startsWith("[") ? v6(address.slice(1, -1)) : v4(address)]]
      }
      const { provide } = resolving(names)
      const check = yield* provide(PublicHttp.makeCheck())
      const client = yield* provide(PublicHttp.make())
      for (const name of Object.keys(names)) {
        if (name === "good.example") continue
        assert.strictEqual((yield* Effect.flip(check(`https://${name}`)))._tag, "AddressRefused", name)
        assert.include(yield* refusal(client, `https://${name}`), "not public", name)
      }
      yield* check("https://good.example/x")
      yield* check("https://good.example./x")
      // One that is not there leads nowhere.
      yield* check("https://nowhere.example")
      assert.isUndefined(yield* refusal(client, "https://nowhere.example"))
    }).pipe(Effect.scoped))

  it.live("C-26 CONN-15: leads to nothing else if its name changes its mind between the check and the call", () =>
    Effect.gen(function*() {
      const beside = yield* server("127.0.0.1")
      for (const later of [v4("127.0.0.1"), v6("::ffff:127.0.0.1"), v4("10.0.0.1"), v6("::1")]) {
        const { asked, provide } = resolving({ "rebind.example": [[v4("93.184.216.34")], [later]] })
        const check = yield* provide(PublicHttp.makeCheck())
        const client = yield* provide(PublicHttp.make({ loopback: true }))
        const url = `https://rebind.example:${beside.port}/`
        yield* check(url)
        assert.include(yield* refusal(client, url), "not public", later.address)
        assert.deepStrictEqual(asked, ["rebind.example", "rebind.example"])
      }
      assert.strictEqual(beside.seen.connections, 0)
    }).pipe(Effect.scoped))

  it.live("CONN-15: is connected to as it was resolved, once, and a redirect is not followed", () =>
    Effect.gen(function*() {
      const beside = yield* server("127.0.0.1")
      const named = yield* server(
        "127.0.0.2",
        (response) => response.writeHead(302, { location: `http://127.0.0.1:${beside.port}/` }).end()
      )
      const { asked, provide } = resolving({ localhost: [[v4("127.0.0.2")], [v4("10.0.0.1")]] })
      const client = yield* provide(PublicHttp.make({ loopback: true }))
      const response = yield* Effect.scoped(client.get(`http://localhost:${named.port}/`))
      assert.strictEqual(response.status, 302)
      assert.deepStrictEqual([named.seen.connections, beside.seen.connections, asked], [1, 0, ["localhost"]])
    }).pipe(Effect.scoped))

  it.live("C-26: may be this machine only if the host says so, over plain HTTP and in no other way", () =>
    Effect.gen(function*() {
      const here = yield* server("127.0.0.1")
      const { provide } = resolving({
        localhost: [[v4("127.0.0.1")]],
        "here.example": [[v4("127.0.0.1")]]
      })
      const check = yield* provide(PublicHttp.makeCheck({ loopback: true }))
      const client = yield* provide(PublicHttp.make({ loopback: true }))
      for (const host of ["127.0.0.1", "localhost", "2130706433"]) {
        const url = `http://${host}:${here.port}/`
        yield* check(url)
        assert.strictEqual((yield* Effect.scoped(client.get(url))).status, 200, host)
      }
      for (
        const url of [
          `http://here.example:${here.port}`,
          `https://here.example:${here.port}`,
          `https://127.0.0.1:${here.port}`,
          `https://localhost:${here.port}`,
          `http://[::ffff:127.0.0.1]:${here.port}`,
          "http://10.0.0.1",
          "http://169.254.169.254",
          "http://8.8.8.8"
        ]
      ) {
        yield* Effect.flip(check(url))
        assert.isDefined(yield* refusal(client, url), url)
      }
      const away = resolving({ localhost: [[v4("169.254.169.254")]] })
      const strict = yield* away.provide(PublicHttp.makeCheck({ loopback: true }))
      yield* Effect.flip(strict("http://localhost"))
    }).pipe(Effect.scoped))
})
