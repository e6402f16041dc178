import type { StatementFacts } from "./plan.ts"
import { isVolatile } from "./statement-rules.ts"
import { isSameSql, listParameters, writeSql } from "./statement-tree.ts"
import type { DeleteTree, InsertTree, SelectTree, SqlNode, TableTree, UpdateTree, WithTree } from "./statement-tree.ts"

const NOTHING = {
  table: null,
  with: null,
  matching: null,
  set: [],
  source: null,
  insertColumns: [],
  onConflict: null,
  reversible: true,
} satisfies Partial<StatementFacts>

const PLAIN_SELECT = { limitOption: "LIMIT_OPTION_DEFAULT", op: "SETOP_NONE" } as const
const ONE: SqlNode = { ResTarget: { val: { A_Const: { ival: { ival: 1 } } } } }

export function describeSelect(tree: SqlNode): StatementFacts {
  return { ...NOTHING, verb: "select", parameters: getHighestParameter(tree) }
}

export function describeUpdate(tree: UpdateTree, sql: string): StatementFacts {
  const { relation, fromClause = [], whereClause, withClause } = tree
  return {
    ...NOTHING,
    verb: "update",
    table: describeTable(relation),
    ...describeMatching({ sql, relation, others: fromClause, where: whereClause, withClause }),
    set: (tree.targetList ?? []).map(describeAssignment),
    parameters: getHighestParameter(tree),
  }
}

export function describeDelete(tree: DeleteTree, sql: string): StatementFacts {
  const { relation, usingClause = [], whereClause, withClause } = tree
  return {
    ...NOTHING,
    verb: "delete",
    table: describeTable(relation),
    ...describeMatching({ sql, relation, others: usingClause, where: whereClause, withClause }),
    parameters: getHighestParameter(tree),
  }
}

export function describeInsert(tree: InsertTree): StatementFacts {
  const action = tree.onConflictClause?.action
  const withSql = writeWith(tree.withClause)
  const isWhole = tree.withClause === undefined || withSql !== null
  const source = isWhole ? writeSource(tree.selectStmt) : null
  return {
    ...NOTHING,
    verb: "insert",
    table: describeTable(tree.relation),
    with: withSql,
    source,
    ...(source === null ? { values: countValues(tree.selectStmt) } : {}),
    insertColumns: (tree.cols ?? []).flatMap((column) => ("ResTarget" in column ? (column.ResTarget.name ?? []) : [])),
    onConflict: action === "ONCONFLICT_UPDATE" ? "update" : action === "ONCONFLICT_NOTHING" ? "nothing" : null,
    parameters: getHighestParameter(tree),
  }
}

function getHighestParameter(tree: unknown): number {
  return listParameters(tree).at(-1) ?? 0
}

function describeTable(relation: TableTree | undefined): StatementFacts["table"] {
  if (!relation?.relname) return null
  return {
    schema: relation.schemaname ?? null,
    name: relation.relname,
    alias: relation.alias?.aliasname ?? relation.relname,
  }
}

/** `with …`, or null, which also stands for one that cannot be written. */
function writeWith(clause: WithTree | undefined): string | null {
  const sql = clause ? writeSql({ WithClause: clause }) : null
  if (!clause || sql === null) return null
  return isSameSql(`${sql} select 1`, { SelectStmt: { ...PLAIN_SELECT, targetList: [ONE], withClause: clause } })
    ? sql
    : null
}

type Matching = {
  sql: string
  relation: TableTree | undefined
  others: SqlNode[]
  where: SqlNode | undefined
  withClause: WithTree | undefined
}

function describeMatching(statement: Matching): Pick<StatementFacts, "with" | "matching" | "joined"> {
  const withSql = writeWith(statement.withClause)
  const isWhole = statement.withClause === undefined || withSql !== null
  const joined = statement.others.length > 0 ? { joined: true as const } : {}
  return { with: withSql, matching: isWhole ? writeMatching(statement) : null, ...joined }
}

function writeMatching({ sql, relation, others, where }: Matching): string | null {
  if (!relation || !where) return null
  const tables: SqlNode[] = [{ RangeVar: relation }, ...others]
  const from = tables.map(writeSql)
  if (from.includes(null)) return null
  const tree: SqlNode = { SelectStmt: { ...PLAIN_SELECT, targetList: [ONE], fromClause: tables, whereClause: where } }
  const conditions = [...listTails(sql), writeSql(where)].filter((condition) => condition !== null)
  const found = conditions.find((condition) => isSameSql(`select 1 from ${from.join(", ")} where ${condition}`, tree))
  return found === undefined ? null : `from ${from.join(", ")} where ${found}`
}

/**
 * What stands behind each WHERE of the statement, as it was written: one of them is the condition, in its author's own
 * words. A text with a line comment is left out, since what is put behind it would be part of the comment.
 */
function listTails(sql: string): string[] {
  const tails = [...sql.matchAll(/\bwhere\b/gi)].map(({ index }) =>
    sql.slice(index + "where".length).replace(/[;\s]+$/, ""),
  )
  return tails.map((tail) => tail.trim()).filter((tail) => !tail.includes("--"))
}

function writeSource(tree: SqlNode | undefined): string | null {
  if (!tree) return null
  // DEFAULT has a meaning in the VALUES of an INSERT only.
  if ("SelectStmt" in tree && (tree.SelectStmt.valuesLists ?? []).some(hasDefault)) return null
  const sql = writeSql(tree)
  return sql !== null && isSameSql(sql, tree) ? sql : null
}

/** DEFAULT VALUES are one row. */
function countValues(tree: SqlNode | undefined): number | null {
  if (!tree) return 1
  return ("SelectStmt" in tree ? tree.SelectStmt.valuesLists?.length : null) ?? null
}

function hasDefault(row: SqlNode): boolean {
  return "List" in row && (row.List.items ?? []).some((item) => "SetToDefault" in item)
}

function describeAssignment(target: SqlNode): StatementFacts["set"][number] {
  if (!("ResTarget" in target)) return { column: "", expression: null, volatile: false }
  const { name: column = "", indirection, val } = target.ResTarget
  const value = val && "MultiAssignRef" in val ? findRowItem(val.MultiAssignRef) : val
  const volatile = val ? isVolatile(val) : false
  // `set a[1] = …` and `set a.b = …` give a part of the column, which cannot stand beside the whole.
  if (!value || "SetToDefault" in value || (indirection ?? []).length > 0) return { column, expression: null, volatile }
  const sql = writeSql(value)
  const tree: SelectTree = { targetList: [{ ResTarget: { val: value } }], ...PLAIN_SELECT }
  return {
    column,
    expression: sql !== null && isSameSql(`select ${sql}`, { SelectStmt: tree }) ? sql : null,
    volatile: isVolatile(value),
  }
}

/** `set (a, b) = ($1, 2)`: the item for one of the columns; a sub-select has none. */
function findRowItem(reference: { source?: SqlNode; colno?: number }): SqlNode | undefined {
  const { source, colno = 0 } = reference
  return source && "RowExpr" in source ? source.RowExpr.args?.[colno - 1] : undefined
}
