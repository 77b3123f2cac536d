import { assert, describe, it } from "@effect/vitest"
import * as AccessScope from "@sallyport/core/access/AccessScope"
import * as AuthPolicy from "@sallyport/core/access/AuthPolicy"
import * as ReplayRepository from "@sallyport/core/access/ReplayRepository"
import * as IdentityProviders from "@sallyport/http/IdentityProviders"
import * as PublicHttp from "@sallyport/node/PublicHttp"
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as IpNetwork from "effect/net/IpNetwork"
import { createHmac } from "node:crypto"
import { audience, exchange, idToken, json, makeKey, proxyHeader, startIssuer, startServer } from "./identitySupport.ts"
import { claimsOf, generate, headerOf, prove } from "./dpopSupport.ts"
import { bearer, eventsOf, follow, type Server, start } from "./support.ts"
import { eventually } from "../../../test-support/programs.ts"
import { documented, lookedFor } from "../../../test-support/variables.ts"

const loopback = IpNetwork.fromStringUnsafe("127.0.0.0/8")

const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url")

describe("an ID token", () => {
  it.live("AGENT-06: is exchanged for a session that is marked with its issuer, in the list and the feed (X1, X2, X8)", () =>
    Effect.gen(function*() {
      for (const alg of ["RS256", "ES256", "EdDSA", "PS256"]) {
        const issuer = yield* startIssuer(alg)
        const server = yield* startServer({
          issuers: [{ issuer: issuer.issuer, audiences: [audience] }],
          admit: ({ claims, issuer, subject }) =>
            Effect.succeed({ subject: `${String(claims.tenant)}-${subject}`, label: new URL(issuer).hostname })
        })
        const answer = yield* exchange(server, yield* issuer.sign({ tenant: "acme" }))
        assert.strictEqual(answer.status, 200, answer.text)
        assert.match(String(answer.headers["cache-control"]), /no-store/)
        assert.strictEqual(answer.json.token_type, "Bearer")
        assert.strictEqual(answer.json.issued_token_type, "urn:ietf:params:oauth:token-type:access_token")
        // What lets in others, or decides, is not granted unless the host says so.
        const ordinary = AccessScope.builtin.filter((scope) => !AccessScope.widening.includes(scope))
        assert.strictEqual(answer.json.scope, ordinary.join(" "))
        assert.isAtMost(Number(answer.json.expires_in), 43_200)
        assert.isAbove(Number(answer.json.expires_in), 43_100)
        const { json: state } = yield* server.send({
          path: "/api/auth/session",
          headers: bearer(String(answer.json.access_token))
        })
        const session = Object(state.session)
        assert.deepInclude(session, { subject: "acme-1234", method: "bearer-access-token" })
        assert.deepStrictEqual(session.letInBy, { actor: `issuer:${issuer.issuer}`, sessionId: null, linkId: null })
        assert.strictEqual(session.device.label, "127.0.0.1")
        const list = yield* server.send({
          path: "/api/auth/sessions",
          headers: bearer(String(answer.json.access_token))
        })
        assert.include(list.text, `"actor":"issuer:${issuer.issuer}"`)
        // The operator's feed has it as the actor's doing, and so has that of the session itself.
        const operator = yield* server.token()
        const reading = yield* follow(server.port, {
          path: "/api/auth/access?after=0",
          headers: bearer(operator)
        })
        const upserted = (text: string) => eventsOf(text).find(({ event }) => event === "sessionUpserted")
        const event = upserted(yield* reading.until((text) => upserted(text) !== undefined))
        assert.strictEqual(Object(JSON.parse(event?.data ?? "")).actor, `issuer:${issuer.issuer}`)
      }
    }))

  it.live("AGENT-06: gives the scopes that are asked for, of those that the host's function gives (X8)", () =>
    Effect.gen(function*() {
      const issuer = yield* startIssuer()
      const server = yield* startServer({
        issuers: [{ issuer: issuer.issuer, audiences: [audience] }],
        admit: ({ subject }) => Effect.succeed({ subject, scopes: ["access:manage", "runs:read"] })
      })
      const all = yield* exchange(server, yield* issuer.sign())
      assert.strictEqual(all.json.scope, "access:manage runs:read")
      const fewer = yield* exchange(server, yield* issuer.sign(), { scope: "runs:read runs:read" })
      assert.strictEqual(fewer.json.scope, "runs:read")
      for (const scope of ["runs:operate", "runs:read access:write", "nonsense"]) {
        const token = yield* issuer.sign()
        const answer = yield* exchange(server, token, { scope })
        assert.deepStrictEqual([answer.status, answer.json.error], [400, "invalid_scope"], scope)
        // Nothing was used up by the mistake.
        assert.strictEqual((yield* exchange(server, token)).status, 200)
      }
    }))

  it.live("AGENT-06: is good for this server alone: other targets and actors are refused (X3)", () =>
    Effect.gen(function*() {
      const issuer = yield* startIssuer()
      const server = yield* startServer({ issuers: [{ issuer: issuer.issuer, audiences: [audience] }] })
      const own = `http://127.0.0.1:${server.port}`
      for (const fields of [{ resource: own }, { audience: `${own}/` }, { resource: "", audience: "" }]) {
        assert.strictEqual((yield* exchange(server, yield* issuer.sign(), fields)).status, 200)
      }
      for (const fields of [{ resource: `${own}/mcp` }, { audience: "https://other.example" }]) {
        const answer = yield* exchange(server, yield* issuer.sign(), fields)
        assert.deepStrictEqual([answer.status, answer.json.error], [400, "invalid_target"])
      }
      for (const fields of [{ actor_token: "x", actor_token_type: idToken }, { actor_token_type: idToken }]) {
        const answer = yield* exchange(server, yield* issuer.sign(), fields)
        assert.deepStrictEqual([answer.status, answer.json.error], [400, "invalid_request"])
      }
      const other = yield* exchange(server, yield* issuer.sign(), {
        subject_token_type: "urn:ietf:params:oauth:token-type:saml2"
      })
      assert.deepStrictEqual([other.status, other.json.error], [400, "invalid_request"])
      assert.include(String(other.json.error_description), idToken)
      // Who is not signed in learns from where to come, and a server that takes no identities says so.
      const identities = (from: Server) =>
        Effect.map(from.send({ path: "/api/auth/session" }), ({ json }) => Object(json.policy).identities)
      assert.deepStrictEqual(yield* identities(server), [{ issuer: issuer.issuer, tokenType: idToken }])
      assert.deepStrictEqual(yield* identities(yield* start()), [])
    }))

  it.live("AGENT-06 SESS-10: with a proof, the session is bound to its key (X8)", () =>
    Effect.gen(function*() {
      const issuer = yield* startIssuer()
      const server = yield* startServer({ issuers: [{ issuer: issuer.issuer, audiences: [audience] }] })
      const key = generate()
      const url = `http://127.0.0.1:${server.port}/oauth/token`
      const dpop = prove(key, headerOf(key), claimsOf({ method: "POST", url, nowMillis: Date.now() }))
      const token = yield* issuer.sign()
      const wrong = yield* exchange(server, token, {}, { dpop: `${dpop.slice(0, -8)}AAAAAAAA` })
      assert.strictEqual(wrong.json.error, "invalid_dpop_proof")
      const answer = yield* exchange(server, token, {}, { dpop })
      assert.deepStrictEqual([answer.status, answer.json.token_type], [200, "DPoP"])
      const asBearer = yield* server.send({
        path: "/api/auth/sessions",
        headers: bearer(String(answer.json.access_token))
      })
      assert.strictEqual(asBearer.status, 401)
    }))

  it.live("AGENT-06: that is wrong in any way is an invalid_request, and lets no one in (X1, X4, X5, X6)", () =>
    Effect.gen(function*() {
      const issuer = yield* startIssuer()
      const other = yield* startIssuer()
      const server = yield* startServer({
        issuers: [{ issuer: issuer.issuer, audiences: [audience, "another-of-ours"], authorizedParties: [audience] }]
      })
      const now = Math.floor(Date.now() / 1000)
      const good = yield* issuer.sign()
      const [head = "", body = "", signature = ""] = good.split(".")
      const spki = JSON.stringify(issuer.key.jwk)
      const claims = JSON.parse(Buffer.from(body, "base64url").toString())
      const hmac = (header: object, payload: object) => {
        const input = `${encode(header)}.${encode(payload)}`
        return `${input}.${createHmac("sha256", spki).update(input).digest("base64url")}`
      }
      const cases: Readonly<Record<string, readonly [string, string]>> = {
        "other issuer": [yield* other.sign(), "no such issuer"],
        "issuer with a slash": [yield* issuer.sign({ iss: `${issuer.issuer}/` }), "no such issuer"],
        "issuer that is no text": [yield* issuer.sign({ iss: [issuer.issuer] }), "refused"],
        "no issuer": [yield* issuer.sign({ iss: undefined }), "no such issuer"],
        "other audience": [yield* issuer.sign({ aud: "other" }), "not for this server alone"],
        "another audience beside": [
          yield* issuer.sign({ aud: [audience, "other"], azp: audience }),
          "not for this server alone"
        ],
        "no audience": [yield* issuer.sign({ aud: undefined }), "it lacks iss"],
        "two audiences, no azp": [yield* issuer.sign({ aud: [audience, "another-of-ours"] }), "issued to a program"],
        "azp of another": [yield* issuer.sign({ azp: "other" }), "issued to a program"],
        "azp that is no text": [yield* issuer.sign({ azp: [audience] }), "issued to a program"],
        "expired": [yield* issuer.sign({ iat: now - 600, exp: now - 61 }), "expired"],
        "too old": [yield* issuer.sign({ iat: now - 86_400 - 62, exp: now + 600 }), "too old"],
        "issued in the future": [yield* issuer.sign({ iat: now + 120 }), "not valid yet"],
        "not before the future": [yield* issuer.sign({ nbf: now + 120 }), "not valid yet"],
        "exp that is no number": [yield* issuer.sign({ exp: "soon" }), "form"],
        "exp in milliseconds as text": [yield* issuer.sign({ iat: String(now) }), "form"],
        "no exp": [yield* issuer.sign({ exp: undefined }), "it lacks iss"],
        "no iat": [yield* issuer.sign({ iat: undefined }), "it lacks iss"],
        "no sub": [yield* issuer.sign({ sub: undefined }), "it lacks iss"],
        "empty sub": [yield* issuer.sign({ sub: "" }), "form"],
        "sub that is a number": [yield* issuer.sign({ sub: 7 }), "form"],
        "jti that is a number": [yield* issuer.sign({ jti: 7 }), "form"],
        "alg none": [`${encode({ alg: "none" })}.${body}.`, "no signed JWT"],
        "alg none with a signature": [`${encode({ alg: "none" })}.${body}.${signature}`, "algorithm"],
        "HS256 with the public key": [hmac({ alg: "HS256", kid: "first", typ: "JWT" }, claims), "algorithm"],
        "RS256 in other letters": [`${encode({ alg: "rs256", kid: "first" })}.${body}.${signature}`, "algorithm"],
        "another algorithm of the same key": [
          `${encode({ alg: "PS256", kid: "first" })}.${body}.${signature}`,
          "no such key"
        ],
        "an access token": [yield* issuer.sign({}, { typ: "at+jwt" }), "typ"],
        "a critical header": [
          yield* issuer.sign({}, {}).pipe(
            Effect.map((token) =>
              `${encode({ alg: "RS256", kid: "first", crit: ["x"], x: 1 })}.${token.split(".").slice(1).join(".")}`
            )
          ),
          "no signed JWT"
        ],
        "a key in the header": [
          yield* Effect.gen(function*() {
            const key = yield* makeKey("RS256", "mine")
            return yield* issuer.sign({}, { jwk: key.jwk }, key)
          }),
          "no such key"
        ],
        "another key under the same name": [yield* issuer.sign({}, {}, yield* makeKey("RS256", "first")), "signature"],
        "another body": [`${head}.${encode({ ...claims, sub: "5678" })}.${signature}`, "signature"],
        "a cut signature": [good.slice(0, -10), "signature"],
        "no token": ["three.little.words", "no signed JWT"],
        "four parts": [`${good}.x`, "no signed JWT"],
        "blanks": [`${good} `, "no signed JWT"],
        "too long": [yield* issuer.sign({ filler: "x".repeat(13_000) }), "no signed JWT"]
      }
      for (const [name, [token, sentence]] of Object.entries(cases)) {
        const answer = yield* exchange(server, token)
        assert.deepStrictEqual([answer.status, answer.json.error], [400, "invalid_request"], name)
        assert.include(String(answer.json.error_description), sentence, name)
      }
      assert.strictEqual(server.probe.calls.get("sessions.insert") ?? 0, 0)
      // And nothing of the tokens stands in the log.
      for (const line of server.logged) assert.notInclude(line, body.slice(0, 40))
      assert.strictEqual((yield* exchange(server, good)).status, 200)
    }))

  it.live("AGENT-06: has clocks that differ by the skew, and no more (X5)", () =>
    Effect.gen(function*() {
      const issuer = yield* startIssuer()
      const server = yield* startServer({
        issuers: [{ issuer: issuer.issuer, audiences: [audience] }],
        clockSkew: "30 seconds"
      })
      const now = Math.floor(Date.now() / 1000)
      const status = (claims: Readonly<Record<string, unknown>>) =>
        Effect.flatMap(issuer.sign(claims), (token) => Effect.map(exchange(server, token), ({ status }) => status))
      assert.strictEqual(yield* status({ iat: now - 300, exp: now - 15 }), 200)
      assert.strictEqual(yield* status({ iat: now - 300, exp: now - 45 }), 400)
      assert.strictEqual(yield* status({ iat: now + 15 }), 200)
      assert.strictEqual(yield* status({ iat: now + 45 }), 400)
    }))

  it.live("AGENT-06: is good once, by its jti or as a whole, unless the host says otherwise (X7)", () =>
    Effect.gen(function*() {
      const issuer = yield* startIssuer()
      const relaxed = yield* startIssuer()
      const server = yield* startServer({
        issuers: [
          { issuer: issuer.issuer, audiences: [audience] },
          { issuer: relaxed.issuer, audiences: [audience], singleUse: false }
        ]
      })
      const jti = "the same"
      const first = yield* issuer.sign({ jti })
      const tokens = [first, yield* issuer.sign({ jti, sub: "another" })]
      const unmarked = yield* issuer.sign({ jti: undefined })
      // Of racers one gets in.
      const racers = yield* Effect.all(Array.from({ length: 8 }, () => exchange(server, first)), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(racers.map(({ status }) => status).sort(), [200, ...Array(7).fill(400)])
      for (const token of tokens) {
        const again = yield* exchange(server, token)
        assert.deepStrictEqual([again.status, again.json.error], [400, "invalid_request"])
        assert.include(String(again.json.error_description), "used before")
      }
      assert.strictEqual((yield* exchange(server, unmarked)).status, 200)
      assert.strictEqual((yield* exchange(server, unmarked)).status, 400)
      // An issuer's values are its own.
      const elsewhere = yield* relaxed.sign({ jti })
      assert.strictEqual((yield* exchange(server, elsewhere)).status, 200)
      assert.strictEqual((yield* exchange(server, elsewhere)).status, 200)
      // To the end of the time in which it is taken, with the skew.
      server.advance(350_000)
      assert.include(String((yield* exchange(server, first)).json.error_description), "used before")
      server.advance(11_000)
      assert.include(String((yield* exchange(server, first)).json.error_description), "expired")
    }))

  it.live("AGENT-06: lets no one in while its session cannot be stored, or it cannot be spent", () =>
    Effect.gen(function*() {
      const issuer = yield* startIssuer()
      const server = yield* startServer({ issuers: [{ issuer: issuer.issuer, audiences: [audience] }] })
      server.probe.failing.add("sessions.insert")
      const answer = yield* exchange(server, yield* issuer.sign())
      assert.deepStrictEqual([answer.status, answer.json.error], [503, "temporarily_unavailable"])
      assert.notInclude(answer.text, "secret-path")

      const full = yield* startServer(
        { issuers: [{ issuer: issuer.issuer, audiences: [audience] }] },
        { replays: ReplayRepository.layerMemoryWith({ capacity: 1 }) }
      )
      assert.strictEqual((yield* exchange(full, yield* issuer.sign())).status, 200)
      const second = yield* exchange(full, yield* issuer.sign())
      assert.deepStrictEqual([second.status, second.json.error], [503, "temporarily_unavailable"])
      assert.strictEqual(full.probe.calls.get("sessions.insert"), 1)
    }))
})

describe("the host's function", () => {
  it.live("AGENT-06: refuses, is away or dies, and none of its words reach the caller (X9)", () =>
    Effect.gen(function*() {
      const issuer = yield* startIssuer()
      const server = yield* startServer({
        issuers: [{ issuer: issuer.issuer, audiences: [audience] }],
        admit: ({ subject }) =>
          subject === "mallory"
            ? Effect.fail(new IdentityProviders.IdentityNotAdmitted({ problem: "on the secret list" }))
            : subject === "away"
            ? Effect.fail(new IdentityProviders.IdentityUnavailable({ cause: new Error("secret directory is down") }))
            : subject === "dies"
            ? Effect.die(new Error("secret fault"))
            : subject === "throws"
            ? Effect.sync(() => {
              throw new Error("secret fault")
            })
            : Effect.succeed({ subject })
      })
      const expected: Readonly<Record<string, ReadonlyArray<unknown>>> = {
        mallory: [400, "invalid_request"],
        away: [503, "temporarily_unavailable"],
        dies: [500, "server_error"],
        throws: [500, "server_error"],
        // Names that are not for people, from a claim that the person chose.
        operator: [400, "invalid_request"],
        "issuer:https://a.example": [400, "invalid_request"],
        "line\nbreak": [400, "invalid_request"]
      }
      for (const [sub, outcome] of Object.entries(expected)) {
        const answer = yield* exchange(server, yield* issuer.sign({ sub }))
        assert.deepStrictEqual([answer.status, answer.json.error], outcome, sub)
        assert.notInclude(answer.text, "secret", sub)
      }
      assert.isTrue(server.logged.some((line) => line.includes("on the secret list")))
      assert.strictEqual(server.probe.calls.get("sessions.insert") ?? 0, 0)
      assert.strictEqual((yield* exchange(server, yield* issuer.sign())).status, 200)
    }))
})

describe("the keys of an issuer", () => {
  it.live("AGENT-06: are read once and kept, and a storm of unknown ones makes one more read an interval (X10)", () =>
    Effect.gen(function*() {
      const issuer = yield* startIssuer()
      const server = yield* startServer({ issuers: [{ issuer: issuer.issuer, audiences: [audience] }] })
      assert.strictEqual(issuer.documents.count(), 0)
      const together = yield* Effect.all(
        Array.from({ length: 8 }, () => Effect.flatMap(issuer.sign(), (token) => exchange(server, token))),
        { concurrency: "unbounded" }
      )
      assert.isTrue(together.every(({ status }) => status === 200))
      // The discovery document and the keys.
      assert.strictEqual(issuer.documents.count(), 2)
      const stranger = yield* makeKey("RS256", "unknown")
      const storm = Effect.gen(function*() {
        for (let n = 0; n < 30; n++) {
          const answer = yield* exchange(server, yield* issuer.sign({}, { kid: `unknown-${n}` }, stranger))
          assert.include(String(answer.json.error_description), "no such key")
        }
      })
      yield* storm
      assert.strictEqual(issuer.documents.count(), 2)
      server.advance(31_000)
      yield* storm
      assert.strictEqual(issuer.documents.count(), 4)
      // A new key is found with the next read, and the one before goes with it.
      const second = yield* makeKey("RS256", "second")
      issuer.publish([second.jwk])
      assert.strictEqual((yield* exchange(server, yield* issuer.sign({}, {}, second))).status, 400)
      server.advance(31_000)
      assert.strictEqual((yield* exchange(server, yield* issuer.sign({}, {}, second))).status, 200)
      assert.strictEqual((yield* exchange(server, yield* issuer.sign())).status, 400)
      assert.strictEqual(issuer.documents.count(), 6)
      // What the issuer takes back without a new key is gone within the time that keys are kept.
      issuer.publish([])
      server.advance(299_000)
      assert.strictEqual(
        (yield* exchange(server, yield* issuer.sign({ exp: Math.floor(Date.now() / 1000) + 3_600 }, {}, second)))
          .status,
        200
      )
      server.advance(2_000)
      assert.strictEqual(
        (yield* exchange(server, yield* issuer.sign({ exp: Math.floor(Date.now() / 1000) + 3_600 }, {}, second)))
          .status,
        400
      )
    }))

  it.live("AGENT-06: are not asked for of an issuer that is not named, or for a token of no taken algorithm (X4, X10)", () =>
    Effect.gen(function*() {
      const issuer = yield* startIssuer()
      const stranger = yield* startIssuer()
      const server = yield* startServer({
        issuers: [{ issuer: issuer.issuer, audiences: [audience], algorithms: ["ES256"] }]
      })
      yield* exchange(server, yield* stranger.sign({}, { jku: `${stranger.issuer}/keys` }))
      yield* exchange(server, yield* issuer.sign())
      assert.deepStrictEqual([issuer.documents.count(), stranger.documents.count()], [0, 0])
    }))

  it.live(
    "AGENT-06: from a document that is huge, slow, redirected, of another or no JSON are none (X10)",
    () =>
      Effect.gen(function*() {
        const discovery = "/.well-known/openid-configuration"
        const elsewhere = yield* startIssuer()
        const spoil: Readonly<Record<string, (issuer: Effect.Success<ReturnType<typeof startIssuer>>) => void>> = {
          "a huge set": ({ key, publish }) => publish([key.jwk, { kty: "oct", k: "x".repeat(70_000) }]),
          "an endless set": ({ documents }) =>
            void documents.serve("/keys", (response) => {
              response.writeHead(200, { "content-type": "application/json" })
              const more = () => {
                while (!response.destroyed && response.write("[".repeat(16_384)));
              }
              response.on("drain", more)
              more()
            }),
          "a redirected set": ({ documents }) =>
            void documents.serve(
              "/keys",
              (response) => void response.writeHead(302, { location: `${elsewhere.issuer}/keys` }).end()
            ),
          "a redirected discovery": ({ documents }) =>
            void documents.serve(
              discovery,
              (response) => void response.writeHead(307, { location: `${elsewhere.issuer}${discovery}` }).end()
            ),
          "the discovery of another": ({ documents }) =>
            void documents.serve(discovery, json({ issuer: elsewhere.issuer, jwks_uri: `${elsewhere.issuer}/keys` })),
          "the discovery of nearly the same": ({ documents, issuer }) =>
            void documents.serve(discovery, json({ issuer: `${issuer}/`, jwks_uri: `${issuer}/keys` })),
          "keys at a private address": ({ documents, issuer }) =>
            void documents.serve(discovery, json({ issuer, jwks_uri: "https://10.0.0.1/keys" })),
          "keys of the cloud's metadata": ({ documents, issuer }) =>
            void documents.serve(discovery, json({ issuer, jwks_uri: "https://169.254.169.254/latest" })),
          "keys over plain HTTP": ({ documents, issuer }) =>
            void documents.serve(discovery, json({ issuer, jwks_uri: "http://accounts.example/keys" })),
          "keys in a file": ({ documents, issuer }) =>
            void documents.serve(discovery, json({ issuer, jwks_uri: "file:///etc/passwd" })),
          "a page of HTML": ({ documents, key }) =>
            void documents.serve("/keys", json({ keys: [key.jwk] }, { "content-type": "text/html" })),
          "no set": ({ documents, key }) => void documents.serve("/keys", json([key.jwk])),
          "a fault": ({ documents }) => void documents.serve("/keys", (response) => void response.writeHead(500).end())
        }
        for (const [name, apply] of Object.entries(spoil)) {
          const issuer = yield* startIssuer()
          apply(issuer)
          const server = yield* startServer({ issuers: [{ issuer: issuer.issuer, audiences: [audience] }] })
          const before = elsewhere.documents.count()
          const token = yield* issuer.sign()
          const answer = yield* exchange(server, token)
          assert.deepStrictEqual([answer.status, answer.json.error], [503, "temporarily_unavailable"], name)
          assert.notInclude(answer.text, "jwks", name)
          assert.strictEqual(elsewhere.documents.count(), before, name)
          // Told once, and not asked for again by everyone who comes.
          const asked = issuer.documents.count()
          assert.strictEqual((yield* exchange(server, token)).status, 503, name)
          assert.strictEqual(issuer.documents.count(), asked, name)
          issuer.documents.serve(discovery, json({ issuer: issuer.issuer, jwks_uri: `${issuer.issuer}/keys` }))
          issuer.publish([{ kty: "unknown to us" }, "no key", issuer.key.jwk])
          server.advance(6_000)
          assert.strictEqual((yield* exchange(server, token)).status, 200, name)
          const lines = server.logged.filter((line) => line.startsWith(`{"message":"The keys of ${issuer.issuer} can`))
          assert.strictEqual(lines.length, 2, lines.join("\n"))
        }
      }),
    120_000
  )

  it.live(
    "AGENT-06: that take too long are given up, and a caller that leaves takes none from the others (X10)",
    () =>
      Effect.gen(function*() {
        const issuer = yield* startIssuer()
        let open: (() => void) | undefined
        const held = new Promise<void>((resolve) => {
          open = resolve
        })
        const keys = json({ keys: [issuer.key.jwk] })
        issuer.documents.serve("/keys", (response) => void held.then(() => keys(response)))
        const server = yield* startServer({ issuers: [{ issuer: issuer.issuer, audiences: [audience] }] })
        const leaving = yield* Effect.forkScoped(
          Effect.flatMap(issuer.sign(), (token) => exchange(server, token))
        )
        yield* eventually(Effect.sync(() => issuer.documents.count()), (count) => count === 2)
        yield* server.cut
        const other = yield* Effect.forkScoped(Effect.flatMap(issuer.sign(), (token) => exchange(server, token)))
        yield* Effect.sleep("50 millis")
        open?.()
        const { status } = yield* Fiber.join(other)
        assert.strictEqual(status, 200)
        assert.strictEqual(issuer.documents.count(), 2)
        void leaving

        const slow = yield* startIssuer()
        slow.documents.serve(
          "/keys",
          (response) => void response.writeHead(200, { "content-type": "application/json" }).write("{")
        )
        const patient = yield* startServer({ issuers: [{ issuer: slow.issuer, audiences: [audience] }] })
        assert.strictEqual((yield* exchange(patient, yield* slow.sign())).status, 503)
      }),
    60_000
  )

  it.live("AGENT-06: on this machine are not read by a client that reaches public addresses only (X10)", () =>
    Effect.gen(function*() {
      const issuer = yield* startIssuer()
      const server = yield* startServer(
        { issuers: [{ issuer: issuer.issuer, audiences: [audience] }] },
        { http: PublicHttp.layer }
      )
      assert.strictEqual((yield* exchange(server, yield* issuer.sign())).status, 503)
      assert.strictEqual(issuer.documents.count(), 0)
    }))

  it.live("AGENT-06: stand where the host says, without discovery (X10)", () =>
    Effect.gen(function*() {
      const issuer = yield* startIssuer("ES256")
      const server = yield* startServer({
        issuers: [{ issuer: "https://cloud.example/iap", jwksUri: `${issuer.issuer}/keys`, audiences: [audience] }]
      })
      const answer = yield* exchange(server, yield* issuer.sign({ iss: "https://cloud.example/iap" }))
      assert.strictEqual(answer.status, 200)
      assert.strictEqual(issuer.documents.count(), 1)
    }))
})

describe("the header of a proxy", () => {
  const gateway = { header: "X-Remote-User", from: [loopback], issuer: "gateway" }
  const proxies = [gateway]
  const fields = { subject_token: "X-Remote-User", subject_token_type: proxyHeader }

  it.live("AGENT-06 HTTP-03: counts on a connection from the proxy, and from no stranger (X11)", () =>
    Effect.gen(function*() {
      const server = yield* startServer({ proxies })
      const answer = yield* exchange(server, "", fields, { "x-remote-user": "ada" })
      assert.strictEqual(answer.status, 200, answer.text)
      const { json: state } = yield* server.send({
        path: "/api/auth/session",
        headers: bearer(String(answer.json.access_token))
      })
      assert.deepInclude(Object(state.session), { subject: "sub-ada" })
      assert.strictEqual(Object(state.session).letInBy.actor, "issuer:gateway")

      const named = yield* exchange(server, "", fields, { "x-remote-user": "zoë" })
      const { json: hers } = yield* server.send({
        path: "/api/auth/session",
        headers: bearer(String(named.json.access_token))
      })
      assert.deepInclude(Object(hers.session), { subject: "sub-zoë" })

      const strict = yield* startServer({
        proxies: [{ ...gateway, from: [IpNetwork.fromStringUnsafe("10.1.2.3/32")] }]
      })
      for (
        const headers of [
          { "x-remote-user": "ada" },
          { "x-remote-user": "ada", "x-forwarded-for": "10.1.2.3" },
          { "x-remote-user": "ada", forwarded: "for=10.1.2.3" }
        ]
      ) {
        const refused = yield* exchange(strict, "", fields, headers)
        assert.deepStrictEqual([refused.status, refused.json.error], [400, "invalid_request"])
        assert.include(String(refused.json.error_description), "did not come from its proxy")
      }
      assert.strictEqual(strict.probe.calls.get("sessions.insert") ?? 0, 0)
    }))

  it.live("AGENT-06: comes once, has a name, and is one that the host has named (X11)", () =>
    Effect.gen(function*() {
      const server = yield* startServer({ proxies })
      for (
        const headers of [{}, { "x-remote-user": "" }, { "x-remote-user": ["ada", "bob"] }, {
          "x-remote-user": "ada, bob"
        }]
      ) {
        const answer = yield* exchange(server, "", fields, headers)
        assert.deepStrictEqual([answer.status, answer.json.error], [400, "invalid_request"])
        assert.include(String(answer.json.error_description), "header did not come, or came twice")
      }
      for (const subject_token of ["cookie", "x-other", "__proto__", ""]) {
        const answer = yield* exchange(server, "", { ...fields, subject_token }, { "x-other": "ada" })
        assert.deepStrictEqual([answer.status, answer.json.error], [400, "invalid_request"])
      }
      // A proxy that names no issuer of tokens makes none be taken.
      const issuer = yield* startIssuer()
      assert.strictEqual((yield* exchange(server, yield* issuer.sign())).status, 400)
    }))

  it.live("AGENT-06 HTTP-02: is not for a page of another site, whom the proxy may know as well (X11)", () =>
    Effect.gen(function*() {
      for (const authorization of [false, true]) {
        const server = yield* startServer({ proxies }, { authorization })
        for (
          const headers of [
            { origin: "https://evil.example" },
            { origin: "null" },
            { "sec-fetch-site": "cross-site" },
            { origin: "https://evil.example", authorization: "Bearer x" },
            { origin: "https://evil.example", dpop: "x" }
          ]
        ) {
          const answer = yield* exchange(server, "", fields, { "x-remote-user": "ada", ...headers })
          // Only an authorization server, and a header that a browser asks about first, lead to the endpoint at all.
          assert.strictEqual(
            answer.status,
            authorization || "dpop" in headers || "authorization" in headers ? 400 : 403
          )
          assert.include(answer.text, "origin")
        }
        assert.strictEqual(server.probe.calls.get("sessions.insert") ?? 0, 0)
        const own = `http://127.0.0.1:${server.port}`
        const answer = yield* exchange(server, "", fields, { "x-remote-user": "ada", origin: own })
        assert.strictEqual(answer.status, 200)
      }
    }))

  it.live("AGENT-06: a page elsewhere may exchange an ID token that it holds, where other grants are open too", () =>
    Effect.gen(function*() {
      const issuer = yield* startIssuer()
      const server = yield* startServer(
        { issuers: [{ issuer: issuer.issuer, audiences: [audience] }] },
        { authorization: true }
      )
      const answer = yield* exchange(server, yield* issuer.sign(), {}, { origin: "https://app.example" })
      assert.deepStrictEqual([answer.status, answer.headers["access-control-allow-origin"]], [200, "*"])
    }))

  it.live("AGENT-06: that holds a signed token is taken as often as the proxy sends it, and nowhere else (X11)", () =>
    Effect.gen(function*() {
      const issuer = yield* startIssuer("ES256")
      const other = yield* startIssuer("ES256")
      const server = yield* startServer({
        issuers: [
          { issuer: issuer.issuer, audiences: [audience], header: "cf-access-jwt-assertion" },
          { issuer: other.issuer, audiences: [audience] }
        ]
      })
      const asked = { subject_token: "cf-access-jwt-assertion", subject_token_type: proxyHeader }
      const assertion = yield* issuer.sign()
      const by = (token: string) => exchange(server, "", asked, { "cf-access-jwt-assertion": token })
      assert.strictEqual((yield* by(assertion)).status, 200)
      assert.strictEqual((yield* by(assertion)).status, 200)
      for (
        const wrong of [
          "ada",
          yield* other.sign(),
          yield* issuer.sign({ aud: "other" }),
          yield* issuer.sign({ exp: Math.floor(Date.now() / 1000) - 120 }),
          yield* issuer.sign({}, {}, yield* makeKey("ES256", "first"))
        ]
      ) {
        const answer = yield* by(wrong)
        assert.deepStrictEqual([answer.status, answer.json.error], [400, "invalid_request"])
      }
      const direct = yield* exchange(server, assertion)
      assert.include(String(direct.json.error_description), "no such issuer")
    }))
})

describe("options", () => {
  const build = (
    options: Partial<IdentityProviders.Options>,
    kind: AuthPolicy.Kind = "loopback-browser"
  ) =>
    Effect.scoped(
      Layer.build(IdentityProviders.layerWith({ admit: ({ subject }) => Effect.succeed({ subject }), ...options }))
    ).pipe(
      Effect.provide(AuthPolicy.layer({ host: "127.0.0.1", kind })),
      Effect.provide([ReplayRepository.layerMemory, PublicHttp.layer, NodeCrypto.layer])
    )
  const issuer = { issuer: "https://accounts.example", audiences: ["a"] }
  const untyped = (options: object): Partial<IdentityProviders.Options> => ({ ...options })

  it.effect("AGENT-06: that cannot work are refused, with what they must be", () =>
    Effect.gen(function*() {
      yield* build({ issuers: [issuer] })
      yield* build({ issuers: [{ ...issuer, issuer: "https://accounts.example/tenant/" }] })
      const wrong: ReadonlyArray<readonly [Partial<IdentityProviders.Options>, string, AuthPolicy.Kind?]> = [
        [{}, "must name one at least"],
        [{ issuers: [issuer] }, "unsafe-no-auth", "unsafe-no-auth"],
        [{ issuers: [{ ...issuer, issuer: "http://accounts.example" }] }, "https address"],
        [{ issuers: [{ ...issuer, issuer: "https://accounts.example?x" }] }, "https address"],
        [{ issuers: [{ ...issuer, issuer: "https://u:p@accounts.example" }] }, "https address"],
        [{ issuers: [{ ...issuer, issuer: `https://accounts.example/${"x".repeat(255)}` }] }, "https address"],
        [{ issuers: [{ ...issuer, audiences: [] }] }, "audiences"],
        [{ issuers: [{ ...issuer, algorithms: [] }] }, "algorithms"],
        [{ issuers: [{ ...issuer, jwksUri: "http://accounts.example/keys" }] }, "jwksUri"],
        [{ issuers: [{ ...issuer, header: "Authorization" }] }, "one that the proxy writes"],
        [{ issuers: [issuer, issuer] }, "stands twice"],
        [{ proxies: [{ header: "x-user", from: [] }] }, "addresses in from"],
        [
          { proxies: [{ header: "x-user", from: [loopback], issuer: "https://accounts.example" }] },
          "name that is no address"
        ],
        [{ proxies: [{ header: "x user", from: [loopback] }] }, "one that the proxy writes"],
        [
          { proxies: [{ header: "x-user", from: [loopback] }, { header: "X-User", from: [loopback], issuer: "b" }] },
          "stands twice"
        ],
        // As a program in JavaScript may have them.
        [untyped({ issuers: [{ issuer: issuer.issuer, audience: "a" }] }), "audiences: a list of texts"],
        [untyped({ issuers: "https://accounts.example=a" }), "issuers must be a list"],
        [untyped({ proxies: [{ header: "x-user" }] }), "from: a list of networks"],
        [untyped({ issuers: [issuer], maxage: "1 day" }), "maxage is not an option; did you mean maxAge?"],
        [untyped({ issuers: [issuer], admit: "everyone" }), "admit must be a function"],
        [{ issuers: [issuer], clockSkew: "6 minutes" }, "clockSkew must be at most 5 minutes"],
        [{ issuers: [issuer], rereadInterval: "1 millis" }, "rereadInterval must be"]
      ]
      for (const [options, problem, kind] of wrong) {
        const error = yield* Effect.flip(build(options, kind))
        assert.include(error.message, problem)
      }
    }))

  it.effect("AGENT-06: come from variables, which the documentation lists", () =>
    Effect.gen(function*() {
      const layer = Layer.fresh(IdentityProviders.layerConfig(({ subject }) => Effect.succeed({ subject })))
      const built = Effect.scoped(Layer.build(layer)).pipe(
        Effect.provide(AuthPolicy.layer({ host: "127.0.0.1" })),
        Effect.provide([ReplayRepository.layerMemory, PublicHttp.layer, NodeCrypto.layer])
      )
      assert.deepStrictEqual(
        yield* lookedFor(built, { SALLYPORT_IDENTITY_ISSUERS: "https://a.example=x,https://a.example=y=z" }),
        documented("IdentityProviders")
      )
      const wrong = yield* Effect.flip(built.pipe(
        Effect.provide(
          ConfigProvider.layer(ConfigProvider.fromEnvRecord({ SALLYPORT_IDENTITY_ISSUERS: "https://a.example" }))
        )
      ))
      assert.include(String(wrong), "SALLYPORT_IDENTITY_ISSUERS must be issuers with their audiences")
    }))

  it.effect("AGENT-06 OPS-06: that no variable names are told by the variable", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Effect.scoped(
        Layer.build(IdentityProviders.layerConfig(({ subject }) => Effect.succeed({ subject })))
      )).pipe(
        Effect.provide(AuthPolicy.layer({ host: "127.0.0.1" })),
        Effect.provide([ReplayRepository.layerMemory, PublicHttp.layer, NodeCrypto.layer]),
        Effect.provide(ConfigProvider.layer(ConfigProvider.fromEnvRecord({})))
      )
      assert.include(
        error.message,
        "SALLYPORT_IDENTITY_ISSUERS is not set; set it to issuers with their audiences, such as"
      )
    }))
})
