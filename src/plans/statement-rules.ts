import { collect, listCalls } from "./statement-tree.ts"
import type { SqlNode } from "./statement-tree.ts"

const SESSION_CALL =
  /^(?:set_config|pg_terminate_backend|pg_cancel_backend|pg_reload_conf|pg_rotate_logfile|pg_promote|pg_switch_wal|pg_create_restore_point|pg_log_backend_memory_contexts|pg_try_advisory_.*|pg_advisory_.*|pg_read_(?:binary_)?file|pg_ls_.*|pg_stat_file|pg_file_.*|pg_replication_.*|pg_create_.*_slot|pg_drop_replication_slot|pg_copy_.*_slot|pg_logical_slot_get_.*|pg_wal_replay_.*|pg_stat_reset.*|pg_backup_.*)$/
const OUTSIDE_CALL = /^(?:dblink.*|lo_.*|lowrite|pg_notify|setval|pg_logical_emit_message|http_.*|net_http_.*)$/
const SEQUENCE_CALL = /^nextval$/
const VOLATILE_CALL =
  /^(?:now|clock_timestamp|statement_timestamp|transaction_timestamp|timeofday|random|random_normal|setseed|gen_random_uuid|gen_random_bytes|uuid_generate_.*|uuidv[47]|nextval|currval|lastval|setval|txid_current|pg_current_xact_id)$/

const WRITES = { InsertStmt: "INSERT", UpdateStmt: "UPDATE", DeleteStmt: "DELETE", MergeStmt: "MERGE" } as const

/** The first function that does something to a session, a server or a file: no statement of a plan may call one. */
export function findSessionCall(tree: SqlNode): string | null {
  return listCalls(tree).find((name) => SESSION_CALL.test(name)) ?? null
}

/** The first function whose doing is not taken back with the rows: outside calls, large objects, notifications. */
export function findOutsideCall(tree: SqlNode): string | null {
  return listCalls(tree).find((name) => OUTSIDE_CALL.test(name)) ?? null
}

/** The first function that makes a read-only query change something. */
export function findWritingCall(tree: SqlNode): string | null {
  const writes = (name: string) => SESSION_CALL.test(name) || OUTSIDE_CALL.test(name) || SEQUENCE_CALL.test(name)
  return listCalls(tree).find(writes) ?? null
}

/** The verbs of the writes inside a tree, the outermost included. */
export function listWrites(tree: unknown): string[] {
  return Object.entries(WRITES).flatMap(([key, verb]) => collect(tree, key).map(() => verb))
}

/** Whether an expression may give another value when it is computed again a moment later. */
export function isVolatile(expression: SqlNode): boolean {
  const specialDates = collect(expression, "sval").some((text) =>
    /^(?:now|today|tomorrow|yesterday)$/i.test(String(text)),
  )
  const clock = collect(expression, "SQLValueFunction").length > 0
  return clock || specialDates || listCalls(expression).some((name) => VOLATILE_CALL.test(name))
}

/** Whether a condition holds for every row whatever the row says: `true`, `1 = 1`, `id = id`, `… or true`. */
export function isTrivial(condition: SqlNode): boolean {
  if (collect(condition, "ColumnRef").length === 0) return true
  if ("A_Expr" in condition) {
    const { kind, lexpr, rexpr } = condition.A_Expr
    return kind === "AEXPR_OP" && isSameColumn(lexpr, rexpr)
  }
  if (!("BoolExpr" in condition)) return false
  const { boolop, args = [] } = condition.BoolExpr
  if (boolop === "OR_EXPR") return args.some(isTrivial)
  return args.every(isTrivial)
}

function isSameColumn(left: SqlNode | undefined, right: SqlNode | undefined): boolean {
  if (!left || !right || !("ColumnRef" in left) || !("ColumnRef" in right)) return false
  return JSON.stringify(left.ColumnRef.fields) === JSON.stringify(right.ColumnRef.fields)
}
