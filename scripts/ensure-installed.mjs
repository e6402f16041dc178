// Plain JavaScript for whatever Node the machine has: it runs before the project's own Node is there.
import { spawnSync } from "node:child_process"
import { createHash } from "node:crypto"
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))
// Inside node_modules, so that deleting that folder also forgets it and the tree stays as it was.
const stamp = join(root, "node_modules", ".stepback-installed")
const wanted = hashOf(["package.json", "package-lock.json"])

// A service that starts takes what is there: only a clone that was never installed is.
const isStart = process.argv.includes("--if-missing")
if (isStart ? !existsSync(join(root, "node_modules")) : !isInstalled()) install()
requireNode24()

/** npm rewrites times at will; contents say whether what is installed is what the lock file asks for. */
function hashOf(files) {
  const hash = createHash("sha256")
  for (const file of files) {
    const path = join(root, file)
    hash
      .update(file)
      .update("\0")
      .update(existsSync(path) ? readFileSync(path) : "")
  }
  return hash.digest("hex")
}

function isInstalled() {
  const ofNpm = join(root, "node_modules", ".package-lock.json")
  if (!existsSync(ofNpm)) return false
  if (existsSync(stamp)) return readFileSync(stamp, "utf8") === wanted
  // Installed by hand: npm wrote its own record after the files that asked for it.
  const asked = ["package.json", "package-lock.json"].map((file) => join(root, file)).filter((path) => existsSync(path))
  return asked.every((path) => statSync(path).mtimeMs <= statSync(ofNpm).mtimeMs)
}

function install() {
  const lockFile = join(root, "package-lock.json")
  const lockBefore = existsSync(lockFile) ? readFileSync(lockFile) : null
  const started = Date.now()
  console.error("Installing dependencies (npm install), once …")
  // Through the shell on Windows only, where npm is a script.
  const npm = spawnSync("npm", ["install", "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd: root,
    stdio: ["ignore", "pipe", "pipe"],
    encoding: "utf8",
    shell: process.platform === "win32",
  })
  // An older npm writes the lock in its own way; what is committed stays.
  if (lockBefore !== null && !lockBefore.equals(readFileSync(lockFile))) writeFileSync(lockFile, lockBefore)
  if (npm.status !== 0) {
    console.error(npm.stdout ?? "", npm.stderr ?? "", npm.error?.message ?? "")
    console.error("npm install failed; what it said is above. Run it by hand, then try again.")
    process.exit(1)
  }
  writeFileSync(stamp, wanted)
  console.error(`Installed in ${Math.round((Date.now() - started) / 1000)} s.`)
}

function requireNode24() {
  const own = join(root, "node_modules", ".bin", process.platform === "win32" ? "node.cmd" : "node")
  const major = Number(process.versions.node.split(".")[0])
  if (existsSync(own) || major >= 24) return
  console.error(
    `Stepback runs on Node 24; this is Node ${process.versions.node}, and npm has no Node for ${process.platform}-${process.arch} among the project's packages. Install Node 24 and try again.`,
  )
  process.exit(1)
}
