/**
 * Runs the smallest server that sends events: Node's own, which writes each event to every open response. It takes the
 * commands of `runServer.ts` that it can answer.
 */
import * as Http from "node:http"
import { createInterface } from "node:readline"
import type { Command } from "./runServer.ts"
import { usage } from "./usage.ts"

const answers = new Set<Http.ServerResponse>()
const server = Http.createServer((_request, response) => {
  response.writeHead(200, { "content-type": "text/event-stream" })
  response.write("retry: 1000\n\n")
  answers.add(response)
  response.on("close", () => answers.delete(response))
})

const perform = async (command: Command): Promise<unknown> => {
  if ("start" in command) return "bare"
  if ("append" in command) {
    for (let index = 1; index <= command.count; index++) {
      await new Promise((resolve) => setTimeout(resolve, command.everyMillis))
      const data = `{"at":${process.hrtime.bigint() / 1_000n}}`
      const bytes = Buffer.from(`id: ${index}\nevent: data\ndata: ${data}\n\n`)
      for (const response of answers) response.write(bytes)
    }
    return null
  }
  return usage()
}

server.listen(0, "127.0.0.1", () => {
  const address = server.address()
  process.stdout.write(`${JSON.stringify({ port: typeof address === "object" ? address?.port : 0, token: "" })}\n`)
})
for await (const line of createInterface(process.stdin)) {
  process.stdout.write(`${JSON.stringify(await perform(JSON.parse(line)))}\n`)
}
process.exit(0)
