/**
 * Declares what programs can be granted here, beside Sallyport's own scopes.
 */
import { AccessScope } from "@sallyport/core"
import { Layer } from "effect"

declare module "@sallyport/core/access/AccessScope" {
  interface Registry {
    readonly "greenhouse:read": true
    readonly "greenhouse:water": true
  }
}

/** Provides the vocabulary at run time, which is all that the operator of this server may grant, and what it is called. */
export const layer = Layer.merge(
  Layer.succeed(AccessScope.Vocabulary, [...AccessScope.builtin, "greenhouse:read", "greenhouse:water"]),
  Layer.succeed(AccessScope.Titles, {
    ...AccessScope.titles,
    "greenhouse:read": "Read the greenhouse’s sensors",
    "greenhouse:water": "Water the greenhouse"
  })
)
