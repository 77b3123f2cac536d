export * as EncryptedSecretStore from "./EncryptedSecretStore.ts"
export * as SecretKeys from "./SecretKeys.ts"
export * as SecretStore from "./SecretStore.ts"
export * as SqlSecretStore from "./SqlSecretStore.ts"
