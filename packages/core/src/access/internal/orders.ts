/**
 * The orders in which rows are kept, listed and locked.
 */

interface Identified {
  readonly id: string
}
interface Keyed {
  readonly proofKeyThumbprint: string
}

/** Orders texts by their UTF-16 units. */
export const byText = (a: string, b: string): number => a === b ? 0 : a < b ? -1 : 1

/** Orders rows by their ids. */
export const byId = (a: Identified, b: Identified): number => byText(a.id, b.id)

/** Orders clients by their thumbprints. */
export const byThumbprint = (a: Keyed, b: Keyed): number => byText(a.proofKeyThumbprint, b.proofKeyThumbprint)

/** Orders links as lists do. */
export const newestLinkFirst = (
  a: Identified & { readonly createdAtMillis: number },
  b: Identified & { readonly createdAtMillis: number }
): number => b.createdAtMillis - a.createdAtMillis || byId(b, a)

/** Orders clients as lists do. */
export const newestClientFirst = (
  a: Keyed & { readonly requestedAtMillis: number },
  b: Keyed & { readonly requestedAtMillis: number }
): number => b.requestedAtMillis - a.requestedAtMillis || byThumbprint(a, b)
