import { z } from "zod"
import type { StepKind } from "./step-kinds.ts"
import * as v from "./scalars.ts"

const DAY = 86_400_000

const common = {
  id: v.identifier.meta({ description: "Unique in the plan." }),
  title: v.text().optional().meta({ description: "What people read; made from the id when it is missing." }),
  timeout: v
    .duration(DAY)
    .optional()
    .meta({ description: "30s when missing; 5m for a command or a workflow, 1h for what a person does." }),
  retries: v.whole(0, 10).optional().meta({ description: "Only for errors that retrying can cure." }),
  needs: v
    .listOf(v.identifier, "step ids")
    .optional()
    .meta({ description: "Steps of the same component to wait for." }),
  on_failure: v
    .choice(["stop", "continue", "ask"])
    .optional()
    .meta({ description: "stop, when missing: later steps do not run and the escalation fires." }),
}
const irreversible = v.text("the reason why there is no way back").optional().meta({
  description: "The reason why this step cannot be taken back.",
})
const params = v.listOf(v.name, "parameter names, without $").optional().meta({
  description: "Names of the values for $1, $2, …",
})
const effect = v.choice(["none", "keyed", "blind"]).meta({
  description: "none: reads only. keyed: doing it twice is as doing it once. blind: neither is known.",
})
const argumentList = v.someOf(v.text("an argument as text"), "a program and its arguments")
const headers = v.mappingOf(
  v.matching(/^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/, "the name of a header"),
  v.matching(/^[\t -~\u0080-\u00ff]*$/, "the value of a header on one line, of no other letters than Latin-1 has"),
  "header names to values",
)
const path = v.text("a path of the plan's own target")
const method = v.choice(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
const json = z.unknown().optional()
const status = z
  .union([v.whole(100, 599, "a status"), v.someOf(v.whole(100, 599, "a status"), "statuses")], {
    error: "expected a status such as 200, or a list of them",
  })
  .transform((written) => (Array.isArray(written) ? written : [written]))

function captures<Source extends z.ZodType>(source: Source) {
  return v.mappingOf(v.name, source, "names to what they take").optional()
}

const rowsAndTolerance = { rows: v.rows, tolerance: v.share().optional() }

export const sqlStep = v.strict({
  sql: v.text("one INSERT, UPDATE or DELETE").meta({ description: "One INSERT, UPDATE or DELETE." }),
  ...common,
  params,
  expect: v.strict(rowsAndTolerance),
  irreversible,
})

export const checkStep = v.strict({
  check: v.text("one read-only query").meta({ description: "One read-only query." }),
  ...common,
  params,
  expect: v
    .strict({
      rows: v.rows.optional(),
      tolerance: v.share().optional(),
      values: v.mappingOf(v.column, v.expected, "columns to values").optional(),
      matches: v.pattern.optional(),
    })
    .optional(),
  capture: captures(v.column),
  irreversible,
})

export const httpStep = v.strict({
  http: v
    .strict({
      method: method.optional(),
      path,
      headers: headers.optional(),
      json,
      body: z.string({ error: "expected text" }).optional(),
      attempts: v.whole(1, 100).optional(),
      every: v.duration(DAY).optional(),
    })
    .meta({ description: "A request to the plan's own target." }),
  ...common,
  effect: effect.optional(),
  expect: v
    .strict({
      status: status.optional(),
      json: v.mappingOf(v.pointer, v.expected, "JSON pointers to values").optional(),
      under: v.duration(DAY).optional(),
      matches: v.pattern.optional(),
    })
    .optional(),
  capture: captures(v.pointer),
  undo: v.strict({ method: method.optional(), path, headers: headers.optional(), json }).optional(),
  irreversible,
})

export const commandStep = v.strict({
  command: argumentList.meta({ description: "A program and its arguments; no shell." }),
  ...common,
  effect,
  cwd: v.text().optional(),
  env: v.listOf(v.name, "names of environment variables").optional(),
  files: v.listOf(v.text(), "file names").optional().meta({ description: "Hashed into the digest." }),
  deployed: argumentList.optional().meta({ description: "Prints what runs now; $deployed in `undo`." }),
  undo: argumentList.optional(),
  expect: v.strict({ exit: v.whole(0, 255).optional(), stdout: v.pattern.optional() }).optional(),
  capture: captures(v.pattern),
  irreversible,
})

export const restoreStep = v.strict({
  restore: v
    .strict({
      table: v.table,
      keys: v.someOf(v.text(), "keys").optional(),
      after: v.text("the name of a snapshot").optional(),
    })
    .meta({ description: "Rows of a baseline table." }),
  ...common,
  irreversible,
})

export const purgeStep = v.strict({
  purge: v
    .strict({
      table: v.table,
      where: v.text("a condition in SQL"),
      cascade: v.listOf(v.table, "table names").optional(),
      at_most: v.whole(1, 1_000_000_000, "the largest number of rows that it may remove, a whole number"),
      max_share: v.share().optional(),
      batch: v.whole(1, 1_000_000).optional(),
    })
    .meta({ description: "Archives and deletes the rows that match, in batches." }),
  ...common,
  params,
  expect: v.strict({ rows: v.rows.optional(), tolerance: v.share().optional() }).optional(),
  irreversible,
})

const inputName = v.text().refine((written) => written !== "stepback_id", {
  error: "expected another input: stepback_id is given by Stepback itself",
})
const inputs = v.mappingOf(inputName, z.string({ error: "expected text" }), "inputs to values")
export const workflowStep = v.strict({
  workflow: v
    .strict({
      repo: v.matching(/^[\w.-]+\/[\w.-]+$/, "a repository as owner/name"),
      file: v.text("the file name of a workflow"),
      ref: v.text("a branch, a tag or $name"),
      inputs: inputs.optional(),
      token: v.secretly(/^\$\{\w+\}$/, "write the token as ${NAME}, never the token itself"),
      api: v.matching(/^https?:\/\/\S+$|^\$\{\w+\}$/, "the address of an API").optional(),
    })
    .meta({
      description:
        "Dispatches a CI workflow and awaits its end. The workflow takes an input stepback_id and names it in its run-name.",
    }),
  ...common,
  undo: inputs.optional(),
  irreversible,
})

export const manualStep = v.strict({
  manual: v.text("what a person is to do").meta({ description: "What a person is asked to do and confirm." }),
  ...common,
  irreversible,
})

/** In the order of `STEP_KINDS`: messages look a branch of the union up by it. */
export const stepSchema = z.union([
  sqlStep,
  checkStep,
  httpStep,
  commandStep,
  restoreStep,
  purgeStep,
  workflowStep,
  manualStep,
])
export type WrittenStep = z.output<typeof stepSchema>

const EFFECTS = {
  sql: "transactional",
  check: "none",
  restore: "transactional",
  purge: "transactional",
  workflow: "keyed",
  manual: "blind",
} as const

/** The kind of a step by the key that it has. */
export function getStepKind(step: WrittenStep): StepKind {
  if ("sql" in step) return "sql"
  if ("check" in step) return "check"
  if ("http" in step) return "http"
  if ("command" in step) return "command"
  if ("restore" in step) return "restore"
  if ("purge" in step) return "purge"
  return "workflow" in step ? "workflow" : "manual"
}

/** What a step does to the world; a GET that says nothing reads only. */
export function getEffect(step: WrittenStep) {
  if ("http" in step) return step.effect ?? "none"
  if ("command" in step) return step.effect
  const kind = getStepKind(step)
  return kind === "http" || kind === "command" ? "blind" : EFFECTS[kind]
}
