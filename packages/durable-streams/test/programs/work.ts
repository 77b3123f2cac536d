/**
 * Counts the work of the decoders that meet the network, for inputs of the largest size that is let in and of half of it, and
 * writes it to standard output as JSON.
 *
 * Work is the blocks of JavaScript that run, which depends on neither the machine nor its load. The decoders are loaded when
 * these are counted already. What the engine does by itself, as for a regular expression, is not counted.
 */
import { Session } from "node:inspector/promises"

const session = new Session()
session.connect()
await session.post("Profiler.enable")
await session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: true })

const HttpServerRequest = await import("effect/http/HttpServerRequest")
const PairingCode = await import("@sallyport/core/access/PairingCode")
const Input = await import("@sallyport/core/Input")
const Schema = await import("effect/Schema")
const Text = await import("@sallyport/core/Text")
const { networksOf } = await import("../../../core/src/access/internal/attempts.ts")
const CompactJws = await import("../../../core/src/access/internal/compactJws.ts")
const RunJson = await import("../../../core/src/runs/internal/runJson.ts")
const SessionCookie = await import("../../../http/src/SessionCookie.ts")
const Glob = await import("../../src/internal/glob.ts")
const JsonText = await import("../../src/internal/jsonText.ts")

const encoder = new TextEncoder()
const isJson = Schema.is(Input.json)

/** Lists decoders, each with the largest size that it is given, and with units of which inputs are made. */
const decoders: ReadonlyArray<
  readonly [name: string, largest: number, decode: (text: string) => unknown, units: ReadonlyArray<string>]
> = [
  ["a line", 16_384, (text) => Text.isLine(text, text.length), ["a", "\u0301", "👩\u200d", " "]],
  ["a header", 16_384, (text) => Text.fromHeader(text, text.length), ["a", "\u00c3\u00a9", "\u00f0", " \t"]],
  ["a pairing code", 16_384, PairingCode.parse, ["A", "-", "\u200b", "#token="]],
  ["a token", 16_384, (text) => CompactJws.parse(text, text.length), ["A", ".", "A.", "="]],
  [
    "cookies",
    16_384,
    (text) =>
      SessionCookie.read(
        HttpServerRequest.fromWeb(new Request("http://localhost/", { headers: { cookie: text } })),
        false
      ),
    ["sallyport_session_80=a;", ";", "a=\"", " ; ="]
  ],
  ["an address", 16_384, networksOf, ["1.", "::", "ffff:", "%"]],
  ["a path", 8_192, (text) => Glob.matcher("**/a*a*/**/b")(text), ["a", "a/", "aa/b/", "%2a"]],
  ["a pattern", 8_192, (text) => Glob.matcher(text)("a/b/c"), ["*", "**/", "%2a", "a/"]],
  [
    "JSON to append",
    524_288,
    (text) => {
      const messages = JsonText.messagesOf(encoder.encode(`[${text}1]`))
      return messages === undefined ? undefined : JsonText.slice(messages.list, messages.count - 1, messages.count)
    },
    ["1,", "[],", "[[],[[]]],", String.raw`"\"\\",`, `{"a":[1]},`]
  ],
  [
    "the input of a run",
    262_144,
    (text) => isJson(JSON.parse(`[${text}1]`)),
    ["1,", "[],", "{},", "[[],[[]]],", `{"a":[1]},`]
  ],
  ["JSON of a run", 524_288, RunJson.utf8Length, ["a", "é", "😀", "\ud800"]]
]

/** Counts the blocks that run since the last count. */
const count = async () => {
  const { result } = await session.post("Profiler.takePreciseCoverage")
  let blocks = 0
  for (const { functions } of result) {
    for (const { ranges } of functions) for (const range of ranges) blocks += range.count
  }
  return blocks
}

const counts: Array<{ readonly name: string; readonly unit: string; readonly half: number; readonly whole: number }> =
  []
for (const [name, largest, decode, units] of decoders) {
  for (const unit of units) {
    const of = (length: number) => unit.repeat(Math.floor(length / unit.length))
    const workOf = async (text: string) => {
      await count()
      decode(text)
      return await count()
    }
    // The first call makes what all others use.
    decode(of(64))
    counts.push({ name, unit, half: await workOf(of(largest / 2)), whole: await workOf(of(largest)) })
  }
}
session.disconnect()
process.stdout.write(JSON.stringify(counts))
