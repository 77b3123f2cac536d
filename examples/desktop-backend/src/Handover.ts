/**
 * The messages between a desktop application and the backend that it starts.
 *
 * - File descriptor 3 is a pipe on which the application writes the seeded credential, and nothing else, and closes it.
 *   Other processes on the machine can read the arguments and the environment of a process, and its children inherit
 *   them.
 * - Standard output begins with one line of JSON, {@link Message}: that the backend is ready, or why it will not be.
 * - Standard input is a pipe on which nothing is ever written. It ends when the application does, even by a crash.
 */
import { Schema } from "effect"

// #region handover
/** The file descriptor on which the backend finds its credential. */
export const credentialFd = 3

/** Describes the line with which a backend answers: its address, or that another process has its port. */
export const Message = Schema.fromJsonString(Schema.Union([
  Schema.TaggedStruct("Ready", { url: Schema.NonEmptyString }),
  Schema.TaggedStruct("PortTaken", { port: Schema.Natural })
]))
// #endregion handover
