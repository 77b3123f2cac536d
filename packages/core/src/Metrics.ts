/**
 * Names what is measured. A host exports it with whatever exports Effect's metrics, such as `effect/observability` or
 * `@effect/opentelemetry`; docs/observability.md has the table.
 *
 * Each attribute has few values that are known beforehand: no id, no address, no subject, no name that a client chose, and
 * nothing secret.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"

/**
 * Measures one thing: adds an amount to a counter or a gauge, or records a value of a histogram, under the values of its
 * attributes.
 *
 * @category models
 * @since 0.1.0
 */
export interface Instrument<Attribute extends string> {
  (amount: number, attributes: Readonly<Record<Attribute, string>>): Effect.Effect<void>
  readonly id: string
  readonly kind: "counter" | "gauge" | "histogram"
  /** A unit of UCUM: `s`, or `1` for what is counted. */
  readonly unit: "1" | "s"
  readonly description: string
  readonly attributes: ReadonlyArray<Attribute>
}

type Known = Readonly<Record<string, string>>

/** Writes the tag of an error or an outcome as the other values of attributes are written: `TimedOut` as `timed-out`. */
const plain = (value: string): string =>
  /^[A-Z][a-z]/.test(value) ? value.replaceAll(/(?<=[a-z])(?=[A-Z])/g, "-").toLowerCase() : value

/** Each series is made once: what measures a request should cost it little. */
const define = <Attribute extends string>(
  about: Pick<Instrument<Attribute>, "id" | "kind" | "unit" | "description" | "attributes">,
  make: (attributes: Known) => Metric.Metric<number, unknown>
): Instrument<Attribute> => {
  const series = new Map<string, Metric.Metric<number, unknown>>()
  return Object.assign((amount: number, values: Readonly<Record<Attribute, string>>) => {
    let key = ""
    for (const name of about.attributes) key += `${values[name]}\n`
    let metric = series.get(key)
    if (metric === undefined) {
      const known: Record<string, string> = about.unit === "1" ? {} : { unit: about.unit }
      for (const name of about.attributes) known[name] = plain(values[name])
      series.set(key, metric = make(known))
    }
    return Metric.modify(metric, amount)
  }, about)
}

const counter = <const Attribute extends string = never>(
  id: string,
  description: string,
  attributes: ReadonlyArray<Attribute> = []
) =>
  define(
    { id, kind: "counter", unit: "1", description, attributes },
    (known) => Metric.counter(id, { description, attributes: known, incremental: true })
  )

const gauge = <const Attribute extends string = never>(
  id: string,
  description: string,
  attributes: ReadonlyArray<Attribute> = []
) =>
  define(
    { id, kind: "gauge", unit: "1", description, attributes },
    (known) => Metric.gauge(id, { description, attributes: known })
  )

const seconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

const duration = <const Attribute extends string = never>(
  id: string,
  description: string,
  attributes: ReadonlyArray<Attribute> = []
) =>
  define(
    { id, kind: "histogram", unit: "s", description, attributes },
    (known) => Metric.histogram(id, { description, attributes: known, boundaries: seconds })
  )

// -----------------------------------------------------------------------------
// Requests and connections
// -----------------------------------------------------------------------------

/**
 * Records how long a request took, from its head to that of its answer. A long-poll counts its wait, and a WebSocket none.
 *
 * @category instruments
 * @since 0.1.0
 */
export const requests: Instrument<"method" | "status"> = duration(
  "sallyport.http.request.duration",
  "Time from the head of a request to the head of its answer",
  ["method", "status"]
)

/**
 * Counts the answers that are an error of ours, by its code.
 *
 * @category instruments
 * @since 0.1.0
 */
export const failures: Instrument<"code"> = counter(
  "sallyport.http.failures",
  "Requests that were answered with an error",
  ["code"]
)

/**
 * Tells how many event streams, long-polls and WebSockets are open.
 *
 * @category instruments
 * @since 0.1.0
 */
export const connections: Instrument<never> = gauge(
  "sallyport.connections.open",
  "Event streams, long-polls and WebSockets that are open"
)

/**
 * Counts the connections that this server ended, by what ended them. A client that goes away is not counted.
 *
 * @category instruments
 * @since 0.1.0
 */
export const connectionEnds: Instrument<"reason"> = counter(
  "sallyport.connections.ended",
  "Open connections that the server ended",
  ["reason"]
)

// -----------------------------------------------------------------------------
// Access
// -----------------------------------------------------------------------------

/**
 * Counts the pairing codes that were presented, by what came of it.
 *
 * @category instruments
 * @since 0.1.0
 */
export const pairingAttempts: Instrument<"result"> = counter(
  "sallyport.pairing.attempts",
  "Pairing codes that were redeemed or refused",
  ["result"]
)

/**
 * Counts the sessions that were issued.
 *
 * @category instruments
 * @since 0.1.0
 */
export const sessionsIssued: Instrument<"method"> = counter(
  "sallyport.sessions.issued",
  "Sessions that were issued",
  ["method"]
)

/**
 * Counts the sessions that were revoked. One that expires is not counted.
 *
 * @category instruments
 * @since 0.1.0
 */
export const sessionsRevoked: Instrument<never> = counter("sallyport.sessions.revoked", "Sessions that were revoked")

/**
 * Counts the verifications for which the store was asked. Those that the cache answers are not counted.
 *
 * @category instruments
 * @since 0.1.0
 */
export const sessionLookups: Instrument<"result"> = counter(
  "sallyport.sessions.lookups",
  "Verifications of tokens for which the store was asked",
  ["result"]
)

/**
 * Counts the refresh tokens that were presented, by what came of it. `reused` is a copy, or a thief.
 *
 * @category instruments
 * @since 0.1.0
 */
export const refreshes: Instrument<"result"> = counter(
  "sallyport.sessions.refreshes",
  "Refresh tokens that were presented",
  ["result"]
)

/**
 * Counts the requests of clients that want to connect, by what came of it.
 *
 * @category instruments
 * @since 0.1.0
 */
export const connectRequests: Instrument<"result"> = counter(
  "sallyport.connect.requests",
  "Requests of clients that want to connect",
  ["result"]
)

/**
 * Counts the decisions about connecting clients that took effect.
 *
 * @category instruments
 * @since 0.1.0
 */
export const connectDecisions: Instrument<"decision"> = counter(
  "sallyport.connect.decisions",
  "Decisions about connecting clients",
  ["decision"]
)

/**
 * Counts the credentials that were given out, by the scope that had them.
 *
 * @category instruments
 * @since 0.1.0
 */
export const credentialReads: Instrument<"source"> = counter(
  "sallyport.credentials.reads",
  "Credentials that were given out",
  ["source"]
)

// -----------------------------------------------------------------------------
// Runs
// -----------------------------------------------------------------------------

/**
 * Counts the runs that were started.
 *
 * @category instruments
 * @since 0.1.0
 */
export const runsStarted: Instrument<never> = counter("sallyport.runs.started", "Runs that were started")

/**
 * Counts the runs that this process ended, by how. `stale` is one whose process died.
 *
 * @category instruments
 * @since 0.1.0
 */
export const runsEnded: Instrument<"end"> = counter("sallyport.runs.ended", "Runs that ended", ["end"])

/**
 * Tells how many runs this process executes.
 *
 * @category instruments
 * @since 0.1.0
 */
export const runsExecuting: Instrument<never> = gauge("sallyport.runs.executing", "Runs that this process executes")

/**
 * Counts the events that were appended to runs.
 *
 * @category instruments
 * @since 0.1.0
 */
export const runEvents: Instrument<never> = counter("sallyport.runs.events", "Events that were appended to runs")

// -----------------------------------------------------------------------------
// Store and upkeep
// -----------------------------------------------------------------------------

/**
 * Records how long an operation of a repository took on a database, with its retries, by what came of it: `ok`, or the reason
 * of a `RepositoryError`.
 *
 * @category instruments
 * @since 0.1.0
 */
export const storeOperations: Instrument<"store" | "operation" | "result"> = duration(
  "sallyport.store.operation.duration",
  "Time of an operation on the database",
  ["store", "operation", "result"]
)

/**
 * Tells how many of the outages that the log tells of are going on.
 *
 * @category instruments
 * @since 0.1.0
 */
export const outages: Instrument<"of"> = gauge("sallyport.outages", "Outages that are going on", ["of"])

/**
 * Counts the rows that sweepers deleted.
 *
 * @category instruments
 * @since 0.1.0
 */
export const swept: Instrument<"of"> = counter("sallyport.swept", "Rows that upkeep deleted", ["of"])
