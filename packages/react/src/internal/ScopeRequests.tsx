import type { Device } from "@sallyport/client/AccessFeed"
import { AccessScope, widening } from "@sallyport/core/access/AccessScope"
import * as DateTime from "effect/DateTime"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { useActions, useConnections, useSnapshot } from "../Hooks.ts"
import { Ago, Button, Doing, Entry, Fault, Left, Section, useNow, useScopes, useSettled } from "./parts.tsx"
import { ScopeChoice, useScopeChoice } from "./ScopeChoice.tsx"
import * as Words from "./words.ts"

const isScope = Schema.is(AccessScope)

type Asking = Device & { readonly scopeRequest: NonNullable<Device["scopeRequest"]> }

/** Returns the other devices that ask for more scopes, if this session may answer them. */
export const useAsking = (): ReadonlyArray<Asking> => {
  const { access } = useSnapshot()
  const now = useNow()
  const mayAnswer = useScopes().includes("access:write")
  if (!mayAnswer || Option.isNone(access)) return []
  return access.value.devices.filter((device): device is Asking => {
    const until = device.scopeRequest?.expiresAt
    return until !== undefined && !device.current && !Option.exists(now, DateTime.isGreaterThanOrEqualTo(until))
  })
}

/**
 * Shows the devices that ask for more scopes, each with what it may do and what it asks for, and grants that or less;
 * nothing if none asks.
 *
 * @category components
 * @since 0.1.0
 */
export const ScopeRequests = () => {
  const asking = useAsking()
  const { answerScopes } = useConnections()
  const { act, busy, fault } = useActions()
  if (asking.length === 0 && Option.isNone(fault)) return null
  return (
    <Section
      id="asking"
      title="Asking for more"
      count={asking.length}
      waits
      lead="A device that you grant more goes on by itself, with what it has and this."
    >
      <Fault fault={fault} />
      <ul>
        {asking.map((device) => (
          <Card
            // A request that is made again is another card.
            key={`${device.id} ${DateTime.formatIso(device.scopeRequest.requestedAt)}`}
            device={device}
            busy={Option.isSome(busy)}
            onAnswer={(scopes) =>
              act(
                "answer",
                answerScopes(device.id, {
                  requestedAt: device.scopeRequest.requestedAt,
                  scopes: scopes.filter(isScope)
                })
              )}
          />
        ))}
      </ul>
    </Section>
  )
}

const Card = ({ busy, device, onAnswer }: {
  readonly device: Asking
  readonly busy: boolean
  readonly onAnswer: (scopes: ReadonlyArray<string>) => void
}) => {
  const settled = useSettled()
  const now = useNow()
  const { expiresAt, requestedAt, scopes } = device.scopeRequest
  const choice = useScopeChoice(scopes, widening)
  const { granted } = choice
  const name = Words.deviceName(device.device)
  const buttons = { busy, wait: !settled }
  return (
    <Entry className="sp-ask">
      <div>
        <p className="sp-name">
          <span>{name}</span>
        </p>
        <p className="sp-meta">
          <span>
            May <Doing scopes={device.scopes} />
          </span>
          <span>
            asked <Ago at={requestedAt} now={now} />
          </span>
          <span>
            request ends in <Left at={expiresAt} now={now} />
          </span>
        </p>
      </div>
      <ScopeChoice choice={choice} legend="It asks to do this as well" wide />
      <div className="sp-row">
        <Button
          {...buttons}
          off={granted.length === 0}
          aria-label={`Allow ${name} to do more`}
          onClick={() => onAnswer(granted)}
        >
          Allow
        </Button>
        <Button {...buttons} kind="second" aria-label={`Don’t allow ${name} to do more`} onClick={() => onAnswer([])}>
          Don’t allow
        </Button>
      </div>
    </Entry>
  )
}
