/** Serves it with Deno. */
import { SqliteClient } from "@sallyport/sqlite-node"
import * as Server from "./Server.ts"

declare const Deno: {
  readonly args: ReadonlyArray<string>
  readonly addSignalListener: (signal: "SIGINT", listener: () => void) => void
  readonly serve: (
    options: {
      readonly hostname: string
      readonly port: number
      readonly onListen: (address: { readonly port: number }) => void
    },
    fetch: (request: Request) => Promise<Response>
  ) => { readonly shutdown: () => Promise<void> }
  readonly exit: (code: number) => void
}

const [filename = "./web-standard.db", port = "3000"] = Deno.args
const { fetch, stop } = await Server.start({ state: Server.inSql(SqliteClient.layer({ filename })) })
const server = Deno.serve({
  hostname: "127.0.0.1",
  port: Number(port),
  onListen: ({ port }) => process.stdout.write(`Listening on http://127.0.0.1:${port}\n`)
}, fetch)
Deno.addSignalListener("SIGINT", () => void stop().then(() => server.shutdown()).then(() => Deno.exit(0)))
