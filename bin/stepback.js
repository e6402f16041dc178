#!/usr/bin/env node
// Plain JavaScript for whatever Node the machine has: Stepback itself is TypeScript and runs on Node 24 or newer.
import { spawn } from "node:child_process"
import { existsSync } from "node:fs"
import { constants } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))
const cli = join(root, "src", "cli.ts")
const major = Number(process.versions.node.split(".")[0])

if (major >= 24) await import(new URL("../src/cli.ts", import.meta.url).href)
else restart()

/** Runs the command again with the Node that came with the project's packages. */
function restart() {
  const own = join(root, "node_modules", ".bin", process.platform === "win32" ? "node.cmd" : "node")
  if (!existsSync(own)) {
    console.error(
      `Stepback runs on Node 24 or newer; this is Node ${process.versions.node}. Run \`npm install\` in ${root}, which brings one along, or install Node 24.`,
    )
    process.exit(1)
  }
  const child = spawn(own, [cli, ...process.argv.slice(2)], { stdio: "inherit", shell: process.platform === "win32" })
  // The terminal sends Ctrl-C to both; what is sent to this process alone is passed on.
  for (const signal of ["SIGTERM", "SIGHUP", "SIGINT"]) process.on(signal, () => child.kill(signal))
  child.on("error", (error) => {
    console.error(`${own} could not be started: ${error.message}`)
    process.exit(1)
  })
  child.on("exit", (code, signal) => process.exit(code ?? 128 + (constants.signals[signal] ?? 0)))
}
