/** Starts the server that React Router has built, and prints the address that pairs the first browser. */
import { createRequestListener } from "@remix-run/node-fetch-server"
import { Redacted } from "effect"
import { createServer } from "node:http"
import { fileURLToPath } from "node:url"
import { createRequestHandler, RouterContextProvider } from "react-router"
import { host } from "./app/host.ts"
import * as Server from "./Server.ts"

// Where this file is when it has been built.
const assets = fileURLToPath(new URL("../client/assets", import.meta.url))
const sallyport = Server.open({ filename: process.env["GREENHOUSE_FILE"] ?? "./greenhouse.db", assets })
const answer = createRequestHandler(() => import("virtual:react-router/server-build"))

const server = createServer(createRequestListener((request) => {
  const context = new RouterContextProvider()
  context.set(host, sallyport)
  return answer(request, context)
}))
const { code } = await sallyport.code
server.listen(Number(process.env["PORT"] ?? 4594), "127.0.0.1", () => {
  const address = server.address()
  const port = typeof address === "object" && address !== null ? address.port : 0
  process.stdout.write(`Open http://127.0.0.1:${port}/sallyport/pair#token=${Redacted.value(code)} to pair.\n`)
})
const stop = async () => {
  server.close()
  server.closeAllConnections()
  await sallyport.stop()
}
process.once("SIGINT", () => void stop()).once("SIGTERM", () => void stop())
