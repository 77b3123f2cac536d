/**
 * Connects GitHub as an organisation's owner, and imports a private repository as a member with that token.
 */
import { NodeRuntime } from "@effect/platform-node"
import { CredentialScopeResolver } from "@sallyport/core/credentials/CredentialScopeResolver"
import { ConfigProvider, Console, Effect, Redacted } from "effect"
import * as FakeGitHub from "./FakeGitHub.ts"
import { importRepository } from "./Import.ts"
import * as Members from "./Members.ts"
import * as Services from "./Services.ts"

const address = "https://github.com/octo/private.git"

const story = (apiUrl: string) =>
  Effect.gen(function*() {
    const credentials = yield* CredentialScopeResolver
    yield* Members.join("olga", "acme", "owner")
    yield* Members.join("max", "acme", "member")
    const { credential } = yield* credentials.write({ subject: "olga" }, {
      key: "github.token",
      values: new Map([["value", Redacted.make(FakeGitHub.goodToken)]])
    })
    yield* Console.log(`olga connected GitHub for the ${credential.scope} ${credential.owner}`)
    const verdict = yield* credentials.test({ subject: "max" }, "github.token")
    yield* Console.log(`max asks GitHub about it: ${verdict._tag}`)
    const imported = yield* importRepository({ subject: "max" }, { address, apiUrl })
    for (const [path, text] of imported) yield* Console.log(`${path}: ${text.length} characters`)
  })

// The key of a demonstration, whose database is deleted at the end. Take yours from the environment.
const demonstrationKey = ConfigProvider.layer(
  ConfigProvider.fromEnvRecord({ SALLYPORT_SECRET_KEY: "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8" })
)

const main = Effect.gen(function*() {
  const { url } = yield* FakeGitHub.FakeGitHub
  yield* Effect.provide(story(url), Services.layer({ filename: ":memory:", apiUrl: url, repository: address }))
})

main.pipe(Effect.provide(FakeGitHub.layer), Effect.provide(demonstrationKey), NodeRuntime.runMain)
