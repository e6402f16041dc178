import type { PoolClient } from "pg"
import type { UndoStep } from "../plans/plan.ts"
import type { Change } from "../rollback/facts.ts"
import { hidden, shorten } from "./shown.ts"
import type { StepContext } from "./step.ts"
import { statement } from "./target.ts"
import type { Part } from "./undo-parts.ts"
import { imageSamples } from "./undo-images.ts"

type Sample = { label: string; now: Record<string, unknown>; back: Record<string, unknown> }

/** Values now and after, of the rows that an undo would change: what the card shows. */
export async function undoChanges(
  client: PoolClient,
  step: UndoStep,
  parts: readonly Part[],
  { redact, secrets }: Pick<StepContext, "redact" | "secrets">,
): Promise<Change[]> {
  const changes: Change[] = []
  for (const { table, operation } of parts) {
    if (operation !== "update") continue
    const { rows } = await statement(client, imageSamples(table, redact), [
      step.ofRollback,
      step.ofStep,
      table.relation,
    ])
    for (const { label, now, back } of rows as Sample[])
      for (const column of Object.keys(back)) {
        const [before, after] = [JSON.stringify(now[column] ?? null), JSON.stringify(back[column] ?? null)]
        if (before === after) continue
        const show = (text: string) => (redact.includes(column) ? hidden : shorten(secrets.redact(text)))
        changes.push({
          row: `${table.name}.${label}`,
          column,
          before: show(before),
          after: show(after),
          afterKnown: true,
        })
      }
  }
  return changes
}
