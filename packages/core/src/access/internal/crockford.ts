/**
 * Crockford's Base32: an alphabet that has no I, L, O or U.
 */

/** Holds the symbols, each at its value. */
export const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

/** Takes a value from each random byte. As 256 is a multiple of 32, the low five bits favour none. */
export const valuesOf = (bytes: Uint8Array): ReadonlyArray<number> => Array.from(bytes, (byte) => byte & 31)

/** Writes values as symbols. */
export const format = (values: ReadonlyArray<number>): string => values.map((value) => alphabet.charAt(value)).join("")
