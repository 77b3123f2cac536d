/** How many bytes a program of a browser needs for the client, minified and compressed. */
import { join } from "node:path"
import { promisify } from "node:util"
import { gzip } from "node:zlib"
import { build } from "vite"
import { annotated } from "../../scripts/annotate.ts"
import type { Row, Section } from "./measure.ts"

interface Sizes {
  readonly effect: number
  readonly other: number
}

/**
 * Bundles a program for browsers from the packages as they are published, with Effect's modules in a chunk of their own, and
 * returns KiB after `gzip -9`.
 */
const bundle = async (program: string): Promise<Sizes> => {
  const entry = "\0program"
  const built = await build({
    configFile: false,
    logLevel: "warn",
    root: join(import.meta.dirname, ".."),
    resolve: { conditions: ["sallyport-source", "module", "browser", "production"] },
    plugins: [{
      name: "program",
      resolveId: (id) => id === "program" ? entry : undefined,
      load: (id) => id === entry ? program : undefined
    }, annotated],
    build: {
      write: false,
      modulePreload: false,
      reportCompressedSize: false,
      rolldownOptions: {
        input: "program",
        preserveEntrySignatures: "strict",
        output: { codeSplitting: { groups: [{ name: "effect", test: /node_modules\/effect\// }] } }
      }
    }
  })
  const sizes = { effect: 0, other: 0 }
  for (const output of Array.isArray(built) ? built : [built]) {
    if (!("output" in output)) throw new Error("Vite watches")
    for (const part of output.output) {
      if (part.type !== "chunk") continue
      const { length } = await promisify(gzip)(part.code, { level: 9 })
      sizes[part.name === "effect" ? "effect" : "other"] += length / 1024
    }
  }
  return sizes
}

const rows = async (): Promise<ReadonlyArray<Row>> => {
  const program = await bundle(`
    import { Access, Credentials, Runs, SallyportClient } from "@sallyport/client"
    import * as Layer from "effect/Layer"
    import * as SecureRandom from "effect/crypto/SecureRandom"
    import * as FetchHttpClient from "effect/http/FetchHttpClient"
    export { Access, Runs }
    export const client = SallyportClient.layer({ baseUrl: location.origin, credentials: Credentials.layerCookie }).pipe(
      Layer.provide([FetchHttpClient.layer, SecureRandom.layerWebCrypto])
    )
  `)
  const everything = await bundle(`export * from "@sallyport/client"`)
  const peer = await bundle(`
    import { createAuthClient } from "better-auth/client"
    export const client = createAuthClient()
  `)
  const row = (path: string, ours: number, against: string, theirs: number, asked: number | null): Row => ({
    path,
    ours,
    against,
    theirs,
    unit: "KiB",
    asked
  })
  const share = "its Effect alone"
  const betterAuth = "better-auth/client"
  return [
    row("access and runs, with Effect", program.effect + program.other, share, program.effect, 1.15),
    row("access and runs, with Effect", program.effect + program.other, betterAuth, peer.other, null),
    row("access and runs, without Effect", program.other, betterAuth, peer.other, null),
    row("all of the client, with Effect", everything.effect + everything.other, share, everything.effect, null),
    row("all of the client, without Effect", everything.other, betterAuth, peer.other, null)
  ]
}

/** The rows of the client's bundle. */
export const sections: ReadonlyArray<Section> = [{ name: "bundle, gzipped", measure: rows }]
