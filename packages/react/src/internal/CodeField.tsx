import { type Ref, useId } from "react"

/** Keeps the symbols of a code, and takes for a digit what is easily taken for one. */
const symbolsOf = (text: string): string =>
  text.normalize("NFKC").toUpperCase().replace(/[IL]/g, "1").replace(/O/g, "0").replace(/[^0-9A-Z]/g, "")

/** Keeps the letters of a code that has no digits. */
const lettersOf = (text: string): string => text.normalize("NFKC").toUpperCase().replace(/[^A-Z]/g, "")

const grouped = (symbols: string): string => symbols.replace(/.{4}(?=.)/g, "$&-")

/** Shows a code as the field does. */
export const groups = (code: string, digits = true): string => grouped(digits ? symbolsOf(code) : lettersOf(code))

/** Returns where the caret stands behind so many symbols. */
const placeAfter = (symbols: number): number => symbols + Math.max(0, Math.floor((symbols - 1) / 4))

/**
 * Takes a code: groups of four as it is typed, with the caret where it was. What is pasted goes to `onPaste` first, which
 * returns the code in it; none keeps the field as it is.
 */
export const CodeField = ({ digits = true, hint, invalid = false, label, lengths, onChange, onPaste, ref, value }: {
  readonly label: string
  readonly value: string
  /** How many symbols a code has, the smallest number first. */
  readonly lengths: readonly [number, ...ReadonlyArray<number>]
  /** Whether a code may have digits, for which some letters are taken. */
  readonly digits?: boolean
  readonly invalid?: boolean
  readonly hint: string
  readonly onChange: (code: string) => void
  readonly onPaste: (text: string) => string | undefined
  readonly ref?: Ref<HTMLInputElement>
}) => {
  const id = useId()
  const max = Math.max(...lengths)
  const read = digits ? symbolsOf : lettersOf
  const count = read(value).length
  const wanted = lengths.find((length) => length >= count) ?? max
  const write = (input: HTMLInputElement, text: string, inputType: string) => {
    const before = read(text.slice(0, input.selectionStart ?? text.length)).length
    const typed = read(text)
    // The dash is not a symbol: deleting forward over it deletes the symbol behind it.
    const symbols = inputType === "deleteContentForward" && grouped(typed) === value
      ? typed.slice(0, before) + typed.slice(before + 1)
      : typed
    const next = grouped(symbols.slice(0, max))
    input.value = next
    const caret = Math.min(placeAfter(before), next.length)
    input.setSelectionRange(caret, caret)
    onChange(next)
  }
  return (
    <div className="sp-field">
      <label htmlFor={id}>{label}</label>
      <input
        ref={ref}
        id={id}
        className="sp-in sp-code-in"
        value={value}
        placeholder={grouped("X".repeat(lengths[0]))}
        autoFocus
        autoComplete="one-time-code"
        autoCapitalize="characters"
        autoCorrect="off"
        spellCheck={false}
        aria-describedby={`${id}-hint`}
        aria-invalid={invalid}
        onChange={({ currentTarget, nativeEvent }) => {
          const inputType = nativeEvent instanceof InputEvent ? nativeEvent.inputType : ""
          // An input method writes the text itself until it is done.
          if (nativeEvent instanceof InputEvent && nativeEvent.isComposing) onChange(currentTarget.value)
          else write(currentTarget, currentTarget.value, inputType)
        }}
        onCompositionEnd={({ currentTarget }) => write(currentTarget, currentTarget.value, "")}
        onPaste={(event) => {
          const text = event.clipboardData.getData("text")
          const code = onPaste(text)
          if (code === text) return
          event.preventDefault()
          if (code !== undefined) onChange(grouped(read(code).slice(0, max)))
        }}
      />
      <p className="sp-hint sp-num" id={`${id}-hint`}>
        {count === 0 ? hint : lengths.includes(count) ? "Complete." : `${count} of ${wanted} symbols`}
      </p>
    </div>
  )
}
