/**
 * Approves and revokes clients of a relay, as `sallyport connect` does beside a running backend: on the store of a
 * state directory, in its own process.
 *
 * The argument is the state directory. Each line of input is a thumbprint to approve, answered with the code of a
 * grant, or one to revoke, answered with the time before the decision.
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Persistence from "@sallyport/cli/Persistence"
import * as StateDirectory from "@sallyport/cli/StateDirectory"
import { makeGrants } from "@sallyport/core/access/BootstrapCredentialService"
import * as ConnectClientStore from "@sallyport/core/connect/ConnectClientStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Redacted from "effect/Redacted"
import { createInterface } from "node:readline"

/** The commands of the process. */
export type Command = { readonly approve: string } | { readonly revoke: string }

const [directory = ""] = process.argv.slice(2)

const runtime = ManagedRuntime.make(
  ConnectClientStore.layer.pipe(
    Layer.provideMerge(
      Layer.unwrap(
        Effect.map(StateDirectory.open(directory), (state) => Persistence.layer({ database: undefined, state }))
      )
    ),
    Layer.provideMerge(Layer.merge(NodeCrypto.layer, NodeServices.layer))
  )
)

const answer = Effect.fnUntraced(function*(command: Command) {
  const clients = yield* ConnectClientStore.ConnectClientStore
  if ("revoke" in command) {
    // The monotonic clock is one for all processes of a machine.
    const at = Number(process.hrtime.bigint()) / 1e6
    yield* clients.decide({ client: command.revoke, decision: "revoked", by: "operator" })
    return { at }
  }
  const request = { proofKeyThumbprint: command.approve, account: "ada" }
  yield* clients.request(request)
  yield* clients.decide({ client: command.approve, decision: "approved", by: "operator" })
  const grant = yield* (yield* makeGrants)({
    scopes: ["access:read"],
    subject: "owner",
    label: null,
    proofKeyThumbprint: command.approve,
    createdBy: ConnectClientStore.grantedBy,
    lifetimeMillis: 60_000
  })
  yield* clients.request({ ...request, grant: grant.row })
  return { code: Redacted.value(grant.code) }
})

process.stdout.write("{}\n")
for await (const line of createInterface(process.stdin)) {
  process.stdout.write(`${JSON.stringify(await runtime.runPromise(answer(JSON.parse(line))))}\n`)
}
await runtime.dispose()
