/** Makes the colours of the pages from one, so that text stays readable on it and in it (WCAG 2.2, 1.4.3). */
import * as Schema from "effect/Schema"

/**
 * Decodes a colour: `#` and the six hexadecimal digits of its red, green and blue.
 *
 * @category models
 * @since 0.1.0
 */
export const Accent = Schema.String.check(Schema.isPattern(/^#[0-9a-f]{6}$/i)).pipe(Schema.brand("Accent"))
/**
 * @see {@link Accent}
 *
 * @category models
 * @since 0.1.0
 */
export type Accent = typeof Accent.Type

type Colour = readonly [red: number, green: number, blue: number]

const readable = 4.5

/** Of each scheme: where text goes until it is readable, what it stands on, and the ground that is nearest to it. */
const schemes = {
  light: { ink: [0, 0, 0], paper: [255, 255, 255], nearest: [240, 240, 236], soft: 0.12 },
  dark: { ink: [255, 255, 255], paper: [24, 25, 29], nearest: [24, 25, 29], soft: 0.2 }
} as const satisfies Record<string, { ink: Colour; paper: Colour; nearest: Colour; soft: number }>

const luminance = (colour: Colour): number => {
  const [red = 0, green = 0, blue = 0] = colour.map((value) =>
    value <= 10.31475 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4
  )
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue
}

const contrast = (one: Colour, other: Colour): number => {
  const [dark = 0, light = 0] = [luminance(one), luminance(other)].sort((a, b) => a - b)
  return (light + 0.05) / (dark + 0.05)
}

const mix = (from: Colour, to: Colour, part: number): Colour => [
  Math.round(from[0] + (to[0] - from[0]) * part),
  Math.round(from[1] + (to[1] - from[1]) * part),
  Math.round(from[2] + (to[2] - from[2]) * part)
]

const css = (colour: Colour): string => `#${colour.map((value) => value.toString(16).padStart(2, "0")).join("")}`

/** Writes the properties of a scheme. The colour goes towards the ink until it can be read wherever it stands. */
const properties = (colour: Colour, { ink, nearest, paper, soft }: typeof schemes[keyof typeof schemes]): string => {
  const steps = Array.from({ length: 51 }, (_, step) => mix(colour, ink, step / 50))
  const softOf = (accent: Colour) => mix(paper, accent, soft)
  const accent =
    steps.find((step) => [paper, nearest, softOf(step)].every((ground) => contrast(step, ground) >= readable)) ?? ink
  return `:root { --accent: ${css(accent)}; --on-accent: ${css(paper)}; --accent-soft: ${css(softOf(accent))}; ` +
    `--accent-ink: ${css(mix(accent, ink, 0.2))} }`
}

/** Writes the style sheet of an accent for both schemes. */
export const styleSheet = (accent: Accent): string => {
  const part = (at: number) => Number.parseInt(accent.slice(at, at + 2), 16)
  const colour: Colour = [part(1), part(3), part(5)]
  return `${properties(colour, schemes.light)}\n` +
    `@media (prefers-color-scheme: dark) { ${properties(colour, schemes.dark)} }\n`
}
