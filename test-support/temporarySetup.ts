/**
 * Keeps the temporary files of a test run in memory, if the system has a large directory there. Processes are killed in
 * tests, and power never fails in one: what waits for a disk would prove nothing more, and takes a quarter of the time.
 */
import { execFile, spawn } from "node:child_process"
import { rmSync } from "node:fs"
import { chmod, mkdtemp, rm, statfs, writeFile } from "node:fs/promises"
import { freemem } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"

/** More than tests fill at a time, in bytes. */
const enough = 2 * 1024 ** 3

/** Makes the directory, or returns nothing if there is too little room, or programs in it cannot be run. */
const make = async (): Promise<string | undefined> => {
  const { bavail, bsize } = await statfs("/dev/shm")
  if (bavail * bsize < enough || freemem() < 2 * enough) return undefined
  const directory = await mkdtemp("/dev/shm/sallyport-")
  try {
    const program = join(directory, "program")
    await writeFile(program, "#!/bin/sh\n", { mode: 0o755 })
    await promisify(execFile)(program)
    await rm(program)
    // As every directory for temporary files: some tests start programs as another user.
    await chmod(directory, 0o1777)
    return directory
  } catch {
    await rm(directory, { recursive: true, force: true })
    return undefined
  }
}

export default async () => {
  // Who names a directory gets that one, as every project of a run gets the one that the first has made.
  if (process.env["TMPDIR"] !== undefined) return
  const directory = await make().catch(() => undefined)
  if (directory === undefined) return
  // The processes that run tests get it as they get the rest of the environment.
  process.env["TMPDIR"] = directory
  // Also if the run is interrupted, which skips what is done at its end.
  process.once("exit", () => rmSync(directory, { recursive: true, force: true }))
  // Also if the run is killed: then the operating system closes the pipe that this process waits on. Faults are tested on a
  // small disk that is mounted there.
  const keeper = spawn("sh", ["-c", `cat; umount -l "$0"/*; rm -rf "$0"`, directory], {
    detached: true,
    stdio: ["pipe", "ignore", "ignore"]
  })
  keeper.unref()
}
