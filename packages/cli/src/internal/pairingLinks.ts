/** Issues pairing links, from a store or by a server. */
import { pairingLinkView } from "@sallyport/contract/AccessSchemas"
import type { AccessScope } from "@sallyport/core/access/AccessScope"
import { BootstrapCredentialService } from "@sallyport/core/access/BootstrapCredentialService"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Server } from "./storeCommands.ts"
import { onlyOnStore } from "./storeCommands.ts"

/** Describes a link. What is left out is as the issuer's. */
export interface Wanted {
  readonly kind: "device" | "machine"
  readonly label: Option.Option<string>
  readonly scopes: ReadonlyArray<AccessScope> | undefined
  readonly subject: Option.Option<string>
  readonly lifetime: Option.Option<Duration.Duration>
  readonly sessionLifetime: Option.Option<Duration.Duration>
}

/** Issues a link from a store. */
export const issue = Effect.fnUntraced(function*({ kind, scopes, ...wanted }: Wanted) {
  const { code, link } = yield* (yield* BootstrapCredentialService).issue({
    issuedBy: "operator",
    kind,
    scopes: scopes ?? "all",
    subject: Option.getOrUndefined(wanted.subject),
    label: Option.getOrUndefined(wanted.label),
    lifetime: Option.getOrUndefined(wanted.lifetime),
    sessionLifetime: Option.getOrUndefined(wanted.sessionLifetime)
  })
  return { code, link: pairingLinkView(link) }
})

const seconds = (duration: Duration.Duration) => Math.ceil(Duration.toSeconds(duration))

/** Has a server issue a link, for the subject of the token. */
export const issueBy = Effect.fnUntraced(function*({ api }: Server, { kind, scopes, ...wanted }: Wanted) {
  if (Option.isSome(wanted.subject)) {
    return yield* onlyOnStore("--subject", "leave it out: the token says for whom")
  }
  return yield* api.pairing.issue({
    payload: {
      kind,
      ...(scopes === undefined ? {} : { scopes }),
      ...Option.match(wanted.label, { onNone: () => ({}), onSome: (label) => ({ label }) }),
      ...Option.match(wanted.lifetime, {
        onNone: () => ({}),
        onSome: (lifetime) => ({ lifetimeSeconds: seconds(lifetime) })
      }),
      ...Option.match(wanted.sessionLifetime, {
        onNone: () => ({}),
        onSome: (lifetime) => ({ sessionLifetimeSeconds: seconds(lifetime) })
      })
    }
  })
})
