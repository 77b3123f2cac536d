import { assert, describe, it } from "@effect/vitest"
import * as AuthPolicy from "@sallyport/core/access/AuthPolicy"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

const loopback = [
  "localhost",
  "LOCALHOST",
  "127.0.0.1",
  "127.1.2.3",
  "127.255.255.255",
  "::1",
  "[::1]",
  "::ffff:127.0.0.1",
  "[::FFFF:127.0.0.1]",
  "::ffff:7f00:1",
  "[::ffff:7f00:1]",
  "0:0:0:0:0:0:0:1"
]

// Addresses of other machines, and spellings of loopback that are doubtful enough to count as reachable.
const reachable = [
  "",
  "0.0.0.0",
  "::",
  "[::]",
  "192.168.1.10",
  "10.0.0.1",
  "128.0.0.1",
  "box.example",
  "127.0.0.1.evil.com",
  "evil.com#127.0.0.1",
  "x127.0.0.1",
  "127.0.0.1 ",
  "127.0.0.1\n",
  "127.0.0.1:80",
  "127.0.0.256",
  "127.999.999.999",
  "127.1",
  "2130706433",
  "0x7f000001",
  "0177.0.0.1",
  "localhost.",
  "localhost.evil.com",
  "notlocalhost",
  "[::1",
  "::1]",
  "[[::1]]",
  "::1%lo0",
  "::11",
  "::ffff:10.0.0.1",
  "::ffff:0:127.0.0.1",
  "0.0.0.0.127.0.0.1"
]

describe("AuthPolicy", () => {
  it("AUTH-01: knows loopback addresses, and takes every doubtful one for reachable", () => {
    for (const host of loopback) assert.isTrue(AuthPolicy.isLoopback(host), JSON.stringify(host))
    for (const host of reachable) assert.isFalse(AuthPolicy.isLoopback(host), JSON.stringify(host))
  })

  it.effect("AUTH-01: each policy says which bootstrap and session methods the server takes", () =>
    Effect.gen(function*() {
      const descriptors = yield* Effect.forEach(
        ["desktop-managed-local", "loopback-browser", "remote-reachable", "unsafe-no-auth"] as const,
        (kind) => AuthPolicy.make({ host: "127.0.0.1", kind })
      )
      const sessionMethods = ["browser-session-cookie", "bearer-access-token", "dpop-access-token"] as const
      // A proof has to name the server's address, which one behind a proxy doesn't know unless it is told.
      const withoutDpop = sessionMethods.slice(0, 2)
      assert.deepStrictEqual(descriptors, [
        {
          kind: "desktop-managed-local",
          bootstrapMethods: ["seeded-credential", "pairing-link"],
          sessionMethods,
          secureCookies: false
        },
        { kind: "loopback-browser", bootstrapMethods: ["pairing-link"], sessionMethods, secureCookies: false },
        {
          kind: "remote-reachable",
          bootstrapMethods: ["pairing-link"],
          sessionMethods: withoutDpop,
          secureCookies: true
        },
        { kind: "unsafe-no-auth", bootstrapMethods: [], sessionMethods: [], secureCookies: false }
      ])
      const publicUrl = new URL("https://box.example/base")
      const reachable = yield* AuthPolicy.make({ host: "0.0.0.0", publicUrl })
      assert.deepStrictEqual(reachable.sessionMethods, sessionMethods)
      assert.strictEqual(reachable.publicUrl, publicUrl)
    }))

  it.effect("AUTH-01: without a name chooses by the address, and never unsafe-no-auth", () =>
    Effect.gen(function*() {
      for (const host of loopback) {
        assert.strictEqual((yield* AuthPolicy.make({ host })).kind, "loopback-browser", host)
      }
      for (const host of reachable) {
        const chosen = yield* AuthPolicy.make({ host })
        assert.strictEqual(chosen.kind, "remote-reachable", host)
        assert.isTrue(chosen.secureCookies)
      }
    }))

  it.effect("AUTH-01: refuses unsafe-no-auth and the other local policies on an address that others reach", () =>
    Effect.gen(function*() {
      for (const host of reachable) {
        for (const kind of ["unsafe-no-auth", "loopback-browser", "desktop-managed-local"] as const) {
          const error = yield* Effect.flip(AuthPolicy.make({ host, kind }))
          assert.instanceOf(error, AuthPolicy.PolicyRefused)
          assert.include(error.message, kind)
          assert.include(error.message, "Listen on 127.0.0.1")
        }
      }
      assert.strictEqual((yield* AuthPolicy.make({ host: "127.0.0.1", kind: "unsafe-no-auth" })).kind, "unsafe-no-auth")
    }))

  it.effect("AUTH-01: a refused policy stops the layer, so that the server does not start", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(
        Effect.scoped(Layer.build(AuthPolicy.layer({ host: "0.0.0.0", kind: "unsafe-no-auth" })))
      )
      assert.instanceOf(error, AuthPolicy.PolicyRefused)
      const policy = yield* AuthPolicy.AuthPolicy.pipe(Effect.provide(AuthPolicy.layer({ host: "::1" })))
      assert.strictEqual(policy.kind, "loopback-browser")
    }))

  it.effect("AUTH-01: takes the public address as a text too, and says which option is not what it must be", () =>
    Effect.gen(function*() {
      const { publicUrl } = yield* AuthPolicy.make({ host: "127.0.0.1", publicUrl: "https://box.example/base" })
      assert.strictEqual(publicUrl?.href, "https://box.example/base")
      for (const url of ["box.example", "", "ftp://box.example"]) {
        const error = yield* Effect.flip(AuthPolicy.make({ host: "127.0.0.1", publicUrl: url }))
        assert.include(error.message, "publicUrl must be an address, such as https://example.com", url)
      }
      // As a program in JavaScript may misspell them.
      const misspelt = [
        ["{}", "host must be an address, such as 127.0.0.1"],
        [`{"host":1}`, "host must be an address, such as 127.0.0.1"],
        [`{"hots":"::1"}`, "host must be an address, such as 127.0.0.1, and is missing; is hots meant for it?"],
        [`{"host":"::1","publicURL":"https://box.example"}`, "publicURL is not an option; did you mean publicUrl?"],
        [`{"host":"::1","kind":"loopback"}`, "kind must be one of"],
        ["null", "host must be an address, such as 127.0.0.1, and is missing"]
      ] as const
      for (const [written, problem] of misspelt) {
        const options: AuthPolicy.Options = JSON.parse(written)
        const error = yield* Effect.flip(AuthPolicy.make(options))
        assert.instanceOf(error, AuthPolicy.InvalidAuthPolicyOptions, written)
        assert.include(error.message, problem)
      }
    }))

  it.effect("AUTH-01: a server has the name that its owner gave it, if that is one line", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* AuthPolicy.make({ host: "::1", name: "Ada’s server" })).name, "Ada’s server")
      for (const name of ["", " ", "two\nlines", "\u202eevil", "x".repeat(129)]) {
        const error = yield* Effect.flip(AuthPolicy.make({ host: "::1", name }))
        assert.instanceOf(error, AuthPolicy.InvalidAuthPolicyOptions, JSON.stringify(name))
      }
      const configured = (name: string) =>
        AuthPolicy.AuthPolicy.pipe(
          Effect.provide(Layer.provide(
            AuthPolicy.layerConfig,
            ConfigProvider.layer(ConfigProvider.fromUnknown({ SALLYPORT_NAME: name }))
          ))
        )
      assert.strictEqual((yield* configured("lab")).name, "lab")
      assert.include((yield* Effect.flip(configured("a\u0007b"))).message, "SALLYPORT_NAME")
    }))
})
