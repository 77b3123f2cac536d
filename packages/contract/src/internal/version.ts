/**
 * Holds the version of the packages, for the descriptions of APIs.
 */

/** Names the version; a test compares it with the package's manifest. */
export const version = "0.1.0"
