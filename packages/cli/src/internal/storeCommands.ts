/**
 * Provides the frame of the operator's commands: the flags that name a backend, and the backend itself, by its own store
 * whether it runs or not, or by its address if it runs elsewhere.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import { ConnectLinkApi } from "@sallyport/contract/ConnectProtocol"
import { CredentialApi } from "@sallyport/contract/CredentialGroup"
import { SallyportApi } from "@sallyport/contract/SallyportApi"
import * as AccessFeed from "@sallyport/core/access/AccessFeed"
import * as AccessScope from "@sallyport/core/access/AccessScope"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as PairingUrl from "@sallyport/core/access/PairingUrl"
import * as SessionCredentialService from "@sallyport/core/access/SessionCredentialService"
import * as ConnectClientStore from "@sallyport/core/connect/ConnectClientStore"
import * as RunEventLog from "@sallyport/core/runs/RunEventLog"
import * as Text from "@sallyport/core/Text"
import * as ByteSize from "effect/ByteSize"
import type * as PgDatabase from "@sallyport/pg/PgDatabase"
import * as Flag from "effect/cli/Flag"
import * as Config from "effect/Config"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as HttpApiClient from "effect/http-api/HttpApiClient"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientError from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { CommandFailed } from "../ExitCode.ts"
import * as Persistence from "../Persistence.ts"
import * as StateDirectory from "../StateDirectory.ts"
import * as PublicAddress from "./publicAddress.ts"
import { jsonFlag } from "./terminal.ts"

/** Lists the flags for a PostgreSQL database. */
export const databaseFlags = (description: string) => ({
  databaseUrl: Flag.Redacted("database-url").pipe(
    Flag.withDescription(description),
    Flag.withFallbackConfig(Config.Redacted("SALLYPORT_DATABASE_URL")),
    Flag.optional
  ),
  databasePrepare: Flag.Boolean("database-prepare").pipe(
    Flag.withDescription(
      "Keep statements prepared; --no-database-prepare is for poolers that hand connections out by transaction"
    ),
    Flag.withFallbackConfig(Config.Boolean("SALLYPORT_DATABASE_PREPARE")),
    Flag.optional
  )
})

/** Names a database. */
interface DatabaseFlags {
  readonly databaseUrl: Option.Option<Redacted.Redacted>
  readonly databasePrepare: Option.Option<boolean>
}

/**
 * Returns the database that the flags name, if they name one. An empty name is a mistake, and SQLite in its place would be
 * another store. An empty variable is one that is not set.
 */
export const databaseOf = Effect.fnUntraced(function*(flags: DatabaseFlags): Effect.fn.Return<
  PgDatabase.Options | undefined,
  CommandFailed
> {
  if (Option.isNone(flags.databaseUrl)) return undefined
  const url = flags.databaseUrl.value
  if (Redacted.value(url) === "") {
    return yield* new CommandFailed({
      code: "Failed",
      message: "The URL of the database is empty; set --database-url to an address of the form " +
        "postgres://user:password@host:5432/database, or leave it out for a database in the state directory"
    })
  }
  return { url, prepare: Option.getOrUndefined(flags.databasePrepare) }
})

/** Lists the flags for the store and the form of the answer, for `Command.withSharedFlags`. */
export const storeFlags = {
  stateDir: Flag.String("state-dir").pipe(
    Flag.withDescription("Where the backend keeps its state; by default the platform's directory for state"),
    Flag.optional
  ),
  ...databaseFlags("The PostgreSQL database of the backend, if it keeps its state in one"),
  ...jsonFlag
}

/** Adds to {@link storeFlags} those of a backend that runs elsewhere. Its token stands in no argument. */
export const flags = {
  ...storeFlags,
  url: Flag.String("url").pipe(
    Flag.withDescription("The address of a backend that runs, instead of its store; with a token in SALLYPORT_TOKEN"),
    Flag.optional
  ),
  tokenFile: Flag.String("token-file").pipe(
    Flag.withDescription("With --url: the file that holds the token, instead of SALLYPORT_TOKEN"),
    Flag.optional
  )
}

export const scopeFlag = Flag.String("scope").pipe(
  Flag.withDescription("What it may do, such as runs:read; can be repeated; by default all that the issuer may do"),
  Flag.between(0, 64)
)

/** Reads a flag by a schema, and says in words what is expected of what does not fit. */
export const readAs = <T>(schema: Schema.ConstraintDecoder<T>, expected: string) =>
  Flag.filterMap(Schema.decodeUnknownOption(schema), () => `Expected ${expected}`)

export const readDuration = readAs(Schema.DurationFromString, `a duration such as "10 minutes"`)

/** Makes the flag of a duration. */
export const durationFlag = (name: string, description: string) =>
  Flag.String(name).pipe(readDuration, Flag.withDescription(description), Flag.optional)

// An empty text would be 0.
const integer = Schema.String.check(Schema.isPattern(/^\d{1,15}$/)).pipe(Schema.decodeTo(Schema.FiniteFromString))

export const portFlag = Flag.String("port").pipe(
  readAs(integer.check(Schema.isLessThanOrEqualTo(65_535)), "a port between 0 and 65535"),
  Flag.withMetavar("integer"),
  Flag.withDefault(4590)
)

/** Makes the flag of a number to go on after. */
export const afterFlag = (description: string) =>
  Flag.String("after").pipe(
    readAs(integer, "a whole number from 0"),
    Flag.withMetavar("integer"),
    Flag.withDescription(description)
  )

export const subjectFlag = Flag.String("subject").pipe(
  Flag.withDescription("Whom it is for, if not the owner of the server"),
  Flag.optional
)

const decodeScopes = Schema.decodeUnknownOption(Schema.Array(AccessScope.AccessScope))

/** Reads the values of {@link scopeFlag}; none of them is all. */
export const scopesOf = Effect.fnUntraced(function*(given: ReadonlyArray<string>) {
  if (given.length === 0) return undefined
  const scopes = decodeScopes(given)
  if (Option.isSome(scopes)) return scopes.value
  return yield* new CommandFailed({
    code: "Usage",
    message: "A scope has the form resource:action, such as runs:read"
  })
})

/** What the scopes of a backend allow, in words. */
export type Titles = Readonly<Record<string, string>>

/** Says what scopes allow, by their names and in words. */
export const scopesText = (scopes: ReadonlyArray<string>, titles: Titles): string =>
  scopes.map((scope) => titles[scope] === undefined ? scope : `${scope} (${Text.shown(titles[scope])})`).join(", ")

/** Names a store. */
export interface StoreFlags extends DatabaseFlags {
  readonly stateDir: Option.Option<string>
}

/** Names a backend. */
export interface Flags extends StoreFlags {
  readonly url: Option.Option<string>
  readonly tokenFile: Option.Option<string>
}

/**
 * Notes that the state is new. It looks like a state without clients or credentials, and the directory may be misspelt.
 */
const noteNewState = Effect.fnUntraced(function*({ database, directory }: StateDirectory.StateDirectory) {
  const fs = yield* FileSystem.FileSystem
  if (yield* fs.exists(database)) return
  yield* Console.error(`sallyport: No backend has kept state in ${directory} yet; --state-dir names another directory`)
})

/** Tells whether there is a directory, or a file that is not empty. */
const isKept = Effect.fnUntraced(function*(location: string) {
  const fs = yield* FileSystem.FileSystem
  const info = yield* Effect.option(fs.stat(location))
  return Option.exists(info, ({ size, type }) => type === "Directory" || ByteSize.isGreaterThan(size, ByteSize.zero))
})

/**
 * Finds the state that a backend has kept, and creates nothing: the directory may be misspelt, and an empty state would look
 * like one without clients, sessions or credentials.
 */
const findState = Effect.fnUntraced(function*(directory: string, isShared: boolean) {
  const state = yield* StateDirectory.at(directory)
  if (isShared && Option.isSome(yield* Config.option(Config.Redacted(Persistence.keyVariable)))) return state
  const isThere = Option.isSome(yield* StateDirectory.find(directory))
  const needed = isShared ? [state.secretKey] : [state.database, state.secrets]
  const missing = yield* Effect.filter(needed, (location) => Effect.map(isKept(location), (kept) => !kept))
  if (isThere && missing.length === 0) return state
  const lacks = isThere && missing.length < needed.length ? `; ${missing.join(" and ")} is not there` : ""
  return yield* new CommandFailed({
    code: "NoState",
    message: `No backend has kept state in ${state.directory} yet${lacks}. Nothing was created; ` +
      `name the directory with --state-dir, or start the backend with "sallyport serve"`
  })
})

export const layerCrypto = NodeCrypto.layer

/**
 * Provides the repositories, the secrets and the cryptography of the store that the flags name. A command that `creates`
 * something may come before the first start of the backend.
 */
export const layerStore = ({ stateDir, ...flags }: StoreFlags, creates: boolean) =>
  Effect.gen(function*() {
    const directory = yield* StateDirectory.orDefault(stateDir)
    const database = yield* databaseOf(flags)
    const isShared = database !== undefined
    const state = yield* (creates ? StateDirectory.open(directory) : findState(directory, isShared))
    if (!isShared) yield* noteNewState(state)
    return Persistence.layer({ database, state, creates })
  }).pipe(
    Layer.unwrap,
    Layer.provideMerge(layerCrypto),
    // A store that cannot be opened is unavailable, like one that is lost later.
    Layer.catchTag("DatabaseError", ({ message }) =>
      Layer.effectContext(Effect.fail(new CommandFailed({ code: "Unavailable", message }))))
  )

export const layerServices = Layer.mergeAll(
  AccessFeed.layerConfig,
  BootstrapCredentialService.layerConfig,
  ConnectClientStore.layerConfig,
  RunEventLog.layerConfig,
  SessionCredentialService.layerConfig
)

/** Provides the services on the store that the flags name. */
export const layer = (flags: StoreFlags, creates = false) =>
  Layer.provideMerge(layerServices, layerStore(flags, creates))

/** A code or a token is sent only to the named server: redirects are not followed. */
export const layerHttp = Layer.provide(
  FetchHttpClient.layer,
  Layer.succeed(FetchHttpClient.RequestInit, { redirect: "error", credentials: "omit" })
)

const readToken = Effect.fnUntraced(function*(tokenFile: Option.Option<string>) {
  const token = Option.isSome(tokenFile)
    ? Option.some(Redacted.make(
      (yield* FileSystem.FileSystem.use((fs) => fs.readFileString(tokenFile.value)).pipe(
        Effect.mapError(({ reason }) =>
          new CommandFailed({ code: "Usage", message: `The token cannot be read: ${reason.message}; see --token-file` })
        )
      )).trim()
    ))
    : yield* Config.option(Config.Redacted("SALLYPORT_TOKEN"))
  if (Option.isSome(token) && Redacted.value(token.value) !== "") {
    if (/^[\x21-\x7E]+$/.test(Redacted.value(token.value))) return token.value
    return yield* new CommandFailed({
      code: "Usage",
      message: "The token holds characters that no token has; copy it again from \"sallyport sessions issue\""
    })
  }
  return yield* new CommandFailed({
    code: "Usage",
    message: `--url needs a token: put it into SALLYPORT_TOKEN, or name a file with --token-file`
  })
})

/** Tells an answer that no backend of this version gives apart from what a caller has written wrongly. */
const ofBackend = (baseUrl: string) =>
  Effect.mapError((error: unknown) =>
    Schema.isSchemaError(error) || HttpClientError.isHttpClientError(error) ? PublicAddress.notBackend(baseUrl) : error
  )

/** Connects to the backend at an address. */
const connectTo = Effect.fnUntraced(function*(url: string, { stateDir, tokenFile }: Flags) {
  if (Option.isSome(stateDir)) {
    return yield* new CommandFailed({ code: "Usage", message: "Give --url or --state-dir, not both" })
  }
  const baseUrl = yield* Effect.fromResult(PairingUrl.httpBase(url))
  const token = yield* readToken(tokenFile)
  const httpClient = (yield* HttpClient.HttpClient).pipe(
    HttpClient.mapRequest((request) =>
      HttpClientRequest.bearerToken(HttpClientRequest.prependUrl(request, baseUrl), token)
    ),
    PublicAddress.explain
  )
  const options = { httpClient, transformResponse: ofBackend(baseUrl) }
  return {
    baseUrl,
    httpClient,
    api: yield* HttpApiClient.makeWith(SallyportApi, options),
    connectLink: yield* HttpApiClient.makeWith(ConnectLinkApi, options),
    credentials: yield* HttpApiClient.makeWith(CredentialApi, options)
  }
})

/** Refuses with `--url` what only the backend's own store can answer, or what the token decides. */
export const onlyOnStore = (what: string, instead = "run it there") =>
  new CommandFailed({
    code: "Usage",
    message: `${what} works on the backend's own store, and not with --url; ${instead}`
  })

/** Reaches a backend that runs, under a token of its own. */
export type Server = Effect.Success<ReturnType<typeof connectTo>>

/** The words of the backend of this command. */
export const ownTitles = AccessScope.Titles.useSync((titles): Titles => titles)

/** Asks a server for its words. */
export const titlesOf = ({ api }: Server) =>
  Effect.map(api.session.state(), ({ policy }): Titles => ({ ...AccessScope.titles, ...policy.scopeTitles }))

/** Gets an answer from the backend that the flags name: from its store, or from the server itself. */
export const ask = Effect.fnUntraced(function*<A, B, E, E2, R, R2>(flags: Flags, from: {
  readonly store: Effect.Effect<A, E, R>
  readonly server: (server: Server) => Effect.Effect<B, E2, R2>
}, creates = false) {
  return Option.isSome(flags.url)
    ? yield* Effect.flatMap(connectTo(flags.url.value, flags), from.server).pipe(
      Effect.provide(PublicAddress.layerHttp)
    )
    : yield* Effect.provide(from.store, layer(flags, creates))
})

const shortest = 8
const uuid = 36

/**
 * Returns the id that a name begins, as lists show it, of those that are listed. A whole id is taken as it is, and so is what
 * begins none: who is asked for it says that it is not there. What is too short could begin many.
 */
export const idOf = Effect.fnUntraced(function*<E, R>(
  name: string,
  what: "links" | "runs" | "sessions",
  listed: Effect.Effect<ReadonlyArray<string>, E, R>
) {
  if (name.length >= uuid) return name
  if (name.length < shortest) {
    return yield* new CommandFailed({
      code: "NotFound",
      message: `${JSON.stringify(name)} is too short for an id; give at least ${shortest} characters of one that ` +
        `"sallyport ${what} list" shows`
    })
  }
  const [id = name, ...others] = (yield* listed).filter((id) => id.startsWith(name))
  if (others.length === 0) return id
  return yield* new CommandFailed({
    code: "Ambiguous",
    message: `Several ${what} begin with ${JSON.stringify(name)}; give the whole id, which --json lists`
  })
})
