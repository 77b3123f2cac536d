/**
 * Describes the events that the agent writes into its run: pages show them, and a run that continues it starts from
 * them.
 */
import { Schema } from "effect"

const Text = Schema.TaggedStruct("Text", { text: Schema.String })

/** One result of the tool. */
const Finding = Schema.TaggedStruct("Finding", {
  change: Schema.Natural,
  of: Schema.Natural,
  summary: Schema.String,
  /** Whether it comes from the run that this one continues, so that the tool did not work for it again. */
  reused: Schema.Boolean
})

const Question = Schema.TaggedStruct("Question", { question: Schema.String })

const Answer = Schema.TaggedStruct("Answer", { approved: Schema.Boolean })

export const AgentEvent = Schema.Union([Text, Finding, Question, Answer])
export type AgentEvent = typeof AgentEvent.Type
export type Finding = typeof Finding.Type

const decode = Schema.decodeUnknownOption(AgentEvent)

/** Reads a stored event; none if a later version has written it. */
export const fromJson = (data: Schema.Json) => decode(data)
