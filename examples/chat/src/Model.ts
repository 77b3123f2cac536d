/** Provides a language model that needs no network: it tells, word by word, what a ferry does. */
import type { LanguageModel } from "ai"

type Model = Exclude<LanguageModel, string> & { readonly specificationVersion: "v4" }
type Call = Awaited<ReturnType<Model["doStream"]>>
type Part = Call["stream"] extends ReadableStream<infer A> ? A : never

const places = ["the pier", "the bell", "the fog", "the far shore", "the gulls", "the rope", "the light", "the tide"]

/** Returns the words of an answer. */
export const wordsOf = (question: string): ReadonlyArray<string> =>
  `You asked: ${question}. The ferry passes ${places.join(", then ")}, and is there.`.split(/(?<= )/)

/** Makes the model. `pause` says how long it thinks before each word. */
export const make = (pause: () => Promise<void>): Model => {
  const doStream: Model["doStream"] = async ({ abortSignal, prompt }) => {
    const last = prompt.findLast(({ role }) => role === "user")
    const question = (last?.role === "user" ? last.content : []).map((part) => part.type === "text" ? part.text : "")
    const answer = async function*(): AsyncGenerator<Part, void> {
      yield { type: "stream-start", warnings: [] }
      yield { type: "text-start", id: "text" }
      for (const delta of wordsOf(question.join(""))) {
        await pause()
        if (abortSignal?.aborted === true) return
        yield { type: "text-delta", id: "text", delta }
      }
      yield { type: "text-end", id: "text" }
      yield {
        type: "finish",
        finishReason: { unified: "stop", raw: undefined },
        usage: {
          inputTokens: { total: undefined, noCache: undefined, cacheRead: undefined, cacheWrite: undefined },
          outputTokens: { total: undefined, text: undefined, reasoning: undefined }
        }
      }
    }
    const parts = answer()
    return {
      stream: new ReadableStream<Part>({
        pull: async (controller) => {
          const { done, value } = await parts.next()
          if (done === true) controller.close()
          else controller.enqueue(value)
        }
      })
    }
  }
  return {
    specificationVersion: "v4",
    provider: "scripted",
    modelId: "ferry",
    supportedUrls: {},
    doStream,
    doGenerate: () => Promise.reject(new Error("This model only streams"))
  }
}
