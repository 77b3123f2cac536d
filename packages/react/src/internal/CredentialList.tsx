import type { CredentialStatus } from "@sallyport/core/credentials/CredentialStatus"
import * as Option from "effect/Option"
import { useState } from "react"
import { useActions, useCredentials } from "../Hooks.ts"
import { Button, Empty, Icon, Section, useScopes } from "./parts.tsx"
import * as Words from "./words.ts"

const states = {
  set: ["ok", "Set"],
  unset: [undefined, "Not set"],
  invalid: ["bad", "Rejected"],
  undecryptable: ["warn", "Cannot be read"]
} as const

const remedy = ({ rejectedUntil, state }: CredentialStatus): string | undefined => {
  switch (state) {
    case "invalid":
      return `The provider refused it${rejectedUntil === null ? "" : " a short while ago"}. Replace it.`
    case "undecryptable":
      return "The key that sealed it is gone from this server. Set it again."
    default:
      return undefined
  }
}

/**
 * Lists the credentials that the server uses to act elsewhere, each with its status and never with its value. It renders
 * nothing if the server has none to list, or this session may not see them.
 *
 * @category components
 * @since 0.1.0
 */
export const CredentialList = () => {
  const { check, credentials } = useCredentials()
  const { act, busy } = useActions<unknown>()
  const mayCheck = useScopes().includes("credentials:write")
  const [checked, setChecked] = useState<ReadonlyMap<string, string>>(new Map())
  const ask = async (key: string) => {
    const verdict = await act(key, check(key))
    setChecked((before) =>
      new Map(before).set(
        key,
        Option.match(verdict, { onNone: () => "The answer did not arrive. Try again.", onSome: Words.verdict })
      )
    )
  }
  if (Option.isNone(credentials)) return null
  return (
    <Section
      id="credentials"
      title="Credentials"
      lead="What this server uses to act for you elsewhere. Values are never shown again."
    >
      {credentials.value.length === 0
        ? <Empty title="No credential is needed yet.">Features of this server that need one list it here.</Empty>
        : (
          <ul className="sp-list">
            {credentials.value.map((credential) => {
              const { key, label, shadowed, source, state, updatedAt } = credential
              const [tone, word] = states[state]
              const text = remedy(credential)
              return (
                <li key={key} className="sp-item">
                  <span className="sp-kind">
                    <Icon name="key" />
                  </span>
                  <div>
                    <p className="sp-name">
                      <span>{label}</span>
                      <span className="sp-tag" data-state={tone}>
                        {source === "environment" ? "From the environment" : word}
                      </span>
                    </p>
                    <p className="sp-meta">
                      <span>{key}</span>
                      {source !== null && source !== "environment" && <span>of the {source}</span>}
                      {updatedAt !== null && <span>set on {Words.day(updatedAt)}</span>}
                    </p>
                    {text !== undefined && <p className="sp-hint">{text}</p>}
                    {source !== null && shadowed.length > 0 && (
                      <p className="sp-hint">It comes before the one of the {Words.list(shadowed)}.</p>
                    )}
                    <p role="status" className="sp-hint">{checked.get(key)}</p>
                  </div>
                  <div className="sp-do">
                    {mayCheck && state !== "unset" && (
                      <Button
                        kind="row"
                        aria-label={`Check ${label}`}
                        busy={Option.isSome(busy)}
                        onClick={() => ask(key)}
                      >
                        Check
                      </Button>
                    )}
                  </div>
                </li>
              )
            })}
          </ul>
        )}
    </Section>
  )
}
