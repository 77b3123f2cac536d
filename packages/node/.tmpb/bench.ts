import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as DpopProof from "@sallyport/core/DpopProof"
import * as ReplayRepository from "@sallyport/core/ReplayRepository"
import * as SecretStore from "@sallyport/core/SecretStore"
import * as NodeProofSignature from "@sallyport/node/NodeProofSignature"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Jose from "jose"
import { createHash, createPublicKey, generateKeyPairSync, sign, verify } from "node:crypto"
const N = 4000
const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" })
const jwk = publicKey.export({ format: "jwk" })
const token = "eyJ".padEnd(300, "x")
const ath = createHash("sha256").update(token).digest("base64url")
const b = (v: unknown) => Buffer.from(JSON.stringify(v)).toString("base64url")
const url = "https://sallyport.example/api/auth/sessions"
const make = () => { const i = b({ typ: "dpop+jwt", alg: "ES256", jwk: { kty: "EC", crv: "P-256", x: jwk.x, y: jwk.y } }) + "." + b({ jti: crypto.randomUUID(), htm: "GET", htu: url, iat: Math.floor(Date.now() / 1000), ath })
  return i + "." + sign("sha256", Buffer.from(i), { key: privateKey, dsaEncoding: "ieee-p1363" }).toString("base64url") }
const proofs = Array.from({ length: N }, make)
const parts = proofs.map((p) => { const k = p.lastIndexOf("."); return [Buffer.from(p.slice(0, k)), Buffer.from(p.slice(k + 1), "base64url")] as const })
const key = createPublicKey({ format: "jwk", key: jwk })
const rate = (n: number, ms: number) => Math.round(n / ms * 1000)
const bare = () => { const t = performance.now(); for (const [d, s] of parts) verify("sha256", d, { key, dsaEncoding: "ieee-p1363" }, s); return rate(N, performance.now() - t) }
const layers = () => DpopProof.layer.pipe(Layer.provide([NodeProofSignature.layer, ReplayRepository.layerMemory, SecretStore.layerMemory, NodeCrypto.layer]), Layer.provide(NodeCrypto.layer))
const noCrypto = { prepare: () => Effect.succeed(() => Effect.succeed(true)) }
const run = (layer: any) => Effect.gen(function*() { const d = yield* DpopProof.DpopProof; const t = performance.now()
  for (const p of proofs) yield* d.verify({ proof: p, method: "GET", url, accessToken: Redacted.make(token) })
  return rate(N, performance.now() - t) }).pipe(Effect.provide(layer), Effect.runPromise) as Promise<number>
const jose = async () => { const t = performance.now(); for (const p of proofs) { const { payload } = await Jose.jwtVerify(p, Jose.EmbeddedJWK, { typ: "dpop+jwt", algorithms: ["ES256"], maxTokenAge: 600 }); if (payload.htu !== url) throw 1 } return rate(N, performance.now() - t) }
const { ProofSignature } = await import("@sallyport/core/ProofSignature")
for (let i = 0; i < 4; i++) {
  const B = bare(), O = await run(layers()), J = await jose(), X = await run(Layer.provide(DpopProof.layer, [Layer.succeed(ProofSignature, noCrypto as any), ReplayRepository.layerMemory, SecretStore.layerMemory, NodeCrypto.layer]), Layer.provide(NodeCrypto.layer)), B2 = bare()
  console.log({ bare: B, bareAfter: B2, ours: O, jose: J, ratio: (O / ((B + B2) / 2)).toFixed(3), withoutSignature: X })
}
