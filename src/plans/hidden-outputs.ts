import { collect, parseStatements } from "./statement-tree.ts"
import type { CallTree, ColumnTree, SelectTree, SqlNode, TableTree } from "./statement-tree.ts"

/** Outputs of a query that must not be shown, by name; "all" where it cannot be told which. */
export type HiddenOutputs = ReadonlySet<string> | "all"

export function isHidden(output: string, outputs: HiddenOutputs): boolean {
  return outputs === "all" || outputs.has(output)
}

/**
 * Which outputs of a query have a redacted column's values, also under another name, inside an expression or in a whole
 * row. Rather too many than one too few: of what is not known here, nothing is shown. What a view, a function, or SQL in a
 * text makes of the column cannot be seen from here.
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
type AliasTree = { aliasname?: string }

function targetsOf({ targetList = [] }: SelectTree): Target[] {
  return targetList.flatMap((target) => ("ResTarget" in target ? [target.ResTarget as Target] : []))
}

function rowNames(statement: SqlNode): Set<string> {
  const tables = (collect(statement, "RangeVar") as TableTree[]).flatMap(({ relname }) => relname ?? [])
  // What a function gives is looked at where it is called.
  const named = ["RangeVar", "RangeSubselect", "JoinExpr"].flatMap((kind) => collect(statement, kind)) as {
    alias?: AliasTree
    join_using_alias?: AliasTree
  }[]
  const aliases = named.flatMap(({ alias, join_using_alias: using }) => [
    alias?.aliasname ?? [],
    using?.aliasname ?? [],
  ])
  return new Set([...tables, ...aliases.flat()])
}

/** A row's function may be written as if it were its column. */
const ofWholeRows = /^(?:to_jsonb?|row_to_json|jsonb?_build_\w+|concat|concat_ws|format|num_nonnulls|hstore)$/

/** A column's own name, or all columns under theirs: those are known by their names. */
function isPlain(val: SqlNode | undefined, name: string | undefined, { rows }: Told): boolean {
  if (val === undefined || !("ColumnRef" in val)) return false
  const fields = fieldsOf(val.ColumnRef)
  const last = fields.at(-1)
  if (last === null || last === undefined) return last === null
  return name === undefined && !(fields.length === 1 ? rows.has(last) : ofWholeRows.test(last))
}

/** Null stands for `*`. */
function fieldsOf({ fields = [] }: ColumnTree): (string | null)[] {
  return fields.map((field) => ("String" in field ? (field.String.sval ?? "") : null))
}

/** Parts of a query that choose rows and are no values. */
const choosing = new Set(["whereClause", "havingClause", "quals", "sortClause", "groupClause", "agg_filter"])

/** Whether a value is made of a redacted column; how many there are of it, or whether any, tells nothing. */
function shows(node: unknown, told: Told): boolean {
  if (typeof node !== "object" || node === null) return false
  if (Array.isArray(node)) return node.some((each: unknown) => shows(each, told))
  return Object.entries(node).some(([key, value]: [string, unknown]) => {
    if (key === "ColumnRef") return isOfColumn(value as ColumnTree, told)
    if (key === "indirection") return (value as SqlNode[]).some((part) => isHiddenPart(part, told))
    if (key === "FuncCall" && isCount(value as CallTree)) return false
    if (key === "SubLink" && (value as { subLinkType?: string }).subLinkType === "EXISTS_SUBLINK") return false
    return !choosing.has(key) && shows(value, told)
  })
}

function isOfColumn(column: ColumnTree, { names, rows }: Told): boolean {
  const fields = fieldsOf(column)
  const last = fields.at(-1) ?? null
  return last === null || names.has(last) || (fields.length === 1 ? rows.has(last) : ofWholeRows.test(last))
}

/** `(x).email`, `(x).*` */
function isHiddenPart(part: SqlNode, { names }: Told): boolean {
  return "A_Star" in part || ("String" in part && names.has(part.String.sval ?? ""))
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
    if (choosing.has(key) || key === "SubLink") return []
    const isSelect = key === "SelectStmt" || ((key === "larg" || key === "rarg") && "limitOption" in (value as object))
    return [...(isSelect ? [value as SelectTree] : []), ...innerSelects(value)]
  })
}

/** Whether what it selects goes on under a name that does not tell what it is. */
function movesOn(select: SelectTree, told: Told): boolean {
  return targetsOf(select).some(({ name, val }) => !isPlain(val, name, told) && shows(val, told))
}

/** What may stand in FROM and gives its columns under their own names. */
const knownSources = new Set(["RangeVar", "RangeSubselect", "JoinExpr", "RangeFunction"])

/** Whether columns get new names by their order (`t (a, b)`, `with x (a)`, UNION, VALUES), by a function, or by what is not known. */
function renames(statement: SqlNode, told: Told): boolean {
  const sources = collect(statement, "fromClause") as SqlNode[][]
  if (sources.flat().some((source) => !Object.keys(source).every((kind) => knownSources.has(kind)))) return true
  const tables = ["RangeVar", "JoinExpr"].flatMap((kind) => collect(statement, kind)) as { alias?: object }[]
  if (tables.some(({ alias }) => alias !== undefined && "colnames" in alias)) return true
  if ([...collect(statement, "valuesLists"), ...collect(statement, "RangeFunction")].some((each) => shows(each, told)))
    return true
  const lists = [...collect(statement, "colnames"), ...collect(statement, "aliascolnames")]
  const united = collect(statement, "op").some((op) => op !== "SETOP_NONE")
  const mentions = (collect(statement, "ResTarget") as Target[]).some(({ val }) => shows(val, told))
  return (lists.length > 0 || united) && mentions
}
