/**
 * The events that the agent writes into its run, beside what it asks. Pages show them, and a run that continues it begins from
 * them.
 */
import { Schema } from "effect"

const Text = Schema.TaggedStruct("Text", { text: Schema.String })

/** One finding of the tool. */
const Finding = Schema.TaggedStruct("Finding", {
  change: Schema.Natural,
  of: Schema.Natural,
  summary: Schema.String,
  /** True if it comes from the run that this one continues, so that the tool did not find it again. */
  reused: Schema.Boolean
})

export const AgentEvent = Schema.Union([Text, Finding])
export type AgentEvent = typeof AgentEvent.Type
export type Finding = typeof Finding.Type

const decode = Schema.decodeUnknownOption(AgentEvent)

/** Reads an event as it was stored; none if a later version has written it. */
export const fromJson = (data: Schema.Json) => decode(data)
