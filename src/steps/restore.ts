import type { PoolClient } from "pg"
import { sha256 } from "../plans/frozen.ts"
import type { RestoreStep } from "../plans/plan.ts"
import type { RehearsedRestore } from "../rollback/baseline-facts.ts"
import type { Change, RehearsedStep, StepResult } from "../rollback/facts.ts"
import { keyId, type KeptSnapshot } from "./baseline.ts"
import { demandsOf } from "./blocked.ts"
import { callingOut, type TableFacts } from "./catalog.ts"
import { closeStep, openStep } from "./ledger.ts"
import { findOwned, ownedLines } from "./restore-owned.ts"
import { blockedLines, splitBlocked, withoutOthers, type Blocked } from "./restore-blocked.ts"
import { changesOf, isKeyless, judge, labelOf, type Going, type Judged } from "./restore-plan.ts"
import type { Key } from "./restore-rows.ts"
import { applyGoing, childrenProblem } from "./restore-sql.ts"
import { missingRights } from "./rights.ts"
import { openTable, readNow, showingOf, type OpenTable } from "./restore-table.ts"
import { settleStep } from "./settle.ts"
import { some } from "./shown.ts"
import { fireDeferred } from "./sql-keeping.ts"
import {
  elapsed,
  failure,
  rehearseLooking,
  stepResult,
  type BaselineContext,
  type RunContext,
  type StepContext,
  type StepType,
} from "./step.ts"
import { rereadImages } from "./undo-images.ts"

/** Rows that are listed where more may go back: three-way, and in the thread. */
const mostListed = 20
/** What a card can list one by one: two-way, what it does not list does not go back. */
const mostShown = { rows: 50, characters: 6_000 }
/** However long they are, so many are listed. */
const alwaysShown = { rows: 20, lines: 30 }
/** A card cuts what is longer. */
const shownValue = 90
const mostGoing = 1_000

/** Rows of a baseline table go back to what the snapshot has; what changed after it was shown is named and left. */
export const restoreStep: StepType<RestoreStep> = {
  rehearse: (step, context) => rehearseLooking(step, context, (client) => look(client, step, context)),

  run: (step, context) =>
    settleStep({ id: step.id, sql: "", timeoutMs: step.timeoutMs }, context, async (client, started) => {
      const done = await openStep(client, context.key, step.id, { timeoutMs: step.timeoutMs })
      if (done) {
        await client.query("rollback")
        return done.result
      }
      const kept: TableFacts[] = []
      const result = { ...(await act(client, step, context, kept)), ms: elapsed(started) }
      if (result.outcome === "succeeded") await closeStep(client, context.key, step.id, result, { kept })
      else await client.query("rollback")
      return result
    }),
}

/** Keys and rows in a frozen run are hashes: enough to know them again, no value of a redacted column. */
const hashOfRow = (row: { compared: string } | null) => (row === null ? null : sha256(row.compared))

async function look(client: PoolClient, step: RestoreStep, context: StepContext): Promise<Partial<RehearsedStep>> {
  const unknown = (note: string) => ({ outcome: "unknown" as const, note })
  const { baseline } = context
  const rule = baseline?.rules?.tables.find((each) => each.table === step.table)
  if (!baseline || !rule) return unknown("the baseline is in the state database, which was not looked at")
  const kept = await baseline.newest("baseline")
  if (!kept)
    return unknown(`there is no baseline yet: capture one with /rollback baseline ${context.environment} capture`)
  const after = step.after === null ? null : await baseline.newest(step.after)
  if (step.after !== null && !after)
    return unknown(
      `there is no snapshot "${step.after}": stepback baseline capture ${context.environment} --as ${step.after}`,
    )
  const opened = await openTable(client, step, { kept, after, key: rule.key, ignore: rule.ignore })
  if ("problem" in opened) return unknown(opened.problem)
  const owned = await findOwned(client, opened.table, rule.key, baseline.others)
  if ("unknown" in owned) return unknown(owned.unknown)
  const judged = judge({
    ...opened.snapshots,
    now: await readNow(client, opened),
    keys: step.keys,
    left: new Set(owned.keys.keys()),
  })
  const demands = await demandsOf(client, opened.table, { byKey: false })
  const { going, blocked } = await splitBlocked(client, opened, judged.going, {
    ...demands,
    parents: withoutOthers(demands.parents, baseline),
  })
  const showing = showingOf(opened, context)
  const listed = step.after === null ? shareOfCard(baseline) : mostListed
  const changes = going.slice(0, listed).flatMap((row) => changesOf(row, showing))
  const problem =
    keylessProblem(going, opened) ??
    tooMany(going, changes, step, listed) ??
    rightsProblem(going, opened.table) ??
    (await childrenProblem(client, opened.table, going, null))
  const left = [...owned.keys.values()].filter(
    ({ key }) => opened.keys.has(key.join("/")) && (step.keys?.includes(key.join("/")) ?? true),
  )
  return {
    rows: going.length,
    changed: going.length,
    changes,
    note: problem ?? noteOf(kept, after, going.length, listed),
    raises: callingOut([opened.table]),
    warnings: [
      ...conflictLines(judged, opened, context),
      ...blockedLines(blocked, opened, context),
      ...ownedLines(left, { most: mostListed, labelOf: (key) => labelOf(key, showing) }),
      ...(step.keys ?? [])
        .filter((key) => !opened.keys.has(key))
        .map((key) => `no row is called "${key}", neither now nor in the baseline`),
      ...opened.table.triggers.map((name) => `trigger ${name} on ${opened.table.name} fires`),
    ],
    ...(problem ? { outcome: "unknown" as const, refused: true as const } : {}),
    ...(problem
      ? {}
      : { restore: freezeShown({ going, blocked }, opened, { kept, after, left: [...owned.keys.keys()] }) }),
  }
}

function freezeShown(
  { going, blocked }: { going: readonly Going[]; blocked: readonly Blocked[] },
  { key, ignore }: OpenTable,
  from: { kept: KeptSnapshot; after: KeptSnapshot | null; left: string[] },
): RehearsedRestore {
  const named = ({ sha256: hash, capturedAt }: KeptSnapshot) => ({ sha256: hash, capturedAt })
  return {
    baseline: named(from.kept),
    after: from.after === null ? null : named(from.after),
    key: [...key],
    ignore: [...ignore],
    rows: going.map((row) => ({ key: sha256(row.id), now: hashOfRow(row.now) })),
    left: from.left.map((id) => sha256(id)),
    ...(blocked.length === 0 ? {} : { blocked: blocked.map(({ id }) => sha256(id)) }),
  }
}

/** Rows that each two-way restore of a run may list, so that the card has room for all of them. */
function shareOfCard({ others }: BaselineContext): number {
  const twoWay = others.filter(({ step }) => step.kind === "restore" && step.after === null).length
  return Math.max(alwaysShown.rows, Math.floor(mostShown.rows / Math.max(1, twoWay)))
}

function rightsProblem(going: readonly Going[], table: TableFacts): string | null {
  const needs = going.map(({ base, now }) => (base === null ? "delete" : now === null ? "insert" : "lock"))
  const missing = missingRights(table, [...new Set(needs)])
  return missing === "" ? null : `this role may not put them back: grant ${missing} on ${table.relation}`
}

/** A row is found again by its key alone. */
function keylessProblem(going: readonly Going[], { table, key }: OpenTable): string | null {
  const count = going.filter(isKeyless).length
  if (count === 0) return null
  return `${count} ${count === 1 ? "row" : "rows"} of ${table.name} ${count === 1 ? "has" : "have"} no ${key.join(", ")}, by which rows are found: remove or complete them first, or name the rows that are meant with keys`
}

function tooMany(
  going: readonly Going[],
  changes: readonly Change[],
  { after }: RestoreStep,
  listed: number,
): string | null {
  const texts = changes.flatMap((each) => [each.row, each.column, each.before, each.after ?? ""])
  const length = texts.reduce((sum, text) => sum + Math.min(text.length, shownValue), 0)
  const few = going.length <= alwaysShown.rows && changes.length <= alwaysShown.lines
  const fits =
    going.length <= listed && changes.length <= listed && length <= (mostShown.characters * listed) / mostShown.rows
  if (after === null ? few || fits : going.length <= mostGoing) return null
  return `${going.length} rows differ, more than can be shown and go back at once: name those that are meant with keys`
}

function noteOf(kept: KeptSnapshot, after: KeptSnapshot | null, going: number, listed: number): string {
  const from = `baseline of ${inWords(kept.capturedAt)}`
  if (going === 0) return `nothing of it to put back: as in the ${from}`
  const more = going > listed ? `, ${listed} of them listed` : ""
  return `to the ${from}${after === null ? "" : `, only what had changed by ${inWords(after.capturedAt)}`}${more}`
}

/** "2026-11-25 20:52:10 UTC" */
function inWords(at: string): string {
  return `${at.slice(0, 19).replace("T", " ")} UTC`
}

function conflictLines({ conflicts }: Pick<Judged, "conflicts">, opened: OpenTable, context: StepContext): string[] {
  if (conflicts.length === 0) return []
  const showing = showingOf(opened, context)
  const named = conflicts.slice(0, mostListed).map((key) => labelOf(key, showing))
  return [`${conflicts.length} changed again since and left as they are: ${some(named, conflicts.length)}`]
}

function unseenLines(unseen: readonly Key[], opened: OpenTable, context: StepContext): string[] {
  if (unseen.length === 0) return []
  const showing = showingOf(opened, context)
  const named = unseen.slice(0, mostListed).map((key) => labelOf(key, showing))
  return [`${unseen.length} differ that were not shown, and are left: ${named.join(", ")}`]
}

async function act(
  client: PoolClient,
  step: RestoreStep,
  context: RunContext,
  kept: TableFacts[],
): Promise<StepResult> {
  const refuse = (code: string, message: string) => stepResult({ outcome: "failed", failure: failure(code, message) })
  const shown = context.rehearsed?.restore
  // The card said so: asked again, it would say the same.
  if (!shown && context.rehearsed?.refused) return refuse("refused", context.rehearsed.note ?? "")
  if (!shown)
    return refuse(
      "not_rehearsed",
      "which rows would go back was not known when this was approved: ask again when it can be looked at",
    )
  const base = (await context.baseline?.find(shown.baseline.sha256)) ?? null
  const after = shown.after === null ? null : ((await context.baseline?.find(shown.after.sha256)) ?? null)
  if (!base || (shown.after !== null && !after))
    return refuse("baseline_gone", "the snapshot that was approved is no longer in the state database")
  const opened = await openTable(client, step, { kept: base, after, key: shown.key, ignore: shown.ignore })
  if ("problem" in opened) return refuse("cannot_restore", opened.problem)
  kept.push(opened.table)
  const judged = judge({ ...opened.snapshots, now: await readNow(client, opened), keys: step.keys, left: new Set() })
  const { conflicts, unseen, blockedThen, ...still } = compareWithShown(judged, shown)
  const demands = await demandsOf(client, opened.table, { byKey: false })
  const { going, blocked } = await splitBlocked(client, opened, still.going, demands)
  const problem = await childrenProblem(client, opened.table, going, opened.key)
  if (problem) return refuse("children", problem)
  const done = await applyGoing(client, going, { ...opened, demands, rollbackId: context.rollbackId, stepId: step.id })
  const rows = done.updated + done.removed + done.inserted
  if (rows !== going.length)
    return refuse("40001", `rows changed while they were being put back: ${rows} of ${going.length}`)
  await fireDeferred(client, opened.table)
  await rereadImages(client, opened.table, context.rollbackId, step.id)
  const showing = showingOf(opened, context)
  const issues = [
    ...conflictLines({ conflicts }, opened, context),
    ...blockedLines([...blockedThen, ...blocked], opened, context),
    ...unseenLines(unseen, opened, context),
    ...(await alteredBy(client, opened, step, going)),
  ]
  return stepResult({
    rows,
    changed: rows,
    changes: going.slice(0, mostListed).flatMap((row) => changesOf(row, showing)),
    affected: [
      ...(done.updated + done.inserted > 0
        ? [{ table: opened.table.name, did: "restored" as const, rows: done.updated + done.inserted }]
        : []),
      ...(done.removed > 0 ? [{ table: opened.table.name, did: "removed" as const, rows: done.removed }] : []),
    ],
    issues,
    evidence: [evidenceOf(rows, opened.table.name, shown), ...issues],
  })
}

/** Triggers may make another row of what is put back: what is there then is said, not what was meant. */
async function alteredBy(
  client: PoolClient,
  opened: OpenTable,
  step: RestoreStep,
  going: readonly Going[],
): Promise<string[]> {
  const { table, snapshots } = opened
  if (table.triggers.length === 0 || going.length === 0) return []
  const still = judge({ ...snapshots, now: await readNow(client, opened), keys: step.keys, left: new Set() })
  const meant = new Set(going.map(({ key }) => keyId(key)))
  const altered = [...still.going.map(({ key }) => key), ...still.conflicts].filter((key) =>
    meant.has(keyId(key)),
  ).length
  if (altered === 0) return []
  return [
    `${altered} ${altered === 1 ? "row" : "rows"} of ${table.name} came back otherwise than in the baseline: by trigger ${table.triggers.join(", ")}`,
  ]
}

function evidenceOf(rows: number, table: string, { baseline }: RehearsedRestore): string {
  const from = `the baseline of ${inWords(baseline.capturedAt)} (${baseline.sha256.slice(0, 8)})`
  return rows === 0
    ? `${table} has nothing to put back from ${from}`
    : `${rows} ${rows === 1 ? "row" : "rows"} of ${table} as in ${from}`
}

/** Of what would go back now: what was shown and is still so, what changed since, and what nobody has seen. */
function compareWithShown(judged: Judged, shown: RehearsedRestore) {
  const known = new Map(shown.rows.map((row) => [row.key, row.now]))
  const [left, without] = [new Set(shown.left), new Set(shown.blocked)]
  const [going, conflicts, unseen, blockedThen]: [Going[], Key[], Key[], Blocked[]] = [[], [], [], []]
  for (const row of judged.going) {
    const key = sha256(row.id)
    if (left.has(key)) continue
    if (without.has(key)) blockedThen.push({ ...row, why: "it had no place when this was approved" })
    else if (!known.has(key)) unseen.push(row.key)
    else if (known.get(key) !== hashOfRow(row.now)) conflicts.push(row.key)
    else going.push(row)
  }
  const others = judged.conflicts.filter((key) => !left.has(sha256(JSON.stringify(key))))
  return { going, conflicts: [...others, ...conflicts], unseen, blockedThen }
}
