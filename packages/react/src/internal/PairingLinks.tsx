import type { AccessView } from "@sallyport/client/AccessFeed"
import * as Option from "effect/Option"
import { useActions, useConnections } from "../Hooks.ts"
import { Button, Doing, Empty, Entry, Fault, Icon, Id, Known, Left, Section, useNow, useScopes } from "./parts.tsx"
import * as Words from "./words.ts"

/**
 * Lists the open pairing links, and withdraws them.
 *
 * @category components
 * @since 0.1.0
 */
export const PairingLinks = () => <Known>{(view) => <LinkList view={view} />}</Known>

const LinkList = ({ view }: { readonly view: AccessView }) => {
  const { revokeLink } = useConnections()
  const { act, busy, fault } = useActions()
  const mayWrite = useScopes().includes("access:write")
  const now = useNow()
  return (
    <Section
      id="links"
      title="Open links"
      count={view.links.length}
      lead="Each lets in the device that has it, until it is used or ends."
    >
      <Fault fault={fault} />
      {view.links.length === 0
        ? <Empty title="No link is open.">No device can get in with a code right now.</Empty>
        : (
          <ul className="sp-list">
            {view.links.map((link) => (
              <Entry key={link.id} className="sp-item">
                <span className="sp-kind">
                  <Icon name="link" />
                </span>
                <div>
                  <p className="sp-name">
                    <span>{link.label ?? "Link without a name"}</span>
                  </p>
                  <p className="sp-meta">
                    <span>
                      ends in <Left at={link.expiresAt} now={now} />
                    </span>
                    <span>
                      {link.remainingUses === 1 ? "for one device" : `for ${link.remainingUses} more devices`}
                    </span>
                    <span>
                      May <Doing scopes={link.scopes} />
                    </span>
                    <span>made by {Words.by(link.createdBy)}</span>
                    <Id id={link.id} />
                  </p>
                </div>
                <div className="sp-do">
                  {mayWrite && (
                    <Button
                      kind="row"
                      aria-label={`Withdraw ${Words.linkName(link.label)}`}
                      busy={Option.isSome(busy)}
                      onClick={() => act(link.id, revokeLink(link.id))}
                    >
                      Withdraw
                    </Button>
                  )}
                </div>
              </Entry>
            ))}
          </ul>
        )}
    </Section>
  )
}
