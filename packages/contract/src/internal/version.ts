/**
 * The version of the packages, as the description of an API names it.
 */

/** Names the version; a test compares it with the package's manifest. */
export const version = "0.1.0"
