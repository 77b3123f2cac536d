/** The server as a function from a web-standard `Request` to a `Response`, the same in every runtime. */
import {
  AuthPolicy,
  BootstrapCredentialService,
  Platform,
  Repositories,
  RunEventLog,
  SecretStore,
  SessionCredentialService,
  SqlRepositories,
  SqlSecretStore
} from "@sallyport/core"
import { RunProgram, Sallyport } from "@sallyport/http"
import { Console, Effect, Layer, ManagedRuntime, Redacted } from "effect"
import { HttpRouter, HttpServer } from "effect/http"
import type { SqlClient } from "effect/sql/SqlClient"

/** Names what outlives a request. */
type State = Repositories.Repositories | SecretStore.SecretStore

/** Keeps everything in this process, and forgets it with it. */
export const inMemory: Layer.Layer<State> = Layer.merge(Repositories.layerMemory, SecretStore.layerMemory).pipe(
  Layer.provide(Platform.layerWeb)
)

/** Keeps everything in one database. */
export const inSql = <E>(client: Layer.Layer<SqlClient, E>) =>
  Layer.merge(SqlRepositories.layer, SqlSecretStore.layer).pipe(Layer.provide([client, Platform.layerWeb]))

/** What a run does: it says what it was given. */
const Echo = RunProgram.layer(({ input, run }) => run.append(input))

const Upkeep = Layer.mergeAll(
  BootstrapCredentialService.layerSweeper(),
  SessionCredentialService.layerSweeper(),
  RunEventLog.layerReaper(),
  RunEventLog.layerSweeper()
)

/** Prints a code with every right that works once. The operator reads it in the log of the server, and pairs the first device. */
const letFirstDeviceIn = Effect.gen(function*() {
  const pairing = yield* BootstrapCredentialService.BootstrapCredentialService
  const { code } = yield* pairing.issue({ issuedBy: "operator", scopes: "all" })
  yield* Console.log(`Pair the first device on the page /pair, with the code ${Redacted.value(code)}`)
})

/**
 * Starts the services and prints the code for the first device. `publicUrl` is the address that clients see, if that is
 * not one of this machine.
 */
export const start = async <E>(options: {
  readonly state: Layer.Layer<State, E>
  readonly publicUrl?: URL | undefined
}) => {
  const { publicUrl, state } = options
  const services = Layer.mergeAll(
    BootstrapCredentialService.layer,
    SessionCredentialService.layer,
    RunEventLog.layer,
    Echo
  ).pipe(
    Layer.provideMerge(state),
    Layer.provideMerge(AuthPolicy.layer({ host: publicUrl === undefined ? "127.0.0.1" : "0.0.0.0", publicUrl })),
    Layer.provideMerge(Platform.layerWeb)
  )
  const runtime = ManagedRuntime.make(services)
  const { dispose, handler } = HttpRouter.toWebHandler(
    Layer.merge(Sallyport.layer(), Upkeep).pipe(Layer.provide([services, HttpServer.layerServices])),
    // The services are made once, for the code and for the routes.
    { disableLogger: true, memoMap: runtime.memoMap }
  )
  await runtime.runPromise(letFirstDeviceIn)
  return {
    fetch: (request: Request): Promise<Response> => handler(request),
    stop: async () => {
      await dispose()
      await runtime.dispose()
    }
  }
}
