/**
 * Writes the tables of docs/scoped-credentials.md from the one that the tests are made of. A test fails if they differ.
 */
import { markdown } from "@sallyport/testing/CredentialTable"
import { writeBetween } from "./writeBetween.ts"

await writeBetween(
  "scoped-credentials.md",
  "<!-- table: npm run credential-table -->",
  "<!-- end of table -->",
  markdown()
)
