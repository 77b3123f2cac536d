/**
 * Speaks HTTP and Server-Sent Events to a node, with bare `node:http`, and writes down what comes back.
 */
import * as Http from "node:http"
import type { Observation } from "./history.ts"
import { type Node, sleep } from "./node.ts"

/** How long a request may take while the node runs: some steps of at most 10 seconds each. */
const deadlineMillis = 40_000

/** Is an answer; without one, the connection broke, or the deadline passed. */
export interface Answer {
  readonly status: number
  readonly text: string
  readonly sentAt: number
  readonly answeredAt: number
}

/** Describes a request. */
export interface Request {
  readonly method?: "GET" | "POST" | "PUT" | "DELETE"
  readonly token?: string
  readonly headers?: Record<string, string>
  readonly json?: unknown
  readonly form?: Record<string, string>
  readonly body?: string
  /** Tells whether the client has lost interest in a stream. */
  readonly isLeft?: () => boolean
}

/** Returns a body as JSON, assumed to have the form that the API describes. */
export const parse = <A>({ text }: Answer): A => JSON.parse(text)

const isTypedError = (text: string): boolean => {
  try {
    const body: unknown = JSON.parse(text)
    if (typeof body !== "object" || body === null) return false
    return ("code" in body && "message" in body && "traceId" in body) ||
      ("error" in body && "error_description" in body && "traceId" in body) ||
      ("error" in body && typeof body.error === "object" && body.error !== null && "code" in body.error)
  } catch {
    return false
  }
}

/** Makes a client of nodes. */
export const make = (observe: (observation: Observation) => void) => {
  const headersOf = ({ headers, token }: Request) => ({
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    ...headers
  })

  const answered = (node: Node, operation: string, status: number, text: string) =>
    observe({
      _tag: "Answer",
      operation,
      node: node.index,
      status,
      isTyped: isTypedError(text),
      text: status >= 400 ? text.slice(0, 500) : ""
    })

  /** Sends one request, and returns its answer if there was one. */
  const send = (node: Node, operation: string, path: string, request: Request = {}): Promise<Answer | undefined> =>
    new Promise((resolve) => {
      const sentAt = performance.now()
      const body = request.json === undefined
        ? request.form === undefined ? request.body : new URLSearchParams(request.form).toString()
        : JSON.stringify(request.json)
      const type = request.json === undefined
        ? request.form === undefined ? undefined : "application/x-www-form-urlencoded"
        : "application/json"
      const outgoing = Http.request(`${node.url()}${path}`, {
        agent: false,
        method: request.method ?? (body === undefined ? "GET" : "POST"),
        headers: { ...(type === undefined ? {} : { "content-type": type }), ...headersOf(request) }
      }, (response) => {
        let text = ""
        response.setEncoding("utf8").on("data", (chunk: string) => text += chunk).on("error", () => finish(undefined))
        response.on("end", () => {
          const status = response.statusCode ?? 0
          answered(node, operation, status, text)
          finish({ status, text, sentAt, answeredAt: performance.now() })
        })
      })
      const watch = setInterval(() => {
        const now = performance.now()
        const millis = now - sentAt - node.frozenMillis(sentAt, now)
        if (millis < deadlineMillis) return
        observe({ _tag: "Hung", operation, node: node.index, millis })
        outgoing.destroy()
        finish(undefined)
      }, 500)
      const finish = (answer: Answer | undefined) => {
        clearInterval(watch)
        resolve(answer)
      }
      outgoing.on("error", () => finish(undefined))
      outgoing.end(body)
    })

  /** Sends a request until it is answered for sure, or until it is time to stop. */
  const insist = async (
    node: () => Node,
    operation: string,
    path: string,
    request: Request,
    isOver: () => boolean
  ): Promise<{ readonly answer: Answer; readonly node: Node; readonly attempts: number } | undefined> => {
    for (let attempts = 1;; attempts++) {
      const chosen = node()
      const answer = await send(chosen, operation, path, request)
      if (answer !== undefined && answer.status < 500 && answer.status !== 429) {
        return { answer, node: chosen, attempts }
      }
      if (isOver()) return undefined
      await sleep(200)
    }
  }

  /**
   * Follows a stream until it ends, breaks or is left, and hands over its events. Returns the status, or 0 if there was
   * no answer.
   */
  const follow = (
    node: Node,
    path: string,
    request: Request,
    onEvent: (event: { readonly id: string | undefined; readonly event: string; readonly data: string }) => boolean
  ): Promise<number> =>
    new Promise((resolve) => {
      let text = ""
      let heardAt = performance.now()
      const outgoing = Http.request(
        `${node.url()}${path}`,
        { agent: false, headers: headersOf(request) },
        (response) => {
          const status = response.statusCode ?? 0
          const finish = () => resolve(status)
          response.setEncoding("utf8").on("error", finish).on("close", finish).on("data", (chunk: string) => {
            heardAt = performance.now()
            text += chunk
            const blocks = text.split("\n\n")
            if (status !== 200) return
            text = blocks.pop() ?? ""
            for (const block of blocks) {
              const fields = new Map<string, string>()
              for (const line of block.split("\n")) {
                const [, name, value] = /^(\w+): ?(.*)$/.exec(line) ?? []
                if (name !== undefined && value !== undefined) fields.set(name, value)
              }
              const data = fields.get("data")
              if (data === undefined) continue
              if (!onEvent({ id: fields.get("id"), event: fields.get("event") ?? "message", data })) {
                outgoing.destroy()
                return
              }
            }
          })
          response.on("end", () => {
            if (status !== 200) answered(node, `GET ${path}`, status, text)
          })
        }
      )
      // A stream that says nothing, not even its heartbeat, is left.
      const watch = setInterval(() => {
        if (performance.now() - heardAt > deadlineMillis || request.isLeft?.() === true) outgoing.destroy()
      }, 1_000)
      outgoing.on("error", () => resolve(0)).on("close", () => {
        clearInterval(watch)
        resolve(0)
      })
      outgoing.end()
    })

  return { send, insist, follow }
}

/** Is a client of nodes. */
export type Client = ReturnType<typeof make>
