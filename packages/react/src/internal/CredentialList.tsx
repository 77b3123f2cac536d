import type { CredentialStatus } from "@sallyport/core/credentials/CredentialStatus"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { type ReactNode, useEffect, useState } from "react"
import { useActions, useCredentials } from "../Hooks.ts"
import { Button, Dialog, Empty, Fault, Icon, Section, useScopes } from "./parts.tsx"
import * as Words from "./words.ts"

const states = {
  set: ["ok", "Set"],
  unset: [undefined, "Not set"],
  invalid: ["bad", "Rejected"],
  undecryptable: ["warn", "Cannot be read"]
} as const

const verbs = { set: "Replace", unset: "Set", invalid: "Replace", undecryptable: "Set again" } as const

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

type Question = { readonly _tag: "Set" | "Remove"; readonly credential: CredentialStatus }

/** The parts of a credential in words: "accessKeyId" is "access key id". */
const partName = (part: string) => part.replaceAll(/([a-z])([A-Z])/g, "$1 $2").toLowerCase()

/**
 * Lists the credentials that the server uses to act elsewhere, each with its status and never with its value. A session
 * that may change credentials sets, replaces, checks and removes them. It renders nothing if the server has none to list,
 * or this session may not see them.
 *
 * @category components
 * @since 0.1.0
 */
export const CredentialList = () => {
  const { check, credentials, remove, write } = useCredentials()
  const { act, busy, clear, fault } = useActions()
  const [asked, setAsked] = useState<Question>()
  const [told, setTold] = useState({ text: "" })
  const mayWrite = useScopes().includes("credentials:write")
  const [checked, setChecked] = useState<ReadonlyMap<string, string>>(new Map())
  const ask = async (key: string) => {
    const answer = await act(key, Effect.match(check(key), { onFailure: Words.unread, onSuccess: Words.verdict }))
    if (Option.isSome(answer)) setChecked((before) => new Map(before).set(key, answer.value))
  }
  // After the dialog has given the focus back to a button that may be gone by now.
  useEffect(() => {
    if (told.text !== "") document.getElementById("credentials-h")?.focus()
  }, [told])
  const open = (question: Question) => {
    clear()
    setAsked(question)
  }
  async function end<A>(effect: Parameters<typeof act<A>>[1], done: (answer: A) => string) {
    const answer = await act("change", effect)
    if (Option.isNone(answer)) return
    setTold({ text: done(answer.value) })
    setAsked(undefined)
  }
  const isBusy = Option.isSome(busy)
  if (Option.isNone(credentials)) return null
  return (
    <Section
      id="credentials"
      title="Credentials"
      lead="What this server uses to act for you elsewhere. Values are never shown again."
    >
      <p role="status" className="sp-told">{told.text}</p>
      {credentials.value.length === 0
        ? <Empty title="No credential is needed yet.">Features of this server that need one list it here.</Empty>
        : (
          <ul className="sp-list">
            {credentials.value.map((credential) => {
              const { key, label, shadowed, source, state, updatedAt, writeScope } = credential
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
                      {source !== null && source !== "environment" && (
                        <span>{source === "user" ? "yours" : `of the ${source}`}</span>
                      )}
                      {updatedAt !== null && <span>set on {Words.day(updatedAt)}</span>}
                    </p>
                    {text !== undefined && <p className="sp-hint">{text}</p>}
                    {source !== null && shadowed.length > 0 && (
                      <p className="sp-hint">It comes before the one of the {Words.list(shadowed)}.</p>
                    )}
                    <p role="status" className="sp-hint">{checked.get(key)}</p>
                  </div>
                  <div className="sp-do">
                    {mayWrite && state !== "unset" && (
                      <Button
                        kind="row"
                        aria-label={`Check ${label}`}
                        busy={isBusy}
                        onClick={() => ask(key)}
                      >
                        Check
                      </Button>
                    )}
                    {mayWrite && source !== "environment" && writeScope !== null && (
                      <Button
                        kind={state === "set" ? "row" : "second"}
                        aria-label={`${verbs[state]} ${label}`}
                        onClick={() => open({ _tag: "Set", credential })}
                      >
                        {verbs[state]}
                      </Button>
                    )}
                    {mayWrite && source !== "environment" && state !== "unset" && (
                      <Button
                        kind="row"
                        aria-label={`Remove ${label}`}
                        onClick={() => open({ _tag: "Remove", credential })}
                      >
                        Remove
                      </Button>
                    )}
                  </div>
                </li>
              )
            })}
          </ul>
        )}
      {asked?._tag === "Set" && (
        <Setting
          credential={asked.credential}
          busy={isBusy}
          fault={<Fault fault={fault} />}
          onClose={() => setAsked(undefined)}
          onSet={(values) =>
            end(write(asked.credential.key, values), (shadowedBy) =>
              `${asked.credential.label} is set.${
                shadowedBy === null ? "" : ` The one of the ${shadowedBy} comes before it.`
              }`)}
        />
      )}
      {asked?._tag === "Remove" && (
        <Dialog
          role="alertdialog"
          title={`Remove ${asked.credential.label}?`}
          onClose={() => setAsked(undefined)}
        >
          <p>What uses it stops working until it is set again. Its value cannot be brought back.</p>
          <Fault fault={fault} />
          <div className="sp-da">
            <Button kind="second" data-autofocus onClick={() => setAsked(undefined)}>Keep it</Button>
            <Button
              kind="danger"
              busy={isBusy}
              onClick={() => end(remove(asked.credential), () => `${asked.credential.label} was removed.`)}
            >
              Remove {asked.credential.label}
            </Button>
          </div>
        </Dialog>
      )}
    </Section>
  )
}

/** Asks for the values of a credential. They are kept by this dialog alone, and go with it. */
const Setting = ({ busy, credential: { helpUrl, label, parts, state, writeScope }, fault, onClose, onSet }: {
  readonly credential: CredentialStatus
  readonly busy: boolean
  readonly fault: ReactNode
  readonly onClose: () => void
  readonly onSet: (values: Readonly<Record<string, Redacted.Redacted>>) => void
}) => {
  const [values, setValues] = useState<Readonly<Record<string, string>>>({})
  const isComplete = parts.every((part) => (values[part] ?? "").trim() !== "")
  return (
    <Dialog title={`${verbs[state]} ${label}`} onClose={onClose}>
      <form
        className="sp-acts"
        onSubmit={(event) => {
          event.preventDefault()
          if (!isComplete) return
          onSet(Object.fromEntries(parts.map((part) => [part, Redacted.make((values[part] ?? "").trim())])))
        }}
      >
        {parts.map((part, index) => (
          <label key={part} className="sp-field">
            <span>{parts.length === 1 ? label : partName(part)}</span>
            <input
              {...(index === 0 ? { "data-autofocus": true } : {})}
              type="password"
              className="sp-in"
              value={values[part] ?? ""}
              autoComplete="off"
              spellCheck={false}
              onChange={({ target }) => setValues((before) => ({ ...before, [part]: target.value }))}
            />
          </label>
        ))}
        <p className="sp-hint">
          It is kept for {writeScope === "user" ? "you alone" : `the ${writeScope}`}, sealed, and never shown again.
          {" "}
          {helpUrl !== null && helpUrl.startsWith("https:") && (
            <a href={helpUrl} target="_blank" rel="noreferrer">Where to get it</a>
          )}
        </p>
        {fault}
        <div className="sp-da">
          <Button kind="second" onClick={onClose}>Cancel</Button>
          <Button type="submit" busy={busy} off={!isComplete}>{verbs[state]}</Button>
        </div>
      </form>
    </Dialog>
  )
}
