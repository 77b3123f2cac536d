import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as StateDirectory from "@sallyport/cli/StateDirectory"
import * as PrivateFiles from "@sallyport/core/secrets/PrivateFiles"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as PlatformError from "effect/PlatformError"
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"

const temporary = FileSystem.FileSystem.use((fs) => fs.makeTempDirectoryScoped())

const identity: PrivateFiles.Identity = {
  isPosix: true,
  user: Option.fromUndefinedOr(process.geteuid?.()),
  groups: process.getgroups?.() ?? []
}

describe("a state directory", () => {
  it.effect("C-60: many starts at once are all let in, and write nothing to find out whether they may", () =>
    Effect.gen(function*() {
      const state = join(yield* temporary, "a", "b")
      const opened = yield* Effect.all(Array.from({ length: 300 }, () => StateDirectory.open(state)), {
        concurrency: "unbounded"
      })
      assert.lengthOf(opened, 300)
      assert.deepStrictEqual(readdirSync(state), [])
    }).pipe(Effect.provide(NodeServices.layer)))

  it.effect("C-60: what a symbolic link leads to is never written", () =>
    Effect.gen(function*() {
      const directory = yield* temporary
      const target = join(directory, "target")
      for (const name of ["sallyport.db", "sallyport.db-wal", "sallyport.db-shm", "secrets", "secret-key"]) {
        for (const leadsTo of [target, join(directory, "nowhere")]) {
          writeFileSync(target, "kept")
          const state = yield* temporary
          symlinkSync(leadsTo, join(state, name))
          const error = yield* Effect.flip(StateDirectory.open(state))
          assert.include(error.message, `holds a symbolic link, ${name}`)
        }
      }
      const state = yield* temporary
      symlinkSync(target, join(state, ".probe"))
      yield* StateDirectory.open(state)
      assert.strictEqual(readFileSync(target, "utf8"), "kept")
      assert.deepStrictEqual(readdirSync(directory), ["target"])
    }).pipe(Effect.provide(NodeServices.layer)))

  it.effect("OPS-08 C-61: a group of this process may have access; no other group and no other user may", () =>
    Effect.gen(function*() {
      const state = join(yield* temporary, "state")
      yield* StateDirectory.open(state)
      for (const mode of [0o2770, 0o2750, 0o770, 0o700]) {
        chmodSync(state, mode)
        yield* StateDirectory.open(state)
      }
      for (const mode of [0o2775, 0o771, 0o777]) {
        chmodSync(state, mode)
        const { message } = yield* Effect.flip(StateDirectory.open(state))
        assert.include(message, `Run: chmod 700 "${state}"`)
      }
      chmodSync(state, 0o770)
      const foreign = Effect.provideService(PrivateFiles.CurrentIdentity, { ...identity, groups: [] })
      assert.include((yield* Effect.flip(foreign(StateDirectory.open(state)))).message, "not in its group")
    }).pipe(Effect.provide(NodeServices.layer)))

  it.effect("OPS-08 C-61 C-62: what another user owns asks for chown by name, unless root lends it to a group of this process", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const state = yield* temporary
      const as = (uid: number, gid: number, mode: number) =>
        StateDirectory.open(state).pipe(
          Effect.provideService(
            FileSystem.FileSystem,
            FileSystem.FileSystem.of({
              ...fs,
              stat: (path) =>
                Effect.map(fs.stat(path), (info) => ({ ...info, uid: Option.some(uid), gid: Option.some(gid), mode }))
            })
          ),
          Effect.provideService(PrivateFiles.CurrentIdentity, {
            isPosix: true,
            user: Option.some(1_000),
            groups: [1_000, 2_000]
          })
        )
      yield* as(0, 2_000, 0o42770)
      yield* as(1_000, 2_000, 0o42770)
      for (
        const [uid, gid, mode] of [
          [0, 0, 0o40755],
          [0, 0, 0o40700],
          [0, 0, 0o40777],
          [0, 2_000, 0o42750],
          [1_001, 2_000, 0o42770]
        ] as const
      ) {
        const { message } = yield* Effect.flip(as(uid, gid, mode))
        assert.include(message, `belongs to another user, ${uid}, and this process runs as 1000`)
        assert.include(message, `chown 1000 "${state}"`)
        assert.notInclude(message, "chmod")
      }
      assert.include(
        (yield* Effect.flip(as(0, 2_000, 0o42775))).message,
        `Have its owner, 0, run: chmod o-rwx "${state}"`
      )
    }).pipe(Effect.provide(NodeServices.layer)))

  it.effect("OPS-08 C-62: a volume of another user that takes no directory asks for chown of the volume", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const volume = yield* temporary
      const { message } = yield* StateDirectory.open(join(volume, "a", "state")).pipe(
        Effect.provideService(
          FileSystem.FileSystem,
          FileSystem.FileSystem.of({
            ...fs,
            makeDirectory: (path) =>
              Effect.fail(PlatformError.systemError({
                _tag: path === join(volume, "a") ? "PermissionDenied" : "NotFound",
                module: "FileSystem",
                method: "makeDirectory",
                pathOrDescriptor: path,
                cause: new Error(`EACCES: permission denied, mkdir '${path}'`)
              })),
            stat: (path) => Effect.map(fs.stat(path), (info) => ({ ...info, uid: Option.some(0) }))
          })
        ),
        Effect.provideService(PrivateFiles.CurrentIdentity, { isPosix: true, user: Option.some(1_000), groups: [] }),
        Effect.flip
      )
      assert.include(message, `${volume} belongs to user 0, and this process runs as 1000`)
      assert.include(message, `chown 1000 "${volume}"`)
      assert.include(message, "EACCES")
      assert.notInclude(message, "chmod")
    }).pipe(Effect.provide(NodeServices.layer)))

  it.effect("OPS-08 C-67: on Windows, where every mode is 0666 or 0777, none is asked for", () =>
    Effect.gen(function*() {
      const state = yield* temporary
      chmodSync(state, 0o777)
      yield* Effect.provideService(StateDirectory.open(state), PrivateFiles.CurrentIdentity, {
        isPosix: false,
        user: Option.none(),
        groups: []
      })
    }).pipe(Effect.provide(NodeServices.layer)))

  it.effect("OPS-08 C-62: is the one of --state-dir, else systemd's, else the platform's; without HOME that says so", () =>
    Effect.gen(function*() {
      const directory = yield* temporary
      const service = join(directory, "service")
      mkdirSync(service, { mode: 0o755 })
      const under = (env: Record<string, string>) =>
        Effect.provideService(
          StateDirectory.orDefault(Option.none()),
          ConfigProvider.ConfigProvider,
          ConfigProvider.fromEnvRecord(env)
        )
      assert.strictEqual(yield* under({ STATE_DIRECTORY: service }), service)
      assert.strictEqual(yield* under({ STATE_DIRECTORY: `${service}:${directory}`, HOME: directory }), service)
      assert.strictEqual(yield* under({ STATE_DIRECTORY: "", HOME: directory, XDG_STATE_HOME: "/x" }), "/x/sallyport")
      assert.strictEqual(yield* StateDirectory.orDefault(Option.some("given")), "given")
      const error = yield* Effect.flip(under({}))
      assert.include(error.message, "HOME is not set")
      assert.include(error.message, "--state-dir")
      // systemd makes it 0755 unless the unit says otherwise.
      const open = StateDirectory.open(service)
      assert.include((yield* Effect.flip(open)).message, "0755")
      yield* Effect.provideService(
        open,
        ConfigProvider.ConfigProvider,
        ConfigProvider.fromEnvRecord({ STATE_DIRECTORY: service })
      )
      assert.strictEqual(statSync(service).mode & 0o777, 0o700)
    }).pipe(Effect.provide(NodeServices.layer)))
})
