import { spawn, type ChildProcess } from "node:child_process"
import { once } from "node:events"
import { chmod, mkdtemp, readdir, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, expect, test } from "vitest"
import { scenarios } from "../../playground/scenarios.ts"

const script = new URL("../../playground/demo.ts", import.meta.url).pathname

/** A temporary folder of its own, so that what is left behind can be seen. */
let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "stepback-demo-"))
  // As root, Postgres runs as another user, who has to get here.
  await chmod(folder, 0o755)
})
afterAll(() => rm(folder, { recursive: true, force: true }))

type Demo = { child: ChildProcess; ended: Promise<number | null>; output(): string; saw(words: string): Promise<void> }

function startDemo(args: string[]): Demo {
  const child = spawn(process.execPath, [script, ...args], {
    env: { ...process.env, TMPDIR: folder },
    stdio: ["ignore", "pipe", "pipe"],
  })
  let output = ""
  const collect = (chunk: Buffer) => void (output += chunk.toString())
  child.stdout.on("data", collect)
  child.stderr.on("data", collect)
  const ended = once(child, "close").then(([code]) => code as number | null)
  const saw = (words: string) =>
    new Promise<void>((resolve, reject) => {
      const look = () => output.includes(words) && resolve()
      child.stdout.on("data", look)
      void ended.then(() => reject(new Error(`the demo ended without "${words}":\n${output}`)))
      look()
    })
  return { child, ended, output: () => output, saw }
}

/** Postgres's programs are kept for the next start; all else goes. */
async function leftBehind(): Promise<string[]> {
  return (await readdir(folder)).filter((name) => !/^stepback-postgres-\d/.test(name) && !name.startsWith("node-"))
}

test("an unknown scenario: the known ones are listed, exit 1", async () => {
  const demo = startDemo(["--auto", "--scenario", "unheard-of"])
  expect(await demo.ended).toBe(1)
  expect(demo.output()).toContain('There is no scenario "unheard-of"')
  for (const name of Object.keys(scenarios)) expect(demo.output()).toContain(`  ${name}`)
})

test("a scenario plays by itself, shows the channels and says whether it ended as it should", async () => {
  const demo = startDemo(["--auto", "--scenario", "denied"])
  expect(await demo.ended).toBe(0)
  expect(demo.output()).toMatch(/bob presses Deny[\s\S]*at the end[\s\S]*denied by @bob[\s\S]*It held\.\n/)
  expect(await leftBehind()).toEqual([])
})

test('a transcript that says "at the end" shows the card at its end', async () => {
  const demo = startDemo(["--auto"])
  expect(await demo.ended).toBe(0)
  const end = demo.output().split("──── at the end ────")[1]
  expect(end).toContain("staging is back · R-1")
  expect(end).not.toContain("Rolling back")
})

test("without --auto it tells the page's address, stays, and cleans up at Ctrl-C", async () => {
  const demo = startDemo([])
  await demo.saw("Ctrl-C ends it all")
  const address = /Open the page: {2}(\S+)/.exec(demo.output())?.[1] ?? ""
  const page = await fetch(address)
  expect(page.status).toBe(200)
  expect(await page.text()).toContain("Local Slack")
  demo.child.kill("SIGINT")
  expect(await demo.ended).toBe(0)
  expect(await leftBehind()).toEqual([])
  await expect(fetch(address)).rejects.toThrow("fetch failed")
})
