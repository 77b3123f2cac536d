/**
 * What a store provides in place of a part that it does not keep.
 */
import * as Effect from "effect/Effect"
import { RepositoryError } from "../../RepositoryError.ts"
import type { AuthorizationCodeRepository } from "../AuthorizationCodeRepository.ts"
import type { ConnectClientRepository } from "../ConnectClientRepository.ts"
import type { ScopedCredentialRepository } from "../ScopedCredentialRepository.ts"

const refuse = (part: string, operation: string): Effect.Effect<never, RepositoryError> =>
  Effect.fail(
    new RepositoryError({
      operation,
      reason: "Unsupported",
      outcome: "unchanged",
      cause: new Error(`This store keeps no ${part}; choose one that does`)
    })
  )

/** Fails each step on authorization codes. */
export const codes: AuthorizationCodeRepository = {
  insert: () => refuse("authorization codes", "insert"),
  findByDigest: () => refuse("authorization codes", "findByDigest"),
  redeem: () => refuse("authorization codes", "redeem"),
  sweep: () => refuse("authorization codes", "sweep")
}

/** Fails each step on connect clients. */
export const clients: ConnectClientRepository = {
  request: () => refuse("connect clients", "request"),
  decide: () => refuse("connect clients", "decide"),
  poll: () => refuse("connect clients", "poll"),
  findByCode: () => refuse("connect clients", "findByCode"),
  find: () => refuse("connect clients", "find"),
  findByPrefix: () => refuse("connect clients", "findByPrefix"),
  list: () => refuse("connect clients", "list"),
  storedMode: refuse("connect clients", "storedMode"),
  setMode: () => refuse("connect clients", "setMode"),
  sweep: () => refuse("connect clients", "sweep")
}

/** Fails each step on scoped credentials. */
export const credentials: ScopedCredentialRepository = {
  put: () => refuse("scoped credentials", "put"),
  find: () => refuse("scoped credentials", "find"),
  list: () => refuse("scoped credentials", "list"),
  remove: () => refuse("scoped credentials", "remove"),
  mark: () => refuse("scoped credentials", "mark"),
  recordRead: () => refuse("scoped credentials", "recordRead"),
  page: () => refuse("scoped credentials", "page"),
  reseal: () => refuse("scoped credentials", "reseal")
}
