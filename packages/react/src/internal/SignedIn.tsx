import type { SessionState } from "@sallyport/contract/SessionGroup"
import * as Option from "effect/Option"
import type { ReactNode } from "react"
import { useSnapshot } from "../Hooks.ts"
import { Gate, useLasting } from "./parts.tsx"
import * as Words from "./words.ts"

/**
 * Describes a browser that is signed in: the server's policy, and the session.
 *
 * @category models
 * @since 0.1.0
 */
export type SignedInState = Extract<typeof SessionState.Type, { readonly authenticated: true }>

/**
 * Renders what is below for a browser that is signed in. Any other is told so, and led to the page that pairs it; and so is
 * one that is signed out or revoked while the page is open, whose page drops what it showed. A device that was revoked is
 * told by whom, when and from where.
 *
 * @category components
 * @since 0.1.0
 */
export const SignedIn = ({ children, pair = "pair", title, unpaired }: {
  /** What the page is called while the session is looked at. */
  readonly title: string
  /** The address of the page that pairs a browser. Default `pair`. */
  readonly pair?: string | undefined
  /** What else a browser is told that is not paired. */
  readonly unpaired?: ReactNode
  readonly children: (state: SignedInState) => ReactNode
}) => {
  const { ended, fault, session } = useSnapshot()
  const isSilent = useLasting(Option.isNone(session) && Option.isSome(fault))
  if (Option.isNone(session)) {
    return (
      <main className="sallyport sp-gates">
        <Gate
          sign={isSilent ? "barred" : "wait"}
          title={isSilent ? "The server does not answer" : title}
          {...(isSilent
            ? { lead: "Check that it runs and that this device is in the same network. Trying again by itself." }
            : {})}
        >
          <p role="status" className="sp-hint">{isSilent ? "" : "Looking at your session…"}</p>
        </Gate>
      </main>
    )
  }
  if (session.value.authenticated) return children(session.value)
  const told = session.value.ended === undefined
    ? { title: "This device was signed out", text: "It signed out, or its session has ended." }
    : Words.ending(session.value.ended)
  const isOver = ended || session.value.ended !== undefined
  return (
    <main className="sallyport sp-gates">
      <Gate
        focused={ended}
        sign={isOver ? "barred" : "ask"}
        title={isOver ? told.title : "This browser is not paired"}
        lead={isOver
          ? `${told.text} Pair it again to go on.`
          : "Pair it with a code that the server or a paired device shows."}
      >
        <div className="sp-acts">
          <a className="sp-b" data-kind="primary" href={pair}>Enter a code</a>
        </div>
        {!isOver && unpaired}
      </Gate>
    </main>
  )
}
