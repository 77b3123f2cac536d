/**
 * Drives a backend as several clients do, each at its own pace, and writes down what they see.
 */
import { connect } from "node:net"
import { type Answer, make as makeClient, parse } from "./client.ts"
import type { Observation } from "./history.ts"
import { type Node, sleep } from "./node.ts"
import type { Random } from "./random.ts"

interface Session {
  readonly id: string
  readonly token: string
  isRevoked: boolean
}

interface RunAnswer {
  readonly created: boolean
  readonly run: { readonly runId: string }
}

const bootstrapType = "urn:sallyport:token-type:bootstrap-credential"
const exchangeType = "urn:ietf:params:oauth:grant-type:token-exchange"

/** Starts the clients. They go on until they are stopped. */
export const start = async (options: {
  readonly nodes: ReadonlyArray<Node>
  readonly random: Random
  readonly observe: (observation: Observation) => void
  /** How long each client rests between two requests, at most. */
  readonly paceMillis: number
}) => {
  const { nodes, observe, paceMillis, random } = options
  const client = makeClient(observe)
  const sessions: Array<Session> = []
  let isOver = false
  let names = 0
  let connections = 0
  let feedCursor: number | undefined
  const over = () => isOver
  const name = (kind: string) => `${kind}-${++names}-${Math.floor(random.next() * 1e9).toString(36)}`
  const firstNode = nodes[0]
  if (firstNode === undefined) throw new Error("There is no node")
  const anyNode = () => random.pick(nodes) ?? firstNode

  /** Exchanges a code, with the same attempt until the answer is sure, and learns the id of the session. */
  const redeem = async (code: string, linkId: string, attempt: string, isWanted: () => boolean) => {
    const form = {
      grant_type: exchangeType,
      subject_token: code,
      subject_token_type: bootstrapType,
      attempt_key: attempt
    }
    const redeemed = await client.insist(anyNode, "POST /oauth/token", "/oauth/token", { form }, isWanted)
    if (redeemed?.answer.status !== 200) return undefined
    const tokens = parse<{ readonly access_token: string; readonly refresh_token?: string }>(redeemed.answer)
    const token = tokens.access_token
    const state = await client.insist(anyNode, "GET /api/auth/session", "/api/auth/session", { token }, isWanted)
    if (state?.answer.status !== 200) return undefined
    const { id } = parse<{ readonly session: { readonly id: string } }>(state.answer).session
    observe({ _tag: "Redeemed", linkId, sessionId: id, attempt })
    return { id, token, refresh: tokens.refresh_token, isRevoked: false }
  }

  const root = await redeem(firstNode.code(), "start-up", name("attempt-of-root"), over)
  if (root === undefined) throw new Error("The first code was not accepted")
  sessions.push(root)
  const live = () => sessions.filter(({ isRevoked }) => !isRevoked)

  /** Sends the revocation of a session until its answer is sure. */
  const revoke = async (session: Session) => {
    session.isRevoked = true
    observe({ _tag: "RevocationSent", sessionId: session.id, at: performance.now() })
    const byItself = random.next() < 0.3
    const answered = await client.insist(
      anyNode,
      byItself ? "POST /api/auth/logout" : "POST /api/auth/sessions/revoke",
      byItself ? "/api/auth/logout" : "/api/auth/sessions/revoke",
      byItself ? { method: "POST", token: session.token } : { token: root.token, json: { id: session.id } },
      over
    )
    // A repeated logout finds the session gone: its first attempt has ended it.
    if (answered !== undefined && [204, 401, 404].includes(answered.answer.status)) {
      const { answer: { answeredAt: at }, node } = answered
      observe({ _tag: "Revoked", sessionId: session.id, node: node.index, at })
    }
  }

  /** Issues a link; returns it with its code, if it was made for sure. */
  const issue = async (parent: Session, label: string) => {
    const node = anyNode()
    const answer = await client.send(node, "POST /api/auth/pairing-links", "/api/auth/pairing-links", {
      token: parent.token,
      json: { label }
    })
    if (answer?.status === 201) {
      const { code, link } = parse<{ readonly code: string; readonly link: { readonly id: string } }>(answer)
      observe({ _tag: "Issued", linkId: link.id, uses: 1 })
      return { code, id: link.id }
    }
    if (answer !== undefined && answer.status < 500) observe({ _tag: "Refused", what: "link", key: label })
    return undefined
  }

  /** Pairs devices, each by several attempts at once, of which one may win. */
  const pairing = async () => {
    const parent = random.next() < 0.5 ? root : random.pick(live()) ?? root
    const link = await issue(parent, name("link"))
    if (link === undefined) return
    const attempts = Array.from({ length: random.between(1, 4) }, () => name("attempt-of-a-device"))
    const redeemed = await Promise.all(attempts.map((attempt) => redeem(link.code, link.id, attempt, over)))
    sessions.push(...redeemed.filter((one) => one !== undefined))
    // The code again, by a stranger.
    const late = await redeem(link.code, link.id, name("attempt-of-a-stranger"), over)
    if (late !== undefined) sessions.push(late)
  }

  const revoking = async () => {
    const others = live().filter((session) => session !== root)
    const session = others.length > 5 ? random.pick(others) : undefined
    if (session === undefined) return
    await revoke(session)
    // What a revoked session asks for must leave no trace.
    await sleep(random.between(0, 50))
    if (nodes.length === 1) await issue(session, name("link-of-a-revoked-session"))
  }

  const using = async () => {
    const session = random.pick(sessions)
    if (session === undefined) return
    const node = anyNode()
    const path = "/api/auth/session"
    const answer = await client.send(node, `GET ${path}`, path, { token: session.token })
    if (answer?.status !== 200 && answer?.status !== 401) return
    const { answeredAt, sentAt, status } = answer
    observe({
      _tag: "Used",
      sessionId: session.id,
      node: node.index,
      sentAt,
      answeredAt,
      isAccepted: status === 200
    })
  }

  /** Reads a run to its end, with the cursor of the last event after each break, at whichever node. */
  const read = async (runId: string) => {
    let after = 0
    let hasEnded = false
    for (;;) {
      const connection = ++connections
      let leavesAfter = random.next() < 0.3 ? random.between(1, 20) : Infinity
      observe({ _tag: "Followed", connection, runId, after })
      const headers: Record<string, string> = after === 0 ? {} : { "last-event-id": String(after) }
      const status = await client.follow(
        anyNode(),
        `/api/runs/${runId}/events`,
        { token: root.token, headers },
        ({ data, event, id }) => {
          if (event !== "data" && event !== "end") return true
          const seq = id !== undefined && /^\d+$/.test(id) ? Number(id) : undefined
          observe({ _tag: "Event", connection, runId, seq, kind: event, data })
          after = seq ?? after
          hasEnded = event === "end"
          return !hasEnded && --leavesAfter > 0
        }
      )
      if (hasEnded || status === 204 || status === 404 || status === 410) return
      // The readers of the last runs go on a little, so that they see how those end.
      if (isOver && status !== 200) return
      await sleep(100)
    }
  }

  const running = async () => {
    const key = name("run")
    const to = random.between(1, 60)
    const session = random.next() < 0.7 ? root : random.pick(live()) ?? root
    const request = {
      token: session.token,
      headers: { "idempotency-key": key },
      json: { threadId: `thread-${random.between(1, 6)}`, input: { to, everyMillis: random.between(0, 60) } }
    }
    const started = await client.insist(anyNode, "POST /api/runs", "/api/runs", request, over)
    if (started === undefined) return
    const { status } = started.answer
    if (status !== 200 && status !== 201) {
      // An attempt before this one, without an answer, may have been accepted.
      if (started.attempts === 1) observe({ _tag: "Refused", what: "run", key })
      return
    }
    const { created, run: { runId } } = parse<RunAnswer>(started.answer)
    observe({ _tag: "RunStarted", runId, key, isNew: created, to })
    if (random.next() < 0.3) {
      const again = await client.insist(anyNode, "POST /api/runs", "/api/runs", request, over)
      if (again !== undefined && again.answer.status < 300) {
        const repeated = parse<RunAnswer>(again.answer)
        observe({ _tag: "RunStarted", runId: repeated.run.runId, key, isNew: repeated.created, to })
      }
    }
    if (random.next() < 0.15) {
      const path = `/api/runs/${runId}/abort`
      await client.send(anyNode(), "POST /api/runs/:id/abort", path, { method: "POST", token: session.token })
    }
    if (session === root) await read(runId)
  }

  const following = async () => {
    const connection = ++connections
    let cursor = feedCursor
    observe({ _tag: "FeedFollowed", connection, after: cursor })
    const after = cursor === undefined ? "" : `?after=${cursor}`
    const request = { token: root.token, isLeft: over }
    await client.follow(anyNode(), `/api/auth/access${after}`, request, ({ event, id }) => {
      if (event === "failure" || id === undefined) return true
      cursor = feedCursor = Number(id)
      observe({ _tag: "FeedEvent", connection, revision: cursor, type: event })
      return random.next() > 0.02
    })
  }

  const credential = async (key: string) => {
    const path = `/api/credentials/${key}`
    const isSet = random.next() < 0.6
    observe({ _tag: "CredentialSent", key })
    const answer: Answer | undefined = await client.send(anyNode(), `${isSet ? "PUT" : "DELETE"} ${path}`, path, {
      token: root.token,
      method: isSet ? "PUT" : "DELETE",
      ...(isSet ? { json: { value: name("secret") } } : {})
    })
    if (answer !== undefined && (answer.status < 300 || answer.status === 404)) {
      observe({ _tag: "CredentialIs", key, isSet })
    }
    // A node has heard of a change of the other one after this time, whatever happened to the hint.
    if (nodes.length > 1) await sleep(6_000)
    const listed = await client.send(anyNode(), "GET /api/credentials", "/api/credentials", { token: root.token })
    if (listed?.status === 200) observe({ _tag: "CredentialSeen", key, isSet: listed.text.includes(`"${key}"`) })
  }

  /** Keeps a session of its own alive by its refresh tokens, asking again with the same one when an answer is lost. */
  const refreshing = async (): Promise<() => Promise<void>> => {
    let own: { readonly id: string; readonly refresh: string } | undefined
    return async () => {
      if (own === undefined) {
        const link = await issue(root, name("link-of-a-refresher"))
        if (link === undefined) return
        const paired = await redeem(link.code, link.id, name("attempt-of-a-refresher"), over)
        if (paired?.refresh !== undefined) own = { id: paired.id, refresh: paired.refresh }
        return
      }
      const form = { grant_type: "refresh_token", refresh_token: own.refresh }
      const refreshed = await client.insist(anyNode, "POST /oauth/token (refresh)", "/oauth/token", { form }, over)
      if (refreshed === undefined) return
      const { answer } = refreshed
      if (answer.status === 200) {
        const tokens = parse<{ readonly access_token: string; readonly refresh_token: string }>(answer)
        own = { id: own.id, refresh: tokens.refresh_token }
        const path = "/api/auth/session"
        const node = anyNode()
        const used = await client.send(node, `GET ${path}`, path, { token: tokens.access_token })
        if (used?.status !== 200 && used?.status !== 401) return
        const { answeredAt, sentAt } = used
        const isAccepted = used.status === 200
        observe({ _tag: "Used", sessionId: own.id, node: node.index, sentAt, answeredAt, isAccepted })
      } else {
        observe({ _tag: "RefreshRefused", sessionId: own.id, at: answer.answeredAt, text: answer.text })
        own = undefined
      }
    }
  }

  const loop = async (work: () => Promise<void>) => {
    while (!over()) {
      await work()
      await sleep(random.between(1, paceMillis))
    }
  }
  const loops = [
    loop(pairing),
    loop(pairing),
    loop(revoking),
    loop(using),
    loop(using),
    loop(running),
    loop(running),
    loop(running),
    loop(following),
    loop(() => credential("anthropic.api-key")),
    loop(await refreshing())
  ]

  return {
    /** Opens a connection to a stream of the server that reads nothing, and leaves it after some time. */
    deadReader: async (millis: number) => {
      const started = await client.send(anyNode(), "POST /api/runs", "/api/runs", {
        token: root.token,
        headers: { "idempotency-key": name("run-of-a-dead-reader") },
        json: { threadId: name("thread"), input: { to: 2_000, everyMillis: 0 } }
      })
      if (started === undefined || started.status >= 300) return
      const { runId } = parse<RunAnswer>(started).run
      const { hostname, port } = new URL(anyNode().url())
      const socket = connect(Number(port), hostname)
      socket.on("error", () => {})
      socket.pause()
      socket.write(
        `GET /api/runs/${runId}/events HTTP/1.1\r\nhost: ${hostname}:${port}\r\nauthorization: Bearer ${root.token}\r\n\r\n`
      )
      await sleep(millis)
      socket.resetAndDestroy()
    },
    /** Stops the clients, when each has come to the end of what it does. */
    stop: async () => {
      isOver = true
      await Promise.all(loops)
    }
  }
}
