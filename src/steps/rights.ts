import type { TableFacts } from "./catalog.ts"

type Right = keyof TableFacts["may"]

/** What this role lacks of these, as it is granted. */
export function missingRights({ may }: TableFacts, needs: readonly Right[]): string {
  return needs.flatMap((need) => (may[need] ? [] : [need === "lock" ? "update" : need])).join(", ")
}

/** What a card says where an undo would have to do what this role may not. */
export function withoutUndo(table: TableFacts, ...needs: readonly Right[]): string[] {
  const missing = missingRights(table, needs)
  return missing === "" ? [] : [`an undo could not be run by this role: grant ${missing} on ${table.relation}`]
}
