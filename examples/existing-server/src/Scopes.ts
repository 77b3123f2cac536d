/**
 * Declares the scopes of this application, beside Sallyport's own.
 */
import { AccessScope } from "@sallyport/core"
import { Layer } from "effect"

// #region scopes
// The types: a misspelt scope in a route does not compile.
declare module "@sallyport/core/access/AccessScope" {
  interface Registry {
    readonly "notes:read": true
    readonly "notes:write": true
  }
}

/** Provides the vocabulary at run time: all that the operator of this server may grant. */
export const layer = Layer.succeed(AccessScope.Vocabulary, [...AccessScope.builtin, "notes:read", "notes:write"])
// #endregion scopes
