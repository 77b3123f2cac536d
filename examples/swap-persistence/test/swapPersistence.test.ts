/**
 * Runs one program on both persistences. Only the layer differs.
 */
import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { type Repositories, type SecretStore, SessionCredentialService } from "@sallyport/core"
import { Effect, FileSystem, type Layer, type Redacted } from "effect"
import type { Digest, Mac, SecureRandom } from "effect/crypto"
import * as Persistence from "../src/Persistence.ts"
import * as Program from "../src/Program.ts"

const counted = [{ count: 1 }, { count: 2 }, { count: 3 }, { status: "succeeded", result: { counted: 3 } }]

const verify = (token: Redacted.Redacted) =>
  Effect.flatMap(SessionCredentialService.SessionCredentialService, (sessions) => sessions.verify(token))

/** Provides a program with one start of the services; they end with it. */
const onceOn = <E>(
  persistence: Layer.Layer<
    | Repositories.Repositories
    | SecretStore.SecretStore
    | SecureRandom.SecureRandom
    | Mac.Mac
    | Digest.Digest,
    E
  >
) =>
<A, E2>(
  program: Effect.Effect<A, E2, Layer.Success<typeof Program.layerServices>>
) => program.pipe(Effect.provide(Program.layerServices), Effect.provide(persistence))

const onTemporaryDirectory = <A, E>(use: (directory: string) => Effect.Effect<A, E>) =>
  Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    return yield* use(yield* fs.makeTempDirectoryScoped({ prefix: "swap-persistence-" }))
  }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))

/** Must have the same result on every persistence. */
const everywhere = Effect.gen(function*() {
  const session = yield* verify(yield* Program.signIn("ada"))
  assert.strictEqual(session.subject, "ada")
  assert.deepStrictEqual(session.scopes, ["runs:read", "runs:operate"])

  const first = yield* Program.count("ada", "count-1")
  assert.deepStrictEqual(first.events, counted)
  const again = yield* Program.count("ada", "count-1")
  assert.deepStrictEqual(again, { ...first, created: false }, "the same key, the same run")
})

describe("swap persistence", () => {
  it.live("runs in memory", () => onceOn(Persistence.layerMemory)(everywhere))

  it.live("runs on SQLite and files", () =>
    onTemporaryDirectory((directory) => onceOn(Persistence.layerSqlite(directory))(everywhere)))

  it.live("memory forgets with its layer; SQLite and files outlive it", () =>
    Effect.gen(function*() {
      const forgetful = onceOn(Persistence.layerMemory)
      const lost = yield* forgetful(Program.signIn("ada"))
      const refused = yield* Effect.flip(forgetful(verify(lost)))
      assert.strictEqual(refused._tag === "SessionCredentialError" && refused.reason._tag, "SessionRefused")

      yield* onTemporaryDirectory(Effect.fnUntraced(function*(directory) {
        const lasting = onceOn(Persistence.layerSqlite(directory))
        const kept = yield* lasting(Program.signIn("ada"))
        const first = yield* lasting(Program.count("ada", "count-1"))
        assert.strictEqual((yield* lasting(verify(kept))).subject, "ada")
        assert.deepStrictEqual(yield* lasting(Program.count("ada", "count-1")), { ...first, created: false })
      }))
    }))
})
