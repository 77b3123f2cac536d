/**
 * Sends the requests for credentials, which fail as those of the client do.
 */
import { ClientError, ClientErrorReason, UnexpectedAnswer, Unreachable } from "@sallyport/client/ClientError"
import * as Connection from "@sallyport/client/Connection"
import { CredentialApi } from "@sallyport/contract/CredentialGroup"
import type { CredentialStatus } from "@sallyport/core/credentials/CredentialStatus"
import * as Effect from "effect/Effect"
import * as HttpApiClient from "effect/http-api/HttpApiClient"
import * as HttpClientError from "effect/http/HttpClientError"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"

const isReason = Schema.is(ClientErrorReason)

/** Says in the words of clients why a request failed. */
const clientError = (error: unknown): ClientError => {
  if (isReason(error)) return new ClientError({ reason: error })
  const reason = HttpClientError.isHttpClientError(error) ? error.reason : undefined
  // The failure of a refresh, with which the request that waited for it fails.
  if (reason?._tag === "TransportError" && isReason(reason.cause)) return new ClientError({ reason: reason.cause })
  const status = reason !== undefined && "response" in reason ? reason.response.status : 0
  return new ClientError({
    reason: reason?._tag === "TransportError" || status >= 500
      ? new Unreachable({
        failure: status === 0 ? "connection" : "unavailable",
        status: status === 0 ? null : status,
        detail: status === 0 ? "the connection could not be made, or broke" : `the answer was ${status}`,
        attempts: 1
      })
      : new UnexpectedAnswer({
        status,
        code: null,
        message: "The server answered in a form that this client doesn't know; update the one that is older"
      })
  })
}

const api = Connection.Connection.use(({ httpClient }) =>
  HttpApiClient.group(CredentialApi, { group: "credentials", httpClient })
)

/** Reads the status of each credential that the server declares. */
export const status = api.pipe(
  Effect.flatMap((api) => api.status()),
  Effect.mapBoth({ onSuccess: ({ credentials }) => credentials, onFailure: clientError })
)

/** Asks the provider about a credential. */
export const check = (key: string) =>
  api.pipe(
    Effect.flatMap((api) => api.test({ params: { key } })),
    Effect.mapBoth({ onSuccess: ({ verdict }) => verdict, onFailure: clientError })
  )

/** Stores the values of all parts of a credential, and returns the scope that is read before it, or null. */
export const write = (key: string, values: Readonly<Record<string, Redacted.Redacted>>) =>
  api.pipe(
    Effect.flatMap((api) => api.set({ params: { key }, payload: { values } })),
    Effect.mapBoth({ onSuccess: ({ shadowedBy }) => shadowedBy, onFailure: clientError })
  )

/** Removes a credential from the scope that it is read from. */
export const remove = ({ key, source }: Pick<CredentialStatus, "key" | "source">) =>
  api.pipe(
    Effect.flatMap((api) => api.remove({ params: { key }, query: source === null ? {} : { scope: source } })),
    Effect.mapError(clientError)
  )
