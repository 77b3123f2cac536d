/**
 * Keeps what the events of an AG-UI run have opened and not closed: messages, tool calls, reasoning, steps, subagents.
 * `RUN_FINISHED` may come only after the end of each, and a run that is stopped ends in the middle of them.
 */
import { type AGUIEvent, EventType } from "@ag-ui/core"

/** Returns what an event opens, with the event that closes it, or what it closes. */
const partOf = (event: AGUIEvent): { readonly key: ReadonlyArray<unknown>; readonly end?: AGUIEvent } | undefined => {
  switch (event.type) {
    case EventType.TEXT_MESSAGE_START: {
      const { messageId } = event
      return { key: ["message", messageId], end: { type: EventType.TEXT_MESSAGE_END, messageId } }
    }
    case EventType.TEXT_MESSAGE_END:
      return { key: ["message", event.messageId] }
    case EventType.TOOL_CALL_START: {
      const { toolCallId } = event
      return { key: ["tool call", toolCallId], end: { type: EventType.TOOL_CALL_END, toolCallId } }
    }
    case EventType.TOOL_CALL_END:
      return { key: ["tool call", event.toolCallId] }
    case EventType.REASONING_START: {
      const { messageId } = event
      return { key: ["reasoning", messageId], end: { type: EventType.REASONING_END, messageId } }
    }
    case EventType.REASONING_END:
      return { key: ["reasoning", event.messageId] }
    case EventType.REASONING_MESSAGE_START: {
      const { messageId } = event
      return { key: ["reasoning message", messageId], end: { type: EventType.REASONING_MESSAGE_END, messageId } }
    }
    case EventType.REASONING_MESSAGE_END:
      return { key: ["reasoning message", event.messageId] }
    // A step is known by its name and the subagent whose step it is.
    case EventType.STEP_STARTED:
      return {
        key: ["step", event.subagentRunId ?? null, event.stepName],
        end: { ...event, type: EventType.STEP_FINISHED }
      }
    case EventType.STEP_FINISHED:
      return { key: ["step", event.subagentRunId ?? null, event.stepName] }
    case EventType.SUBAGENT_STARTED: {
      const { subagentRunId } = event
      const message = "The run ended before this subagent did"
      return { key: ["subagent", subagentRunId], end: { type: EventType.SUBAGENT_ERROR, subagentRunId, message } }
    }
    case EventType.SUBAGENT_FINISHED:
    case EventType.SUBAGENT_ERROR:
      return { key: ["subagent", event.subagentRunId] }
    default:
      return undefined
  }
}

/** Makes a record of what is open, for the events of a run from its first on. */
export const make = () => {
  const open = new Map<string, AGUIEvent>()
  return {
    /** Takes the next event of the run. */
    add: (event: AGUIEvent): void => {
      const part = partOf(event)
      if (part === undefined) return
      const key = JSON.stringify(part.key)
      if (part.end === undefined) open.delete(key)
      else open.set(key, part.end)
    },
    /** Returns the events that close what is open, what was opened last first. */
    ends: (): ReadonlyArray<AGUIEvent> => Array.from(open.values()).toReversed()
  }
}
