import { isDeepStrictEqual } from "node:util"
import { setFlagsFromString } from "node:v8"
import { deparseSync, loadModule, parseSync } from "pgsql-parser"

// The types of the tree are the parser's own, taken from its functions: their package is not ours to import.
type Statement = NonNullable<NonNullable<ReturnType<typeof parseSync>["stmts"]>[number]["stmt"]>
type Body<Kind extends string> = Extract<Statement, Record<Kind, unknown>>[Kind &
  keyof Extract<Statement, Record<Kind, unknown>>]

export type SqlNode = Statement
export type InsertTree = Body<"InsertStmt">
export type UpdateTree = Body<"UpdateStmt">
export type DeleteTree = Body<"DeleteStmt">
export type SelectTree = Body<"SelectStmt">
export type TableTree = Body<"RangeVar">
export type WithTree = Body<"WithClause">
export type CallTree = Body<"FuncCall">
export type ColumnTree = Body<"ColumnRef">

/** Position: 0-based, in characters of the statement; null when the parser gives none. */
export type StatementError = { error: string; position: number | null }

// The parser is WebAssembly without guard pages of its own: what no plan needs does not reach it.
const LONGEST = 100_000

let loading: Promise<void> | undefined

/**
 * Compiled once, not optimised: V8 would spend 2.4 s of processor time on the parser of every young process, which cannot
 * end before that is over, and reads no statement faster for it: 0.04 ms, optimised 0.07 to 0.1 in the first thousand
 * (Node 24, two cores). Holds for all WebAssembly that this process compiles from here on.
 */
function loadParser(): Promise<void> {
  setFlagsFromString("--no-wasm-tier-up")
  setFlagsFromString("--no-wasm-dynamic-tiering")
  return loadModule()
}

/** The statements of a text, read by Postgres's own grammar. `rest`: what follows the semicolon of the last, a comment. */
export async function parseStatements(sql: string): Promise<{ statements: SqlNode[]; rest: string } | StatementError> {
  if (sql.length > LONGEST) return { error: `the statement is longer than ${LONGEST} characters`, position: null }
  if (sql.includes("\0")) return { error: "the statement contains a zero byte", position: sql.indexOf("\0") }
  loading ??= loadParser()
  await loading
  try {
    const all = parseSync(sql).stmts ?? []
    const { stmt_location: start = 0, stmt_len: length = 0 } = all.at(-1) ?? {}
    // Counted in bytes; a length only where a semicolon ends it.
    const rest =
      length === 0
        ? ""
        : Buffer.from(sql)
            .subarray(start + length + 1)
            .toString()
            .trim()
    return { statements: all.flatMap((raw) => raw.stmt ?? []), rest }
  } catch (error) {
    return describeError(error)
  }
}

function describeError(error: unknown): StatementError {
  const message = error instanceof Error ? error.message : String(error)
  const details = error instanceof Error && "sqlDetails" in error ? error.sqlDetails : null
  const at =
    typeof details === "object" && details !== null && "cursorPosition" in details ? details.cursorPosition : null
  return { error: message, position: typeof at === "number" && at >= 0 ? at : null }
}

/** SQL of a sub-tree, on one line; null for what the library that writes it does not know. Check it with `isSameSql`. */
export function writeSql(node: SqlNode): string | null {
  try {
    return deparseSync(node, { pretty: false }).trim()
  } catch {
    return null
  }
}

/**
 * Whether SQL made for a tree says what the tree says: what was written or cut out is only believed when Postgres's
 * grammar reads the same tree in it again.
 */
export function isSameSql(sql: string, expectedTree: SqlNode): boolean {
  try {
    const statements = parseSync(sql).stmts ?? []
    return statements.length === 1 && isDeepStrictEqual(withoutPlaces(statements[0]?.stmt), withoutPlaces(expectedTree))
  } catch {
    return false
  }
}

/** The tree without the places of its nodes. */
function withoutPlaces(tree: unknown): unknown {
  const isPlace = (key: string) => /^(?:location|stmt_len|stmt_location|(?:rexpr_)?list_(?:start|end))$/.test(key)
  return JSON.parse(JSON.stringify(tree, (key, value: unknown) => (isPlace(key) ? undefined : value)))
}

/** Every value that stands under this key anywhere in the tree: the bodies of all nodes of one kind. */
export function collect(tree: unknown, key: string): unknown[] {
  if (typeof tree !== "object" || tree === null) return []
  if (Array.isArray(tree)) return tree.flatMap((item: unknown) => collect(item, key))
  return Object.entries(tree).flatMap(([name, value]: [string, unknown]) => [
    ...(name === key ? [value] : []),
    ...collect(value, key),
  ])
}

/** Names of the functions that are called anywhere in the tree, without their schemas. */
export function listCalls(tree: unknown): string[] {
  // `as`: the key says which node it is.
  return (collect(tree, "FuncCall") as CallTree[]).flatMap((call) => {
    const last = call.funcname?.at(-1)
    return last && "String" in last ? [last.String.sval ?? ""] : []
  })
}

/** Numbers of the `$n` anywhere in the tree, each once, in rising order. */
export function listParameters(tree: unknown): number[] {
  // A number of 0 is left out by the parser's JSON.
  const numbers = (collect(tree, "ParamRef") as { number?: number }[]).map((parameter) => parameter.number ?? 0)
  return [...new Set(numbers)].toSorted((a, b) => a - b)
}
