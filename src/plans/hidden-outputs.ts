import { collect, parseStatements } from "./statement-tree.ts"
import type { CallTree, ColumnTree, SelectTree, SqlNode, TableTree } from "./statement-tree.ts"

/** Outputs of a query that must not be shown, by name; "all" where it cannot be told which. */
export type HiddenOutputs = ReadonlySet<string> | "all"

/**
 * Which outputs of a query have a redacted column's values, also under another name, inside an expression or in a whole
 * row. Rather too many than one too few. What a view or a function makes of the column cannot be seen from here.
 */
export async function findHiddenOutputs(sql: string, redact: readonly string[]): Promise<HiddenOutputs> {
  const names = new Set(redact)
  if (names.size === 0) return names
  const parsed = await parseStatements(sql)
  if ("error" in parsed) return "all"
  const [statement] = parsed.statements
  if (!statement || !("SelectStmt" in statement)) return "all"
  const top = statement.SelectStmt
  const told: Told = { names, rows: rowNames(statement) }
  if (renames(statement, told) || innerSelects(top).some((select) => movesOn(select, told))) return "all"
  for (const { name, val } of targetsOf(top)) {
    if (isPlain(val, name, told) || !shows(val, told)) continue
    if (name === undefined) return "all"
    names.add(name)
  }
  return names
}

/** `rows`: by which a whole row is called. */
type Told = { names: ReadonlySet<string>; rows: ReadonlySet<string> }
type Target = { name?: string; val?: SqlNode }

function targetsOf({ targetList = [] }: SelectTree): Target[] {
  return targetList.flatMap((target) => ("ResTarget" in target ? [target.ResTarget as Target] : []))
}

function rowNames(statement: SqlNode): Set<string> {
  const tables = (collect(statement, "RangeVar") as TableTree[]).flatMap(({ relname }) => relname ?? [])
  const aliases = (collect(statement, "alias") as { aliasname?: string }[]).flatMap(({ aliasname }) => aliasname ?? [])
  return new Set([...tables, ...aliases])
}

/** A column's own name, or all columns under theirs: those are known by their names. */
function isPlain(val: SqlNode | undefined, name: string | undefined, { rows }: Told): boolean {
  if (val === undefined || !("ColumnRef" in val)) return false
  const fields = fieldsOf(val.ColumnRef)
  const last = fields.at(-1)
  return last === null || (name === undefined && !(fields.length === 1 && rows.has(last ?? "")))
}

/** Null stands for `*`. */
function fieldsOf({ fields = [] }: ColumnTree): (string | null)[] {
  return fields.map((field) => ("String" in field ? (field.String.sval ?? "") : null))
}

/** Whether a value is made of a redacted column; how many there are of it tells nothing. */
function shows(node: unknown, told: Told): boolean {
  if (typeof node !== "object" || node === null) return false
  if (Array.isArray(node)) return node.some((each: unknown) => shows(each, told))
  return Object.entries(node).some(([key, value]: [string, unknown]) => {
    if (key === "ColumnRef") {
      const fields = fieldsOf(value as ColumnTree)
      const last = fields.at(-1) ?? null
      return last === null || told.names.has(last) || (fields.length === 1 && told.rows.has(last))
    }
    return !(key === "FuncCall" && isCount(value as CallTree)) && shows(value, told)
  })
}

function isCount({ funcname }: CallTree): boolean {
  const last = funcname?.at(-1)
  return last !== undefined && "String" in last && last.String.sval === "count"
}

/** Those whose outputs become columns of the query: not those of conditions, nor those that are a value within another. */
function innerSelects(node: unknown): SelectTree[] {
  if (typeof node !== "object" || node === null) return []
  if (Array.isArray(node)) return node.flatMap((each: unknown) => innerSelects(each))
  return Object.entries(node).flatMap(([key, value]: [string, unknown]) => {
    if (["whereClause", "havingClause", "quals", "SubLink"].includes(key)) return []
    const isSelect = key === "SelectStmt" || ((key === "larg" || key === "rarg") && "limitOption" in (value as object))
    return [...(isSelect ? [value as SelectTree] : []), ...innerSelects(value)]
  })
}

/** Whether what it selects goes on under a name that does not tell what it is. */
function movesOn(select: SelectTree, told: Told): boolean {
  return targetsOf(select).some(({ name, val }) => !isPlain(val, name, told) && shows(val, told))
}

/** Whether columns get new names by their order: `t (a, b)`, `with x (a)`, UNION; or by a function: `each(t) as (k, v)`. */
function renames(statement: SqlNode, told: Told): boolean {
  const lists = [...collect(statement, "colnames"), ...collect(statement, "aliascolnames")]
  const united = collect(statement, "op").some((op) => op !== "SETOP_NONE")
  const tables = (collect(statement, "RangeVar") as TableTree[]).some(({ alias }) => alias?.colnames !== undefined)
  const mentions = (collect(statement, "ResTarget") as Target[]).some(({ val }) => shows(val, told))
  return tables || ((lists.length > 0 || united) && mentions) || shows(collect(statement, "RangeFunction"), told)
}
