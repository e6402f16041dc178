import type { PoolClient } from "pg"
import type { UndoStep } from "../plans/plan.ts"
import type { Change } from "../rollback/facts.ts"
import { hidden, shorten } from "./shown.ts"
import type { StepContext } from "./step.ts"
import { statement } from "./target.ts"
import type { Part } from "./undo-parts.ts"
import { imageSamples } from "./undo-images.ts"

/** `column`: "" for a whole row. Texts of JSON: numbers keep their digits. */
type Sample = { label: string; column: string; now: string | null; back: string | null }

/** Values now and after, of the rows that an undo would change, and whole rows that come back or go: what the card shows. */
export async function undoChanges(
  client: PoolClient,
  step: UndoStep,
  parts: readonly Part[],
  { redact, secrets }: Pick<StepContext, "redact" | "secrets">,
): Promise<Change[]> {
  const changes: Change[] = []
  for (const { table, operation, blocked } of parts) {
    if (operation === "archive") continue
    const { rows } = await statement(client, imageSamples(table, operation, { redact, blocked }), [
      step.ofRollback,
      step.ofStep,
      table.relation,
      redact,
    ])
    for (const { label, column, now, back } of rows as Sample[]) {
      const show = (text: string) => (redact.includes(column) ? hidden : shorten(secrets.redact(text)))
      changes.push({
        row: `${table.name}.${label}`,
        column,
        before: now === null && column === "" ? "(nothing)" : show(now ?? "null"),
        after: back === null ? null : show(back),
        afterKnown: true,
      })
    }
  }
  return changes
}
