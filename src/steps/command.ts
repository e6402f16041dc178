import { createHash } from "node:crypto"
import { hostname } from "node:os"
import type { CommandStep } from "../plans/plan.ts"
import { fill, isAboutAll, patternOf } from "../plans/values.ts"
import type { Change, StepResult } from "../rollback/facts.ts"
import { endGroup, processBirth, redactOutput, wasCut, runProgram, type Ended } from "./program.ts"
import { redacted } from "./secrets.ts"
import { shorten } from "./shown.ts"
import {
  elapsed,
  failure,
  rehearsed,
  stepResult,
  tooSlowToLook,
  type RunContext,
  type StepContext,
  type StepType,
} from "./step.ts"

/** An argument list in a process group of its own, without a shell. */
export const commandStep: StepType<CommandStep> = {
  async rehearse(step, context) {
    if (step.effect === "none") {
      const timeoutMs = context.patient === true ? step.timeoutMs : Math.min(step.timeoutMs, probeTimeoutMs)
      const result = await runOnce(step, { ...step, timeoutMs }, context)
      if (result.failure?.code === "timed_out" && timeoutMs < step.timeoutMs)
        return rehearsed(step.id, { outcome: "unknown", note: tooSlowToLook(step, { timeoutMs }), ms: result.ms })
      return rehearsed(step.id, {
        holds: result.outcome === "succeeded",
        note: result.failure?.message ?? result.evidence[0] ?? null,
        ms: result.ms,
      })
    }
    if (step.deployed === null) return rehearsed(step.id, { outcome: "not_tried", note: step.command.join(" ") })
    const before = await readDeployed(step, context)
    const after = step.command.map((part) => fill(part, context.values)).at(-1) ?? ""
    const changes = before === null ? [] : deployedChange(step, context, before, after)
    return rehearsed(step.id, {
      outcome: before === null ? "unknown" : "looked",
      changed: before === null ? null : before === after ? 0 : 1,
      changes,
      note: before === null ? "what is deployed now could not be read" : null,
    })
  },

  async run(step, context) {
    const deployedBefore = step.deployed === null ? null : await findDeployedBefore(step, context)
    await context.stillOurs()
    const result = await runOnce(step, step, context, context)
    if (step.deployed === null || result.failure?.code === "not_started") return { ...result, deployedBefore }
    // After a failure too: whether the version before still runs is what people ask first.
    const deployed = await readDeployed(step, context)
    const known = deployedBefore !== null && deployed !== null
    return {
      ...result,
      deployedBefore,
      changed: known && result.outcome === "succeeded" ? Number(deployedBefore !== deployed) : null,
      changes: known ? deployedChange(step, context, deployedBefore, deployed) : [],
    }
  },
}

function deployedChange(step: CommandStep, context: StepContext, before: string, after: string): Change[] {
  const { redact } = context.secrets
  return [{ row: step.title, column: "deployed", before: redact(before), after: redact(after), afterKnown: true }]
}

const probeTimeoutMs = 5_000
/** Output that is shown in the thread; longer output goes along as a file. */
const shownOutput = 600

/** What undo goes back to. After an interruption that is what was shown: by now the new version may be deployed. */
async function findDeployedBefore(step: CommandStep, context: RunContext): Promise<string | null> {
  const shown = context.rehearsed?.changes.find((change) => change.column === "deployed")?.before
  // One that was hidden in part is none to go back to.
  const whole = shown !== undefined && !shown.includes(redacted)
  return context.interrupted === true && whole ? shown : readDeployed(step, context)
}

async function readDeployed(step: CommandStep, context: StepContext): Promise<string | null> {
  const ended = await start({ ...step, timeoutMs: Math.min(step.timeoutMs, 10_000) }, step.deployed ?? [], context)
  return ended.kind === "exited" && ended.code === 0 ? ended.stdout.trim() : null
}

function start(step: CommandStep, parts: string[], context: StepContext, run?: RunContext): Promise<Ended> {
  const key = createHash("sha256")
    .update(`${context.rollbackId} ${step.id} ${run?.keyNumber ?? run?.attempt ?? 1}`)
    .digest("hex")
    .slice(0, 32)
  return runProgram({
    command: parts.map((part) => fill(part, context.values)),
    cwd: step.cwd === null ? null : context.secrets.resolveOpen(step.cwd, context.values),
    env: {
      ...context.secrets.programBase,
      ...Object.fromEntries(step.env.map((name) => [name, context.secrets.resolve(`\${${name}}`)])),
    },
    key: step.effect === "keyed" ? key : null,
    timeoutMs: step.timeoutMs,
    signal: context.signal,
    ...(run
      ? { started: (pid: number) => run.recordProcess({ pid, host: hostname(), birth: processBirth(pid) }) }
      : {}),
  })
}

async function runOnce(
  step: CommandStep,
  limits: CommandStep,
  context: StepContext,
  run?: RunContext,
): Promise<StepResult> {
  const started = performance.now()
  const ended = await start(limits, step.command, context, run)
  const ms = elapsed(started)
  if (ended.kind === "not_started")
    return stepResult({ outcome: "failed", ms, failure: failure("not_started", context.secrets.redact(ended.message)) })
  const output = [ended.stdout, ended.stderr]
    .filter((text) => text !== "")
    .map((text) => redactOutput(text, context.secrets))
    .join("\n")
    .trim()
  const shown = output === "" ? [] : [shorten(output, shownOutput)]
  const facts = { ms, output: output.length > shownOutput ? output : null, evidence: shown }
  if (ended.kind !== "exited") {
    const message =
      ended.kind === "stopped" ? "stopped while it ran" : `did not end in ${limits.timeoutMs / 1000} s and was ended`
    return stepResult({
      ...facts,
      outcome: step.effect === "blind" ? "unknown" : "failed",
      failure: failure(ended.kind, message),
    })
  }
  const wrong: string[] = []
  if (ended.code !== step.expect.exit)
    wrong.push(`exit code ${ended.code ?? ended.signal ?? "?"}, expected ${step.expect.exit}`)
  if (step.expect.stdout !== null && !patternOf(step.expect.stdout, context.values, "m").test(ended.stdout))
    wrong.push(`its output does not match /${step.expect.stdout}/${whereCut(ended.stdout)}`)
  else if (step.expect.stdout !== null && wasCut(ended.stdout) && isAboutAll(step.expect.stdout, "m"))
    wrong.push(`whether all of its output matches /${step.expect.stdout}/ is not known${whereCut(ended.stdout)}`)
  const captures: Record<string, string> = {}
  for (const [name, source] of Object.entries(step.capture)) {
    const found = patternOf(source, context.values, "m").exec(ended.stdout)
    // A group that took no part has nothing, as if there were no match.
    const value = found && found.length > 1 ? found[1] : found?.[0]
    if (value !== undefined) captures[name] = value
    else wrong.push(`there is nothing like /${source}/ to capture${whereCut(ended.stdout)}`)
  }
  return stepResult({
    ...facts,
    outcome: wrong.length === 0 ? "succeeded" : "failed",
    captures,
    failure: wrong.length === 0 ? null : failure(`exit_${ended.code ?? "signal"}`, wrong.join("; ")),
  })
}

function whereCut(output: string): string {
  return wasCut(output) ? " (its output is long: only the beginning and the end of it were kept)" : ""
}

/** Ends what a worker that died on this machine left running, so that two of the same do not run at once. */
export function endLeftover(process: unknown): boolean {
  if (process === null || typeof process !== "object") return false
  const { pid, host, birth } = process as { pid?: number; host?: string; birth?: string | null }
  if (typeof pid !== "number" || host !== hostname() || birth == null || processBirth(pid) !== birth) return false
  endGroup(pid, "SIGKILL")
  return true
}
