/** Serves it with Bun. */
import { SqliteClient } from "@sallyport/sqlite-node"
import * as Server from "./Server.ts"

declare const Bun: {
  readonly serve: (options: {
    readonly hostname: string
    readonly port: number
    readonly fetch: (request: Request) => Promise<Response>
  }) => { readonly url: URL; readonly stop: () => Promise<void> }
}

const [filename = "./web-standard.db", port = "3000"] = process.argv.slice(2)
const { fetch, stop } = await Server.start({ state: Server.inSql(SqliteClient.layer({ filename })) })
const server = Bun.serve({ hostname: "127.0.0.1", port: Number(port), fetch })
process.stdout.write(`Listening on ${server.url.origin}\n`)
process.once("SIGINT", () => void stop().then(() => server.stop()).then(() => process.exit(0)))
