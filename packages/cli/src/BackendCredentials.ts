/**
 * Provides the credentials of the reference backend and its commands, kept with the rest of the backend's state.
 */
import * as CredentialRequirements from "@sallyport/core/credentials/CredentialRequirements"
import * as CredentialScopeResolver from "@sallyport/core/credentials/CredentialScopeResolver"
import * as GitHubCredential from "@sallyport/core/credentials/GitHubCredential"
import type { OrgMembership } from "@sallyport/core/credentials/OrgMembership"
import * as SecretKeys from "@sallyport/core/secrets/SecretKeys"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"

/** The secret that encrypts the credentials. */
const keyName = "credentials.key"

/** Provides the requirements: a GitHub token, the key of a model provider, and a key pair of AWS. */
const layerRequirements = Layer.unwrap(Effect.map(
  GitHubCredential.requirement(),
  (github) =>
    CredentialRequirements.layer([
      github,
      { key: "anthropic.api-key", label: "Anthropic API key", helpUrl: "https://console.anthropic.com/settings/keys" },
      {
        key: "aws.access-key",
        label: "AWS access key",
        kind: "key-pair",
        parts: ["accessKeyId", "secretAccessKey"],
        helpUrl: "https://console.aws.amazon.com/iam"
      }
    ])
)).pipe(Layer.provide(FetchHttpClient.layer))

/**
 * Provides the credentials. A layer says in which organisation a caller is.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <E, R>(memberships: Layer.Layer<OrgMembership, E, R>) =>
  CredentialScopeResolver.layerConfig.pipe(
    Layer.provideMerge(layerRequirements),
    Layer.provide([memberships, SecretKeys.layerSecretStore(keyName)])
  )
