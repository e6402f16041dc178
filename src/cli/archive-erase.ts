import { randomUUID } from "node:crypto"
import { userInfo } from "node:os"
import { eraseKept, findKept, plain, type Condition, type Erasure, type Finding } from "../steps/erase.ts"
import { snapshotHas } from "../steps/erase-snapshots.ts"
import { shortestWord, withoutWord } from "../steps/erase-words.ts"
import { rowsInWords, withBoth, type Both } from "./archive-target.ts"
import { CommandError, exitCodes, type Command } from "./terminal.ts"

const usage = "stepback archive erase ENV TABLE COLUMN=VALUE [--yes]"

/** `archive erase`: takes one person's data out of what was kept for undo. Without `--yes` it only counts. */
export const archiveErase: Command = async ({ words, env, out }) => {
  const { environment, condition, yes } = readCondition(words)
  return withBoth(environment, env, async (both) => {
    const live = await both.store.erasures.findLive(environment, both.reference)
    if (live !== null)
      throw new CommandError(
        `R-${live.number ?? "?"} goes on and may need what is kept: wait for its end, or stop or cancel it, then run this again.`,
      )
    const erasure = yes
      ? await eraseKept(both.target, condition, (found) => record(both, condition, found))
      : await findKept(both.target, condition)
    const own = await eraseOwn(both, condition, yes)
    const runs = await both.store.erasures.listKeeping([...new Set(erasure.findings.map((one) => one.rollbackId))])
    const nameOf = (id: string) => runs.get(id)?.name ?? id
    for (const line of linesOf({ erasure, own, condition, yes, nameOf })) out(line)
    return exitCodes.good
  })
}

function readCondition(words: readonly string[]): { environment: string; condition: Condition; yes: boolean } {
  const yes = words.includes("--yes")
  const rest = words.filter((word) => word !== "--yes")
  const option = rest.find((word) => word.startsWith("--"))
  if (option !== undefined) throw new CommandError(`${option} is no option here. Usage: ${usage}`)
  const [environment, table, pair, ...more] = rest
  if (environment === undefined) throw new CommandError(`An environment is missing. Usage: ${usage}`)
  if (table === undefined || pair === undefined || more.length > 0)
    throw new CommandError(`A table and one COLUMN=VALUE are needed, in quotes when there are spaces. Usage: ${usage}`)
  const at = pair.indexOf("=")
  if (at < 1 || at === pair.length - 1)
    throw new CommandError(`"${pair.slice(0, Math.max(at, 0)) || pair}" is no COLUMN=VALUE. Usage: ${usage}`)
  const condition = { table, column: pair.slice(0, at), value: pair.slice(at + 1) }
  return { environment: environment.toLowerCase(), condition, yes }
}

/** Once per run and table: the audit takes numbers and names, never the value. */
async function record({ store }: Both, { table, column }: Condition, { findings }: Erasure): Promise<void> {
  const sums = new Map<string, { rollbackId: string; rows: number; table: string; column: string }>()
  for (const { rollbackId, relation, along, rows } of findings) {
    const key = `${rollbackId} ${relation}`
    const known = sums.get(key) ?? {
      rollbackId,
      rows: 0,
      table: plain(relation),
      column: along ? `${table}.${column}` : column,
    }
    sums.set(key, { ...known, rows: known.rows + rows })
  }
  await store.erasures.record([...sums.values()], `${userInfo().username} at the command line`, randomUUID())
}

type Own = { texts: number | null; signed: string[]; snapshots: { title: string; fixed: boolean }[] }

/** What Stepback's own state has of the value: texts are rewritten, snapshots removed where nothing needs them. */
async function eraseOwn({ store, environment }: Both, condition: Condition, write: boolean): Promise<Own> {
  const { value } = condition
  const long = value.length >= shortestWord
  const rewrite = (json: unknown) => withoutWord(json, value)
  const texts = long ? await store.erasures.rewriteTexts(environment, value, { rewrite, write }) : null
  const found = (await store.baselines.listAll(environment)).filter(({ content }) => snapshotHas(content, condition))
  if (write) await store.baselines.remove(found.filter(({ fixed }) => !fixed).map(({ id }) => id))
  return {
    texts,
    signed: long ? await store.erasures.listSigned(environment, value) : [],
    snapshots: found.map(({ name, capturedAt, fixed }) => ({ title: `"${name}" of ${capturedAt}`, fixed })),
  }
}

type Outcome = { erasure: Erasure; own: Own; condition: Condition; yes: boolean; nameOf: (id: string) => string }

function linesOf({ erasure, own, condition, yes, nameOf }: Outcome): string[] {
  const { findings, entries, elsewhere, byText } = erasure
  const rows = findings.reduce((sum, one) => sum + one.rows, 0)
  const texts = entries + (own.texts ?? 0)
  const loose = own.snapshots.filter((one) => !one.fixed)
  const nothing = rows === 0 && texts === 0 && loose.length === 0
  const verb = yes ? "erased" : "would be erased"
  return [
    ...(nothing ? [`Nothing is kept of ${condition.table} with this ${condition.column}.`] : []),
    ...findings.map((one) => `${nameOf(one.rollbackId)}: ${describe(one)} ${verb}`),
    ...byText.map(
      (relation) =>
        `${plain(relation)}: some kept rows do not fit the table any more; any column with the value counted`,
    ),
    ...(texts > 0
      ? [
          `${texts} ${texts === 1 ? "record" : "records"} of what steps did and people wrote: the value ${yes ? "was" : "would be"} taken out`,
        ]
      : []),
    ...loose.map(({ title }) => `snapshot ${title} ${yes ? "removed" : "would be removed"}`),
    ...remaining(own, elsewhere),
    ...(nothing
      ? []
      : yes
        ? ["Undo of these runs says so, and does not bring these rows back."]
        : ["Nothing was erased yet. An undo will not bring back what is; to erase it, run the same with --yes"]),
  ]
}

function describe({ relation, source, along, rows }: Finding): string {
  const where = source === "archive" ? "archived" : "before-image"
  return `${rowsInWords(rows)} of ${plain(relation)} (${where}${along ? ", refers to a row that goes" : ""})`
}

/** What this does not reach, so that nobody believes that it did. */
function remaining({ texts, signed, snapshots }: Own, elsewhere: Erasure["elsewhere"]): string[] {
  return [
    ...elsewhere.map(
      ({ relation, rows }) =>
        `! ${rowsInWords(rows)} of ${plain(relation)} have the same value in a column of that name: run this for that table too`,
    ),
    ...snapshots
      .filter((one) => one.fixed)
      .map(
        ({ title }) =>
          `! snapshot ${title} has such a row and stays, as the newest or since a run may need it: capture a new one without it and run this again`,
      ),
    ...(texts === null
      ? [`! the value is shorter than ${shortestWord} characters: texts were not searched for it`]
      : []),
    ...(signed.length > 0
      ? [`! ${signed.join(", ")} show the value in approved bytes, reasons or the audit, which are never rewritten`]
      : []),
    "! Not reached: live rows, messages in Slack, captured values, rows kept by hand (stepback_by_hand), baseline files, backups",
  ]
}
