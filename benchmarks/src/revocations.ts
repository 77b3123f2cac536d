/** How long it takes until a client that another process revokes has lost its open stream and its token. */
import { createHash, generateKeyPairSync, randomUUID, sign } from "node:crypto"
import { once } from "node:events"
import * as Http from "node:http"
import { join } from "node:path"
import type { Row } from "./measure.ts"
import { spawnProgram } from "./processes.ts"
import type { Command } from "./revoker.ts"

const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url")

/** A client with its own key. */
const makeClient = (url: string) => {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" })
  const { crv, kty, x, y } = publicKey.export({ format: "jwk" })
  const jwk = { crv, kty, x, y }
  const headers = (method: string, path: string, token?: string) => {
    const claims = {
      jti: randomUUID(),
      htm: method,
      htu: url + path,
      iat: Math.floor(Date.now() / 1000),
      ...(token === undefined ? {} : { ath: createHash("sha256").update(token).digest("base64url") })
    }
    const input = `${encode({ typ: "dpop+jwt", alg: "ES256", jwk })}.${encode(claims)}`
    const signature = sign("sha256", Buffer.from(input), { key: privateKey, dsaEncoding: "ieee-p1363" })
    return {
      dpop: `${input}.${signature.toString("base64url")}`,
      ...(token === undefined ? {} : { authorization: `DPoP ${token}` })
    }
  }
  return { thumbprint: createHash("sha256").update(JSON.stringify(jwk)).digest("base64url"), headers }
}

const now = () => Number(process.hrtime.bigint()) / 1e6

/** Measures how long it takes from before the decision. */
export const rows = async (directory: string): Promise<ReadonlyArray<Row>> => {
  const state = join(directory, "revocations")
  const server = await spawnProgram<{ readonly url: string }, never>(
    "../../packages/cli/src/bin.ts",
    ["serve", "--port", "0", "--json", "--state-dir", state],
    { stderr: "ignore" }
  )
  const owner = await spawnProgram<object, Command>("./revoker.ts", [state])
  const { url } = server.hello
  const streams: Array<number> = []
  const tokens: Array<number> = []
  for (let round = 0; round < 40; round++) {
    const { headers, thumbprint } = makeClient(url)
    const { code } = await owner.ask({ approve: thumbprint })
    const response = await fetch(`${url}/oauth/token`, {
      method: "POST",
      headers: headers("POST", "/oauth/token"),
      body: new URLSearchParams({
        grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
        subject_token: code,
        subject_token_type: "urn:sallyport:token-type:bootstrap-credential"
      })
    })
    const { access_token: token } = (await response.json()) as { readonly access_token: string }
    const stream = Http.get(`${url}/api/auth/access`, {
      agent: false,
      headers: headers("GET", "/api/auth/access", token)
    })
    const [body]: Array<Http.IncomingMessage> = await once(stream, "response")
    if (body?.statusCode !== 200) throw new Error(`The stream was refused: ${body?.statusCode}`)
    await once(body, "data")
    const ended = once(body.resume(), "close").then(now)
    // The token is tried repeatedly. It counts as refused from the time when the first failing request was sent.
    const refused = (async () => {
      while (true) {
        const sent = now()
        const { status } = await fetch(`${url}/api/auth/session`, {
          headers: headers("GET", "/api/auth/session", token)
        })
        if (status === 401) return sent
      }
    })()
    const { at } = await owner.ask({ revoke: thumbprint })
    streams.push((await ended) - at)
    tokens.push((await refused) - at)
  }
  await owner.stop()
  await server.stop("SIGTERM")
  const row = (path: string, times: ReadonlyArray<number>): Row => ({
    path: `revoked by another process, ${path}, slowest of ${times.length}`,
    ours: Math.max(...times),
    against: "asked",
    theirs: 50,
    unit: "ms",
    asked: 1
  })
  return [row("open stream ended", streams), row("token refused", tokens)]
}
