import { useState } from "react"
import { ScopeName, useScopes } from "./parts.tsx"

/**
 * Holds which of the scopes that were asked for a person gives: all that the person has, but for those that are the
 * operator's to give, until some are left out.
 */
export const useScopeChoice = <Scope extends string>(
  asked: ReadonlyArray<Scope>,
  operators: ReadonlyArray<string> = []
) => {
  const held = useScopes()
  const refusal = (scope: Scope): string | undefined =>
    operators.includes(scope)
      ? "Only the operator gives this: sallyport sessions grant."
      : held.includes(scope)
      ? undefined
      : "You may not do it yourself, so you cannot give it."
  const [left, setLeft] = useState<ReadonlyArray<string>>([])
  return {
    asked,
    granted: asked.filter((scope) => refusal(scope) === undefined && !left.includes(scope)),
    refusal,
    give: (scope: Scope, isGiven: boolean) =>
      setLeft((left) => isGiven ? left.filter((other) => other !== scope) : [...left, scope])
  }
}

/** Lets a person give what was asked for, or less. */
export const ScopeChoice = <Scope extends string>({ choice, legend, wide }: {
  readonly choice: ReturnType<typeof useScopeChoice<Scope>>
  readonly legend: string
  readonly wide?: boolean
}) => (
  <fieldset className={wide === true ? "sp-checks sp-wide" : "sp-checks"}>
    <legend className="sp-label">{legend}</legend>
    {choice.asked.map((scope) => (
      <label key={scope} className="sp-check">
        <input
          type="checkbox"
          checked={choice.granted.includes(scope)}
          disabled={choice.refusal(scope) !== undefined}
          onChange={({ target }) => choice.give(scope, target.checked)}
        />
        <ScopeName name={scope} refusal={choice.refusal(scope)} />
      </label>
    ))}
  </fieldset>
)
