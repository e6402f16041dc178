import { auditHash } from "../../src/rollback/audit.ts"
import type { StepRun } from "../../src/rollback/facts.ts"
import type { Trial } from "./crash-points-lab.ts"
import { stepIds, type World } from "./crash-points-world.ts"

type Wrong = (what: string, seen: unknown, wanted: unknown) => void

/** What is wrong after a trial; empty when each effect came once, all of it is on record, and people heard all of it once. */
export async function violationsOf(world: World, trial: Trial): Promise<string[]> {
  const found: string[] = []
  const wrong: Wrong = (what, seen, wanted) => {
    const [a, b] = [JSON.stringify(seen), JSON.stringify(wanted)]
    if (a !== b) found.push(`${what}: ${a}, expected ${b}`)
  }
  const runs = await world.store.runs.listSteps(trial.id)
  await Promise.all([
    checkState(world, trial, runs, wrong),
    checkTarget(world, trial, runs, wrong),
    checkOutside(world, trial, wrong),
    checkTold(world, trial, wrong),
    checkAudit(world, trial, wrong),
  ])
  checkUnknown(trial, wrong)
  return found.map((text) => `died at [${trial.diedAt.join("] and [")}]: ${text}`)
}

const range = (from: number, to: number) => Array.from({ length: Math.max(0, to - from + 1) }, (_, n) => from + n)

/** Steps in their order; one of which a person decided has an attempt for each decision and the last. */
function attempts(trial: Trial): string[] {
  return stepIds.flatMap((id) =>
    id === "blind" ? range(1, trial.decided.length + 1).map((n) => `${id}/${n}`) : [`${id}/1`],
  )
}

async function checkState(world: World, trial: Trial, runs: StepRun[], wrong: Wrong): Promise<void> {
  const rollback = await world.store.rollbacks.get(trial.id)
  wrong("end", [rollback.state, rollback.end_reason, rollback.stop_requested_at], ["succeeded", null, null])
  const outcomes = runs.map((run) => `${run.stepId}/${run.attempt} ${run.result?.outcome ?? "no result"}`)
  const last = trial.decided.at(-1) === "skip" ? "skipped" : "succeeded"
  const expected = attempts(trial).map((attempt) =>
    !attempt.startsWith("blind/")
      ? `${attempt} succeeded`
      : `${attempt} ${attempt === `blind/${trial.decided.length + 1}` ? last : "unknown"}`,
  )
  wrong("steps", outcomes.sort(), expected.sort())
  const approvals = await world.state.query<{ who: string; round: number }>(
    "select user_id as who, round from stepback.approvals where rollback_id = $1 and voided_at is null order by round",
    [trial.id],
  )
  const rounds = 1 + trial.decided.filter((decision) => decision === "skip").length
  // A step left out is another plan: what was approved before it counts no more.
  wrong(
    "approvals",
    approvals.rows.map((row) => `${row.who} ${row.round}`),
    [`U2BOB ${rounds}`],
  )
  const confirmations = await world.state.query("select answer from stepback.confirmations where rollback_id = $1", [
    trial.id,
  ])
  wrong("questions", confirmations.rows, [{ answer: "done" }])
}

async function checkTarget(world: World, { id }: Trial, runs: StepRun[], wrong: Wrong): Promise<void> {
  const ask = async (sql: string, values: unknown[] = []) =>
    (await world.target.query<{ v: unknown }>(sql, values)).rows
  const [seen, counters, left, entries, images] = await Promise.all([
    ask(
      "select relation || ' ' || operation || ' ' || count(*) as v from seen group by relation, operation order by 1",
    ),
    ask("select n as v from counters order by id"),
    ask(`select (select count(*) filter (where bad) || '/' || count(*) from orders) || ' ' ||
      (select count(*) filter (where order_id % 2 = 0) || '/' || count(*) from lines) || ' ' ||
      (select string_agg(value, ',') from settings) as v`),
    world.target.query<{ step_id: string; batch: number; result: StepRun["result"] }>(
      "select step_id, batch, result from stepback_ledger.entries where rollback_id = $1 order by step_id, batch",
      [id],
    ),
    ask(
      "select step_id || ' ' || count(*) as v from stepback_ledger.before_images where rollback_id = $1 group by step_id order by 1",
      [id],
    ),
  ])
  const values = (rows: { v: unknown }[]) => rows.map((row) => row.v)
  wrong("effects", values(seen), ["counters update 2", "lines delete 32", "orders delete 16", "settings update 1"])
  wrong("counters", values(counters), [1, 1])
  wrong("rows left", values(left), ["0/16 0/32 good,good"])
  wrong("before-images", values(images), ["first 1", "last 1", "settings 1"])
  const batches = entries.rows.filter((entry) => entry.step_id === "remove").map((entry) => entry.batch)
  // The beginning, then each batch under its first page.
  wrong("first entry", batches[0], 0)
  wrong("batches under one number", new Set(batches).size, batches.length)
  wrong("several batches", batches.length >= 3, true)
  const singles = entries.rows.filter((entry) => entry.step_id !== "remove")
  wrong(
    "ledger",
    singles.map((entry) => `${entry.step_id} ${entry.batch}`),
    ["first 0", "last 0", "settings 0"],
  )
  for (const entry of singles) {
    const recorded = runs.find((run) => run.stepId === entry.step_id)?.result
    wrong(
      `what is recorded of ${entry.step_id}`,
      [recorded?.rows, recorded?.affected],
      [entry.result?.rows, entry.result?.affected],
    )
  }
  const removed = runs
    .find((run) => run.stepId === "remove")
    ?.result?.affected.map(({ table, rows }) => `${table} ${rows}`)
  wrong("what is recorded of remove", removed?.sort(), ["lines 32", "orders 16"])
  wrong("archive", await archived(world, id), {
    lines: range(1, 64).filter((n) => (((n - 1) % 32) + 1) % 2 === 0),
    orders: range(1, 32).filter((n) => n % 2 === 0),
  })
}

/** Keys of the rows that are kept, as often as they are. */
async function archived(world: World, id: string): Promise<Record<string, number[]>> {
  const { rows } = await world.target.query<{ name: string; relation: string }>(
    "select name, relation from stepback_ledger.archives where rollback_id = $1 order by relation",
    [id],
  )
  const kept: Record<string, number[]> = {}
  for (const { name, relation } of rows) {
    const table = relation.split(".").at(-1)?.replaceAll('"', "") ?? ""
    const found = await world.target.query<{ id: number }>(`select id from ${name} order by id`)
    kept[table] = found.rows.map((row) => row.id)
  }
  return kept
}

async function checkOutside(world: World, trial: Trial, wrong: Wrong): Promise<void> {
  wrong("keys of the keyed request", new Set(world.requests("/keyed")).size, 1)
  wrong("blind requests", world.requests("/blind").length, 1)
  wrong("workflow runs", world.github.runs().length, 1)
  const marks = await world.marks()
  wrong("keys of the program", new Set(marks.filter((mark) => mark !== "overlap")).size, 1)
  // Until its process is on record nobody can know of it.
  const unrecorded = trial.diedAt.some((at) => /^(sent program|(before|sent) update stepback.step_runs)/.test(at))
  if (!unrecorded) wrong("two programs at once", marks.includes("overlap"), false)
}

async function checkTold(world: World, trial: Trial, wrong: Wrong): Promise<void> {
  const { id } = trial
  const { rows } = await world.state.query<{ key: string; kind: string }>(
    "select key, body ->> 'kind' as kind from stepback.outbox where rollback_id = $1 order by seq",
    [id],
  )
  const keys = rows.map((row) => row.key.slice(id.length + 1))
  const steps = rows.filter((row) => row.kind === "step").map((row) => row.key.slice(id.length + 1))
  // What comes of the manual step is told by its question.
  const replied = attempts(trial).filter((key) => !key.startsWith("hand/"))
  wrong("replies, in order", steps, replied)
  const calls = trial.decided.map((_, n) => `step/blind/${n + 1}/`)
  // The chain's head goes out with each entry of an end.
  const { rows: ends } = await world.state.query<{ key: string }>(
    "select 'audit/' || entry as key from stepback.audit where rollback_id = $1 and kind in ('failed', 'succeeded')",
    [id],
  )
  const heads = keys.filter((key) => key.startsWith("audit/"))
  wrong("posted heads", heads.sort(), ends.map((row) => row.key).sort())
  const others = keys.filter((key) => !steps.includes(key) && !heads.includes(key))
  wrong(
    "other messages",
    others.map((key) => key.replace(/^(step\/blind\/\d+\/).*/, "$1")).sort(),
    ["analysis", "hand/1/asked", ...calls].sort(),
  )
  const open = await world.state.query(
    "select 1 from stepback.escalations where rollback_id = $1 and resolved_at is null",
    [id],
  )
  wrong("calls still open", open.rowCount, 0)
}

async function checkAudit(world: World, trial: Trial, wrong: Wrong): Promise<void> {
  const [entries, { rows }] = await Promise.all([
    world.store.audit.list(trial.id),
    world.state.query<{ n: number; head: string }>(
      "select audit_entries as n, audit_head as head from stepback.rollbacks where id = $1",
      [trial.id],
    ),
  ])
  const broken = entries.filter(
    (entry, n) =>
      auditHash(entry) !== entry.hash || entry.entry !== n + 1 || (n > 0 && entry.previous !== entries[n - 1]?.hash),
  )
  wrong("broken audit entries", broken.length, 0)
  wrong("audit head", [rows[0]?.n, rows[0]?.head], [entries.length, entries.at(-1)?.hash])
  const count = (kind: string) => entries.filter((entry) => entry.kind === kind).length
  const { decided } = trial
  const skips = decided.filter((decision) => decision === "skip").length
  wrong(
    "audit",
    ["requested", "rehearsed", "approval", "step", "confirmed", "escalated", "failed", "retried", "succeeded"].map(
      count,
    ),
    [
      1,
      1 + skips,
      1 + skips,
      stepIds.length + decided.length,
      1,
      decided.length,
      decided.length,
      decided.length - skips,
      1,
    ],
  )
}

/** A blind step's outcome is unknown when a worker died between its intent and its result, and only then. */
function checkUnknown(trial: Trial, wrong: Wrong): void {
  const inDoubt = trial.diedAt.filter((at) => /(^|after |sent |before )POST \/blind/.test(at) || at.endsWith("(blind)"))
  const surely = inDoubt.filter((at) => !/^(before|sent) commit|^(sent|after) select stepback.record_step/.test(at))
  // A life may end at a boundary of something beside it, while the step's request is on its way.
  const possible = trial.lives.slice(0, trial.diedAt.length).filter((names) => {
    const last = names.findLast((name) => /POST \/blind|\(blind\)$/.test(name))
    return last !== undefined && !/^before commit|^after select stepback.record_step/.test(last)
  })
  const decisions = trial.decided.length
  // Of two in doubt the second may have been about the record of the first's outcome.
  wrong("decisions of a person", decisions >= Math.min(1, surely.length) && decisions <= possible.length, true)
}
