/**
 * Handles thumbprints on the command line. They are base64url, so one in 64 begins with a hyphen, which a command line
 * reads as flags: `-h…` would print the help and succeed without a decision.
 */

/**
 * Matches a hyphen and more than one letter, which is no flag: flags have one letter, or two hyphens and small letters.
 */
const hyphenated = /^-(?!-[a-z-]*$)[\w-]{2,}$/

/**
 * Returns the arguments of a command, with thumbprints that begin with a hyphen moved to where only values are read.
 */
export const separate = (args: ReadonlyArray<string>): ReadonlyArray<string> => {
  if (args[0] !== "connect") return args
  const end = args.includes("--") ? args.indexOf("--") : args.length
  const flags: Array<string> = []
  const values: Array<string> = []
  for (const arg of args.slice(0, end)) {
    if (!hyphenated.test(arg)) flags.push(arg)
    else if (flags.at(-1) === "--trust") flags.splice(-1, 1, `--trust=${arg}`)
    else values.push(arg)
  }
  values.push(...args.slice(end + 1))
  return values.length === 0 ? flags : [...flags, "--", ...values]
}
