export * as Keyring from "./Keyring.ts"
export * as NodeDigest from "./NodeDigest.ts"
export * as NodeProofSignature from "./NodeProofSignature.ts"
export * as SecretFd from "./SecretFd.ts"
