/**
 * Replaces a bundle of credentials again and again until it is killed.
 *
 * The first line of standard input says where. It prints a line before each write (`writing 7`) and one after it (`written 7`).
 */
import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as CredentialRequirements from "@sallyport/core/credentials/CredentialRequirements"
import * as CredentialScopeResolver from "@sallyport/core/credentials/CredentialScopeResolver"
import * as OrgMembership from "@sallyport/core/credentials/OrgMembership"
import * as SecretKeys from "@sallyport/core/secrets/SecretKeys"
import * as SqlAccessRepository from "@sallyport/core/access/SqlAccessRepository"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { writeSync } from "node:fs"
import { createInterface } from "node:readline"
import { clientOf, type SharedDatabase } from "../../../../test-support/sharedDatabase.ts"

/** What a process is told. */
export interface Task {
  readonly database: SharedDatabase
  /** The number to begin at. */
  readonly first: number
}

/** The resolver that this program and its test use. */
export const Resolver = CredentialScopeResolver.layer.pipe(
  Layer.provide([
    OrgMembership.layerStatic(new Map([["ada", { org: { id: "acme", role: "owner" } }]])),
    CredentialRequirements.layer([{ key: "pair", label: "Pair", parts: ["public", "private"] }]),
    SecretKeys.layerKeys({ active: Redacted.make(Uint8Array.from({ length: 32 }, (_, index) => index)) }),
    SqlAccessRepository.layer
  ]),
  Layer.provideMerge(SqlAccessRepository.layer),
  Layer.provide(NodeCrypto.layer)
)

/** The parts of a write: large enough to span pages of a database file. */
export const valuesOf = (round: number): ReadonlyMap<string, Redacted.Redacted> =>
  new Map([
    ["public", Redacted.make(`public-${round}-`.repeat(1_000))],
    ["private", Redacted.make(`private-${round}-`.repeat(1_000))]
  ])

if (process.argv[1] === import.meta.filename) {
  const lines = createInterface(process.stdin)[Symbol.asyncIterator]()
  const { database, first }: Task = JSON.parse((await lines.next()).value ?? "")
  const writer = Effect.gen(function*() {
    const credentials = yield* CredentialScopeResolver.CredentialScopeResolver
    for (let round = first;; round++) {
      writeSync(1, `writing ${round}\n`)
      yield* credentials.write({ subject: "ada" }, { key: "pair", values: valuesOf(round) })
      writeSync(1, `written ${round}\n`)
    }
  })
  await Effect.runPromise(writer.pipe(Effect.provide(Layer.provide(Resolver, clientOf(database)))))
}
