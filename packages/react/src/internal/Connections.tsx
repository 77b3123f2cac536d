import * as DateTime from "effect/DateTime"
import * as Option from "effect/Option"
import { useCallback, useState } from "react"
import { useActions, useSession, useSnapshot } from "../Hooks.ts"
import { AuditTrail } from "./AuditTrail.tsx"
import { ApprovalMode, WaitingClients } from "./ConnectClients.tsx"
import { CredentialList } from "./CredentialList.tsx"
import { Devices } from "./Devices.tsx"
import { LetIn } from "./LetIn.tsx"
import { PairingLinks } from "./PairingLinks.tsx"
import { Button, Contents, Gate, type Listed, useLasting } from "./parts.tsx"
import { Runs } from "./Runs.tsx"
import { ScopeRequests } from "./ScopeRequests.tsx"
import { SignedIn, type SignedInState } from "./SignedIn.tsx"
import * as Words from "./words.ts"

/**
 * Shows who has access and lets the owner change it: what waits for a decision, the devices, the open links, the clients of
 * the relay, the credentials, the runs and the activity, live. If this device is revoked, it drops what it showed, and says
 * so.
 *
 * @category components
 * @since 0.1.0
 */
export const Connections = ({ pair }: {
  /** The address of the page that pairs a browser; by default `pair` beside this page, and `/pair` below the server's. */
  readonly pair?: string | undefined
}) => (
  <SignedIn pair={pair} title="Connections">
    {(state) => <OwnersPage pair={pair} state={state} />}
  </SignedIn>
)

const OwnersPage = ({ pair, state }: {
  readonly pair: string | undefined
  readonly state: SignedInState
}) => {
  const { access, lostAt } = useSnapshot()
  const { refresh } = useSession()
  const { act, busy } = useActions()
  const isConnected = Option.exists(access, ({ connected }) => connected)
  const isLost = useLasting(Option.isSome(access) && !isConnected)
  const { policy, session: { scopes } } = state
  const [sections, setSections] = useState<ReadonlyArray<Listed>>([])
  const enter = useCallback((section: Listed) => {
    setSections((others) => [...others, section])
    return () => setSections((all) => all.filter((other) => other !== section))
  }, [])
  if (!scopes.includes("access:read")) {
    return (
      <main className="sallyport sp-gates">
        <Gate
          sign="barred"
          title="You cannot see the connections"
          lead="Your session may not look at devices and activity. Ask the owner, or pair this browser with a code that allows it."
        >
          <div className="sp-acts">
            <a className="sp-b" data-kind="primary" href={pair ?? "pair"}>Enter a code</a>
          </div>
        </Gate>
      </main>
    )
  }
  return (
    <main className="sallyport sp-owner">
      {isLost && Option.isSome(lostAt) && (
        <div role="status" className="sp-banner">
          <span>
            <b>The connection is lost.</b> What you see is from{" "}
            {DateTime.formatLocal(lostAt.value, { timeStyle: "medium" })}, and may have changed. Trying again by itself.
          </span>
          <Button kind="inline" busy={Option.isSome(busy)} onClick={() => act("try", refresh)}>Try now</Button>
        </div>
      )}
      <header className="sp-head">
        <div>
          <div className="sp-row">
            <h1 tabIndex={-1}>Connections</h1>
            <p className="sp-live" role="status" data-state={isLost ? "lost" : "live"}>
              {isLost ? "Reconnecting" : Option.isSome(access) ? "Live" : "Connecting…"}
            </p>
          </div>
          <p className="sp-hint">Who can get into {policy.name ?? "this server"}, and what happened.</p>
          {policy.identities.length > 0 && (
            <p className="sp-hint">
              People whom this server admits by an account at{" "}
              {Words.list([...new Set(policy.identities.map(({ issuer }) => issuer))])} come in without a link.
            </p>
          )}
        </div>
        {scopes.includes("access:write") && <LetIn pair={pair} />}
      </header>
      <Jump sections={sections} />
      <div className="sp-sections">
        <Contents value={enter}>
          <WaitingClients />
          <ScopeRequests />
          <Devices />
          <PairingLinks />
          <ApprovalMode />
          {scopes.includes("credentials:read") && <CredentialList />}
          {scopes.includes("runs:read") && <Runs />}
          <AuditTrail />
        </Contents>
      </div>
    </main>
  )
}

const order = ["waiting", "asking", "devices", "links", "who", "credentials", "runs", "activity"]

/** Leads to the sections that the page has, with how many entries each has. */
const Jump = ({ sections }: { readonly sections: ReadonlyArray<Listed> }) => (
  <nav className="sp-jump" aria-label="On this page">
    <ul>
      {sections.toSorted((a, b) =>
        order.indexOf(a.id) - order.indexOf(b.id)
      ).map(({ count, id, waits, words }) => (
        <li key={id}>
          <a href={`#${id}`}>
            {words}
            {count > 0 && <span className="sp-tag" data-state={waits ? "warn" : undefined}>{count}</span>}
          </a>
        </li>
      ))}
    </ul>
  </nav>
)
