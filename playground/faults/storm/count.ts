import type { Message } from "../../slack/local-slack.ts"
import { keyOf } from "./people.ts"
import type { StormStage } from "./stage.ts"
import { environments, keyedSteps, rowsOfStep } from "./world.ts"

export type Violation = {
  kind: "lost" | "doubled" | "out of order"
  what: "effect" | "reply"
  said: string
  id: string
}

export type Count = {
  rollbacks: Record<string, number>
  /** Why runs ended that did not succeed. */
  reasons: Record<string, number>
  effects: number
  replies: number
  violations: Violation[]
}

type Row = {
  id: string
  number: number
  kind: string
  environment: string
  state: string
  reason: string | null
  undo_of: string | null
  run: number | null
  /** step -> outcomes of its attempts, in order. */
  steps: Record<string, (string | null)[]> | null
  messages: { key: string; kind: string; state: string; seq: number }[] | null
}

/** Everything that was asked for, compared with what the targets, the server, the file and Slack say. */
export async function countAll(stage: StormStage): Promise<Count> {
  const { rows } = await stage.look.state.query<Row>(
    `select r.id, number, kind, environment, state, end_reason as reason, undo_of, (frozen::jsonb -> 'parameters' ->> 'run')::integer as run,
       (select jsonb_object_agg(step_id, outcomes) from (select step_id, jsonb_agg(outcome order by attempt) as outcomes
         from stepback.step_runs s where s.rollback_id = r.id group by 1) o) as steps,
       (select jsonb_agg(jsonb_build_object('key', key, 'kind', body ->> 'kind', 'state', o.state, 'seq', seq) order by seq)
         from stepback.outbox o where o.rollback_id = r.id) as messages
     from stepback.rollbacks r where number is not null order by number`,
  )
  const count: Count = { rollbacks: {}, reasons: {}, effects: 0, replies: 0, violations: [] }
  for (const row of rows) {
    add(count.rollbacks, `${row.kind} ${row.state}`)
    if (row.reason !== null && row.state !== "succeeded") add(count.reasons, `${row.state}: ${row.reason}`)
  }
  for (const environment of environments) await countEffects(environment, rows, stage, count)
  for (const row of rows) countReplies(row, stage, count)
  return count
}

function add(counts: Record<string, number>, name: string): void {
  counts[name] = (counts[name] ?? 0) + 1
}

async function countEffects(environment: string, rows: Row[], stage: StormStage, count: Count): Promise<void> {
  const seen = new Map<string, number>()
  const pool = stage.look.targets.get(environment)
  const found = await pool?.query<{ name: string; n: number }>(
    "select what || ' ' || step || ' ' || run as name, count(*)::integer as n from seen group by 1",
  )
  for (const { name, n } of found?.rows ?? []) seen.set(name, n)
  for (const [name, keys] of await stage.world.keyed(environment)) seen.set(`done ${name}`, keys.size)

  for (const row of rows.filter((each) => each.environment === environment && each.run !== null)) {
    if (row.kind !== "rollback") continue
    const back = rows.filter(({ undo_of }) => undo_of === row.id)
    const compare = (what: string, step: string, unit: number, outcomes: (string | null)[]) => {
      const times = (seen.get(`${what} ${step} ${row.run}`) ?? 0) / unit
      seen.delete(`${what} ${step} ${row.run}`)
      count.effects += times
      const said = `${environment} R-${row.number} (${row.state}) run ${row.run}: ${step} ${what} ${times} times, it says ${outcomes.join(", ") || "nothing"}`
      const report = (kind: Violation["kind"]) => count.violations.push({ kind, what: "effect", said, id: row.id })
      if (times > 1) report("doubled")
      else if (outcomes.includes("succeeded") ? times !== 1 : times !== 0 && !mayHaveBeen(outcomes, step))
        // Done in part, or done and not told, is lost to whoever relies on the record.
        report("lost")
    }
    for (const [step, unit] of Object.entries(rowsOfStep)) {
      compare("done", step, unit, row.steps?.[step] ?? [])
      const undone = back.flatMap(({ steps }) => steps?.[`undo-${step}`] ?? [])
      compare("undone", step, unit, undone)
    }
    for (const step of keyedSteps) compare("done", step, 1, row.steps?.[step] ?? [])
  }
  // What belongs to no rollback that is on record.
  for (const [name, n] of seen)
    if (!/^done (call|append) /.test(name) || environment === environments[0])
      if (!belongsElsewhere(name, environment, rows))
        count.violations.push({
          kind: "doubled",
          what: "effect",
          said: `${environment}: ${name} ${n} times, of no rollback`,
          id: "",
        })
}

/** All environments' calls are in one list. */
function belongsElsewhere(name: string, environment: string, rows: Row[]): boolean {
  const run = Number(name.split(" ").at(-1))
  return name.startsWith("done call ") && rows.some((row) => row.run === run && row.environment !== environment)
}

/** A purge may have been broken off between batches, a keyed call ended while it was on its way. */
function mayHaveBeen(outcomes: (string | null)[], step: string): boolean {
  return outcomes.includes("unknown") || ((keyedSteps.includes(step) || step === "remove") && outcomes.length > 0)
}

function countReplies(row: Row, stage: StormStage, count: Count): void {
  const top = stage.slack.messages(row.environment)
  const mine = top.filter((message) => keyOf(message)?.startsWith(row.id))
  const cards = mine.filter((message) => keyOf(message) === `${row.id}/card`)
  const thread = cards.flatMap((card) => stage.slack.replies(row.environment, card.ts))
  const keys = [...mine, ...thread].flatMap((message) => keyOf(message) ?? [])
  count.replies += mine.length + thread.length
  const report = (kind: Violation["kind"], said: string) =>
    count.violations.push({ kind, what: "reply", said: `${row.environment} R-${row.number}: ${said}`, id: row.id })

  for (const key of new Set(keys)) {
    const times = keys.filter((other) => other === key).length
    if (times > 1) report("doubled", `${key} ${times} times`)
  }
  for (const name of new Set(fileNames(thread))) {
    const times = fileNames(thread).filter((other) => other === name).length
    if (times > 1) report("doubled", `the file ${name} ${times} times`)
  }
  const wanted = new Set([`${row.id}/card`, ...(row.messages ?? []).filter(isPosted).map(({ key }) => key)])
  // Not by the outbox's word alone.
  for (const [step, outcomes] of Object.entries(row.steps ?? {}))
    outcomes.forEach((outcome, n) => outcome !== null && wanted.add(`${row.id}/${step}/${n + 1}`))
  for (const key of wanted) if (!keys.includes(key)) report("lost", key)
  const files = (row.messages ?? []).filter(({ kind, state }) => kind === "file" && state !== "refused").length
  if (new Set(fileNames(thread)).size < files)
    report("lost", `${files} files, there are ${fileNames(thread).join(", ")}`)

  const order = new Map((row.messages ?? []).map(({ key, seq }) => [key, seq]))
  const inThread = thread.flatMap((message) => keyOf(message) ?? []).filter((key) => order.has(key))
  const seqs = [...new Set(inThread)].map((key) => order.get(key) ?? 0)
  if (seqs.some((seq, n) => n > 0 && seq < (seqs[n - 1] ?? 0))) report("out of order", inThread.join(" "))
}

/** Heads that a newer one follows at once are passed over; files have no key. */
function isPosted({ kind, state }: { kind: string; state: string }): boolean {
  return state !== "refused" && kind !== "audit" && kind !== "file"
}

function fileNames(thread: Message[]): string[] {
  return thread.flatMap(({ files }) => (files ?? []).map(({ name }) => name))
}
