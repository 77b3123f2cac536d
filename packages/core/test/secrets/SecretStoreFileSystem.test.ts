import * as NodeCrypto from "@effect/platform-node/NodeCrypto"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import { assert, describe, it } from "@effect/vitest"
import * as PrivateFiles from "@sallyport/core/secrets/PrivateFiles"
import * as SecretStore from "@sallyport/core/secrets/SecretStore"
import * as SecretStoreSuite from "@sallyport/testing/SecretStoreSuite"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import * as Hex from "effect/encoding/Hex"
import * as Fiber from "effect/Fiber"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as PlatformError from "effect/PlatformError"
import * as Redacted from "effect/Redacted"
import * as Tracer from "effect/Tracer"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import * as NFS from "node:fs"
import * as OS from "node:os"
import * as NPath from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { inspect } from "node:util"
import { argumentsOf } from "../../../../test-support/programs.ts"
import { leavingNothing } from "./leavingNothing.ts"

const Platform = Layer.mergeAll(NodeFileSystem.layer, NodePath.layer, NodeCrypto.layer)

const temporaryDirectory = Effect.acquireRelease(
  Effect.sync(() => NFS.mkdtempSync(NPath.join(OS.tmpdir(), "sallyport-secrets-"))),
  (directory) => Effect.sync(() => NFS.rmSync(directory, { recursive: true, force: true }))
)

SecretStoreSuite.suite(
  "file system",
  Layer.unwrap(Effect.map(
    temporaryDirectory,
    (directory) => leavingNothing(SecretStore.layerFileSystem(`${directory}/state/secrets`))
  )).pipe(Layer.provide(Platform))
)

/** Another process of the same user, which is in no group. */
const withoutGroups = Layer.effect(
  PrivateFiles.CurrentIdentity,
  Effect.map(PrivateFiles.CurrentIdentity, (identity) => ({ ...identity, groups: [] }))
)

/** Starts a store of its own, as another process would. */
const start = (directory: string, options?: SecretStore.Options) =>
  SecretStore.makeFileSystem(directory, options).pipe(
    Effect.catchTag("InvalidSecretStoreOptions", Effect.die),
    Effect.provide(Platform)
  )

const secret = (text: string) => Redacted.make(new TextEncoder().encode(text))

const textOf = (store: SecretStore.SecretStore["Service"], name: string) =>
  Effect.map(
    store.get(name),
    (value) => Option.getOrNull(Option.map(value, (bytes) => new TextDecoder().decode(Redacted.value(bytes))))
  )

const modeOf = (path: string) => (NFS.lstatSync(path).mode & 0o7777).toString(8)

const isTemporary = (entry: string) => /~[0-9a-f]{32}$/.test(entry)

/** The real file system with some of its operations replaced. */
const startWith = (directory: string, replace: (real: FileSystem.FileSystem) => Partial<FileSystem.FileSystem>) =>
  Effect.gen(function*() {
    const real = yield* FileSystem.FileSystem
    return yield* Effect.provideService(
      Effect.catchTag(SecretStore.makeFileSystem(directory), "InvalidSecretStoreOptions", Effect.die),
      FileSystem.FileSystem,
      FileSystem.FileSystem.of({ ...real, ...replace(real) })
    )
  }).pipe(Effect.provide(Platform))

const wrapFile = (file: FileSystem.File, replace: Partial<FileSystem.File>): FileSystem.File => ({
  [FileSystem.FileTypeId]: FileSystem.FileTypeId,
  stat: file.stat,
  seek: (offset, from) => file.seek(offset, from),
  sync: file.sync,
  read: (buffer, options) => file.read(buffer, options),
  readAlloc: (size, options) => file.readAlloc(size, options),
  truncate: (length) => file.truncate(length),
  write: (buffer) => file.write(buffer),
  writeAll: (buffer) => file.writeAll(buffer),
  ...replace
})

const child = (program: string, args: ReadonlyArray<string>) =>
  Effect.acquireRelease(
    Effect.sync(() =>
      spawn(process.execPath, [
        ...argumentsOf(fileURLToPath(new URL(`../programs/${program}.ts`, import.meta.url))),
        ...args
      ], { stdio: ["pipe", "pipe", "inherit"] })
    ),
    (running) => Effect.promise(() => kill(running))
  )

const kill = (running: ChildProcess): Promise<unknown> => {
  if (running.exitCode !== null || running.signalCode !== null) return Promise.resolve()
  const ended = once(running, "exit")
  running.kill("SIGKILL")
  return ended
}

describe("SecretStore (file system) permissions", () => {
  it.effect("SEC-02: the directory is 0700 and every file 0600, from its first byte", () =>
    Effect.gen(function*() {
      const directory = NPath.join(yield* temporaryDirectory, "a", "b")
      const opened: Array<string> = []
      const store = yield* startWith(directory, (real) => ({
        open: (path, options) =>
          Effect.tap(real.open(path, options), () =>
            Effect.sync(() => {
              if (options?.flag === "wx") opened.push(modeOf(path))
            }))
      }))
      yield* store.set("key", secret("one"))
      yield* store.create("other", secret("two"))
      yield* store.remove("other")
      assert.isAtLeast(opened.length, 4)
      assert.deepStrictEqual(new Set(opened), new Set(["600"]))
      assert.strictEqual(modeOf(directory), "700")
      assert.strictEqual(modeOf(NPath.dirname(directory)), "700")
      const entries = NFS.readdirSync(directory)
      assert.deepStrictEqual(entries.toSorted(), ["key~1", "other~2"])
      for (const entry of entries) assert.strictEqual(modeOf(NPath.join(directory, entry)), "600")
    }))

  for (const umask of ["000", "777"]) {
    it.live(`SEC-02: the umask ${umask} changes no mode`, () =>
      Effect.gen(function*() {
        const directory = NPath.join(yield* temporaryDirectory, "secrets")
        const racer = yield* child("secretRacer", [directory, "1", umask])
        racer.stdin.write("go\n")
        const [code] = yield* Effect.promise(() => once(racer, "exit"))
        assert.strictEqual(code, 0)
        assert.strictEqual(modeOf(directory), "700")
        for (const entry of NFS.readdirSync(directory)) {
          assert.strictEqual(modeOf(NPath.join(directory, entry)), "600")
        }
      }))
  }

  it.effect("SEC-02: a loose directory stops the start, with the command that mends it", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      for (const [mode, text] of [[0o750, "0750"], [0o705, "0705"], [0o2770, "2770"], [0o701, "0701"]] as const) {
        NFS.chmodSync(directory, mode)
        const error = yield* Effect.flip(Effect.provide(start(directory), withoutGroups))
        assert.strictEqual(error.reason._tag, "Insecure")
        assert.include(error.message, text)
        assert.include(error.message, `chmod 700 '${directory}'`)
      }
      NFS.chmodSync(directory, 0o700)
      yield* start(directory)
    }))

  it.effect("SEC-02 OPS-08 C-61: a group of the process may have access, as Kubernetes gives it by fsGroup; others may not", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const store = yield* start(directory)
      yield* store.set("key", secret("one"))
      const file = NPath.join(directory, "key~1")
      for (
        const [directoryMode, fileMode] of [[0o2770, 0o660], [0o770, 0o640], [0o2750, 0o440], [0o2700, 0o400]] as const
      ) {
        NFS.chmodSync(directory, directoryMode)
        NFS.chmodSync(file, fileMode)
        const again = yield* start(directory)
        assert.strictEqual(yield* textOf(again, "key"), "one")
        assert.strictEqual(yield* textOf(store, "key"), "one")
        yield* again.set("other", secret("two"))
      }
      for (const [directoryMode, fileMode] of [[0o2771, 0o600], [0o2770, 0o664], [0o2770, 0o604]] as const) {
        NFS.chmodSync(directory, directoryMode)
        NFS.chmodSync(file, fileMode)
        assert.strictEqual((yield* Effect.flip(start(directory))).reason._tag, "Insecure")
      }
      NFS.chmodSync(directory, 0o2770)
      NFS.chmodSync(file, 0o640)
      const error = yield* Effect.flip(Effect.provide(start(directory), withoutGroups))
      assert.strictEqual(error.reason._tag, "Insecure")
      assert.include(error.message, "its group is")
    }))

  // The file system reports owner, group and mode, so that the test also runs where no user may give files away.
  it.effect("SEC-02 OPS-08 C-61 C-62: what root lends to a group of the process is taken; anything else asks for chown", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const file = NPath.join(directory, "key~1")
      yield* (yield* start(directory)).set("key", secret("one"))
      const as = (path: string, uid: number, gid: number, mode: number) =>
        startWith(directory, (real) => ({
          lstat: (asked) =>
            Effect.map(real.lstat(asked), (info) =>
              asked === path
                ? { ...info, uid: Option.some(uid), gid: Option.some(gid), mode }
                : { ...info, uid: Option.some(1_000), gid: Option.some(1_000) })
        })).pipe(Effect.provideService(PrivateFiles.CurrentIdentity, {
          isPosix: true,
          user: Option.some(1_000),
          groups: [1_000, 2_000]
        }))
      for (const gid of [1_000, 2_000]) {
        yield* as(directory, 0, gid, 0o42770)
        yield* as(file, 0, gid, 0o100440)
      }
      for (
        const [path, uid, gid, mode] of [
          [directory, 0, 0, 0o40755],
          [directory, 0, 0, 0o40700],
          [directory, 0, 2_000, 0o42750],
          [directory, 1_001, 2_000, 0o42770],
          [directory, 1_001, 1_001, 0o40777],
          [file, 0, 0, 0o100644],
          [file, 0, 2_000, 0o100400],
          [file, 1_001, 2_000, 0o100440]
        ] as const
      ) {
        const { message } = yield* Effect.flip(as(path, uid, gid, mode))
        assert.include(message, `belongs to user ${uid}, and this process runs as 1000`)
        assert.include(message, path === directory ? `chown -R 1000 '${path}'` : `chown 1000 '${path}'`)
        assert.notInclude(message, "chmod")
      }
      for (const [path, mode] of [[directory, 0o42775], [file, 0o100444]] as const) {
        const { message } = yield* Effect.flip(as(path, 0, 2_000, mode))
        assert.include(message, `Have its owner run: chmod o-rwx '${path}'`)
      }
    }))

  it.effect("OPS-08 C-67: on Windows no mode and no owner is asked for, and no directory is flushed", () =>
    Effect.gen(function*() {
      const directory = NPath.join(yield* temporaryDirectory, "state", "secrets")
      const opened: Array<string> = []
      const changed: Array<string> = []
      const like = { uid: Option.some(0), gid: Option.some(0), mode: 0o100666 }
      const windows = startWith(directory, (real) => ({
        lstat: (path) =>
          Effect.map(
            real.lstat(path),
            (info) => ({ ...info, ...like, mode: info.type === "Directory" ? 0o40666 : like.mode })
          ),
        chmod: (path) => Effect.sync(() => void changed.push(path)),
        open: (path, options) => {
          if (options?.flag !== "wx") opened.push(path)
          return options?.flag === "wx"
            ? Effect.map(real.open(path, options), (file) =>
              wrapFile(file, {
                stat: Effect.map(file.stat, (info) => ({ ...info, ...like }))
              }))
            : Effect.fail(failure("PermissionDenied", "open", path))
        }
      })).pipe(Effect.provideService(PrivateFiles.CurrentIdentity, { isPosix: false, user: Option.none(), groups: [] }))
      const store = yield* windows
      yield* store.set("key", secret("one"))
      yield* store.set("key", secret("two"))
      yield* store.set("gone", secret("three"))
      yield* store.remove("gone")
      assert.strictEqual(yield* textOf(yield* windows, "key"), "two")
      assert.deepStrictEqual([opened, changed], [[], []])
    }))

  it.effect("SEC-02: a loose file stops the start and the read, with the command that mends it", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const store = yield* start(directory)
      yield* store.set("key", secret("one"))
      const file = NPath.join(directory, "key~1")
      NFS.chmodSync(file, 0o644)
      for (const error of [yield* Effect.flip(start(directory)), yield* Effect.flip(store.get("key"))]) {
        assert.strictEqual(error.reason._tag, "Insecure")
        assert.include(error.message, `chmod 600 '${file}'`)
      }
      NFS.chmodSync(file, 0o600)
      assert.strictEqual(yield* textOf(yield* start(directory), "key"), "one")
    }))

  // The file system reports the other owner, so that the test also runs where no user may give files away.
  it.effect("SEC-02: a foreign owner of the directory or a file stops the start, with the command that mends it", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* (yield* start(directory)).set("key", secret("one"))
      for (const foreign of [directory, NPath.join(directory, "key~1")]) {
        const error = yield* Effect.flip(startWith(directory, (real) => ({
          lstat: (path) =>
            Effect.map(
              real.lstat(path),
              (info) => path === foreign ? { ...info, uid: Option.map(info.uid, (uid) => uid + 12_345) } : info
            )
        })))
        assert.strictEqual(error.reason._tag, "Insecure")
        assert.include(error.message, `'${foreign}'`)
        assert.match(error.message, new RegExp(`chown (-R )?${NFS.statSync(directory).uid} `))
      }
    }))

  it.effect("SEC-02: a link in place of the directory or of a file is refused", () =>
    Effect.gen(function*() {
      const root = yield* temporaryDirectory
      const directory = NPath.join(root, "secrets")
      const link = NPath.join(root, "link")
      yield* (yield* start(directory)).set("key", secret("one"))
      NFS.symlinkSync(directory, link)
      const linked = yield* Effect.flip(start(link))
      assert.strictEqual(linked.reason._tag, "Insecure")
      assert.include(linked.message, link)

      NFS.renameSync(NPath.join(directory, "key~1"), NPath.join(root, "elsewhere"))
      NFS.symlinkSync(NPath.join(root, "elsewhere"), NPath.join(directory, "key~1"))
      const file = yield* Effect.flip(start(directory))
      assert.strictEqual(file.reason._tag, "Insecure")
      assert.include(file.message, NPath.join(directory, "key~1"))
    }))

  it.effect("a path that is no directory, or below a file, or not writable, is an error that names it and a remedy", () =>
    Effect.gen(function*() {
      const root = yield* temporaryDirectory
      const file = NPath.join(root, "file")
      NFS.writeFileSync(file, "")
      for (const path of [file, NPath.join(file, "below")]) {
        const error = yield* Effect.flip(start(path))
        assert.strictEqual(error.reason._tag, "Unusable")
        assert.include(error.message, path)
        assert.include(error.message, "choose another directory")
      }
      const readOnly = yield* Effect.flip(startWith(root, () => ({
        open: (path) => Effect.fail(failure("PermissionDenied", "open", path))
      })))
      assert.strictEqual(readOnly.reason._tag, "Unusable")
      assert.include(readOnly.message, `chmod 700 '${root}'`)
      const noLinks = yield* Effect.flip(startWith(root, () => ({
        link: (path) => Effect.fail(failure("PermissionDenied", "link", path))
      })))
      assert.strictEqual(noLinks.reason._tag, "Unusable")
      assert.include(noLinks.message, "hard links")
    }))
})

const failure = (tag: PlatformError.SystemErrorTag, method: string, path: string) =>
  PlatformError.systemError({ _tag: tag, module: "FileSystem", method, pathOrDescriptor: path })

describe("SecretStore (file system) corruption", () => {
  const damages: ReadonlyArray<readonly [string, (bytes: Buffer) => Uint8Array]> = [
    ["empty", () => new Uint8Array(0)],
    ["truncated by a byte", (bytes) => bytes.subarray(0, bytes.length - 1)],
    ["truncated to its half", (bytes) => bytes.subarray(0, bytes.length / 2)],
    ["truncated to 3 bytes", (bytes) => bytes.subarray(0, 3)],
    ["longer", (bytes) => Buffer.concat([bytes, Buffer.from([0])])],
    ["zeroed", (bytes) => Buffer.alloc(bytes.length)],
    ["foreign", () => Buffer.from("a key that a user pasted into the file, and that is long enough")],
    ...Array.from({ length: 54 }, (_, index): readonly [string, (bytes: Buffer) => Uint8Array] => [
      `flipped in byte ${index}`,
      (bytes) => {
        const flipped = Buffer.from(bytes)
        flipped[index] = (flipped[index] ?? 0) ^ 0x10
        return flipped
      }
    ])
  ]

  it.effect("a damaged file stops the start and the read, names the file and the remedy, and is never missing", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const store = yield* start(directory)
      yield* store.set("key", secret("0123456789"))
      const file = NPath.join(directory, "key~1")
      const whole = NFS.readFileSync(file)
      assert.strictEqual(whole.length, 54)
      for (const [kind, damage] of damages) {
        NFS.writeFileSync(file, damage(whole))
        const errors = [
          yield* Effect.flip(start(directory)),
          yield* Effect.flip(store.get("key")),
          yield* Effect.flip(store.getOrCreateRandom("key", 32)),
          yield* Effect.flip(store.create("key", secret("new")))
        ]
        for (const error of errors) {
          assert.strictEqual(error.reason._tag, "Corrupt", kind)
          assert.include(error.message, `rm '${file}'`)
        }
      }
      NFS.writeFileSync(file, whole)
      assert.strictEqual(yield* textOf(yield* start(directory), "key"), "0123456789")
    }))

  it.effect("a file that was copied over another secret's file is corrupt there", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const store = yield* start(directory)
      yield* store.set("one", secret("first"))
      yield* store.set("two", secret("other"))
      NFS.copyFileSync(NPath.join(directory, "one~1"), NPath.join(directory, "two~1"))
      assert.strictEqual((yield* Effect.flip(store.get("two"))).reason._tag, "Corrupt")
      assert.strictEqual((yield* Effect.flip(start(directory))).reason._tag, "Corrupt")
    }))

  it.effect("a planted last version does not swallow writes", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const store = yield* start(directory)
      const file = NPath.join(directory, "key~999999999999999")
      NFS.writeFileSync(file, "planted", { mode: 0o600 })
      const error = yield* Effect.flip(store.set("key", secret("one")))
      assert.strictEqual(error.reason._tag, "Corrupt")
      assert.include(error.message, file)
    }))

  it.effect("set and remove mend a damaged secret", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const store = yield* start(directory, { keepVersions: 1 })
      for (const name of ["set", "removed"]) {
        yield* store.set(name, secret("one"))
        NFS.writeFileSync(NPath.join(directory, `${name}~1`), "torn")
      }
      yield* store.set("set", secret("two"))
      yield* store.remove("removed")
      const again = yield* start(directory)
      assert.strictEqual(yield* textOf(again, "set"), "two")
      assert.isNull(yield* textOf(again, "removed"))
    }))

  it.effect("a file that the store did not write stops the start; hidden files of the system do not", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      NFS.writeFileSync(NPath.join(directory, ".DS_Store"), "")
      yield* start(directory)
      NFS.writeFileSync(NPath.join(directory, "signing-key"), "pasted", { mode: 0o600 })
      const error = yield* Effect.flip(start(directory))
      assert.strictEqual(error.reason._tag, "Corrupt")
      assert.include(error.message, NPath.join(directory, "signing-key"))
    }))
})

describe("SecretStore (file system) failures", () => {
  const noSpace = (method: string, path: string) =>
    PlatformError.systemError({
      _tag: "Unknown",
      module: "FileSystem",
      method,
      pathOrDescriptor: path,
      cause: Object.assign(new Error("ENOSPC: no space left on device"), { code: "ENOSPC" })
    })

  it.effect("SEC-04 L-02: each failing step of a write is a StorageFailure, and the value is the old one", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      let fault: string | undefined
      const failing = <A, R>(step: string, path: string, real: Effect.Effect<A, PlatformError.PlatformError, R>) =>
        Effect.suspend(() => fault === step ? Effect.fail(noSpace(step, path)) : real)
      const store = yield* startWith(directory, (real) => ({
        open: (path, options) => {
          const step = options?.flag === "wx" ? "open" : "openDirectory"
          return failing(step, path, real.open(path, options)).pipe(
            Effect.map((file) =>
              wrapFile(file, {
                stat: failing("stat", path, file.stat),
                writeAll: (buffer) =>
                  failing("writeAll", path, file.writeAll(buffer)).pipe(
                    // A disk fills up in the middle of a write.
                    Effect.tapError(() => Effect.ignore(file.writeAll(buffer.subarray(0, 5))))
                  ),
                sync: failing(step === "open" ? "sync" : "syncDirectory", path, file.sync)
              })
            )
          )
        },
        link: (from, to) => failing("link", to, real.link(from, to)),
        readDirectory: (path) => failing("readDirectory", path, real.readDirectory(path)),
        remove: (path, options) => failing("remove", path, real.remove(path, options))
      }))
      yield* store.set("key", secret("old"))
      for (const step of ["open", "stat", "writeAll", "sync", "link", "readDirectory"]) {
        fault = step
        const attempts = [
          store.set("key", secret("new")),
          store.create("absent", secret("new")),
          store.getOrCreateRandom("absent", 32),
          store.modify("key", () => Effect.succeed([undefined, Option.some(secret("new"))])),
          store.remove("key")
        ]
        for (const attempt of attempts) {
          const error = yield* Effect.flip(attempt)
          assert.strictEqual(error.reason._tag, "StorageFailure", step)
          if (error.reason._tag === "StorageFailure") {
            assert.include(["key", "absent"], error.reason.secretName)
            assert.include(error.message, step)
            assert.include(error.message, "ENOSPC: no space left on device")
          }
        }
        fault = undefined
        assert.strictEqual(yield* textOf(store, "key"), "old", step)
        assert.isNull(yield* textOf(store, "absent"), step)
        assert.isFalse(NFS.readdirSync(directory).some(isTemporary), step)
      }

      // From here on the new value has its name. Whether it outlives a power cut is unknown, so it is an error, but never a torn value.
      for (const step of ["openDirectory", "syncDirectory"]) {
        yield* store.set("key", secret("old"))
        fault = step
        assert.strictEqual((yield* Effect.flip(store.set("key", secret("new")))).reason._tag, "StorageFailure")
        fault = undefined
        assert.include(["old", "new"], yield* textOf(store, "key"))
      }

      // A removal that leaves the old bytes on the disk has failed; repeating it finishes it.
      yield* store.set("key", secret("old"))
      fault = "remove"
      assert.strictEqual((yield* Effect.flip(store.remove("key"))).reason._tag, "StorageFailure")
      fault = undefined
      yield* store.remove("key")
      assert.lengthOf(NFS.readdirSync(directory).filter((entry) => /^key~[0-9]+$/.test(entry)), 1)
    }))

  it.effect("an interrupted write leaves a whole value and no temporary file", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      for (const step of ["open", "readDirectory", "link"] as const) {
        const reached = yield* Deferred.make<void>()
        const proceed = yield* Deferred.make<void>()
        let armed = false
        const gate = <A, E, R>(at: string, real: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
          Effect.suspend(() => {
            if (!armed || at !== step) return real
            armed = false
            return Effect.andThen(
              Effect.andThen(Deferred.succeed(reached, undefined), Deferred.await(proceed)),
              real
            )
          })
        const store = yield* startWith(directory, (real) => ({
          open: (path, options) => gate("open", real.open(path, options)),
          readDirectory: (path) => gate("readDirectory", real.readDirectory(path)),
          link: (from, to) => gate("link", real.link(from, to))
        }))
        yield* store.set("key", secret("old"))
        armed = true
        const fiber = yield* Effect.forkChild(store.set("key", secret("new")))
        yield* Deferred.await(reached)
        const interruption = yield* Effect.forkChild(Fiber.interrupt(fiber))
        yield* Effect.yieldNow
        yield* Deferred.succeed(proceed, undefined)
        yield* Fiber.join(interruption)
        assert.include(["old", "new"], yield* textOf(store, "key"))
        assert.isFalse(NFS.readdirSync(directory).some(isTemporary))
        // No writer holds the writers' permit.
        yield* store.set("key", secret("next"))
        assert.strictEqual(yield* textOf(store, "key"), "next")
      }
    }))

  it.effect("SEC-04: a failing read is an error, never a missing secret", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* (yield* start(directory)).set("key", secret("one"))
      let broken = false
      const store = yield* startWith(directory, (real) => ({
        readFile: (path) => broken ? Effect.fail(noSpace("readFile", path)) : real.readFile(path)
      }))
      broken = true
      for (const attempt of [store.get("key"), store.getOrCreateRandom("key", 32), store.history("key")]) {
        assert.strictEqual(
          (yield* Effect.flip<unknown, SecretStore.SecretStoreError, never>(attempt)).reason._tag,
          "StorageFailure"
        )
      }
    }))

  it.effect("SEC-04: a directory that has gone is an error", () =>
    Effect.gen(function*() {
      const directory = NPath.join(yield* temporaryDirectory, "secrets")
      const store = yield* start(directory)
      NFS.rmSync(directory, { recursive: true })
      for (
        const attempt of [store.get("key"), store.set("key", secret("x")), store.remove("key"), store.list]
      ) {
        assert.strictEqual(
          (yield* Effect.flip<unknown, SecretStore.SecretStoreError, never>(attempt)).reason._tag,
          "StorageFailure"
        )
      }
    }))
})

describe("SecretStore (file system) with several processes", () => {
  it.effect("SEC-02: a start removes the files of dead writers, and a live writer that loses its own writes again", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      let started = false
      const store = yield* startWith(directory, (real) => ({
        link: (from, to) =>
          Effect.suspend(() => {
            if (!from.includes("key~") || started) return real.link(from, to)
            started = true
            assert.isTrue(NFS.existsSync(from))
            return Effect.orDie(start(directory)).pipe(
              Effect.tap(() => Effect.sync(() => assert.isFalse(NFS.existsSync(from)))),
              Effect.andThen(real.link(from, to))
            )
          })
      }))
      yield* store.set("key", secret("one"))
      assert.isTrue(started)
      assert.strictEqual(yield* textOf(store, "key"), "one")
      assert.deepStrictEqual(NFS.readdirSync(directory), ["key~1"])
    }))

  for (const step of ["open", "link"] as const) {
    it.effect(`SEC-09: a writer overtaken before its ${step}, until its version is free again, does not win with it`, () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const other = yield* start(directory)
        yield* other.set("key", secret("0"))
        let overtaken = false
        const overtake = Effect.suspend(() => {
          if (overtaken) return Effect.void
          overtaken = true
          return Effect.forEach(["1", "2", "3", "4"], (value) => other.set("key", secret(value))).pipe(
            Effect.orDie,
            Effect.tap(() => Effect.sync(() => assert.isFalse(NFS.existsSync(NPath.join(directory, "key~2")))))
          )
        })
        const store = yield* startWith(directory, (real) => ({
          open: (path, options) =>
            step === "open" && path.includes("key~2~")
              ? Effect.andThen(overtake, real.open(path, options))
              : real.open(path, options),
          link: (from, to) =>
            step === "link" && from.includes("key~2~")
              ? Effect.andThen(overtake, real.link(from, to))
              : real.link(from, to)
        }))
        const seen: Array<string> = []
        yield* store.modify("key", (current) => {
          const now = Option.match(current, {
            onNone: () => "none",
            onSome: (value) => new TextDecoder().decode(Redacted.value(value))
          })
          seen.push(now)
          return Effect.succeed([undefined, Option.some(secret(`${now}+`))])
        })
        assert.isTrue(overtaken)
        assert.deepStrictEqual(seen, ["0", "4"])
        assert.strictEqual(yield* textOf(other, "key"), "4+")
      }))
  }

  it.live(
    "SEC-03 L-05: 4 processes with 8 fibers each get the same bytes, one creates, and no change is lost",
    () =>
      Effect.gen(function*() {
        const directory = NPath.join(yield* temporaryDirectory, "secrets")
        const racers = yield* Effect.all(Array.from({ length: 4 }, () => child("secretRacer", [directory, "8"])))
        const lines = racers.map((racer) => createInterface({ input: racer.stdout })[Symbol.asyncIterator]())
        for (const line of lines) assert.strictEqual((yield* Effect.promise(() => line.next())).value, "ready")
        for (const racer of racers) racer.stdin.write("go\n")
        const seen = new Map<string, Set<string>>()
        let wins = 0
        for (const line of lines) {
          const result: { readonly seen: ReadonlyArray<[string, string]>; readonly wins: number } = JSON.parse(
            (yield* Effect.promise(() => line.next())).value ?? "null"
          )
          wins += result.wins
          for (const [name, hex] of result.seen) seen.set(name, (seen.get(name) ?? new Set()).add(hex))
        }
        const store = yield* start(directory)
        assert.strictEqual(seen.size, 4)
        for (const [name, values] of seen) {
          const kept = Option.getOrThrow(Option.map(yield* store.get(name), Redacted.value))
          assert.deepStrictEqual(Array.from(values), [Hex.encode(kept)])
        }
        assert.strictEqual(wins, 1)
        assert.strictEqual(yield* textOf(store, "counter"), "32")
        assert.isFalse(NFS.readdirSync(directory).some(isTemporary))
      }),
    300_000
  )

  it.live(
    "SEC-02: a writer killed at any point leaves whole values, loses nothing acknowledged, and its files go",
    () =>
      Effect.gen(function*() {
        const directory = NPath.join(yield* temporaryDirectory, "secrets")
        const whole = (text: string | null): number => {
          const number = Number(text?.slice(0, text.indexOf(",")))
          assert.strictEqual(text, `${number},`.repeat(10_000))
          return number
        }
        let stored = 0
        let left = 0
        // Some of the kills must strike in the middle of a write, or this test shows nothing.
        const isEnough = (rounds: number) => rounds >= 24 && left > 0
        for (let round = 0; !isEnough(round); round++) {
          yield* Effect.scoped(Effect.gen(function*() {
            const writer = yield* child("secretWriter", [directory, String(stored + 1)])
            let acknowledged = 0
            const killAfter = 1 + Math.floor(Math.random() * 6)
            // The moment within the next write is random as well.
            yield* Effect.promise(async () => {
              for await (const line of createInterface({ input: writer.stdout })) {
                acknowledged = Number(line.slice("set ".length))
                if (acknowledged === stored + killAfter) setTimeout(() => void kill(writer), Math.random() * 12)
              }
            })
            yield* Effect.promise(() => kill(writer))
            left += NFS.readdirSync(directory).filter(isTemporary).length

            const store = yield* start(directory)
            assert.isFalse(NFS.readdirSync(directory).some(isTemporary))
            const found = whole(yield* textOf(store, "set"))
            assert.isAtLeast(found, acknowledged)
            assert.isAtMost(found, acknowledged + 1)
            for (const name of yield* store.list) whole(yield* textOf(store, name))
            for (const { value } of yield* store.history("set")) whole(new TextDecoder().decode(Redacted.value(value)))
            stored = found
          }))
        }
        assert.isAbove(left, 0)
      }),
    300_000
  )
})

describe("SecretStore (file system) disclosure", () => {
  it.effect("SEC-08: no log, span, error or JSON holds a secret, whatever happens", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const plain = "hunter2-correct-horse-battery"
      const bytes = new TextEncoder().encode(plain)
      const printed: Array<string> = []
      const print = (value: unknown): void => {
        printed.push(String(value), inspect(value, { depth: Infinity, showHidden: true, getters: true }))
        printed.push(JSON.stringify(value, (_, field) => typeof field === "bigint" ? String(field) : field) ?? "")
      }
      const spans: Array<Tracer.NativeSpan> = []
      const tracer = Tracer.make({
        span: (options) => {
          const span = new Tracer.NativeSpan(options)
          spans.push(span)
          return span
        }
      })
      const logger = Logger.make((entry) => print([entry.message, Cause.pretty(entry.cause)]))

      let fault: string | undefined
      const store = yield* startWith(directory, (real) => {
        const failing = <A, R>(step: string, path: string, effect: Effect.Effect<A, PlatformError.PlatformError, R>) =>
          Effect.suspend(() => fault === step ? Effect.fail(failure("Unknown", step, path)) : effect)
        return {
          link: (from, to) => failing("link", to, real.link(from, to)),
          readFile: (path) => failing("readFile", path, real.readFile(path)),
          remove: (path, options) => failing("remove", path, real.remove(path, options))
        }
      })
      yield* store.set("key", Redacted.make(bytes))
      const operations = [
        Effect.flatMap(start(directory), (other) => other.get("key")),
        store.get("key"),
        store.set("key", Redacted.make(bytes)),
        store.create("key", Redacted.make(bytes)),
        store.create("key", Redacted.make(bytes)),
        store.getOrCreateRandom("key", 32),
        store.modify("key", (current) => Effect.succeed([current, Option.some(Redacted.make(bytes))])),
        store.modify("key", () => Effect.die("a defect of the caller")),
        store.history("key"),
        store.list,
        store.set("not a name", Redacted.make(bytes)),
        store.remove("key"),
        store.set("key", Redacted.make(bytes))
      ]
      const damage = Effect.sync(() => {
        for (const entry of NFS.readdirSync(directory)) NFS.appendFileSync(NPath.join(directory, entry), "x")
      })
      const loosen = Effect.sync(() => {
        for (const entry of NFS.readdirSync(directory)) NFS.chmodSync(NPath.join(directory, entry), 0o644)
      })
      const tags = new Set<string>()
      for (const step of [undefined, "link", "readFile", "remove", "damage", "loosen"]) {
        fault = step
        if (step === "damage") yield* damage
        if (step === "loosen") yield* loosen
        for (const operation of operations) {
          const exit = yield* Effect.exit<unknown, SecretStore.SecretStoreError, never>(operation).pipe(
            Effect.withTracer(tracer),
            Effect.provide(Logger.layer([logger]))
          )
          print(exit)
          if (exit._tag === "Failure") {
            print(Cause.pretty(exit.cause))
            const error = Cause.squash(exit.cause)
            if (error instanceof SecretStore.SecretStoreError) {
              tags.add(error.reason._tag)
              print(error.message)
            }
          }
        }
      }
      for (const span of spans) print(span)

      assert.isAbove(spans.length, 30)
      assert.deepStrictEqual(tags, new Set(["InvalidName", "StorageFailure", "Corrupt", "Insecure"]))
      const all = printed.join("\n")
      assert.include(all, "key")
      assert.include(all, "SecretStore.set")
      // The bytes as text, encoded, as a list of numbers over several lines, as a Buffer prints.
      const spaced = all.replaceAll(/[\s,]+/g, " ")
      for (
        const form of [
          plain,
          Base64.encode(bytes).slice(0, 20),
          Hex.encode(bytes),
          Array.from(bytes.subarray(0, 8)).join(" "),
          Array.from(bytes.subarray(0, 8), (byte) => byte.toString(16)).join(" ")
        ]
      ) {
        assert.isFalse(all.includes(form) || spaced.includes(form), `found ${form}`)
      }
    }))
})
