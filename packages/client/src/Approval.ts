/**
 * Decides which clients may connect, through a relay or as devices, for a session with the scope `connect:manage`.
 */
import { NextPage } from "@sallyport/contract/AccessSchemas"
import { ConnectClientView } from "@sallyport/contract/ConnectGroup"
import { SallyportApi } from "@sallyport/contract/SallyportApi"
import type { AccessScope } from "@sallyport/core/access/AccessScope"
import { SecurityMode } from "@sallyport/core/access/ConnectClient"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpApiClient from "effect/http-api/HttpApiClient"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type { ClientError } from "./ClientError.ts"
import { Connection } from "./Connection.ts"
import * as Answer from "./internal/answer.ts"
import { readPages } from "./internal/pages.ts"

/**
 * Lists what can be decided about a client.
 *
 * @category models
 * @since 0.1.0
 */
export type Decision = "approve" | "reject" | "revoke" | "block"

/**
 * Describes a decision about a client.
 *
 * @category options
 * @since 0.1.0
 */
export interface DecisionOptions {
  /** The client's `proofKeyThumbprint`. */
  readonly client: string
  /** The code that the person saw. If the client has asked again since then, the decision fails with a `Conflict`. */
  readonly code?: string | undefined
  readonly reason?: string | undefined
  /** What an approved device is granted: what it asks for, or less. All of that if absent. */
  readonly scopes?: ReadonlyArray<AccessScope> | undefined
}

/**
 * Provides the decisions about clients, and the approval mode. Nothing here is retried.
 *
 * @category services
 * @since 0.1.0
 */
export class Approval extends Context.Service<Approval, {
  /** Lists the clients that have asked to connect, who asked last first, page after page. */
  readonly clients: Effect.Effect<ReadonlyArray<ConnectClientView>, ClientError>
  /** Finds the device that waits and shows a code, which is given in any case and with any punctuation. */
  readonly find: (code: string) => Effect.Effect<ConnectClientView, ClientError>
  /** Decides about a client, and returns it as it is then. */
  readonly decide: (decision: Decision, options: DecisionOptions) => Effect.Effect<ConnectClientView, ClientError>
  /** Returns the approval mode. */
  readonly mode: Effect.Effect<SecurityMode, ClientError>
  /** Sets the approval mode. `trust` approves clients that came in by their account: all of them, or those named. */
  readonly setMode: (
    mode: SecurityMode,
    trust?: "all" | ReadonlyArray<string>
  ) => Effect.Effect<SecurityMode, ClientError>
}>()("@sallyport/client/Approval") {}

const responseMode = "response-only"
const OneClient = Schema.Struct({ client: ConnectClientView })
const Mode = Schema.Struct({ mode: SecurityMode })
const Clients = Schema.Struct({ clients: Schema.Array(ConnectClientView), next: NextPage })

const make = Effect.gen(function*() {
  const { httpClient } = yield* Connection
  const api = yield* HttpApiClient.group(SallyportApi, { group: "connect", httpClient })

  return Approval.of({
    clients: readPages((query) =>
      Effect.map(
        Answer.request(api.clients({ query, responseMode }), Clients),
        ({ clients, next }) => [clients, next] as const
      )
    ).pipe(Effect.withSpan("Approval.clients")),
    find: Effect.fn("Approval.find")(function*(code) {
      return (yield* Answer.request(api.find({ payload: { code }, responseMode }), OneClient)).client
    }),
    decide: Effect.fn("Approval.decide")(function*(decision, { client, code, reason, scopes }) {
      const payload = {
        client,
        ...(code === undefined ? {} : { code }),
        ...(reason === undefined ? {} : { reason }),
        ...(scopes === undefined ? {} : { scopes })
      }
      const decided = yield* Answer.request(api[decision]({ payload, responseMode }), OneClient)
      return decided.client
    }),
    mode: Effect.map(Answer.request(api.securityMode({ responseMode }), Mode), ({ mode }) => mode).pipe(
      Effect.withSpan("Approval.mode")
    ),
    setMode: Effect.fn("Approval.setMode")(function*(mode, trust) {
      const set = yield* Answer.request(
        api.setSecurityMode({ payload: { mode, ...(trust === undefined ? {} : { trust }) }, responseMode }),
        Mode
      )
      return set.mode
    })
  })
})

/**
 * Provides the approval on the server of the connection.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Approval, never, Connection> = Layer.effect(Approval, make)
