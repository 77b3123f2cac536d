/**
 * Turns a message of the AI SDK back into the chunks that it was made of, for a run that goes on with the message: a page that
 * comes back is given the whole of it.
 */
import { getToolName, isToolUIPart, type UIMessage, type UIMessageChunk } from "ai"

type Part = UIMessage["parts"][number]
type ToolPart = Extract<Part, { readonly toolCallId: string }>
/** JSON has no members that are undefined, so those of a part need not be left out. */
type Loose<A> = A extends unknown ? { [K in keyof A]: object extends Pick<A, K> ? A[K] | undefined : A[K] } : never
type Chunk = Loose<UIMessageChunk>

const toolChunks = (part: ToolPart): ReadonlyArray<Chunk> => {
  const { approval, providerExecuted, title, toolCallId, toolMetadata } = part
  const call = {
    toolCallId,
    toolName: getToolName(part),
    providerExecuted,
    title,
    toolMetadata,
    providerMetadata: part.callProviderMetadata,
    dynamic: part.type === "dynamic-tool" ? true : undefined
  }
  if (part.state === "input-streaming") {
    return [
      { type: "tool-input-start", ...call, inputEncoding: part.inputEncoding },
      { type: "tool-input-delta", toolCallId, inputTextDelta: part.rawInput ?? "" }
    ]
  }
  const chunks: Array<Chunk> = [{ type: "tool-input-available", ...call, input: part.input ?? null }]
  if (approval !== undefined) {
    const { approved, descriptor, id: approvalId, inputSchemaInput, isAutomatic, reason, requestReason, signature } =
      approval
    chunks.push({
      type: "tool-approval-request",
      approvalId,
      toolCallId,
      approvalDescriptor: descriptor,
      inputSchemaInput,
      reason: requestReason,
      isAutomatic,
      signature
    })
    if (approved !== undefined) chunks.push({ type: "tool-approval-response", approvalId, approved, reason })
  }
  switch (part.state) {
    case "output-available":
      chunks.push({
        type: "tool-output-available",
        toolCallId,
        output: part.output,
        preliminary: part.preliminary,
        providerMetadata: part.resultProviderMetadata
      })
      break
    case "output-error":
      chunks.push({
        type: "tool-output-error",
        toolCallId,
        errorText: part.errorText,
        providerMetadata: part.resultProviderMetadata
      })
      break
    case "output-denied":
      chunks.push({ type: "tool-output-denied", toolCallId })
  }
  return chunks
}

const partChunks = (part: Part, index: number): ReadonlyArray<Chunk> => {
  if (isToolUIPart(part)) return toolChunks(part)
  // No program has an id like this.
  const id = `before/${index}`
  switch (part.type) {
    case "text": {
      const { citations, providerMetadata, text } = part
      return [
        { type: "text-start", id, providerMetadata },
        { type: "text-delta", id, delta: text },
        { type: "text-end", id, citations }
      ]
    }
    case "reasoning": {
      const { id: own = id, providerMetadata, text } = part
      return [
        { type: "reasoning-start", id: own, providerMetadata },
        { type: "reasoning-delta", id: own, delta: text },
        { type: "reasoning-end", id: own }
      ]
    }
    case "step-start":
      return [{ type: "start-step" }]
    default:
      return [part]
  }
}

/** Returns the chunks of a message, in order. */
export const toChunks = ({ metadata, parts }: UIMessage): ReadonlyArray<Chunk> => [
  ...(metadata === undefined ? [] : [{ type: "message-metadata" as const, messageMetadata: metadata }]),
  ...parts.flatMap(partChunks)
]
