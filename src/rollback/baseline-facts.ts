import type { Change } from "./facts.ts"

/** How a table differs from its snapshot. `problem`: why that could not be told. */
export type TableDifference = { table: string; rows: number; changes: Change[]; problem: string | null }

/** What became of a wish for a baseline. */
export type BaselineAnswer =
  | { kind: "captured"; name: string; capturedAt: string; sha256: string; tables: { table: string; rows: number }[] }
  | { kind: "compared"; name: string; capturedAt: string; sha256: string; tables: TableDifference[] }
  | { kind: "failed"; message: string }

/** Rows that a `restore` has shown: these, as they were then, go back; nothing else does. */
export type RehearsedRestore = {
  baseline: { sha256: string; capturedAt: string }
  /** The snapshot of the bad version's arrival; null: compared two-way. */
  after: { sha256: string; capturedAt: string } | null
  key: string[]
  ignore: string[]
  /** Hashes of the key and of the row as it was shown (null: there was none), so that no value is stored here. */
  rows: { key: string; now: string | null }[]
  /** Hashes of the keys that other steps of the run set. */
  left: string[]
  /** Hashes of the keys of rows that were shown as having no place: they do not go back, though they differ. */
  blocked?: string[]
}
