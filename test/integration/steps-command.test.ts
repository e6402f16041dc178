import { execFile } from "node:child_process"
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { until } from "../../playground/faults/until.ts"
import { hashFilesOf } from "../../src/jobs/freeze-run.ts"
import type { FrozenRun } from "../../src/plans/frozen.ts"
import type { CommandStep, PlanStep } from "../../src/plans/plan.ts"
import { draftUndo } from "../../src/plans/undo-run.ts"
import { rehearseStep, runStep } from "../../src/steps/definitions.ts"
import { endLeftover } from "../../src/steps/command.ts"
import { createSecrets } from "../../src/steps/secrets.ts"
import { result, stepRun } from "../unit/bot/views.ts"
import { contextOf, stepOf } from "./steps-fixture.ts"

let folder: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "stepback-command-"))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

/** A step that runs this shell script in the test's folder. */
async function shell(script: string, more = "effect: none") {
  const file = join(folder, `${Math.random().toString(36).slice(2)}.sh`)
  await writeFile(file, script)
  return stepOf(`- { id: a, command: [sh, "${file}"], cwd: $folder, ${more} }`)
}

const context = (facts: Parameters<typeof contextOf>[0] = {}) => contextOf({ values: { folder, word: "w" }, ...facts })

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

const read = (name: string) => readFile(join(folder, name), "utf8")

describe("a command", () => {
  it("is ended with its whole group when its time is over, also when it ignores the asking", async () => {
    const script = `trap '' TERM; sh -c 'trap "" TERM; echo $$ > grandchild; while :; do sleep 0.1; done' & echo $$ > child; wait; while :; do sleep 0.1; done`
    const result = await runStep(
      await shell(script, "effect: keyed, irreversible: it is a test, timeout: 500ms"),
      await context(),
    )
    expect(result).toMatchObject({ outcome: "failed", failure: { code: "timed_out" } })
    for (const name of ["child", "grandchild"]) {
      const pid = Number(await read(name))
      await until(`the end of the ${name}`, () => Promise.resolve(!alive(pid)))
    }
  })

  it("whose outcome nobody knows is unknown when it is blind", async () => {
    const result = await runStep(
      await shell("sleep 60", "effect: blind, irreversible: it is a test, timeout: 200ms"),
      await context(),
    )
    expect(result).toMatchObject({ outcome: "unknown", failure: { code: "timed_out" } })
  })

  it("is ended by Stop", async () => {
    const stop = new AbortController()
    const step = await shell("echo $$ > stopped; sleep 60", "effect: keyed, irreversible: it is a test")
    const running = runStep(step, await context({ signal: stop.signal }))
    await until("its start", () => read("stopped"))
    stop.abort()
    expect(await running).toMatchObject({ outcome: "failed", failure: { code: "stopped" } })
  })

  it("does not begin when Stop was there first", async () => {
    const result = await runStep(
      await shell("sleep 60", "effect: none, timeout: 20s"),
      await context({ signal: AbortSignal.abort() }),
    )
    expect(result).toMatchObject({ outcome: "failed", failure: { code: "not_started" } })
  })

  it("sees the variables that the plan names and nothing else of the worker's", async () => {
    const workerEnvironment = { DEPLOY_KEY: "k3y-of-deploy", DATABASE_URL: "postgres://mine", OTHER: "other" }
    const step = await shell(
      "env | cut -d= -f1 | sort > seen; echo $DEPLOY_KEY > key",
      "env: [DEPLOY_KEY], effect: keyed, irreversible: it is a test",
    )
    expect(await runStep(step, await context({ workerEnvironment }))).toMatchObject({ outcome: "succeeded" })
    const names = (await read("seen"))
      .trim()
      .split("\n")
      .filter((name) => !["_", "PWD", "SHLVL", "OLDPWD"].includes(name))
    expect(names).toEqual(["DEPLOY_KEY", "HOME", "IDEMPOTENCY_KEY", "LANG", "PATH"])
    expect((await read("key")).trim()).toBe("k3y-of-deploy")
  })

  it("cannot be given Stepback's own variables", async () => {
    const step = await shell("true")
    if (step.kind !== "command") throw new Error("not a command")
    const running = runStep(
      { ...step, env: ["DATABASE_URL"] },
      await context({ workerEnvironment: { DATABASE_URL: "postgres://mine" } }),
    )
    await expect(running).rejects.toMatchObject({ code: "variable_not_for_plans" })
  })

  it("shows no secret in its output or its captures, cut though it is", async () => {
    const workerEnvironment = { DEPLOY_KEY: "k3y-of-deploy" }
    const script = `i=0; while [ $i -lt 30000 ]; do echo "line $i $DEPLOY_KEY"; i=$((i + 1)); done; echo "the end" >&2; exit 3`
    const result = await runStep(
      await shell(script, "env: [DEPLOY_KEY], effect: none"),
      await context({ workerEnvironment }),
    )
    expect(result).toMatchObject({ outcome: "failed", failure: { code: "exit_3", message: "exit code 3, expected 0" } })
    const text = JSON.stringify(result)
    expect(text).toContain("line 0 •••")
    expect(text).toContain("characters left out")
    expect(text).toContain("line 29999")
    expect(text).toContain("the end")
    expect(text).not.toContain("k3y-of-deploy")
    expect(text.length).toBeLessThan(300_000)
  })

  it("that says more than is kept holds no pattern about what it may not say", async () => {
    const none = "/(?<![^])(?![^]*ERROR)/"
    const long = await shell("seq 1 20000; echo ERROR; seq 1 40000", `effect: none, expect: { stdout: '${none}' }`)
    expect((await runStep(long, await context())).failure?.message).toBe(
      `whether all of its output matches ${none} is not known (its output is long: only the beginning and the end of it were kept)`,
    )
    const short = await shell("seq 1 20", `effect: none, expect: { stdout: '${none}' }`)
    expect(await runStep(short, await context())).toMatchObject({ outcome: "succeeded" })
    const lines = await shell("seq 1 60000", "effect: none, expect: { stdout: /^60000$/ }")
    expect(await runStep(lines, await context())).toMatchObject({ outcome: "succeeded" })
  })

  it("that says more than is kept is told so where something is not found in it", async () => {
    const step = await shell(
      "seq 1 20000; echo IN-BETWEEN; seq 1 40000",
      "effect: none, expect: { stdout: /BETWEEN/ }, capture: { seen: /IN-(.*)/ }",
    )
    const long = "(its output is long: only the beginning and the end of it were kept)"
    expect((await runStep(step, await context())).failure?.message).toBe(
      `its output does not match /BETWEEN/ ${long}; there is nothing like /IN-(.*)/ to capture ${long}`,
    )
  })

  it("gives nothing where the group of its regular expression took no part", async () => {
    const step = await shell("echo version=", "effect: none, capture: { seen: '/version=(\\d+)?/' }")
    expect((await runStep(step, await context())).failure?.message).toContain("there is nothing like")
  })

  it("is looked through for values, each of which means its own characters", async () => {
    const step = await stepOf(
      `- { id: a, command: [echo, "now 7.3+x at $5"], effect: none, expect: { stdout: '/^now $word at [$]\\d$/' }, capture: { seen: '/now ($word)/' } }`,
    )
    const given = (word: string) => context({ values: { word } })
    expect(await runStep(step, await given("7.3+x"))).toMatchObject({
      outcome: "succeeded",
      captures: { seen: "7.3+x" },
    })
    for (const word of ["7x3+x", "7.33x", ""])
      expect(await runStep(step, await given(word))).toMatchObject({ outcome: "failed" })
  })

  it.each([
    ["$word+", "v1.22", "v1.2", false],
    ["x$word?", "xv1.", "v1.2", false],
    ["x{$word}", "xx", "2", false],
    ["x{$word}", "x{2}", "2", true],
  ])("is looked through with %s, in %s, for the value %s as a whole", async (source, said, word, found) => {
    const step = await stepOf(
      `- { id: a, command: [echo, "${said}"], effect: none, expect: { stdout: '/^${source}$/' } }`,
    )
    const { outcome } = await runStep(step, await context({ values: { word } }))
    expect(outcome).toBe(found ? "succeeded" : "failed")
  })

  it.each([
    "redis://:planted-redis@127.0.0.1",
    "redis://:planted-redis@127.0.0.1:7000,redis://:planted-redis@127.0.0.1:7001",
    '{"sentinels": [{"host": "127.0.0.1"}], "name": "primary", "password": "planted-redis"}',
  ])("shows none of Stepback's own secrets either, which it can find with its parent: REDIS_URL %s", async (redis) => {
    const workerEnvironment = {
      SLACK_BOT_TOKEN: "xoxb-planted-token",
      SLACK_SIGNING_SECRET: "planted-signing-secret",
      SLACK_APP_TOKEN: "xapp-planted-token",
      DATABASE_URL: "postgres://us:planted-word@127.0.0.1/state",
      REDIS_URL: redis,
    }
    const script = Object.values(workerEnvironment).join("\n")
    const step = await shell(`cat <<'END'\n${script}\nEND\necho planted-word planted-redis`)
    const shown = JSON.stringify(await runStep(step, await context({ workerEnvironment })))
    expect(shown).toContain("•••")
    expect(shown).not.toContain("planted")
  })

  it("shows no half of a secret where its output was cut", async () => {
    const secret = "k3y-of-deploy-0123456789"
    for (const shift of ["", "abcdefgh", "abcdefghijklmnop"]) {
      const script = `printf '${shift}'; i=0; while [ $i -lt 10000 ]; do printf '%s' "$DEPLOY_KEY"; i=$((i + 1)); done`
      const step = await shell(script, "env: [DEPLOY_KEY], effect: none")
      const { output } = await runStep(step, await context({ workerEnvironment: { DEPLOY_KEY: secret } }))
      expect(output?.replaceAll("•••", "").replace(/\d+ characters/, "some")).toBe(`${shift}\n… some left out …\n`)
    }
  })

  it("takes its arguments as they are: no shell reads them", async () => {
    const step = await stepOf(
      `- { id: a, command: [printf, "%s|", $word, "a b", "; id"], effect: none, expect: { stdout: /./ } }`,
    )
    const result = await runStep(step, await context({ values: { word: "$(id) `id` 'x'", folder } }))
    expect(result.evidence.join()).toContain("$(id) `id` 'x'|a b|")
  })

  it("may stop in the middle of a character", async () => {
    const step = await shell(
      String.raw`printf '\303'; sleep 0.3; printf '\251t'`,
      "effect: none, expect: { stdout: /^ét$/ }",
    )
    expect(await runStep(step, await context())).toMatchObject({ outcome: "succeeded" })
  })

  it("that is not there, or fails, says so", async () => {
    const missing = await stepOf("- { id: a, command: [no-such-program-here], effect: none }")
    expect(await runStep(missing, await context())).toMatchObject({
      outcome: "failed",
      failure: { code: "not_started" },
    })
    expect(await runStep(await shell("kill -9 $$"), await context())).toMatchObject({
      outcome: "failed",
      failure: { code: "exit_signal" },
    })
  })

  it("has ended when it has, though what it left behind holds its pipes beyond the time", async () => {
    const step = await shell(
      "sleep 3 & echo $! > behind; echo started",
      "effect: blind, irreversible: it is a test, timeout: 1s",
    )
    expect(await runStep(step, await context())).toMatchObject({ outcome: "succeeded", evidence: ["started"] })
    expect(alive(Number(await read("behind")))).toBe(true)
  })

  it("whose folder is not there does not say that the program is missing", async () => {
    const step = await stepOf("- { id: a, command: [echo, hi], cwd: $folder/nowhere, effect: none }")
    expect((await runStep(step, await context())).failure?.message).toBe(
      `echo could not be started: its folder ${folder}/nowhere is not there`,
    )
  })

  it("that cannot be started is told: too long, or no more files can be opened, which ends no worker", async () => {
    const long = await stepOf("- { id: a, command: [echo, $word], effect: none }")
    const result = await runStep(long, await context({ values: { folder, word: "x".repeat(3_000_000) } }))
    expect(result.failure).toMatchObject({ code: "not_started", message: expect.stringContaining("E2BIG") })
    const file = join(folder, "full.ts")
    await writeFile(
      file,
      `import { openSync } from "node:fs"
const { runProgram } = await import(${JSON.stringify(new URL("../../src/steps/program.ts", import.meta.url).href)})
const run = () => runProgram({ command: ["true"], cwd: null, env: { PATH: "/usr/bin:/bin" }, key: null, timeoutMs: 5_000, signal: new AbortController().signal })
await run()
try { for (;;) openSync("/dev/null", "r") } catch {}
console.log((await run()).message)`,
    )
    const { stdout } = await promisify(execFile)("sh", ["-c", 'ulimit -n 64; exec "$0" "$1"', process.execPath, file])
    expect(stdout).toContain("true could not be started: spawn true EMFILE")
  })
})

describe("files that a command names", () => {
  it("are found where they are: one with an absolute name is not looked for in the step's folder", async () => {
    const elsewhere = await mkdtemp(join(tmpdir(), "stepback-files-"))
    await writeFile(join(elsewhere, "version"), "one")
    const name = join(elsewhere, "version")
    const step = await stepOf(`- { id: a, command: [cat, ${name}], cwd: $folder, files: [${name}], effect: none }`)
    const hash = async () => (await hashFilesOf(step as CommandStep, createSecrets({}), { folder }))[name]
    const before = await hash()
    await writeFile(name, "two")
    expect(await hash()).not.toBe(before)
    await rm(elsewhere, { recursive: true })
  })
})

describe("what was deployed before", () => {
  const deploy = `- { id: a, command: [sh, -c, "echo new > deployed"], cwd: $folder, effect: keyed, deployed: [cat, deployed], undo: [sh, -c, "echo $deployed > deployed"] }`

  it("is read before and after, and by the worker that takes over from what was shown", async () => {
    await writeFile(join(folder, "deployed"), "old\n")
    const step = await stepOf(deploy)
    const facts = await context()
    const rehearsal = await rehearseStep(step, facts)
    expect(await runStep(step, { ...facts, rehearsed: rehearsal })).toMatchObject({
      outcome: "succeeded",
      deployedBefore: "old",
      changed: 1,
    })
    // The first worker died here, before it could write that down.
    const again = await runStep(step, { ...facts, rehearsed: rehearsal, interrupted: true })
    expect(again).toMatchObject({ outcome: "succeeded", deployedBefore: "old", changed: 1 })
  })

  it("is what an undo goes back to: where it could not be read there is no way back", async () => {
    const step = await stepOf(deploy)
    const component = { id: "all", title: "All", risk: "low", rtoMs: null, steps: [step] }
    const draft = (deployedBefore: string | null, given: Record<string, string> = {}) => {
      const run = { rollbackId: "r", parameters: { folder }, commits: { a: given }, components: [component] }
      return draftUndo(run as unknown as FrozenRun, [stepRun("a", result({ deployedBefore }))])
    }
    expect(draft("old")).toMatchObject({ values: { "undo-a": { deployed: "old" } }, without: [] })
    const none = { components: [], values: {}, without: ["A: nothing to go back to is known ($deployed has no value)"] }
    expect(draft(null)).toEqual(none)
    // Nor is there one to what an undo was itself given to go back to.
    expect(draft(null, { deployed: "older" })).toEqual(none)
  })
})

describe("the undo of a command", () => {
  it("is to end well, whatever exit code the command was to end with", async () => {
    const step = await stepOf(
      `- { id: a, command: [sh, -c, "exit 3"], effect: keyed, expect: { exit: 3 }, undo: [sh, -c, "echo back"] }`,
    )
    const component = { id: "all", title: "All", risk: "low", rtoMs: null, steps: [step] }
    const run = { rollbackId: "r", parameters: {}, commits: {}, components: [component] } as unknown as FrozenRun
    const [undo] = draftUndo(run, [stepRun("a", await runStep(step, await context()))]).components[0]?.steps ?? []
    expect(await runStep(undo as PlanStep, await context())).toMatchObject({ outcome: "succeeded", evidence: ["back"] })
  })
})

describe("a program that a dead worker left running", () => {
  it("is ended, and no other process in its place", async () => {
    let left: { pid: number; host: string; birth: string | null } | null = null
    const running = runStep(
      await shell("sleep 60", "effect: keyed, irreversible: it is a test, timeout: 30s"),
      await context({ recordProcess: (started) => void (left = started) }),
    )
    const process = await until("its start", () => Promise.resolve(left))
    expect(endLeftover({ ...(process as object), birth: "1" })).toBe(false)
    expect(endLeftover({ ...(process as object), host: "elsewhere" })).toBe(false)
    expect(endLeftover(process)).toBe(true)
    expect(await running).toMatchObject({ outcome: "failed", failure: { code: "exit_signal" } })
  })
})
