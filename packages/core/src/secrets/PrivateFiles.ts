/**
 * Tells whether a file or a directory is closed to other users, in the eyes of the process that asks.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"

/**
 * Describes who a process is to its file systems.
 *
 * @category models
 * @since 0.1.0
 */
export interface Identity {
  /**
   * Whether files have an owner, a group and a mode, and directories can be flushed. On Windows they have neither: a file has
   * the access list of its directory, which is the user's own below the user's profile.
   */
  readonly isPosix: boolean
  /** The effective user, if the runtime says it. */
  readonly user: Option.Option<number>
  /** The effective group and the supplementary ones; none if the runtime doesn't say them. */
  readonly groups: ReadonlyArray<number>
}

const ask = (method: string): unknown => {
  const runtime: unknown = Reflect.get(globalThis, "process")
  const asked = Predicate.hasProperty(runtime, method) ? runtime[method] : undefined
  return typeof asked === "function" ? Reflect.apply(asked, runtime, []) : asked
}

/**
 * Says who this process is, by default what the runtime says of it. Read when a store is opened.
 *
 * @category services
 * @since 0.1.0
 */
export const CurrentIdentity: Context.Reference<Identity> = Context.Reference<Identity>(
  "@sallyport/core/secrets/PrivateFiles/CurrentIdentity",
  {
    defaultValue: () => ({
      isPosix: ask("platform") !== "win32",
      user: Option.liftPredicate(ask("geteuid"), Predicate.isNumber),
      groups: [ask("getegid"), ask("getgroups")].flat().filter(Predicate.isNumber)
    })
  }
)

/**
 * Lists who else can reach a file: no one; its owner, who is another user; every user; or the users of a group that is not
 * this process's.
 *
 * @category models
 * @since 0.1.0
 */
export type Verdict = "Private" | "ForeignOwner" | "OpenToOthers" | "OpenToGroup"

/**
 * Tells who else can reach a file or a directory.
 *
 * **Details**
 *
 * The rights of a group are taken if it is one of the process's own: orchestrators hand volumes and keys over that way, often
 * owned by the superuser, who can read everything anyhow.
 *
 * @category combinators
 * @since 0.1.0
 */
export const verdict = (identity: Identity, info: FileSystem.File.Info): Verdict => {
  if (!identity.isPosix) return "Private"
  const isOurGroup = Option.exists(info.gid, (gid) => identity.groups.includes(gid))
  const needed = info.type === "Directory" ? 0o070 : 0o040
  const isLent = isOurGroup && Option.contains(info.uid, 0) && (info.mode & needed) === needed
  const isForeign = Option.exists(info.uid, (uid) => Option.exists(identity.user, (user) => uid !== user))
  if (isForeign && !isLent) return "ForeignOwner"
  if ((info.mode & 0o007) !== 0) return "OpenToOthers"
  return (info.mode & 0o070) !== 0 && !isOurGroup ? "OpenToGroup" : "Private"
}
