/**
 * Implements `sallyport status` and `sallyport doctor`: show what a backend holds, and check what it stands on.
 */
import * as AccessFeed from "@sallyport/core/access/AccessFeed"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as ConnectClientStore from "@sallyport/core/connect/ConnectClientStore"
import type { PairingLink } from "@sallyport/core/access/PairingLink"
import * as PairingUrl from "@sallyport/core/access/PairingUrl"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { connect } from "node:tls"
import { CommandFailed } from "./ExitCode.ts"
import * as StoreCommands from "./internal/storeCommands.ts"
import * as Terminal from "./internal/terminal.ts"
import * as Output from "./Output.ts"
import { inspect } from "./Secrets.ts"

const waiting = (clients: ReadonlyArray<{ readonly status: string }>) =>
  clients.filter(({ status }) => status === "pending").length

/** A part of the answer that the token may not read is null. */
const orNull = <A, E extends { readonly _tag: string }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.catchIf(effect, ({ _tag }) => _tag === "Forbidden" || _tag === "NotFound", () => Effect.succeed(null))

/**
 * Shows what a backend holds.
 *
 * @category commands
 * @since 0.1.0
 */
export const status = Command.make(
  "status",
  StoreCommands.flags,
  Effect.fnUntraced(function*(flags) {
    const found = yield* StoreCommands.ask(flags, {
      store: Effect.gen(function*() {
        const sessions = yield* SessionCredentialService.SessionCredentialService
        const bootstrap = yield* BootstrapCredentialService.BootstrapCredentialService
        const clients = yield* ConnectClientStore.ConnectClientStore
        const limit = StoreCommands.pageSize
        return {
          sessions: (yield* StoreCommands.pages((after: SessionCredentialService.ListedSession | undefined) =>
            sessions.list({ after: after?.session.id, limit })
          )).length,
          links: (yield* StoreCommands.pages((after: PairingLink | undefined) =>
            bootstrap.list({ after, limit })
          ))
            .length,
          waitingClients: waiting(yield* clients.list()),
          securityMode: yield* clients.securityMode
        }
      }),
      server: Effect.fnUntraced(function*({ api }) {
        const sessions = yield* StoreCommands.serverPages((query) =>
          Effect.map(api.session.list({ query }), ({ next, sessions }) => [sessions, next] as const)
        )
        const links = yield* StoreCommands.serverPages((query) =>
          Effect.map(api.pairing.list({ query }), ({ links, next }) => [links, next] as const)
        )
        const clients = yield* orNull(api.connect.clients({ query: {} }))
        const mode = yield* orNull(api.connect.securityMode())
        return {
          sessions: sessions.length,
          links: links.length,
          waitingClients: clients === null ? null : waiting(clients.clients),
          securityMode: mode === null ? null : mode.mode
        }
      })
    })
    yield* Terminal.print(flags.json, Output.Status, found, ({ doubtful, strong }) =>
      [
        `${strong("Sessions")}        ${found.sessions}`,
        `${strong("Open links")}      ${found.links}`,
        `${strong("Waiting clients")} ${
          found.waitingClients === null
            ? "not for this token"
            : found.waitingClients === 0
            ? "0"
            : doubtful(`${found.waitingClients}; see "sallyport connect clients"`)
        }`,
        `${strong("Who may connect")} ${found.securityMode ?? "not for this token"}`
      ].join("\n"))
  })
).pipe(Command.withDescription("Show how many sessions, open links and waiting clients a backend has"))

type Check = typeof Output.Doctor.Type["checks"][number]

const good = (check: string, detail: string): Check => ({ check, state: "good", detail, remedy: null })

/** Makes a check of an effect: what it fails with is what is wrong, and says the remedy as well. */
const checking = <A, E extends { readonly message: string }, R>(
  check: string,
  effect: Effect.Effect<A, E, R>,
  detail: (found: A) => string
) =>
  Effect.match(effect, {
    onSuccess: (found): Check => good(check, detail(found)),
    onFailure: ({ message }): Check => ({ check, state: "bad", detail: message, remedy: null })
  })

const inspectSecrets = Effect.match(inspect, {
  onFailure: ({ message }): ReadonlyArray<Check> => [{ check: "secrets", state: "bad", detail: message, remedy: null }],
  onSuccess: (secrets) => {
    const broken = secrets.filter(({ problem }) => problem !== null)
    return broken.length === 0
      ? [good("secrets", `${secrets.length} can be read`)]
      : broken.map(({ name, problem }): Check => ({
        check: `secret ${name}`,
        state: "bad",
        detail: problem ?? "",
        remedy: null
      }))
  }
})

const checkStore = (flags: StoreCommands.StoreFlags) =>
  Effect.gen(function*() {
    const store = yield* Effect.result(Layer.build(StoreCommands.layerStore(flags, false)))
    if (store._tag === "Failure") {
      const { message } = store.failure
      return [{ check: "files and database", state: "bad", detail: message, remedy: null } as const]
    }
    const stored = store.success
    const services = yield* Effect.result(Effect.provideContext(Layer.build(StoreCommands.layerServices), stored))
    const checks: Array<Check> = [good("files and database", "open, private to this user, and of this version")]
    if (services._tag === "Failure") {
      return [...checks, { check: "services", state: "bad", detail: services.failure.message, remedy: null } as const]
    }
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

/** How far two clocks may be apart: proofs and tokens allow for less than the five minutes at which they stop working. */
const maxSkewMillis = Duration.toMillis("30 seconds")

const checkClock = (date: string | undefined, nowMillis: number): Check => {
  const skewMillis = Math.abs(Date.parse(date ?? "") - nowMillis)
  if (Number.isNaN(skewMillis)) {
    return { check: "clock", state: "doubtful", detail: "the server tells no time", remedy: null }
  }
  return skewMillis <= maxSkewMillis
    ? good("clock", "the clocks of the server and of this machine agree")
    : {
      check: "clock",
      state: "bad",
      detail: `the clocks of the server and of this machine are ${Math.round(skewMillis / 1000)} seconds apart`,
      remedy: "Turn on time synchronisation (NTP) on both"
    }
}

const soon = Duration.days(14)

/** Reads how long the certificate of a server is good. A connection with one that is not good fails. */
const certificateEnd = (url: URL) =>
  Effect.callback<DateTime.Utc, CommandFailed>((resume) => {
    const socket = connect({
      host: url.hostname,
      port: url.port === "" ? 443 : Number(url.port),
      servername: url.hostname,
      timeout: 10_000
    })
    const fail = (message: string) => resume(Effect.fail(new CommandFailed({ code: "Unhealthy", message })))
    socket.once("secureConnect", () => {
      const end = DateTime.make(socket.getPeerCertificate().valid_to)
      if (Option.isSome(end)) resume(Effect.succeed(DateTime.toUtc(end.value)))
      else fail("the certificate says no end")
    })
    socket.once("error", ({ message }) => fail(message))
    socket.once("timeout", () => fail("the server does not answer"))
    return Effect.sync(() => socket.destroy())
  })

const checkCertificate = Effect.fnUntraced(function*(url: URL) {
  const now = yield* DateTime.now
  return yield* Effect.match(certificateEnd(url), {
    onFailure: ({ message }): Check => ({
      check: "certificate",
      state: "bad",
      detail: `${url.host}: ${message}`,
      remedy: "Renew the certificate, or correct the name that it is for"
    }),
    onSuccess: (end): Check =>
      DateTime.isLessThan(end, DateTime.addDuration(now, soon))
        ? {
          check: "certificate",
          state: "doubtful",
          detail: `ends at ${DateTime.formatIso(end)}`,
          remedy: "Renew it, and see why it was not renewed by itself"
        }
        : good("certificate", `good until ${DateTime.formatIso(end)}`)
  })
})

const checkAddress = Effect.fnUntraced(function*(address: string) {
  const url = new URL(yield* Effect.fromResult(PairingUrl.httpBase(address)))
  const client = yield* HttpClient.HttpClient
  const now = yield* DateTime.now
  const answer = yield* Effect.result(client.get(`${url.href.replace(/\/$/, "")}/api/auth/session`))
  const checks: Array<Check> = url.protocol === "https:" ? [yield* checkCertificate(url)] : []
  if (answer._tag === "Failure") {
    return [
      {
        check: "address",
        state: "bad",
        detail: `${url.host} does not answer`,
        remedy: "Start the server, and see that its proxy and its firewall let this address through"
      } as const,
      ...checks
    ]
  }
  const { headers, status } = answer.success
  return [
    status === 200
      ? good("address", `${url.host} answers`)
      : {
        check: "address",
        state: "bad",
        detail: `${url.host} answers ${status}, which a backend does not`,
        remedy: "Correct the address, or the path that the proxy passes on"
      } as const,
    checkClock(headers.date, now.epochMilliseconds),
    ...checks
  ]
}, Effect.provide(StoreCommands.layerHttp))

const table = Terminal.table<Check>([
  { name: "CHECK", of: ({ check }) => check },
  {
    name: "STATE",
    of: ({ state }) => state,
    whole: true,
    paint: ({ state }, screen) => screen[state]
  },
  { name: "FOUND", of: ({ detail }) => detail }
])

/**
 * Checks what a backend stands on, and says how to mend what is wrong.
 *
 * @category commands
 * @since 0.1.0
 */
export const doctor = Command.make(
  "doctor",
  {
    ...StoreCommands.storeFlags,
    publicUrl: Flag.String("public-url").pipe(
      Flag.withDescription("The address of the server: checks that it answers, its certificate and its clock"),
      Flag.optional
    )
  },
  Effect.fnUntraced(function*({ publicUrl, ...flags }) {
    const checks = [
      ...(yield* checkStore(flags)),
      ...(Option.isSome(publicUrl) ? yield* checkAddress(publicUrl.value) : [])
    ]
    yield* Terminal.print(flags.json, Output.Doctor, { checks }, (screen) => table(checks, screen))
    const faults = checks.filter(({ state }) => state === "bad")
    if (faults.length === 0) return
    return yield* new CommandFailed({
      code: "Unhealthy",
      message: faults.map(({ check, detail, remedy }) => `${check}: ${detail}${remedy === null ? "" : `. ${remedy}`}`)
        .join("\n")
    })
  })
).pipe(Command.withDescription("Check files, database, secrets, keys and feed, and the address with its certificate"))
