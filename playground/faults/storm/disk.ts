import { execFile, spawn } from "node:child_process"
import { chown, mkdtemp, open, readFile, rm, stat } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"

const run = promisify(execFile)

export type SmallDisk = {
  /** A folder on it that belongs to the server's user. */
  folder: string
  fill(): Promise<void>
  free(): Promise<void>
  stop(): Promise<void>
}

/** A disk of its own, in memory, for what the server of this process keeps there; or why there is none. */
export async function mountSmallDisk(megabytes: number, serverPid: number): Promise<SmallDisk | { why: string }> {
  if (process.platform !== "linux" || process.getuid?.() !== 0) return { why: "only root of a Linux may mount a disk" }
  const mount = await mkdtemp(join(tmpdir(), "stepback-disk-"))
  try {
    await run("mount", ["-t", "tmpfs", "-o", `size=${megabytes}m,mode=755`, "tmpfs", mount])
  } catch (error) {
    await rm(mount, { recursive: true, force: true })
    return { why: `a disk could not be mounted: ${error instanceof Error ? error.message.trim() : String(error)}` }
  }
  const guard = unmountWithUs(mount)
  const [uid, gid] = await Promise.all(["Uid", "Gid"].map((name) => idOf(serverPid, name)))
  await chown(mount, uid ?? 0, gid ?? 0)
  const ballast = join(mount, "ballast")
  return {
    folder: mount,
    async fill() {
      const file = await open(ballast, "a")
      try {
        for (let n = 0; n < megabytes + 1; n++) await file.write(Buffer.alloc(1_048_576))
      } catch (error) {
        if ((error as { code?: string }).code !== "ENOSPC") throw error
      } finally {
        await file.close()
      }
    },
    free: () => rm(ballast, { force: true }),
    async stop() {
      guard.release()
      await run("umount", ["-l", mount])
      if ((await stat(mount)).isDirectory()) await rm(mount, { recursive: true, force: true })
    },
  }
}

async function idOf(pid: number, name: string): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8")
  return Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(status)?.[1] ?? 0)
}

/** However this process ends, nothing stays mounted. */
function unmountWithUs(mount: string): { release(): void } {
  const script = `read -r word; [ "$word" = release ] && exit 0; umount -l "$1"; rmdir "$1"`
  const watcher = spawn("sh", ["-c", script, "sh", mount], {
    stdio: ["pipe", "ignore", "ignore"],
    detached: true,
    cwd: "/",
  })
  watcher.unref()
  const pipe = watcher.stdin as typeof watcher.stdin & { unref?: () => void }
  pipe.unref?.()
  pipe.on("error", () => {})
  return { release: () => pipe.end("release\n") }
}
