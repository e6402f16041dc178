import type { StatementFacts } from "./plan.ts"
import { describeDelete, describeInsert, describeSelect, describeUpdate } from "./statement-facts.ts"
import { findOutsideCall, findSessionCall, findWritingCall, isTrivial, listWrites } from "./statement-rules.ts"
import { collect, listCalls, listParameters, parseStatements } from "./statement-tree.ts"
import type { ColumnTree, SqlNode, StatementError, TableTree } from "./statement-tree.ts"

/**
 * `obstacles`: why its rows as they were cannot be kept, each the end of a sentence that begins with "because".
 * `warnings` are allowed and worth a word.
 */
export type DescribedStatement = { facts: StatementFacts; obstacles: string[]; warnings: string[] }

/**
 * Reads one statement of a plan with Postgres's own parser: a write for a `sql` step, a query for a `check`.
 * What cannot be run as such a step is an error that says what to do instead. Never throws on bad SQL.
 */
export async function describeStatement(
  sql: string,
  use: "sql" | "check",
): Promise<DescribedStatement | StatementError> {
  const parsed = await parseStatements(sql)
  if ("error" in parsed) return parsed
  const [statement, ...others] = parsed.statements
  if (!statement) return { error: "there is no statement in it", position: null }
  if (others.length > 0) {
    const count = parsed.statements.length
    return { error: `found ${count} statements in one: make each a step of its own`, position: null }
  }
  const error = findHole(statement) ?? (use === "sql" ? findWriteError(statement) : findQueryError(statement))
  if (error !== null) return { error, position: null }
  // The statement becomes a part of another one that keeps its rows.
  if (use === "sql" && parsed.rest !== "")
    return { error: "something follows its semicolon: leave it out, or put the comment in front", position: null }
  return describe(statement, sql)
}

/** Reads the condition of a purge as the WHERE of a DELETE on its table. `reads`: tables that lose rows by it and that it reads. */
export async function describeCondition(
  table: string,
  where: string,
  cascade: readonly string[] = [],
): Promise<(DescribedStatement & { reads: string[] }) | StatementError> {
  const quoted = table.split(".").map((part) => `"${part}"`)
  const before = `delete from ${quoted.join(".")} where `
  const described = await describeStatement(`${before}${where}`, "sql")
  if (!("error" in described)) {
    // It is evaluated in parentheses.
    if ("error" in (await parseStatements(`${before}(${where}\n)`)))
      return { error: "the condition is more than a condition: leave out the semicolon behind it", position: null }
    const tail = described.obstacles[0]
    if (tail) return { error: `the condition is more than a condition: ${tail}`, position: null }
    return { ...described, reads: await tablesRead(`${before}${where}`, [table, ...cascade]) }
  }
  const position = described.position === null ? null : Math.max(0, described.position - before.length)
  return { error: described.error, position }
}

/** Those of the tables that a sub-select of its conditions reads. */
async function tablesRead(sql: string, tables: readonly string[]): Promise<string[]> {
  const parsed = await parseStatements(sql)
  if ("error" in parsed) return []
  const read = collect(collect(parsed.statements, "whereClause"), "RangeVar") as TableTree[]
  return tables.filter((table) => read.some(({ relname }) => relname === table.split(".").at(-1)))
}

/** Tables of a statement, each with the columns that its conditions may mean of it; none for what cannot be read. */
export async function listConditionColumns(
  sql: string,
): Promise<{ schema: string | null; name: string; columns: string[] }[]> {
  const parsed = await parseStatements(sql)
  if ("error" in parsed) return []
  const conditions = [...collect(parsed.statements, "whereClause"), ...collect(parsed.statements, "quals")]
  const named = (collect(conditions, "ColumnRef") as ColumnTree[]).map(({ fields = [] }) =>
    fields.map((field) => ("String" in field ? (field.String.sval ?? "") : "")),
  )
  const into = collect(parsed.statements, "relation") as TableTree[]
  return [...into, ...(collect(parsed.statements, "RangeVar") as TableTree[])].flatMap(
    ({ schemaname = null, relname, alias }) => {
      if (relname === undefined) return []
      const called = alias?.aliasname ?? relname
      const own = named.filter((parts) => parts.length === 1 || parts.at(-2) === called)
      return [{ schema: schemaname, name: relname, columns: [...new Set(own.map((parts) => parts.at(-1) ?? ""))] }]
    },
  )
}

/** Names of the functions that a statement calls, without their schemas; none for what cannot be read. */
export async function listFunctions(sql: string): Promise<string[]> {
  const parsed = await parseStatements(sql)
  return "error" in parsed ? [] : [...new Set(listCalls(parsed.statements))]
}

function findHole(statement: SqlNode): string | null {
  const numbers = listParameters(statement)
  if (numbers[0] === 0) return "$0 is no parameter: they count from $1"
  const hole = numbers.findIndex((number, index) => number !== index + 1)
  return hole === -1 ? null : `$${numbers.at(-1)} is used but $${hole + 1} is not: number the parameters without a hole`
}

function findQueryError(statement: SqlNode): string | null {
  if (!("SelectStmt" in statement)) {
    const write = listWrites(statement)[0]
    return write
      ? `a check only reads, found ${write}: make it a "sql" step`
      : `a check is one SELECT, VALUES or WITH … SELECT, found ${getVerb(statement)}`
  }
  const write = listWrites(statement)[0]
  if (write) return `a check only reads, found ${write} in a WITH: make the write a "sql" step`
  if (collect(statement, "intoClause").length > 0) return "a check only reads, found SELECT INTO: leave out the INTO"
  if (collect(statement, "LockingClause").length > 0) return "a check locks nothing: leave out FOR UPDATE or FOR SHARE"
  const call = findWritingCall(statement)
  return call ? `a check only reads, and ${call}() does more than that: leave the call out` : null
}

function findWriteError(statement: SqlNode): string | null {
  if ("SelectStmt" in statement)
    return 'a "sql" step is one INSERT, UPDATE or DELETE, found SELECT: make it a "check" step'
  if (!("InsertStmt" in statement || "UpdateStmt" in statement || "DeleteStmt" in statement)) {
    return `a "sql" step is one INSERT, UPDATE or DELETE that runs in a transaction, found ${getVerb(statement)}`
  }
  for (const table of listTargets(statement)) {
    if (isSystemTable(table)) return `${table.relname} belongs to Postgres itself: a plan cannot write to it`
    if (table.schemaname === "stepback_ledger")
      return `${table.relname} is what Stepback keeps for itself: a plan cannot write to it`
  }
  const call = findSessionCall(statement)
  if (call) return `${call}() does something to the session or the server: leave the call out`
  if (listWrites(statement).includes("MERGE")) return "a MERGE cannot be part of a step: write INSERT, UPDATE or DELETE"
  return findBoundlessWrite(statement)
}

/** Each UPDATE and DELETE says which rows, those in a WITH too. */
function findBoundlessWrite(statement: SqlNode): string | null {
  for (const [verb, key] of [
    ["UPDATE", "UpdateStmt"],
    ["DELETE", "DeleteStmt"],
  ] as const)
    for (const { whereClause: where } of collect(statement, key) as { whereClause?: SqlNode }[]) {
      if (!where) return `${verb} without WHERE touches every row: say which rows`
      if ("CurrentOfExpr" in where)
        return "WHERE CURRENT OF needs a cursor, and a step has none: name the rows by a column"
      if (isTrivial(where)) return `the WHERE of this ${verb} holds for every row or for none: name rows by a column`
    }
  return null
}

function describe(statement: SqlNode, sql: string): DescribedStatement {
  const facts = writeFacts(statement, sql)
  const obstacles = facts.verb === "select" ? [] : listObstacles(statement, facts)
  const sleeps = listCalls(statement).find((name) => name.startsWith("pg_sleep"))
  const warnings = sleeps ? [`${sleeps}() holds its connection while it waits`] : []
  return { facts: { ...facts, reversible: obstacles.length === 0 }, obstacles, warnings }
}

function writeFacts(statement: SqlNode, sql: string): StatementFacts {
  if ("UpdateStmt" in statement) return describeUpdate(statement.UpdateStmt, sql)
  if ("DeleteStmt" in statement) return describeDelete(statement.DeleteStmt, sql)
  if ("InsertStmt" in statement) return describeInsert(statement.InsertStmt)
  return describeSelect(statement)
}

function listObstacles(statement: SqlNode, facts: StatementFacts): string[] {
  const obstacles: string[] = []
  if (listWrites(statement).length > 1) obstacles.push("it writes in a WITH as well")
  if (facts.onConflict === "update") obstacles.push("ON CONFLICT DO UPDATE either inserts or updates")
  if (collect(statement, "returningClause").length > 0) obstacles.push("it has a RETURNING, which a step does not read")
  const call = findOutsideCall(statement)
  if (call) obstacles.push(`${call}() does something that does not come back with the rows`)
  if (hasWith(statement) && facts.with === null) obstacles.push("its WITH cannot be written again")
  else if (facts.verb !== "insert" && facts.matching === null)
    obstacles.push("its condition cannot be written as a SELECT")
  return obstacles
}

function hasWith(statement: SqlNode): boolean {
  if ("UpdateStmt" in statement) return statement.UpdateStmt.withClause !== undefined
  if ("DeleteStmt" in statement) return statement.DeleteStmt.withClause !== undefined
  return "InsertStmt" in statement && statement.InsertStmt.withClause !== undefined
}

/** Tables that a statement writes to, those in its WITH too. */
function listTargets(statement: SqlNode): TableTree[] {
  const writes = ["InsertStmt", "UpdateStmt", "DeleteStmt"].flatMap((key) => collect(statement, key))
  return (writes as { relation?: TableTree }[]).flatMap(({ relation }) => relation ?? [])
}

function isSystemTable(table: TableTree): boolean {
  const { schemaname, relname = "" } = table
  return (
    schemaname === "pg_catalog" || schemaname === "information_schema" || (!schemaname && relname.startsWith("pg_"))
  )
}

/** `CreateTableAsStmt` -> "CREATE TABLE AS" */
function getVerb(statement: SqlNode): string {
  const kind = (Object.keys(statement)[0] ?? "nothing").replace(/Stmt$/, "")
  return kind.replaceAll(/(?<=[a-z])(?=[A-Z])/g, " ").toUpperCase()
}
