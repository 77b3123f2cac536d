/**
 * Wakes the readers of all processes with PostgreSQL's `LISTEN` and `NOTIFY`.
 *
 * It is in a separate package, so that users of SQLite need not install `@effect/sql-pg`. A process listens on one
 * connection outside of the pool, for all repositories. It notifies after its commits, never in their transactions: a
 * notification in a transaction takes a lock that all committing transactions wait for. The commits of a few
 * milliseconds share one notification.
 */
import { PgClient } from "@effect/sql-pg/PgClient"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Outage from "@sallyport/core/Outage"
import * as WakeUps from "@sallyport/core/WakeUps"
import * as Cause from "effect/Cause"
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { ConnectionError, SqlError } from "effect/sql/SqlError"
import * as SqlWakeUps from "@sallyport/core/sql/SqlWakeUps"
import { type InvalidPgWakeUpsOptions, type Options, type Settings, settings } from "./internal/wakeUpOptions.ts"

export { InvalidPgWakeUpsOptions, type Options } from "./internal/wakeUpOptions.ts"

// PostgreSQL takes up to 7,999 bytes.
const maxPayloadBytes = 7_900

const Payload = Schema.fromJsonString(Schema.Struct({
  /** The sender, so that it recognises its own notifications. The server's number of a connection would not do: behind a
   * pooler two senders may have the same. */
  from: Schema.String,
  /** Which probe of the sender this is, if it is one. */
  probe: Schema.optional(Schema.Number),
  topics: Schema.Record(Schema.String, Schema.Union([Schema.Null, Schema.Record(Schema.String, Schema.Number)]))
}))
const decode = Schema.decodeUnknownOption(Payload)

const encode = (from: string, pending: ReadonlyMap<string, WakeUps.WakeUp>): string => {
  const render = (keys: boolean) =>
    JSON.stringify({
      from,
      topics: Object.fromEntries(
        Array.from(
          pending,
          ([topic, wakeUp]) => [topic, keys && wakeUp !== "anything" ? Object.fromEntries(wakeUp) : null]
        )
      )
    })
  const isShort = (text: string) => new TextEncoder().encode(text).length <= maxPayloadBytes
  const whole = render(true)
  if (isShort(whole)) return whole
  const bare = render(false)
  // A text that is no payload may mean any change.
  return isShort(bare) ? bare : ""
}

const deaf = new Error("A notification that this process sent did not come back")

const silent = new SqlError({
  reason: new ConnectionError({
    cause: new Error("No answer within the heartbeat"),
    message: "The connection that listens for notifications does not answer",
    operation: "listen"
  })
})

/** How often to look if notifications do not come: another process's revocation is seen within 250 milliseconds. */
const deafPollMillis = 50

const provide = <E>(settings: Effect.Effect<Settings, E>): Layer.Layer<never, E, PgClient> =>
  Layer.effect(
    SqlWakeUps.Current,
    Effect.gen(function*() {
      const pg = yield* PgClient
      const { channel, coalesceMillis, heartbeatMillis } = yield* settings

      const from = String(yield* Random.next)
      let pending = new Map<string, WakeUps.WakeUp>()
      const waiting = Latch.makeUnsafe(false)
      const outage = Outage.make({
        of: "notifications sent",
        begins: "Other processes cannot be notified of changes; they find them by polling until they can",
        ends: "Other processes are notified of changes again"
      })()

      const deafness = Outage.make({
        of: "notifications received",
        begins:
          "Notifications of PostgreSQL do not reach this process, as behind a pooler that hands connections out by " +
          `transaction; it looks for changes every ${deafPollMillis} milliseconds until they do. Name the server itself, ` +
          "or a pooler that hands connections out by session",
        ends: "Notifications of PostgreSQL reach this process again"
      })()
      yield* Effect.addFinalizer(() => Effect.andThen(outage.left, deafness.left))

      const flush = Effect.suspend(() => {
        waiting.closeUnsafe()
        if (pending.size === 0) return Effect.void
        const taken = pending
        pending = new Map()
        return Effect.tapCause(pg.notify(channel, encode(from, taken)), () =>
          Effect.sync(() => {
            for (const [topic, wakeUp] of taken) {
              pending.set(topic, WakeUps.combine(pending.get(topic), wakeUp))
            }
            waiting.openUnsafe()
          }))
      })
      yield* Effect.addFinalizer(() => Effect.ignore(Effect.timeout(flush, "1 second")))
      yield* waiting.await.pipe(
        Effect.andThen(Effect.sleep(coalesceMillis)),
        Effect.andThen(flush),
        Effect.matchCauseEffect({
          onFailure: (cause) => Effect.andThen(outage.failed(cause), Effect.sleep("500 millis")),
          onSuccess: () => outage.worked
        }),
        Effect.forever,
        Effect.withTracerEnabled(false),
        Effect.forkScoped
      )

      return SqlWakeUps.make(pg, {
        run: Effect.fnUntraced(
          function*({ ready, wake }) {
            const scope = yield* Scope.make()
            return yield* Effect.gen(function*() {
              const connection = yield* PgConnection.make({ ...pg.config, applicationName: "sallyport-wakeups" }).pipe(
                Effect.flatMap((session) => session.pin),
                Scope.provide(scope)
              )
              // A connection whose peer has vanished is silent, and so is an idle one. It is closed before what waits for it is
              // given up, which would wait for its answer first.
              const answered = <A, R>(self: Effect.Effect<A, SqlError, R>) =>
                Effect.flatMap(Effect.forkScoped(self, { startImmediately: true }), (fiber) =>
                  Fiber.join(fiber).pipe(
                    Effect.timeoutOrElse({
                      duration: heartbeatMillis,
                      orElse: () => Effect.andThen(Scope.close(scope, Exit.void), Effect.fail(silent))
                    })
                  ))
              const notifications = yield* answered(connection.listen(channel))
              yield* ready
              // Until a notification has come back from the server, others may go unnoticed as well.
              let hears = false
              let probe = 0
              let returned = Latch.makeUnsafe(false)
              const receive = Effect.forever(Effect.map(Queue.take(notifications), ({ payload }) => {
                const message = decode(payload)
                if (Option.isNone(message)) return wake(undefined, "anything")
                if (message.value.from === from) return message.value.probe === probe && returned.openUnsafe()
                for (const [topic, keys] of Object.entries(message.value.topics)) {
                  wake(topic, keys === null ? "anything" : new Map(Object.entries(keys)))
                }
              }))
              const poll = Effect.sync(() => {
                if (!hears) wake(undefined, "anything")
              }).pipe(Effect.delay(deafPollMillis), Effect.forever)
              const answers = answered(connection.query("SELECT 1"))
              const beat = Effect.gen(function*() {
                returned = Latch.makeUnsafe(false)
                probe++
                const sent = yield* pg.notify(channel, JSON.stringify({ from, probe, topics: {} })).pipe(
                  Effect.timeout(heartbeatMillis),
                  Effect.exit
                )
                // If the pool cannot send, nothing is known, and the notifications of commits say so.
                if (Exit.isSuccess(sent)) {
                  hears = yield* returned.await.pipe(Effect.timeout(heartbeatMillis), Effect.isSuccess)
                }
                // What comes late has waited in a pooler.
                probe++
                yield* answers
                if (Exit.isSuccess(sent)) {
                  yield* hears ? deafness.worked : deafness.failed(Cause.fail(deaf))
                }
              }).pipe(Effect.andThen(Effect.sleep(heartbeatMillis)), Effect.forever)
              return yield* Effect.raceAllFirst([receive, poll, beat])
            }).pipe(Effect.onExit(() => Scope.close(scope, Exit.void)))
          },
          Effect.scoped
        ),
        committed: (topic, changes) => {
          pending.set(topic, WakeUps.combine(pending.get(topic), new Map(changes)))
          waiting.openUnsafe()
        }
      })
    })
  )

/**
 * Provides the wake-ups for the repositories that are built with this layer.
 *
 * `PgRepositories` is this layer and all repositories. It opens its connection when the first reader listens, beside the
 * client's pool, with the client's settings. Fails if the options cannot work.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: Options): Layer.Layer<never, InvalidPgWakeUpsOptions, PgClient> =>
  provide(settings.fromObject(options))

/**
 * Provides the wake-ups with the options of the configuration, in variables that begin with `SALLYPORT_WAKE_UPS_`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig: Layer.Layer<never, Config.ConfigError | InvalidPgWakeUpsOptions, PgClient> = provide(
  settings.fromConfig
)

/**
 * Provides the wake-ups with the defaults of {@link Options}.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<never, never, PgClient> = provide(settings.defaults)
