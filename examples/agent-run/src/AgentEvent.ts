/**
 * What the agent writes into its run, for pages to show and for a run that continues it to go on from.
 */
import { Schema } from "effect"

const Text = Schema.TaggedStruct("Text", { text: Schema.String })

/** A part of what the tool has put out. */
const Finding = Schema.TaggedStruct("Finding", {
  change: Schema.Natural,
  of: Schema.Natural,
  summary: Schema.String,
  /** True where it was taken from the run that this one continues, so that the tool did not work for it again. */
  reused: Schema.Boolean
})

const Question = Schema.TaggedStruct("Question", { question: Schema.String })

const Answer = Schema.TaggedStruct("Answer", { approved: Schema.Boolean })

export const AgentEvent = Schema.Union([Text, Finding, Question, Answer])
export type AgentEvent = typeof AgentEvent.Type
export type Finding = typeof Finding.Type

const decode = Schema.decodeUnknownOption(AgentEvent)

/** Reads an event as it was stored; none where a later version has written it. */
export const fromJson = (data: Schema.Json) => decode(data)
