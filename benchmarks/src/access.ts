/**
 * The rates of access: verifying sessions, redeeming codes, checking proofs, the cost of authentication for a request,
 * and the time until a revoked client has lost its access.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as AuthPolicy from "@sallyport/core/access/AuthPolicy"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as DpopProof from "@sallyport/core/access/DpopProof"
import * as ReplayRepository from "@sallyport/core/access/ReplayRepository"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as Authentication from "@sallyport/http/Authentication"
import * as NodeDigest from "@sallyport/node/NodeDigest"
import * as NodeMac from "@sallyport/node/NodeMac"
import * as NodeProofSignature from "@sallyport/node/NodeProofSignature"
import * as SqlRepositories from "@sallyport/core/SqlRepositories"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Redacted from "effect/Redacted"
import { sealData, unsealData } from "iron-session"
import * as Jose from "jose"
import {
  createHash,
  createPublicKey,
  generateKeyPairSync,
  hash,
  randomBytes,
  sign,
  verify as verifySignature
} from "node:crypto"
import * as Http from "node:http"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { makeGetSession } from "./betterAuth.ts"
import { rates, type Row, type Section } from "./measure.ts"
import * as Revocations from "./revocations.ts"

const layerCrypto = Layer.mergeAll(NodeCrypto.layer, NodeDigest.layer, NodeMac.layer)

/** The services on an SQLite file with the library's default durability. */
const layerServices = (filename: string) =>
  Layer.mergeAll(BootstrapCredentialService.layer, SessionCredentialService.layer).pipe(
    Layer.provideMerge(SqlRepositories.layer),
    Layer.provideMerge(SqliteClient.layer({ filename })),
    Layer.provideMerge(SecretStore.layerMemory),
    Layer.provideMerge(layerCrypto)
  )

const issue = SessionCredentialService.SessionCredentialService.use((sessions) =>
  sessions.issue({ subject: "owner", scopes: ["runs:read"], method: "bearer-access-token" })
)

const rate = (measured: ReadonlyMap<string, number>, name: string): number => measured.get(name) ?? Number.NaN

const verifyRows = async (directory: string): Promise<ReadonlyArray<Row>> => {
  const filename = join(directory, "verify.db")
  const runtime = ManagedRuntime.make(layerServices(filename))
  const { token } = await runtime.runPromise(issue)
  const text = Redacted.value(token)
  const known = new Map([[hash("sha256", text, "hex"), { subject: "owner" }]])
  const getSession = await makeGetSession()
  const secret = "a secret of at least thirty-two characters"
  const sealed = await sealData({ subject: "owner" }, { password: secret })
  const key = randomBytes(32)
  const jwt = await new Jose.SignJWT({ sub: "owner" }).setProtectedHeader({ alg: "HS256" }).sign(key)

  const hits = 50_000
  const verifyHits = SessionCredentialService.SessionCredentialService.use((sessions) =>
    Effect.gen(function*() {
      for (let index = 0; index < hits; index++) yield* sessions.verify(token)
    })
  )
  // Tokens that this process has not seen: issued by one runtime, verified by a fresh one on the same file.
  const firstSight = 2_000
  const tokens = await runtime.runPromise(
    Effect.forEach(Array.from({ length: firstSight * 8 }), () => Effect.map(issue, ({ token }) => token))
  )
  const secrets = await runtime.runPromise(SecretStore.SecretStore.use((store) => store.get("session-signing-keys")))
  if (secrets._tag === "None") throw new Error("The signing keys are missing")
  const other = ManagedRuntime.make(
    SessionCredentialService.layer.pipe(
      Layer.provide(SqlRepositories.layer),
      Layer.provide(SqliteClient.layer({ filename })),
      Layer.provide(Layer.effect(
        SecretStore.SecretStore,
        Effect.tap(
          SecretStore.makeMemory(),
          (store) => store.set("session-signing-keys", secrets.value)
        )
      )),
      Layer.provide(layerCrypto)
    )
  )
  let next = 0

  const measured = await rates([
    { name: "verify, seen before", operations: hits, run: () => runtime.runPromise(verifyHits) },
    {
      name: "SHA-256 and a Map",
      operations: hits,
      run: () => {
        for (let index = 0; index < hits; index++) {
          if (known.get(hash("sha256", text, "hex")) === undefined) throw new Error("not found")
        }
      }
    },
    {
      name: "verify, first sight",
      operations: firstSight,
      run: () =>
        other.runPromise(SessionCredentialService.SessionCredentialService.use((sessions) =>
          Effect.gen(function*() {
            for (let index = 0; index < firstSight; index++) {
              const unseen = tokens[next++ % tokens.length]
              if (unseen !== undefined) yield* sessions.verify(unseen)
            }
          })
        ))
    },
    {
      name: "better-auth getSession",
      operations: 500,
      run: async () => {
        for (let index = 0; index < 500; index++) await getSession()
      }
    },
    {
      name: "iron-session unseal",
      operations: 200,
      run: async () => {
        for (let index = 0; index < 200; index++) await unsealData(sealed, { password: secret })
      }
    },
    {
      name: "jose jwtVerify HS256",
      operations: 2_000,
      run: async () => {
        for (let index = 0; index < 2_000; index++) await Jose.jwtVerify(jwt, key)
      }
    }
  ])
  await runtime.dispose()
  await other.dispose()

  const seen = rate(measured, "verify, seen before")
  const first = rate(measured, "verify, first sight")
  return [
    {
      path: "verify, token seen before",
      ours: seen,
      against: "SHA-256 one-shot and a Map",
      theirs: rate(measured, "SHA-256 and a Map"),
      asked: 0.5
    },
    {
      path: "verify, token seen before",
      ours: seen,
      against: "better-auth getSession",
      theirs: rate(measured, "better-auth getSession"),
      asked: 100
    },
    {
      path: "verify, token seen before",
      ours: seen,
      against: "iron-session unseal",
      theirs: rate(measured, "iron-session unseal"),
      asked: null
    },
    {
      path: "verify, first sight",
      ours: first,
      against: "better-auth getSession",
      theirs: rate(measured, "better-auth getSession"),
      asked: 5
    },
    {
      path: "verify, first sight",
      ours: first,
      against: "jose jwtVerify HS256, no store",
      theirs: rate(measured, "jose jwtVerify HS256"),
      asked: null
    }
  ]
}

/** Issues as many codes, each to be redeemed once. */
const issueCodes = (count: number) =>
  BootstrapCredentialService.BootstrapCredentialService.use((bootstrap) =>
    Effect.forEach(
      Array.from({ length: count }),
      () => Effect.map(bootstrap.issue({ issuedBy: "operator", scopes: ["runs:read"] }), ({ code }) => code)
    )
  )

const redeemCode = (credential: Redacted.Redacted) =>
  BootstrapCredentialService.BootstrapCredentialService.use((bootstrap) =>
    bootstrap.redeem({ credential, method: "bearer-access-token" })
  )

/** Makes what redeems codes by hand, in tables with the least that a server could have. */
const redeemInOwnTables = (filename: string, count: number) => {
  const raw = new DatabaseSync(filename)
  raw.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")
  raw.exec("CREATE TABLE links (digest TEXT PRIMARY KEY, uses INTEGER NOT NULL, expires_at INTEGER NOT NULL)")
  raw.exec("CREATE TABLE sessions (id TEXT PRIMARY KEY, subject TEXT NOT NULL, expires_at INTEGER NOT NULL)")
  raw.exec("CREATE INDEX sessions_subject ON sessions (subject, expires_at)")
  raw.exec("CREATE TABLE head (id INTEGER PRIMARY KEY, revision INTEGER NOT NULL)")
  raw.exec("CREATE TABLE feed (revision INTEGER PRIMARY KEY, type TEXT NOT NULL, payload TEXT NOT NULL)")
  raw.exec("INSERT INTO head VALUES (1, 0)")
  const insert = raw.prepare("INSERT INTO links VALUES (?, 1, ?)")
  raw.exec("BEGIN")
  for (let index = 0; index < count; index++) insert.run(String(index), Date.now() + 3_600_000)
  raw.exec("COMMIT")
  const update = raw.prepare(
    "UPDATE links SET uses = uses - 1 WHERE digest = ? AND uses > 0 AND expires_at > ? RETURNING *"
  )
  const begin = raw.prepare("INSERT INTO sessions VALUES (?, 'owner', ?)")
  const advance = raw.prepare("UPDATE head SET revision = revision + 2 WHERE id = 1 RETURNING revision")
  const tell = raw.prepare("INSERT INTO feed VALUES (?, ?, ?)")
  // What an event of a session weighs.
  const payload = JSON.stringify({ session: "x".repeat(400) })
  let next = 0
  return {
    redeem: () => {
      raw.exec("BEGIN IMMEDIATE")
      if (update.get(String(next), Date.now()) === undefined) throw new Error("not redeemed")
      begin.run(String(next++), Date.now() + 3_600_000)
      const revision = Number(advance.get()?.["revision"])
      tell.run(revision - 1, "pairingLinkUpserted", payload)
      tell.run(revision, "sessionUpserted", payload)
      raw.exec("COMMIT")
    },
    close: () => raw.close()
  }
}

/** Makes what redeems codes by hand, in the tables of ours: the same rows, found, listed, ended and swept as ours are. */
const redeemInOurTables = async (filename: string, count: number) => {
  const runtime = ManagedRuntime.make(layerServices(filename))
  const [first] = await runtime.runPromise(issueCodes(count + 1))
  if (first !== undefined) await runtime.runPromise(redeemCode(first))
  await runtime.dispose()
  const raw = new DatabaseSync(filename)
  raw.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")
  const links = raw.prepare("SELECT id, code_digest FROM sallyport_pairing_links WHERE remaining_uses > 0").all()
  const session = raw.prepare("SELECT * FROM sallyport_sessions").get() ?? {}
  const [ended, begun] = raw.prepare("SELECT * FROM sallyport_access_feed ORDER BY revision DESC LIMIT 2").all()
  const inserting = (table: string, row: object) =>
    raw.prepare(`INSERT INTO ${table} VALUES (${Object.keys(row).map((name) => `:${name}`).join(", ")})`)
  const take = raw.prepare(
    `UPDATE sallyport_pairing_links SET remaining_uses = remaining_uses - 1
    WHERE code_digest = ? AND remaining_uses > 0 AND revoked_at_millis IS NULL AND expires_at_millis > ? RETURNING *`
  )
  const begin = inserting("sallyport_sessions", session)
  const advance = raw.prepare("UPDATE sallyport_access_feed_head SET revision = revision + 2 RETURNING revision")
  const tell = inserting("sallyport_access_feed", begun ?? {})
  let next = 0
  return {
    redeem: () => {
      const { code_digest: digest = null, id = null } = links[next++] ?? {}
      raw.exec("BEGIN IMMEDIATE")
      if (take.get(digest, Date.now()) === undefined) throw new Error("not redeemed")
      begin.run({ ...session, id: `${id}+`, link_id: id, token_digest: randomBytes(32).toString("hex") })
      const revision = Number(advance.get()?.["revision"])
      tell.run({ ...ended, revision: revision - 1 })
      tell.run({ ...begun, revision })
      raw.exec("COMMIT")
    },
    close: () => raw.close()
  }
}

const redeemRows = async (directory: string): Promise<ReadonlyArray<Row>> => {
  const runtime = ManagedRuntime.make(layerServices(join(directory, "redeem.db")))
  const batch = 300
  const rounds = 7
  const count = batch * (rounds + 1)
  const codes = (await runtime.runPromise(issueCodes(count))).values()
  const least = redeemInOwnTables(join(directory, "least.db"), count)
  const same = await redeemInOurTables(join(directory, "same.db"), count)
  const byHand = (name: string, redeem: () => void) => ({
    name,
    operations: batch,
    run: () => {
      for (let index = 0; index < batch; index++) redeem()
    }
  })
  const measured = await rates([
    {
      name: "ours",
      operations: batch,
      run: () => runtime.runPromise(Effect.forEach(codes.take(batch), redeemCode, { discard: true }))
    },
    byHand("same", same.redeem),
    byHand("least", least.redeem)
  ], rounds)
  await runtime.dispose()
  same.close()
  least.close()
  const ours = { path: "redeem, durable", ours: rate(measured, "ours") }
  return [
    { ...ours, against: "the raw writes into the same tables", theirs: rate(measured, "same"), asked: 0.6 },
    { ...ours, against: "the raw writes into tables of one index", theirs: rate(measured, "least"), asked: null }
  ]
}

/** Sends requests over a few kept-alive connections, as a proxy does. */
const requests = (url: string, headers: Record<string, string>, count: number, connections: number) => {
  const agent = new Http.Agent({ keepAlive: true, maxSockets: connections })
  const once = () =>
    new Promise<void>((resolve, reject) => {
      Http.get(url, { agent, headers }, (response) => {
        response.resume()
        if (response.statusCode !== 200) reject(new Error(`Answered ${response.statusCode}`))
        response.on("end", resolve)
      }).on("error", reject)
    })
  return async () => {
    let left = count
    await Promise.all(Array.from({ length: connections }, async () => {
      while (left-- > 0) await once()
    }))
  }
}

const httpRows = async (directory: string): Promise<ReadonlyArray<Row>> => {
  const runtime = ManagedRuntime.make(
    HttpRouter.serve(
      Layer.merge(
        HttpRouter.add("GET", "/guarded", HttpServerResponse.text("hello")).pipe(
          Layer.provide(Authentication.guard("runs:read").layer)
        ),
        HttpRouter.add("GET", "/open", HttpServerResponse.text("hello"))
      ),
      { disableListenLog: true, disableLogger: true }
    ).pipe(
      Layer.provideMerge(layerServices(join(directory, "http.db"))),
      Layer.provide(AuthPolicy.layer({ host: "127.0.0.1" })),
      Layer.provideMerge(NodeHttpServer.layer(Http.createServer, { host: "127.0.0.1", port: 0 }))
    )
  )
  const { token } = await runtime.runPromise(issue)
  const url = await runtime.runPromise(
    HttpServer.HttpServer.useSync(({ address }) => HttpServer.formatAddress(address))
  )
  const headers = { authorization: `Bearer ${Redacted.value(token)}` }
  const count = 4_000
  const measured = await rates([
    { name: "guarded", operations: count, run: requests(`${url}/guarded`, headers, count, 16) },
    { name: "open", operations: count, run: requests(`${url}/open`, headers, count, 16) }
  ], 9)
  await runtime.dispose()
  return [{
    path: "authenticated HTTP request",
    ours: rate(measured, "guarded"),
    against: "the same server, unguarded route",
    theirs: rate(measured, "open"),
    asked: 0.9
  }]
}

const dpopRows = async (): Promise<ReadonlyArray<Row>> => {
  const runtime = ManagedRuntime.make(
    DpopProof.layer.pipe(
      Layer.provide([NodeProofSignature.layer, ReplayRepository.layerMemoryWith({ capacity: 1_000_000 })]),
      Layer.provide(SecretStore.layerMemory),
      Layer.provide(layerCrypto)
    )
  )
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" })
  const jwk = publicKey.export({ format: "jwk" })
  const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url")
  const header = encode({ typ: "dpop+jwt", alg: "ES256", jwk })
  const accessToken = Redacted.make("a".repeat(300))
  const ath = createHash("sha256").update(Redacted.value(accessToken)).digest("base64url")
  const url = "https://server.example/api/runs"
  const make = () => {
    const payload = encode({
      jti: randomBytes(16).toString("base64url"),
      htm: "POST",
      htu: url,
      iat: Math.floor(Date.now() / 1000),
      ath
    })
    const input = `${header}.${payload}`
    return `${input}.${
      sign("sha256", Buffer.from(input), { key: privateKey, dsaEncoding: "ieee-p1363" }).toString("base64url")
    }`
  }
  const batch = 1_500
  const rounds = 7
  const proofs = Array.from({ length: batch * (rounds + 1) }, make)
  let next = 0
  const imported = createPublicKey({ key: jwk, format: "jwk" })
  const example = make()
  // As many different proofs as for ours, because one proof that is checked repeatedly is checked faster.
  const bare = proofs.map((proof) => ({
    input: Buffer.from(proof.slice(0, proof.lastIndexOf("."))),
    signature: Buffer.from(proof.slice(proof.lastIndexOf(".") + 1), "base64url")
  }))
  let nextBare = 0

  const measured = await rates([
    {
      name: "ours",
      operations: batch,
      run: () =>
        runtime.runPromise(DpopProof.DpopProof.use((dpop) =>
          Effect.gen(function*() {
            for (let index = 0; index < batch; index++) {
              yield* (yield* dpop.check({ proof: proofs[next++], method: "POST", url, accessToken })).spend
            }
          })
        ))
    },
    {
      name: "bare",
      operations: batch,
      run: () => {
        for (let index = 0; index < batch; index++) {
          const proof = bare[nextBare++]
          if (
            proof === undefined ||
            !verifySignature("sha256", proof.input, { key: imported, dsaEncoding: "ieee-p1363" }, proof.signature)
          ) throw new Error("not verified")
        }
      }
    },
    {
      name: "jose",
      operations: 500,
      run: async () => {
        for (let index = 0; index < 500; index++) await Jose.jwtVerify(example, Jose.EmbeddedJWK, { typ: "dpop+jwt" })
      }
    }
  ], rounds)
  await runtime.dispose()
  return [
    {
      path: "DPoP proof, whole check",
      ours: rate(measured, "ours"),
      against: "bare node:crypto ES256",
      theirs: rate(measured, "bare"),
      asked: 0.7
    },
    {
      path: "DPoP proof, whole check",
      ours: rate(measured, "ours"),
      against: "jose jwtVerify, signature alone",
      theirs: rate(measured, "jose"),
      asked: null
    }
  ]
}

/** The rows of access. */
export const sections: ReadonlyArray<Section> = [
  { name: "verify", measure: verifyRows },
  { name: "authenticated HTTP request", measure: httpRows },
  { name: "redeem", measure: redeemRows },
  { name: "DPoP", measure: dpopRows },
  { name: "revocation", measure: Revocations.rows }
]
