/**
 * Implements `sallyport serve`: starts the reference backend and shows how to pair with it.
 */
import * as AuthPolicy from "@sallyport/core/access/AuthPolicy"
import * as BootstrapCredentialService from "@sallyport/core/access/BootstrapCredentialService"
import * as PairingUrl from "@sallyport/core/access/PairingUrl"
import { Accent } from "@sallyport/http/Sallyport"
import * as TrustedProxies from "@sallyport/http/TrustedProxies"
import type * as ConnectWebhook from "@sallyport/node/ConnectWebhook"
import * as Cause from "effect/Cause"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { networkInterfaces } from "node:os"
import * as Backend from "./Backend.ts"
import { CommandFailed } from "./ExitCode.ts"
import * as Addresses from "./internal/addresses.ts"
import { describeFailure } from "./internal/describeFailure.ts"
import { pairingText } from "./internal/pairingText.ts"
import * as StoreCommands from "./internal/storeCommands.ts"
import * as Terminal from "./internal/terminal.ts"
import * as Output from "./Output.ts"
import * as StateDirectory from "./StateDirectory.ts"

/**
 * Makes the flag of a duration, such as `--request-timeout "30 seconds"`, which `SALLYPORT_HTTP_REQUEST_TIMEOUT` is for too.
 */
const timeout = (name: string, description: string) =>
  Flag.String(name).pipe(
    StoreCommands.readDuration,
    Flag.withDescription(description),
    Flag.withFallbackConfig(Config.Duration(`SALLYPORT_HTTP_${name.replaceAll("-", "_").toUpperCase()}`)),
    Flag.optional
  )

const flags = {
  host: Flag.String("host").pipe(
    Flag.withDescription("The address to listen on; other machines reach it unless it is a loopback address"),
    Flag.withDefault("127.0.0.1")
  ),
  port: StoreCommands.portFlag.pipe(Flag.withDescription("The port to listen on; 0 lets the system choose one")),
  stateDir: Flag.String("state-dir").pipe(
    Flag.withDescription("Where the database and the secrets are kept; by default the platform's directory for state"),
    Flag.optional
  ),
  ...StoreCommands.databaseFlags(
    "A PostgreSQL database that several nodes share (postgres://…), instead of an SQLite file; other users of this " +
      "machine can read arguments, so prefer SALLYPORT_DATABASE_URL"
  ),
  policy: Flag.Literals("policy", AuthPolicy.Kind.literals).pipe(
    Flag.withDescription(
      "Who may sign in and how; by default loopback-browser, or remote-reachable on another address"
    ),
    Flag.optional
  ),
  name: Flag.String("name").pipe(
    Flag.withDescription("What people call this server: its pages show it instead of the address"),
    Flag.withFallbackConfig(Config.String("SALLYPORT_NAME")),
    Flag.optional
  ),
  accent: Flag.String("accent").pipe(
    StoreCommands.readAs(Accent, "a colour such as #7a1f5c"),
    Flag.withDescription("The colour of buttons and links on the pages, such as #7a1f5c"),
    Flag.withFallbackConfig(Config.schema(Accent, "SALLYPORT_ACCENT")),
    Flag.optional
  ),
  publicUrl: Flag.String("public-url").pipe(
    Flag.withDescription("The address under which clients reach the server, for the pairing URL and for DPoP proofs"),
    Flag.optional
  ),
  authorizationServer: Flag.Boolean("authorization-server").pipe(
    Flag.withDescription(
      "Let programs, such as MCP clients, sign in by a person's consent; SALLYPORT_AUTHORIZATION_CLIENTS names those that " +
        "have no document of their own"
    ),
    Flag.withFallbackConfig(Config.Boolean("SALLYPORT_AUTHORIZATION_SERVER")),
    Flag.withDefault(false)
  ),
  webhookUrl: Flag.String("webhook-url").pipe(
    Flag.withDescription(
      "Where to post, signed, that a client or a device waits for you: an HTTPS address; SALLYPORT_WEBHOOK_SECRET is the " +
        "secret that the receiver has as well"
    ),
    Flag.withFallbackConfig(Config.String("SALLYPORT_WEBHOOK_URL")),
    Flag.optional
  ),
  issuer: Flag.String("issuer").pipe(
    Flag.withDescription(
      "The address of an issuer, such as https://accounts.example, whose ID tokens the token endpoint exchanges"
    ),
    Flag.optional
  ),
  issuerAudience: Flag.String("issuer-audience").pipe(
    Flag.withDescription("The audience of its tokens: the client id that your programs have at the issuer"),
    Flag.optional
  ),
  issuerSubject: Flag.KeyValuePair("issuer-subject").pipe(
    Flag.withDescription(
      "Who comes in, and under which name here, such as 1234=owner for the issuer's subject 1234; can be given several " +
        "times, and no one else comes in"
    ),
    Flag.optional
  ),
  trustedProxy: Flag.String("trusted-proxy").pipe(
    Flag.withDescription(
      "A proxy of yours, as an address or a network such as 10.0.0.0/8, whose X-Forwarded headers say who a request is " +
        "from; can be given several times"
    ),
    Flag.atLeast(0)
  ),
  keepAliveTimeout: timeout(
    "keep-alive-timeout",
    "How long an idle connection stays open, which must be longer than a proxy in front keeps one; by default 75 seconds"
  ),
  headersTimeout: timeout(
    "headers-timeout",
    "How long a client may take to send a request's head; by default 20 seconds"
  ),
  requestTimeout: timeout("request-timeout", "How long a client may take to send a whole request; by default 1 minute"),
  stalledTimeout: timeout(
    "stalled-timeout",
    "How long a connection stays open on which nothing moves, in either direction; by default 2 minutes"
  ),
  json: Flag.Boolean("json").pipe(
    Flag.withDescription("Print one line of JSON instead of text and a QR code"),
    Flag.withDefault(false)
  )
}

/** Reads the rest of a webhook's options. Its secret is no argument, as other users of the machine can read those. */
const webhookOf = Effect.fnUntraced(function*(url: string): Effect.fn.Return<
  ConnectWebhook.Options,
  CommandFailed | Config.ConfigError
> {
  const secret = yield* Config.option(Config.Redacted("SALLYPORT_WEBHOOK_SECRET"))
  if (Option.isNone(secret)) {
    return yield* new CommandFailed({
      code: "Failed",
      message: "The webhook has no secret; set SALLYPORT_WEBHOOK_SECRET to whsec_ and 24 to 64 random bytes in base64"
    })
  }
  return {
    url,
    secret: secret.value,
    allowLoopback: yield* Config.withDefault(Config.Boolean("SALLYPORT_WEBHOOK_ALLOW_LOOPBACK"), false)
  }
})

/** Says why browsers elsewhere cannot pair, and what to do: they keep a session of this policy over TLS only. */
const insecure =
  "Browsers on other machines cannot pair over plain http: anyone on the network could take their session. " +
  "Put a proxy that terminates TLS before this server and start it with --public-url https://…, or listen on 127.0.0.1"

/**
 * Issues the one link of this start and prints it. The reader of the terminal is the operator, so the link carries
 * every scope.
 */
const announce = Effect.fnUntraced(
  function*(options: { readonly publicUrl: string | undefined; readonly json: boolean }) {
    const { address } = yield* HttpServer.HttpServer
    const policy = yield* AuthPolicy.AuthPolicy
    const baseUrl = yield* Effect.fromResult(PairingUrl.httpBase(options.publicUrl ?? Addresses.localUrl(address)))
    const isInsecure = policy.kind === "remote-reachable" && !baseUrl.startsWith("https:")
    const urls = Addresses.urlsOf(address, networkInterfaces())
    if (isInsecure) yield* Effect.logWarning(insecure)
    if (policy.kind === "unsafe-no-auth") {
      return yield* Terminal.print(
        options.json,
        Output.Serving,
        { url: baseUrl },
        () => `Listening on ${baseUrl}\n\nAuthentication is off: every user of this machine has full access.`
      )
    }
    const bootstrap = yield* BootstrapCredentialService.BootstrapCredentialService
    const { code, link } = yield* bootstrap.issue({
      issuedBy: "operator",
      scopes: "all",
      label: "start-up"
    })
    const pairingUrl = yield* Effect.fromResult(PairingUrl.make(baseUrl, code))
    yield* Terminal.print(
      options.json,
      Output.Serving,
      { url: baseUrl, pairingUrl, code, ...(isInsecure ? { urls } : {}), expiresAt: link.expiresAt },
      ({ columns }) =>
        `Listening on ${isInsecure ? urls.join(", ") : baseUrl}\n\n` + pairingText({
          what: isInsecure ? "To pair a browser of this machine, open" : "To pair this browser or another device, open",
          baseUrl,
          code,
          pairingUrl,
          expiresAt: link.expiresAt,
          // No other device could use the address of a server without TLS.
          columns: isInsecure ? 0 : columns
        })
    )
  }
)

/**
 * Starts the backend and keeps it running until it is told to stop.
 *
 * @category commands
 * @since 0.1.0
 */
export const serve = Command.make(
  "serve",
  flags,
  Effect.fnUntraced(
    function*({ accent, host, json, name, policy, port, publicUrl, stateDir, trustedProxy, ...others }) {
      const base = Option.isSome(publicUrl)
        ? new URL(yield* Effect.fromResult(PairingUrl.httpBase(publicUrl.value)))
        : undefined
      const trustedProxies = yield* Effect.forEach(
        trustedProxy,
        (text) => Effect.fromResult(TrustedProxies.parse(text))
      )
      const { issuer, issuerAudience, issuerSubject } = others
      const given = [issuer, issuerAudience, issuerSubject].filter(({ _tag }) => _tag === "Some").length
      if (given !== 0 && given !== 3) {
        return yield* new CommandFailed({
          code: "Usage",
          message: "--issuer, --issuer-audience and --issuer-subject belong together: give all of them, or none"
        })
      }
      const backend = Backend.layer({
        host,
        port,
        stateDirectory: yield* StateDirectory.orDefault(stateDir),
        database: yield* StoreCommands.databaseOf(others),
        policy: Option.getOrUndefined(policy),
        name: Option.getOrUndefined(name),
        accent: Option.getOrUndefined(accent),
        publicUrl: base,
        authorizationServer: others.authorizationServer,
        webhook: Option.isSome(others.webhookUrl) ? yield* webhookOf(others.webhookUrl.value) : undefined,
        identities: Option.getOrUndefined(
          Option.all({ issuer, audience: issuerAudience, subjects: issuerSubject })
        ),
        trustedProxies,
        keepAliveTimeout: Option.getOrUndefined(others.keepAliveTimeout),
        headersTimeout: Option.getOrUndefined(others.headersTimeout),
        requestTimeout: Option.getOrUndefined(others.requestTimeout),
        stalledTimeout: Option.getOrUndefined(others.stalledTimeout)
      })
      const announcement = Layer.effectDiscard(announce({ publicUrl: Option.getOrUndefined(publicUrl), json }))
      return yield* Layer.launch(Layer.provide(announcement, backend))
    },
    Effect.mapError((error) =>
      error instanceof CommandFailed
        ? error
        : new CommandFailed({
          code: "Failed",
          message: describeFailure(Cause.fail(error)) ?? "The server cannot start"
        })
    )
  )
).pipe(
  Command.withDescription("Start the reference backend and print a pairing URL"),
  Command.withExamples([
    { command: "sallyport serve", description: "Listen on 127.0.0.1:4590" },
    {
      command: "SALLYPORT_DATABASE_URL=postgres://… sallyport serve",
      description: "Share a PostgreSQL database with other nodes"
    },
    { command: "sallyport serve --port 0 --state-dir ./state", description: "Choose a free port, keep state here" }
  ])
)
