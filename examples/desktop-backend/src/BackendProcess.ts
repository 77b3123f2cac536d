/**
 * Implements the backend's side of the handover: it takes the credential, seeds it once the server accepts connections,
 * reports that it is ready, and ends with the application that started it.
 */
import { BootstrapCredentialService } from "@sallyport/core"
import { SecretFd } from "@sallyport/node"
import { Config, Console, Effect, Layer, Redacted, Schema, Stdio, Stream } from "effect"
import { HttpServer } from "effect/http"
import * as Handover from "./Handover.ts"

/** The label of seeded links, by which those of earlier starts are found. */
const label = "The application's window"

const say = (message: typeof Handover.Message.Type) =>
  Effect.flatMap(Effect.orDie(Schema.encodeEffect(Handover.Message)(message)), Console.log)

// #region seed
/**
 * Seeds the credential of this start. A credential of an earlier start that was not redeemed is revoked first: there is
 * one at a time.
 */
const seed = Effect.fnUntraced(function*(credential: Redacted.Redacted) {
  const bootstrap = yield* BootstrapCredentialService.BootstrapCredentialService
  for (const link of yield* bootstrap.list()) {
    // A link that was redeemed or has expired meanwhile needs no revocation.
    if (link.label === label) {
      yield* Effect.catchReason(
        bootstrap.revoke(link.id, "operator"),
        "BootstrapCredentialError",
        "LinkNotFound",
        () => Effect.void
      )
    }
  }
  const lifetime = yield* Config.Duration("DESKTOP_CREDENTIAL_LIFETIME").pipe(Config.withDefault("1 minute"))
  yield* bootstrap.seed({
    credential,
    label,
    lifetime,
    scopes: "all",
    // The server accepts connections by now, because its layer is built.
    ready: Effect.void
  })
})
// #endregion seed

// #region run
/** Completes when the application that started this process has ended, even by `kill -9`: the system closes its pipe. */
const parentGone = Effect.flatMap(Stdio.Stdio, ({ stdin }) => Effect.ignore(Stream.runDrain(stdin)))

/** Runs a server on behalf of the application that started this process. */
export const run = <E, R>(
  server: Layer.Layer<BootstrapCredentialService.BootstrapCredentialService | HttpServer.HttpServer, E, R>
) =>
  Effect.gen(function*() {
    // This comes first, so that no process that is started later inherits the pipe.
    const bytes = yield* SecretFd.readSecretFromFd(Handover.credentialFd)
    const credential = Redacted.make(new TextDecoder().decode(Redacted.value(bytes)), { label: "seeded-credential" })
    const services = yield* Layer.build(server)
    // The credential's lifetime begins here, no matter how long the start took.
    yield* Effect.provideContext(seed(credential), services)
    const { address } = yield* Effect.provideContext(HttpServer.HttpServer, services)
    yield* say({ _tag: "Ready", url: HttpServer.formatAddress(address) })
    return yield* Effect.never
  }).pipe(Effect.scoped, Effect.raceFirst(parentGone))
// #endregion run

/** Reports that the port is taken, so that the application chooses another one. */
export const sayPortTaken = (port: number) => say({ _tag: "PortTaken", port })
