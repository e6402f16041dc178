import { randomUUID } from "node:crypto"
import type { Pool } from "pg"
import pg from "pg"
import { inject } from "vitest"
import { connectPostgres } from "../../playground/postgres.ts"
import { checkPlanSource } from "../../src/plans/load.ts"
import type { PlanStep, UndoStep } from "../../src/plans/plan.ts"
import { rehearseStep, runStep } from "../../src/steps/definitions.ts"
import { initLedger, raiseFence, type RunKey } from "../../src/steps/ledger.ts"
import { createSecrets } from "../../src/steps/secrets.ts"
import type { RunContext } from "../../src/steps/step.ts"
import { createTargetPools, httpBase } from "../../src/steps/target.ts"
import { log } from "./store-fixture.ts"

/** Steps as a plan file writes them: the YAML of a component's `steps`. */
export async function stepsOf(yaml: string): Promise<PlanStep[]> {
  const indented = yaml
    .trim()
    .split("\n")
    .map((line) => `      ${line}`)
    .join("\n")
  const source = `version: 1
environment: fixture
title: Fixture
target: { postgres: "\${TARGET_URL}", http: "\${TARGET_HTTP}" }
params:
  word: { type: string, default: w }
  folder: { type: string, default: f }
  many: { type: integer, default: 5 }
  share: { type: number, default: 0.5 }
  hard: { type: boolean, default: true }
approve:
  low: { count: 1, from: anyone }
  medium: { count: 1, from: anyone }
  high: { count: 1, from: anyone }
  expires: 60m
components:
  all:
    title: All
    risk: low
    steps:
${indented}
`
  const { plan, problems } = await checkPlanSource("fixture.yaml", source)
  if (plan === null)
    throw new Error(problems.map((problem) => `${problem.line}:${problem.column}: ${problem.message}`).join("\n"))
  return plan.plan.components.flatMap((component) => component.steps)
}

export async function stepOf(yaml: string): Promise<PlanStep> {
  const [step] = await stepsOf(yaml)
  if (step === undefined) throw new Error("no step")
  return step
}

/** The step that gives back what a step of that rollback replaced, as an undo would have it. */
export function undoStepOf(ofRollback: string, ofStep: string): UndoStep {
  return {
    kind: "undo",
    id: `undo-${ofStep}`,
    title: "Undo",
    effect: "transactional",
    timeoutMs: 60_000,
    retries: 0,
    needs: [],
    onFailure: "stop",
    irreversible: null,
    ofRollback,
    ofStep,
  }
}

export type TargetFixture = {
  url: string
  /** A superuser's own connections, beside those of the steps. */
  admin: Pool
  pools: ReturnType<typeof createTargetPools>
  stop(): Promise<void>
}

/** A target database of one's own, with the ledger in it. */
export async function freshTarget(schema: string): Promise<TargetFixture> {
  const url = await connectPostgres(inject("postgresUrl")).createDatabase(`target_${randomUUID().slice(0, 8)}`)
  const admin = new pg.Pool({ connectionString: url, max: 4 })
  admin.on("error", () => {})
  await admin.query(schema)
  const pools = createTargetPools(log)
  await initLedger(pools.get(url))
  return {
    url,
    admin,
    pools,
    stop: async () => {
      await Promise.all([admin.end(), pools.close()])
    },
  }
}

type ContextFacts = Partial<Omit<RunContext, "target">> & {
  pool?: Pool | null
  http?: string
  workerEnvironment?: Record<string, string>
}

/** What a step is given, as a worker that holds the first epoch would. The fence is raised when there is a database. */
export async function contextOf({
  pool = null,
  http,
  workerEnvironment = {},
  ...facts
}: ContextFacts = {}): Promise<RunContext> {
  const key: RunKey = facts.key ?? { rollbackId: facts.rollbackId ?? randomUUID(), epoch: 1, digest: "d1" }
  if (pool !== null) await raiseFence(pool, key)
  return {
    rollbackId: key.rollbackId,
    environment: "fixture",
    values: {},
    secrets: createSecrets({ PATH: process.env["PATH"], ...workerEnvironment }),
    target: { pool, httpBase: http === undefined ? null : httpBase(http) },
    redact: [],
    signal: new AbortController().signal,
    log,
    attempt: 1,
    rehearsed: null,
    fingerprint: null,
    recordProcess: () => undefined,
    checkpoint: () => Promise.resolve(),
    stillOurs: () => Promise.resolve(),
    ...facts,
    key,
  }
}

/** A step's card and then its run, as that was approved. */
export async function goThrough({ pools, url }: TargetFixture, step: PlanStep | UndoStep, facts: ContextFacts = {}) {
  const context = await contextOf({ pool: pools.get(url), ...facts })
  const card = await rehearseStep(step, context)
  return { rollbackId: context.rollbackId, card, result: await runStep(step, { ...context, rehearsed: card }) }
}

/** Whether the server was built with lz4, as distributions do. */
export async function hasLz4({ admin }: TargetFixture): Promise<boolean> {
  const sql = "select from pg_settings where name = 'wal_compression' and 'lz4' = any(enumvals)"
  return (await admin.query(sql)).rowCount === 1
}

/** A table's rows, in order, as the server writes them. */
export async function textsOf({ admin }: TargetFixture, table: string): Promise<string[]> {
  const { rows } = await admin.query<{ v: string }>(`select x::text as v from ${table} x order by 1`)
  return rows.map(({ v }) => v)
}
