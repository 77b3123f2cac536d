/**
 * Provides the services of the example on one SQLite database.
 */
import { NodeCrypto } from "@effect/platform-node"
import * as CredentialRequirements from "@sallyport/core/credentials/CredentialRequirements"
import * as CredentialScopeResolver from "@sallyport/core/credentials/CredentialScopeResolver"
import * as GitHubCredential from "@sallyport/core/credentials/GitHubCredential"
import * as SecretKeys from "@sallyport/core/secrets/SecretKeys"
import * as SqlAccessRepository from "@sallyport/core/access/SqlAccessRepository"
import * as SqliteClient from "@sallyport/sqlite-node/SqliteClient"
import { Effect, Layer } from "effect"
import { FetchHttpClient } from "effect/http"
import * as Members from "./Members.ts"

// #region services
/** Provides the credentials, the members and a client on a database file. The key is in `SALLYPORT_SECRET_KEY`. */
export const layer = (options: { readonly filename: string; readonly apiUrl: string; readonly repository: string }) => {
  const requirements = Layer.unwrap(Effect.map(
    GitHubCredential.requirement({ apiUrl: options.apiUrl, repository: options.repository }),
    (github) => CredentialRequirements.layer([github])
  ))
  return CredentialScopeResolver.layer.pipe(
    Layer.provide([requirements, Members.layer, SecretKeys.layerConfig()]),
    Layer.provide(SqlAccessRepository.layer),
    Layer.provide(NodeCrypto.layer),
    Layer.provideMerge(Layer.merge(SqliteClient.layer({ filename: options.filename }), FetchHttpClient.layer))
  )
}
// #endregion services
