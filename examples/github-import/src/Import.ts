/**
 * Reads the text files of a repository through GitHub's REST API, with the caller's token.
 */
import { type Caller, CredentialScopeResolver } from "@sallyport/core/credentials/CredentialScopeResolver"
import { parseRepository, request, verdictOf } from "@sallyport/core/credentials/GitHubCredential"
import { Effect, Option, Schema } from "effect"
import { HttpClient } from "effect/http"

/** Reports why nothing was imported: a verdict on the token, or what a person should do first. */
export class ImportError extends Schema.TaggedError<ImportError>()("ImportError", {
  problem: Schema.Literals(["NeedsToken", "Rejected", "RateLimited", "WrongAddress", "ProviderDown"]),
  sentence: Schema.String,
  retryable: Schema.Boolean
}) {
  override get message() {
    return this.sentence
  }
}

const Tree = Schema.Struct({
  tree: Schema.Array(Schema.Struct({ path: Schema.String, type: Schema.String, sha: Schema.String }))
})
const Blob = Schema.Struct({ content: Schema.String, encoding: Schema.Literal("base64") })

const decodeBase64 = (text: string): string =>
  new TextDecoder().decode(Uint8Array.from(atob(text.replaceAll("\n", "")), (character) => character.charCodeAt(0)))

const down = () =>
  new ImportError({ problem: "ProviderDown", sentence: "GitHub cannot be reached; try again shortly", retryable: true })

/** Returns the files of a repository's default branch by their paths. */
export const importRepository = Effect.fn("Import.importRepository")(function*(
  principal: Caller,
  options: { readonly address: string; readonly apiUrl: string }
) {
  const credentials = yield* CredentialScopeResolver
  const client = yield* HttpClient.HttpClient
  const repository = parseRepository(options.address)
  if (Option.isNone(repository)) {
    return yield* new ImportError({
      problem: "WrongAddress",
      sentence: `${JSON.stringify(options.address)} is not the address of a repository`,
      retryable: false
    })
  }
  const { owner, repo } = repository.value
  const token = Option.map(yield* credentials.resolve(principal, "github.token"), ({ value }) => value)

  const get = Effect.fnUntraced(
    function*<A, I>(path: string, schema: Schema.Codec<A, I>) {
      const response = yield* client.execute(request(`/repos/${owner}/${repo}${path}`, token, options.apiUrl))
      if (response.status === 200) return yield* Schema.decodeUnknownEffect(schema)(yield* response.json)
      const verdict = yield* verdictOf(response, {
        hasToken: Option.isSome(token),
        asked: `repository ${owner}/${repo}`
      })
      switch (verdict._tag) {
        case "NeedsToken":
          return yield* new ImportError({
            problem: "NeedsToken",
            sentence: `${owner}/${repo} needs a GitHub token: connect one, or have an admin do it`,
            retryable: false
          })
        case "RateLimited":
          return yield* new ImportError({
            problem: "RateLimited",
            sentence: "GitHub does not answer at the moment; try again later",
            retryable: true
          })
        case "Rejected":
        case "WrongAddress":
          return yield* new ImportError({ problem: verdict._tag, sentence: verdict.detail, retryable: false })
        default:
          return yield* down()
      }
    },
    Effect.scoped,
    Effect.catchTag(["HttpClientError", "SchemaError"], down)
  )

  const { tree } = yield* get("/git/trees/HEAD?recursive=1", Tree)
  const files = tree.filter(({ type }) => type === "blob")
  const contents = yield* Effect.forEach(
    files,
    ({ path, sha }) =>
      Effect.map(get(`/git/blobs/${sha}`, Blob), ({ content }) => [path, decodeBase64(content)] as const),
    { concurrency: 4 }
  )
  return new Map(contents)
})
