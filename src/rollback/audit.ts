import { createHash } from "node:crypto"

/** One entry as it is stored and exported. `number` is null for a rehearsal. */
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

/** A head that was posted outside: after entry `entry` of R-`number` the chain ended in `hash`. */
export type PostedHead = { number: number; entry: number; hash: string; edited: boolean }

/** What a rollback's own row says about its chain. */
export type ChainEnd = { rollbackId: string; number: number | null; entries: number; head: string }

export type AuditVerdict =
  /** `uncompared`: ended entries of these rollbacks stand behind no posted head. */
  | { intact: true; entries: number; compared: number; uncompared: string[] }
  | { intact: false; entries: number; broken: string }

/** sha256 over previous, entry, at, kind, actor and facts, joined by line feeds; as the database wrote it. */
export function auditHash(entry: Pick<AuditEntry, "previous" | "entry" | "at" | "kind" | "actor" | "facts">): string {
  return createHash("sha256")
    .update([entry.previous, String(entry.entry), entry.at, entry.kind, entry.actor, entry.facts].join("\n"))
    .digest("hex")
}

/** Walks chain after chain, in the order of their numbers; rehearsals, which have none, last. */
export function createAuditWalk(posted: readonly PostedHead[]) {
  const heads = Map.groupBy(posted, (head) => head.number)
  const uncompared: string[] = []
  let [walked, compared, expected] = [0, 0, 1]
  /** Of the chain before: the next one's first entry names one of them. */
  let before = new Set<string>([""])

  return {
    /** What is the first thing wrong with this chain; null when nothing is. */
    chain(
      number: number | null,
      rollbackId: string,
      entries: readonly AuditEntry[],
      end: ChainEnd | null,
    ): string | null {
      const name = number === null ? `rehearsal ${rollbackId}` : `R-${number}`
      if (number !== null && number !== expected) return `R-${expected}: its whole chain is missing`
      const mine = number === null ? [] : (heads.get(number) ?? [])
      const broken =
        firstBroken(name, entries, number === null ? new Set([""]) : before) ??
        (end === null ? null : brokenEnd(name, entries, end)) ??
        firstContradicted(name, entries, mine)
      if (broken !== null) return broken
      if (number !== null) {
        expected = number + 1
        before = new Set(entries.map((entry) => entry.hash))
        if (mine.some((head) => head.entry === entries.length)) compared++
        else uncompared.push(name)
        heads.delete(number)
      }
      walked += entries.length
      return null
    },

    broken: (broken: string): AuditVerdict => ({ intact: false, entries: walked, broken }),

    /** After the last chain: what was posted of rollbacks that the record does not have. */
    end(): AuditVerdict {
      const [lost] = [...heads.keys()].sort((a, b) => a - b)
      if (lost !== undefined) return this.broken(`R-${lost}: its head was posted, and its whole chain is missing`)
      return { intact: true, entries: walked, compared, uncompared }
    },
  }
}

function firstBroken(name: string, entries: readonly AuditEntry[], before: ReadonlySet<string>): string | null {
  for (const [index, entry] of entries.entries()) {
    const last = entries[index - 1]
    if (entry.entry !== index + 1) return `${name}: entry ${index + 1} is missing`
    if (last === undefined ? !before.has(entry.previous) : entry.previous !== last.hash)
      return `${name} entry ${entry.entry}: it does not follow the entry before it`
    if (auditHash(entry) !== entry.hash) return `${name} entry ${entry.entry}: its content was changed`
  }
  return null
}

function brokenEnd(name: string, entries: readonly AuditEntry[], end: ChainEnd): string | null {
  if (entries.length !== end.entries) return `${name}: ${end.entries} entries written, ${entries.length} found`
  if (entries.length > 0 && entries.at(-1)?.hash !== end.head) return `${name}: its head was changed`
  return null
}

/** A chain that was computed anew, or cut, holds together in itself: only a head from outside tells. */
function firstContradicted(name: string, entries: readonly AuditEntry[], posted: readonly PostedHead[]): string | null {
  for (const head of posted.toSorted((a, b) => a.entry - b.entry)) {
    const entry = entries[head.entry - 1]
    if (head.edited) return `${name} entry ${head.entry}: the message with its head was edited`
    if (entry === undefined) return `${name}: entry ${head.entry} was posted and is missing`
    if (entry.hash !== head.hash)
      return `${name} entry ${head.entry}: it is not the one whose head was posted (the chain was computed anew)`
  }
  return null
}

/** The words by which a head is known, in Slack and in a file of heads. */
export function postedHeadText({ number, entry, hash }: Pick<PostedHead, "number" | "entry" | "hash">): string {
  return `Audit head R-${number}, entry ${entry}: ${hash}`
}

/** Reads a line that says a head: as posted, however it was copied, or as JSON, whatever the order of its keys. */
export function readPostedHead(text: string): Omit<PostedHead, "edited"> | null {
  const said = /Audit head R-(\d{1,9}), entry (\d{1,9}):\s*`?([0-9a-f]{64})(?![0-9a-f])/.exec(text)
  if (said) return { number: Number(said[1]), entry: Number(said[2]), hash: said[3] ?? "" }
  return readJsonHead(text)
}

function readJsonHead(text: string): Omit<PostedHead, "edited"> | null {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return null
  }
  if (value === null || typeof value !== "object") return null
  const { rollback, entry, hash } = value as Record<string, unknown>
  const number = /^R-(\d{1,9})$/.exec(typeof rollback === "string" ? rollback : "")?.[1]
  if (number === undefined || typeof entry !== "number" || typeof hash !== "string") return null
  return /^[0-9a-f]{64}$/.test(hash) && Number.isSafeInteger(entry) ? { number: Number(number), entry, hash } : null
}
