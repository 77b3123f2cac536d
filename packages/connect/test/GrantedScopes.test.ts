import type * as EnvironmentHandlers from "@sallyport/connect/EnvironmentHandlers"
import * as AccessScope from "@sallyport/core/access/AccessScope"
import { BootstrapCredentialService } from "@sallyport/core/access/BootstrapCredentialService"
import { assert, describe, it } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { settings } from "../src/internal/environmentOptions.ts"
import { layerEnvironment, startEnvironment, startRelay } from "./world.ts"

/** Has a client connect, and returns what its grant may do. */
const scopesOf = Effect.fnUntraced(function*(options: EnvironmentHandlers.Options) {
  const relay = yield* startRelay("memory")
  const environment = yield* startEnvironment("memory", relay, "ada", options)
  yield* environment.connect("a")
  yield* environment.decide("a", "approved")
  assert.strictEqual((yield* environment.connect("a")).answer["status"], "credential")
  const [link] = yield* environment.run(BootstrapCredentialService.use((bootstrap) => bootstrap.list()))
  return { scopes: link?.scopes, subject: link?.subject }
})

describe("what a client that connects may do", () => {
  it.live("CONN-13 C-13: nothing that could widen or approve access, unless the host names it", () =>
    Effect.gen(function*() {
      const { scopes = [], subject } = yield* scopesOf({})
      assert.deepStrictEqual(scopes, AccessScope.builtin.filter((scope) => !AccessScope.widening.includes(scope)))
      for (const scope of ["access:write", "access:manage", "connect:manage"] as const) assert.notInclude(scopes, scope)
      assert.strictEqual(subject, "owner")
      assert.deepStrictEqual(
        yield* scopesOf({ scopes: ["runs:read", "access:write", "connect:manage"], subject: "ada" }),
        { scopes: ["runs:read", "access:write", "connect:manage"], subject: "ada" }
      )
    }).pipe(Effect.scoped))

  it.live("CONN-13: options in code that name no scopes, or none that there can be, stop the start as variables do", () =>
    Effect.gen(function*() {
      const wrong: ReadonlyArray<readonly [EnvironmentHandlers.Options, string]> = [
        [{ scopes: [] }, "scopes must be"],
        // @ts-expect-error No scope is written like this.
        [{ scopes: ["Access:Write"] }, "scopes must be"],
        // @ts-expect-error There is no such option.
        [{ scope: ["runs:read"] }, "did you mean scopes?"]
      ]
      for (const [options, problem] of wrong) {
        const error = yield* Effect.flip(Layer.build(layerEnvironment("memory", options)))
        assert.strictEqual(error._tag, "InvalidEnvironmentOptions")
        assert.include(error.message, problem)
      }
    }).pipe(Effect.scoped))

  it.effect("CONN-13: a variable that names no scopes stops the start, and says what it must be", () =>
    Effect.gen(function*() {
      for (const scopes of ["everything", "runs:read,", "runs:read, Access:Write"]) {
        const provider = ConfigProvider.layer(ConfigProvider.fromEnvRecord({ SALLYPORT_ENVIRONMENT_SCOPES: scopes }))
        const error = yield* Effect.flip(settings.fromConfig.pipe(Effect.provide(provider)))
        assert.include(error.message, "SALLYPORT_ENVIRONMENT_SCOPES must be scopes separated by commas")
      }
    }))
})
