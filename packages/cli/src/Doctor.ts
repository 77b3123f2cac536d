/**
 * Implements `sallyport doctor`: checks what a backend stands on, and says how to mend what is wrong.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as AccessFeed from "@sallyport/core/access/AccessFeed"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as ConnectClientStore from "@sallyport/core/connect/ConnectClientStore"
import * as Dialect from "@sallyport/core/sql/Dialect"
import * as PgDatabase from "@sallyport/pg/PgDatabase"
import * as Text from "@sallyport/core/Text"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import { CommandFailed } from "./ExitCode.ts"
import { codeOf } from "./internal/failures.ts"
import * as PublicAddress from "./internal/publicAddress.ts"
import * as StoreCommands from "./internal/storeCommands.ts"
import * as Terminal from "./internal/terminal.ts"
import * as Output from "./Output.ts"
import { EmptyDatabase } from "./Persistence.ts"
import { inspect } from "./Secrets.ts"
import { StateDirectoryError } from "./StateDirectory.ts"

type Check = PublicAddress.Check
const { bad, good } = PublicAddress

/** Makes a check of an effect: what it fails with is what is wrong, and says the remedy as well. */
const checking = <A, E extends { readonly message: string }, R>(
  check: string,
  effect: Effect.Effect<A, E, R>,
  detail: (found: A) => string
) =>
  Effect.match(effect, {
    onSuccess: (found) => good(check, detail(found)),
    onFailure: ({ message }) => bad(check, message)
  })

const inspectSecrets = Effect.match(inspect, {
  onFailure: ({ message }): ReadonlyArray<Check> => [bad("secrets", message)],
  onSuccess: (secrets) => {
    const broken = secrets.filter(({ problem }) => problem !== null)
    return broken.length === 0
      ? [good("secrets", `${secrets.length} can be read`)]
      : broken.map(({ name, problem }) => bad(`secret ${name}`, problem ?? ""))
  }
})

/** Names the part of a backend that cannot be opened. */
const partOf = (error: unknown): string =>
  error instanceof StateDirectoryError || (!(error instanceof EmptyDatabase) && codeOf(error) === "NoState")
    ? "files"
    : codeOf(error) === "Unreadable"
    ? "secrets"
    : "database"

/** How long a notification may take to come back. */
const hintTimeout = "5 seconds"

/** Checks what only a database that nodes share can have: another clock, and hints that do not arrive. */
const checkDatabase = (options: PgDatabase.Options) =>
  Effect.gen(function*() {
    const sql = yield* PgClient.PgClient
    const before = yield* Clock.currentTimeMillis
    const [row] = yield* sql.unsafe<{ now: unknown }>(`SELECT ${Dialect.nowMillisText(sql)} AS now`)
    const clock = PublicAddress.clock(
      "the database",
      Dialect.toNatural(row?.now),
      before,
      yield* Clock.currentTimeMillis
    )
    const channel = "sallyport_doctor"
    const heard = yield* sql.listen(channel).pipe(
      Effect.tap(() => sql.notify(channel, "")),
      Effect.flatMap(Queue.take),
      Effect.timeoutOption(hintTimeout)
    )
    return [
      clock,
      Option.isSome(heard)
        ? good("hints", "notifications of PostgreSQL come back")
        : {
          check: "hints",
          state: "doubtful",
          detail: "notifications of PostgreSQL do not come back, so that the nodes poll for changes",
          remedy: "Name the server itself, or a pooler that hands connections out by session"
        } as const
    ]
  }).pipe(
    // The listener goes before the pool that its connection is from.
    Effect.scoped,
    Effect.provide(PgDatabase.layer(options)),
    Effect.catch(({ message }) => Effect.succeed([bad("database", message)]))
  )

const checkStore = (flags: StoreCommands.StoreFlags) =>
  Effect.gen(function*() {
    const store = yield* Effect.result(Layer.build(StoreCommands.layerStore(flags, false)))
    if (store._tag === "Failure") return [bad(partOf(store.failure), store.failure.message)]
    const stored = store.success
    const database = yield* StoreCommands.databaseOf(flags)
    const checks = [
      good("files", "private to this user"),
      good("database", "open, and with the tables of this version"),
      ...(database === undefined ? [] : yield* checkDatabase(database))
    ]
    const services = yield* Effect.result(Effect.provideContext(Layer.build(StoreCommands.layerServices), stored))
    if (services._tag === "Failure") return [...checks, bad("services", services.failure.message)]
    return yield* Effect.provideContext(
      Effect.gen(function*() {
        const sessions = yield* SessionCredentialService.SessionCredentialService
        const feed = yield* AccessFeed.AccessFeed
        const clients = yield* ConnectClientStore.ConnectClientStore
        return [
          ...checks,
          ...(yield* inspectSecrets),
          yield* checking("signing keys", sessions.verificationKeys, () => "tokens can be signed and verified"),
          yield* checking("access feed", feed.snapshot, ({ revision }) => `at change ${revision}`),
          yield* checking("who may connect", clients.securityMode, (mode) => mode)
        ]
      }),
      services.success
    ).pipe(Effect.provideContext(stored))
  }).pipe(Effect.scoped)

/** Checks what can be seen of a server from elsewhere: the address, and the token. */
const checkRemote = Effect.fnUntraced(function*(flags: StoreCommands.Flags, url: string) {
  const state = yield* Effect.result(StoreCommands.ask(flags, {
    store: Effect.never,
    server: ({ api }) => api.session.state()
  }))
  // Without a token there is nothing to ask with.
  if (state._tag === "Failure" && codeOf(state.failure) === "Usage") return yield* Effect.fail(state.failure)
  const checks = yield* PublicAddress.check(url)
  if (checks.some((one) => one.state === "bad")) return checks
  return [
    ...checks,
    state._tag === "Success"
      ? good(
        "token",
        state.success.authenticated ? `accepted, for ${Text.shown(state.success.session.subject)}` : "not needed"
      )
      : bad("token", state.failure.message, `Issue another with "sallyport sessions issue"`)
  ]
})

/** Writes each check, with how to mend what is not good. */
const toLines = (checks: ReadonlyArray<Check>, screen: Terminal.Screen): string => {
  const names = Math.max(...checks.map(({ check }) => check.length))
  const indent = "doubtful".length + names + 4
  return checks.map(({ check, detail, remedy, state }) => {
    const found = [detail, ...(remedy === null ? [] : [remedy])].join(". ")
    return `${screen[state](state.padEnd(8))}  ${screen.strong(check.padEnd(names))}  ` +
      Terminal.wrap(found, indent, screen.columns).trimStart()
  }).join("\n")
}

/**
 * Checks what a backend stands on, and says how to mend what is wrong.
 *
 * @category commands
 * @since 0.1.0
 */
export const doctor = Command.make(
  "doctor",
  {
    ...StoreCommands.flags,
    publicUrl: Flag.String("public-url").pipe(
      Flag.withDescription("The address of the server: checks that it answers, its certificate and its clock"),
      Flag.optional
    )
  },
  Effect.fnUntraced(function*({ publicUrl, ...flags }) {
    const checks = [
      ...(Option.isSome(flags.url) ? yield* checkRemote(flags, flags.url.value) : yield* checkStore(flags)),
      ...(Option.isSome(publicUrl) ? yield* PublicAddress.check(publicUrl.value) : [])
    ]
    yield* Terminal.print(
      flags.json,
      Output.Doctor,
      { checks },
      (screen) => toLines(checks, screen)
    )
    const faults = checks.filter(({ state }) => state === "bad")
    if (faults.length === 0) return
    return yield* new CommandFailed({
      code: "Unhealthy",
      message: `${faults.length} of ${checks.length} checks found a fault: ${
        faults.map(({ check }) => check).join(", ")
      }`
    })
  })
).pipe(Command.withDescription("Check files, database, secrets, keys and feed, and the address with its certificate"))
