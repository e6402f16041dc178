import { auditHash, createAuditWalk, type AuditEntry, type PostedHead } from "../../src/rollback/audit.ts"

export const tamperings = ["edit", "drop", "swap", "truncate", "restamp"] as const
export type Tampering = (typeof tamperings)[number]

/** The same numbers for the same seed, from 0 to 1 (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
}

/** Whether the whole record at once, as an export has it, holds against the heads that were posted. */
export function isIntact(entries: readonly AuditEntry[], posted: readonly PostedHead[]): boolean {
  const walk = createAuditWalk(posted)
  const chains = [...Map.groupBy(entries, (entry) => entry.rollbackId).values()].sort(
    ([a], [b]) => (a?.number ?? Number.MAX_SAFE_INTEGER) - (b?.number ?? Number.MAX_SAFE_INTEGER),
  )
  const isBroken = (chain: AuditEntry[]) =>
    walk.chain(chain[0]?.number ?? null, chain[0]?.rollbackId ?? "", chain, null) !== null
  return !chains.some(isBroken) && walk.end().intact
}

/** A copy of the record that was tampered with in one way, by somebody who knows how the hashes are made. */
export function tamperWith(entries: readonly AuditEntry[], how: Tampering, random: () => number): AuditEntry[] {
  const record = entries.map((entry) => ({ ...entry }))
  const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)] as T
  const victim = pick(record)
  const chain = record.filter((entry) => entry.rollbackId === victim.rollbackId)
  switch (how) {
    case "edit":
      edit(victim, pick(["at", "kind", "actor", "facts", "previous", "hash"] as const), random)
      return record
    case "drop": {
      const rest = record.filter((entry) => entry !== victim)
      // With or without closing the gap.
      if (random() < 0.5) for (const later of chain) if (later.entry > victim.entry) later.entry--
      return rest
    }
    case "swap": {
      const other = pick(record.filter((entry) => entry !== victim))
      // Their words alone, or the entries as a whole: then the record has them in the wrong order.
      const whole = random() < 0.5
      const [mine, its] = [{ ...victim }, { ...other }]
      Object.assign(victim, content(its), whole ? { entry: its.entry } : {})
      Object.assign(other, content(mine), whole ? { entry: mine.entry } : {})
      return record
    }
    case "truncate":
      return record.filter((entry) => entry.rollbackId !== victim.rollbackId || entry.entry < victim.entry)
    case "restamp":
      edit(victim, pick(["at", "kind", "actor", "facts"] as const), random)
      restamp(record, victim, random() < 0.5)
      return record
  }
}

function edit(entry: AuditEntry, field: "at" | "kind" | "actor" | "facts" | "previous" | "hash", random: () => number) {
  const at = Math.floor(random() * (entry[field].length + 1))
  entry[field] = `${entry[field].slice(0, at)}${"xyz~"[Math.floor(random() * 4)]}${entry[field].slice(at)}`
}

const content = ({ at, kind, actor, facts, previous, hash }: AuditEntry) => ({ at, kind, actor, facts, previous, hash })

/** Computes every hash anew from this entry on: in its chain, or in all that come after it as well. */
function restamp(record: AuditEntry[], from: AuditEntry, onward: boolean): void {
  const renamed = new Map<string, string>()
  for (const entry of record.filter((each) => each.number !== null).toSorted(byPlace)) {
    const mine = entry.rollbackId === from.rollbackId && entry.entry >= from.entry
    const later = onward && (entry.number ?? 0) > (from.number ?? 0)
    if (!mine && !later) continue
    entry.previous = renamed.get(entry.previous) ?? entry.previous
    const before = entry.hash
    entry.hash = auditHash(entry)
    renamed.set(before, entry.hash)
  }
}

function byPlace(a: AuditEntry, b: AuditEntry): number {
  return (a.number ?? 0) - (b.number ?? 0) || a.entry - b.entry
}
