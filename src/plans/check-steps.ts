import { listSteps } from "./finding.ts"
import type { Finding, StepPlace } from "./finding.ts"
import type { RowExpectation } from "./plan.ts"
import { listReferences } from "./references.ts"
import type { WrittenPlan } from "./schema.ts"
import { getEffect } from "./step-schema.ts"
import type { WrittenStep } from "./step-schema.ts"
import type { Path } from "./yaml-source.ts"

/** What steps ask of their target, and parts of a step that do not go together. */
export function checkSteps(plan: WrittenPlan): Finding[] {
  return listSteps(plan).flatMap((place) => [
    ...checkTarget(plan, place),
    ...checkEffect(place),
    ...checkTolerance(place),
    ...checkHttp(place),
    ...checkCommand(plan, place),
    ...checkRestore(plan, place),
  ])
}

function checkTarget(plan: WrittenPlan, { step, path }: StepPlace): Finding[] {
  const kind = (["sql", "check", "restore", "purge"] as const).find((key) => key in step)
  if (kind && !plan.target.postgres) {
    return [
      { path: [...path, kind], want: "key", message: `a "${kind}" step needs target.postgres, and the plan has none` },
    ]
  }
  const lacksHttp = "http" in step && !plan.target.http
  return lacksHttp
    ? [{ path: [...path, "http"], want: "key", message: 'an "http" step needs target.http, and the plan has none' }]
    : []
}

function checkEffect({ step, path }: StepPlace): Finding[] {
  const findings: Finding[] = []
  const effect = getEffect(step)
  const undo = "undo" in step && step.undo !== undefined
  if ("http" in step && step.effect === undefined && (step.http.method ?? "GET") !== "GET") {
    findings.push({
      path: [...path, "effect"],
      message: `"effect" is missing: a ${step.http.method} says none, keyed or blind`,
    })
  }
  if (step.irreversible !== undefined && effect === "none") {
    findings.push({
      path: [...path, "irreversible"],
      want: "key",
      message: "a step without an effect has nothing to take back: leave out irreversible",
    })
  }
  if (undo && effect === "none") {
    findings.push({
      path: [...path, "undo"],
      want: "key",
      message: "a step without an effect has nothing to take back: leave out undo",
    })
  }
  if (undo && step.irreversible !== undefined) {
    findings.push({
      path: [...path, "irreversible"],
      want: "key",
      message: "a step that has an undo is not irreversible: leave out one of them",
    })
  }
  return findings
}

function checkTolerance({ step, path }: StepPlace): Finding[] {
  if (!("sql" in step || "check" in step || "purge" in step) || step.expect?.tolerance === undefined) return []
  const rows: RowExpectation | undefined = step.expect.rows
  // A purge without `rows` expects what was rehearsed.
  const isRehearsed = rows ? rows.kind === "rehearsed" : "purge" in step
  return isRehearsed
    ? []
    : [{ path: [...path, "expect", "tolerance"], want: "key", message: "tolerance goes with rows: rehearsed only" }]
}

function checkHttp({ step, path }: StepPlace): Finding[] {
  if (!("http" in step)) return []
  const { method = "GET", json, body, every, attempts } = step.http
  const findings = [...checkPath(step.http.path, [...path, "http", "path"])]
  if (step.undo) findings.push(...checkPath(step.undo.path, [...path, "undo", "path"]))
  if (json !== undefined && body !== undefined) {
    findings.push({ path: [...path, "http", "body"], want: "key", message: "a request has json or body, not both" })
  }
  if (/^(?:GET|HEAD)$/.test(method) && (json !== undefined || body !== undefined)) {
    const key = json === undefined ? "body" : "json"
    findings.push({
      path: [...path, "http", key],
      want: "key",
      message: `a ${method} has no ${key}: say method: POST, or leave it out`,
    })
  }
  if (every !== undefined && (attempts ?? 1) < 2) {
    findings.push({
      path: [...path, "http", "every"],
      want: "key",
      message: "every says how long to wait between attempts: give attempts, 2 or more",
    })
  }
  return findings
}

function checkPath(written: string, path: Path): Finding[] {
  if (/[\s\\\p{Cc}]/u.test(written))
    return [{ path, message: "expected a path without spaces, backslashes or control characters; encode them" }]
  if (written.startsWith("/") && !written.startsWith("//")) return []
  return [
    {
      path,
      message: `expected a path of the plan's own target that begins with one "/", found "${written.slice(0, 60)}"`,
    },
  ]
}

/** What a command runs is looked at before anybody approves it: its folder must be known by then. */
function checkFolder(plan: WrittenPlan, { step, path }: StepPlace): Finding[] {
  if (!("command" in step) || step.cwd === undefined) return []
  const captured = new Set(
    listSteps(plan).flatMap(({ step: each }) => ("capture" in each ? Object.keys(each.capture ?? {}) : [])),
  )
  const name = listReferences(step.cwd).find((each) => captured.has(each))
  if (name === undefined) return []
  const programs = [step.command, step.deployed, step.undo].flatMap((list) => list?.[0] ?? [])
  const refs = [...step.command, ...(step.undo ?? [])].flatMap(listReferences)
  const looksThere =
    (step.files ?? []).length > 0 ||
    programs.some((program) => program.includes("/") && !program.startsWith("/")) ||
    refs.some((each) => plan.params?.[each]?.type === "git_ref")
  if (!looksThere) return []
  const message = `"${name}" is captured in the run, and this command's files or commits are looked up in its folder before anybody approves them: name the folder by a parameter`
  return [{ path: [...path, "cwd"], message }]
}

function checkCommand(plan: WrittenPlan, place: StepPlace): Finding[] {
  const { step, path } = place
  if (!("command" in step)) return []
  const findings = checkFolder(plan, place)
  if (step.command[0]?.startsWith("$")) {
    findings.push({
      path: [...path, "command", 0],
      message: "the program of a command is written in the plan, not in a parameter",
    })
  }
  if (step.deployed && !step.undo) {
    findings.push({
      path: [...path, "deployed"],
      want: "key",
      message: "deployed is what undo goes back to: give an undo that names $deployed",
    })
  }
  return findings
}

function checkRestore(plan: WrittenPlan, { step, path }: { step: WrittenStep; path: Path }): Finding[] {
  if (!("restore" in step)) return []
  const tables = (plan.baseline?.tables ?? []).map(({ table }) => table)
  if (tables.includes(step.restore.table)) return []
  const known = tables.length > 0 ? `it has ${tables.join(", ")}` : "the plan has no baseline"
  return [
    { path: [...path, "restore", "table"], message: `table "${step.restore.table}" is not in the baseline; ${known}` },
  ]
}
