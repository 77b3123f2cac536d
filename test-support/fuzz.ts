/**
 * Requests as no well-behaved client sends them, to every endpoint of an API, and what a server must answer to them.
 */
import * as Effect from "effect/Effect"
import type * as HttpApi from "effect/http-api/HttpApi"
import type * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as OpenApi from "effect/http-api/OpenApi"
import * as fc from "fast-check"
import * as Net from "node:net"

/** Names what a server takes: its endpoints, and the names of what it reads from queries and bodies. */
export interface Surface {
  readonly routes: ReadonlyArray<
    { readonly method: string; readonly path: string; readonly names?: ReadonlyArray<string> }
  >
  readonly names: ReadonlyArray<string>
}

const namesIn = (described: unknown): ReadonlyArray<string> => {
  const names = new Set<string>()
  JSON.stringify(described, (key, value: unknown) => {
    if (key === "properties" && typeof value === "object" && value !== null) {
      for (const name of Object.keys(value)) names.add(name)
    }
    if (key === "name" && typeof value === "string") names.add(value)
    return value
  })
  return [...names]
}

/** Reads the surface of an API from its own description, so that no endpoint is forgotten. */
export const surfaceOf = <Id extends string, Groups extends HttpApiGroup.Constraint>(
  api: HttpApi.HttpApi<Id, Groups>
): Surface => {
  const { components, paths } = OpenApi.fromApi(api)
  return {
    routes: Object.entries(paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => ({
        method: method.toUpperCase(),
        path,
        // What is asked for, not what is answered.
        names: namesIn({ ...operation, responses: undefined })
      }))
    ),
    names: namesIn([components, paths])
  }
}

const subscription = "/__ds/subscriptions/{id}"

/** Lists the routes of streams and subscriptions, which no API describes. */
export const streamRoutes = [
  ...["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"].map((method) => ({ method, path: "/streams/{path}" })),
  ...["GET", "PUT", "DELETE"].map((method) => ({ method, path: `/streams${subscription}` })),
  ...["streams", "callback", "claim", "ack", "release"].map((last) => ({
    method: "POST",
    path: `/streams${subscription}/${last}`
  })),
  { method: "DELETE", path: `/streams${subscription}/streams/{path}` }
]

/** Names what these routes read. */
export const streamNames = [
  "offset",
  "live",
  "cursor",
  "type",
  "pattern",
  "streams",
  "webhook",
  "url",
  "description",
  "lease_ttl_ms",
  "worker",
  "wake_id",
  "generation",
  "acks",
  "path",
  "token",
  "done",
  "wake_stream"
]

const token = `${btoa(`{"alg":"ES256","typ":"dpop+jwt","kid":"x"}`)}.${btoa(`{"jti":"x","iat":1}`)}.AAAA`.replaceAll(
  "=",
  ""
)

/** Lists texts on which decoders of other systems have broken. */
const nasty: ReadonlyArray<string> = [
  "",
  " ",
  "\t",
  "\0",
  "a\0b",
  "\n",
  "\ud800",
  "a\udc00",
  "\ufeff",
  "\u202e",
  "\u200b",
  "é",
  "😀",
  "\u0085",
  "\u00ff",
  "%",
  "%0",
  "%00",
  "%ff",
  "%C0%80",
  "%ED%A0%80",
  "%2e%2e",
  "..",
  ".",
  "/",
  "//",
  "\\",
  "*",
  "**/**",
  "a*a*a*a*b",
  "0",
  "-0",
  "-1",
  "1e309",
  "NaN",
  "Infinity",
  "9007199254740991",
  "9007199254740993",
  "9007199254740",
  "8640000000000",
  "9".repeat(400),
  "0x10",
  "+1",
  "1.5",
  "__proto__",
  "constructor",
  "toString",
  "null",
  "true",
  "[]",
  "{}",
  `"`,
  `"a`,
  `"\\"`,
  "'",
  ";",
  "=",
  ",",
  "&",
  "?",
  "#",
  token,
  `${token}.`,
  "..",
  ".a.",
  "=".repeat(300),
  "a".repeat(5_000),
  "-".repeat(5_000),
  " ".repeat(5_000),
  "owner",
  "operator",
  "00000000-0000-7000-8000-000000000000",
  "1970-01-01T00:00:00Z",
  "9999-99-99T99:99:99Z"
]

const text = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...nasty) },
  {
    weight: 1,
    arbitrary: fc.string({ unit: fc.integer({ min: 0, max: 0xffff }).map((unit) => String.fromCharCode(unit)) })
  },
  {
    weight: 1,
    arbitrary: fc.tuple(fc.constantFrom(...nasty), fc.constantFrom(...nasty)).map((parts) => parts.join(""))
  }
)

/** What a header can carry over a socket at all: other bytes are refused by the parser. */
const headerText = fc.oneof(
  text.map((value) => Buffer.from(value, "utf8").toString("latin1")),
  text.map((value) => value.replaceAll(/[\u0100-\uffff]/g, "?"))
).map((value) => value.split("").filter((char) => char === "\t" || (char >= " " && char !== "\x7f")).join(""))

const value: fc.Arbitrary<unknown> = fc.oneof(
  text,
  fc.constantFrom(null, true, 0, -1, 1.5, 1e308, Number.MAX_SAFE_INTEGER + 1, [], {}, [[]]),
  fc.array(text, { maxLength: 3 }),
  fc.jsonValue({ maxDepth: 3 })
)

/** Encodes text for an address; half of a surrogate pair, which no address can hold, becomes U+FFFD. */
const encode = (text: string): string => encodeURIComponent(Buffer.from(text, "utf8").toString("utf8"))

const bodyOf = ({ names }: Surface) =>
  fc.oneof(
    {
      weight: 4,
      arbitrary: fc.dictionary(fc.constantFrom(...names, "__proto__"), value, { maxKeys: 8 }).map((fields) =>
        JSON.stringify(fields)
      )
    },
    { weight: 1, arbitrary: fc.json() },
    { weight: 1, arbitrary: text },
    {
      weight: 1,
      arbitrary: fc.constantFrom(
        "[".repeat(20_000),
        `{"a":`.repeat(10_000),
        `{"__proto__":{"a":1}}`,
        `"\\ud800"`,
        "1".repeat(20_000)
      )
    },
    {
      weight: 2,
      arbitrary: fc.array(fc.tuple(fc.constantFrom(...names), text), { maxLength: 8 }).map((fields) =>
        fields.map(([name, value]) => `${name}=${encode(value)}`).join("&")
      )
    }
  )

const headerNames = [
  "authorization",
  "cookie",
  "dpop",
  "user-agent",
  "origin",
  "sec-fetch-site",
  "x-forwarded-for",
  "forwarded",
  "last-event-id",
  "idempotency-key",
  "content-type",
  "content-encoding",
  "accept",
  "if-none-match",
  "host",
  "traceparent",
  "b3",
  "upgrade",
  "stream-seq",
  "stream-ttl",
  "stream-expires-at",
  "stream-closed",
  "stream-forked-from",
  "stream-fork-offset",
  "stream-fork-sub-offset",
  "producer-id",
  "producer-epoch",
  "producer-seq"
]

/** Makes requests, as the bytes that go over the socket. `credentials` are headers that let a caller in. */
const requests = (
  surface: Surface,
  port: number,
  anonymous: boolean
): fc.Arbitrary<(credentials: ReadonlyArray<string>) => string> =>
  fc.record({
    route: fc.constantFrom(...surface.routes),
    parts: fc.array(text, { minLength: 3, maxLength: 3 }),
    query: fc.array(fc.tuple(fc.constantFrom(...surface.names), text), { maxLength: 3 }),
    rawQuery: fc.option(headerText.map((value) => value.replaceAll(/[\s#]/g, "")), { freq: 8 }),
    headers: fc.array(fc.tuple(fc.constantFrom(...headerNames), headerText), { maxLength: 5 }),
    contentType: fc.constantFrom(
      "application/json",
      "application/json",
      "application/x-www-form-urlencoded",
      "text/plain"
    ),
    body: fc.option(bodyOf(surface)),
    signedIn: anonymous ? fc.boolean() : fc.constant(true)
  }).map(({ body, contentType, headers, parts, query, rawQuery, route, signedIn }) => (credentials) => {
    let index = 0
    const path = route.path.replaceAll(/[:{*]\w*\}?/g, () => {
      const part = parts[index++ % parts.length] ?? ""
      return part.includes("%") ? part : encode(part)
    })
    const asked = query.map(([name, value]) => `${name}=${encode(value)}`).join("&")
    const bytes = body === null ? "" : Buffer.from(body, "utf8").toString("latin1")
    const given = new Map<string, string>([
      ["host", `127.0.0.1:${port}`],
      ...body === null ? [] : [["content-type", contentType] as const],
      ...headers,
      ["connection", "close"],
      ["content-length", String(bytes.length)]
    ])
    if (signedIn) { for (const name of ["authorization", "cookie", "dpop"]) given.delete(name) }
    return [
      `${route.method} ${path}?${rawQuery ?? asked} HTTP/1.1`,
      ...Array.from(given, ([name, value]) => `${name}: ${value}`),
      ...signedIn ? credentials : [],
      "",
      bytes
    ].join("\r\n")
  })

/** Sends bytes and returns the status of the answer, without waiting for the end of a stream; 0 if there was none. */
const statusOf = (port: number, request: string): Effect.Effect<number> =>
  Effect.callback((resume) => {
    let answer = ""
    const socket = Net.connect({ host: "127.0.0.1", port }, () => socket.write(request, "latin1"))
    const end = () => {
      socket.destroy()
      resume(Effect.succeed(Number(/^HTTP\/1\.1 (\d{3})/.exec(answer)?.[1] ?? 0)))
    }
    socket.setEncoding("latin1")
    socket.on("data", (chunk: string) => {
      answer += chunk
      if (answer.includes("\r\n\r\n")) end()
    })
    socket.on("error", () => undefined)
    socket.on("close", end)
    return Effect.sync(() => socket.destroy())
  })

/**
 * Sends requests, and fails with the first that is not answered, or answered with an error of the server. Some requests end
 * the session that they are made with, and others make more than one session may. So a session makes a few, and one that is
 * refused, but not as the first of its session, is sent again with another.
 */
const sending = (port: number, credentials: Effect.Effect<ReadonlyArray<string>>) => {
  let headers: ReadonlyArray<string> = []
  let sent = 16
  return Effect.fnUntraced(function*(make: (credentials: ReadonlyArray<string>) => string) {
    const attempt = Effect.gen(function*() {
      if (sent >= 16) {
        headers = yield* credentials
        sent = 0
      }
      sent++
      const request = make(headers)
      return { request, status: yield* statusOf(port, request) }
    })
    let { request, status } = yield* attempt
    if (status === 401 && sent > 1 && request !== make([])) {
      sent = 16
      ;({ request, status } = yield* attempt)
    }
    if (status < 200 || status >= 500) throw new Error(`${status}: ${JSON.stringify(request.slice(0, 1_000))}`)
  })
}

/** Lists texts that some store does not take, or not in every place. */
const unstorable: ReadonlyArray<string> = ["\0", "a\0b", "\ud800", "a\udc00", "1.a\0b", "1.a", "\n", "x".repeat(5_000)]

/**
 * Sends a server a text that no store takes in each place of each endpoint that takes one, alone and among fields that are as
 * they should be, and fails with the first request that is not answered, or answered with an error of its own.
 */
export const probe = (options: {
  readonly port: number
  readonly surface: Surface
  readonly credentials: Effect.Effect<ReadonlyArray<string>>
}): Effect.Effect<number> =>
  Effect.gen(function*() {
    const send = sending(options.port, options.credentials)
    const sent = new Set<string>()
    for (const { method, names = [], path } of options.surface.routes) {
      for (const place of ["", ...names]) {
        for (const text of unstorable) {
          for (const others of [[], names]) {
            const fields = Object.fromEntries([...others.map((name) => [name, "phone"]), [place, text]])
            const target = path.replaceAll(/[:{*]\w*\}?/g, encode(place === "" ? text : "phone"))
            const query = Object.entries(fields).map(([name, value]) => `${name}=${encode(String(value))}`).join("&")
            const bytes = method === "GET" ? "" : Buffer.from(JSON.stringify(fields), "utf8").toString("latin1")
            const make = (credentials: ReadonlyArray<string>) =>
              [
                `${method} ${target}${method === "GET" ? `?${query}` : ""} HTTP/1.1`,
                `host: 127.0.0.1:${options.port}`,
                "connection: close",
                "content-type: application/json",
                `content-length: ${bytes.length}`,
                ...credentials,
                "",
                bytes
              ].join("\r\n")
            // A place that is the only one has no others.
            if (sent.has(make([]))) continue
            sent.add(make([]))
            yield* send(make)
          }
        }
      }
    }
    return sent.size
  })

/** Sends a server many requests, and fails with the first that it does not answer, or answers with an error of its own. */
export const fuzz = (options: {
  readonly port: number
  readonly surface: Surface
  /** Returns the headers of a caller who is let in. */
  readonly credentials: Effect.Effect<ReadonlyArray<string>>
  readonly runs: number
  /** Whether requests also come without these headers. Default true. */
  readonly anonymous?: boolean
}): Effect.Effect<void> =>
  Effect.suspend(() => {
    const send = sending(options.port, options.credentials)
    return Effect.promise(() =>
      fc.assert(
        fc.asyncProperty(
          requests(options.surface, options.port, options.anonymous ?? true),
          (make) => Effect.runPromise(send(make))
        ),
        { numRuns: options.runs, endOnFailure: true }
      )
    )
  })
