import { refuse, type Refused, type Verb } from "../rollback/refusals.ts"
import type { StoredRollback } from "../store/rows.ts"
import type { Store } from "../store/store.ts"

/** The rollback that a person names as `R-17`, `r17` or `17`. */
export async function findRollback(verb: Verb | null, given: string, store: Store): Promise<StoredRollback | Refused> {
  const number = /^r?-?(\d{1,9})$/i.exec(given.trim())?.[1]
  const found = number === undefined ? null : await store.rollbacks.findByNumber(Number(number))
  if (found) return found
  const newest = await store.rollbacks.newest(null)
  return refuse(verb, { reason: "unknown_rollback", given, newest: newest?.number ?? null })
}
