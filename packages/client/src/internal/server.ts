import * as Context from "effect/Context"
import type * as HttpClient from "effect/http/HttpClient"
import type { HttpClientError } from "effect/http/HttpClientError"
import type { Credentials } from "../Credentials.ts"
import type { TokenStorageError } from "../TokenStorage.ts"

/** Provides the server to the services of this package. Both clients take paths. */
export class Server extends Context.Service<Server, {
  readonly baseUrl: string
  readonly credentials: Credentials["Service"]
  readonly anonymous: HttpClient.HttpClient
  readonly authenticated: HttpClient.HttpClient.With<HttpClientError | TokenStorageError>
}>()("@sallyport/client/internal/Server") {}
