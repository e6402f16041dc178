import { createHash } from "node:crypto"
import type { Pool } from "pg"

export type AuditEntry = {
  rollbackId: string
  number: number | null
  entry: number
  at: string
  kind: string
  actor: string
  facts: string
  previous: string
  hash: string
}

export type AuditVerdict = { intact: true; entries: number } | { intact: false; entries: number; broken: string }

/** The hash that the database wrote, computed here once more. */
export function auditHash(entry: Pick<AuditEntry, "previous" | "entry" | "at" | "kind" | "actor" | "facts">): string {
  return createHash("sha256")
    .update([entry.previous, String(entry.entry), entry.at, entry.kind, entry.actor, entry.facts].join("\n"))
    .digest("hex")
}

export function auditStore(pool: Pool) {
  return {
    async list(rollbackId: string): Promise<AuditEntry[]> {
      const { rows } = await pool.query<AuditEntry>(
        `select rollback_id as "rollbackId", null::integer as number, entry, at, kind, actor, facts, previous, hash
         from stepback.audit where rollback_id = $1 order by entry`,
        [rollbackId],
      )
      return rows
    },

    /** Walks every chain: hashes, links, no gap, and the head that the rollback carries. */
    async verify(): Promise<AuditVerdict> {
      const { rows } = await pool.query<{ id: string; name: string; entries: number; head: string }>(
        `select id, coalesce('R-' || number, 'rehearsal ' || id) as name, audit_entries as entries, audit_head as head
         from stepback.rollbacks order by number nulls last, created_at`,
      )
      let walked = 0
      const heads = new Set<string>([""])
      for (const rollback of rows) {
        const entries = await this.list(rollback.id)
        const broken = firstBroken(rollback, entries, heads)
        if (broken !== null) return { intact: false, entries: walked, broken }
        for (const entry of entries) heads.add(entry.hash)
        walked += entries.length
      }
      return { intact: true, entries: walked }
    },
  }
}

function firstBroken(
  rollback: { name: string; entries: number; head: string },
  entries: AuditEntry[],
  heads: ReadonlySet<string>,
): string | null {
  for (const [index, entry] of entries.entries()) {
    const before = entries[index - 1]
    const where = `${rollback.name} entry ${entry.entry}`
    if (entry.entry !== index + 1) return `${rollback.name}: entry ${index + 1} is missing`
    if (before === undefined ? !heads.has(entry.previous) : entry.previous !== before.hash)
      return `${where}: it does not follow the entry before it`
    if (auditHash(entry) !== entry.hash) return `${where}: its content was changed`
  }
  if (entries.length !== rollback.entries)
    return `${rollback.name}: ${rollback.entries} entries written, ${entries.length} found`
  if ((entries.at(-1)?.hash ?? "") !== rollback.head && entries.length > 0)
    return `${rollback.name}: its head was changed`
  return null
}
