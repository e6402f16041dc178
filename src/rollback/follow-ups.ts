import type { FollowUp } from "./facts.ts"

/** One row of the form as it came: empty fields are "". */
export type WrittenFollowUp = { text: string; owner: string; due: string }
export type FollowUpProblem = {
  row: number
  field: keyof WrittenFollowUp
  why: "no_text" | "no_owner" | "no_date" | "past"
}

/** What has an owner and a date is done; what has not is a wish. Rows that are empty as a whole are none. */
export function readFollowUps(
  rows: readonly WrittenFollowUp[],
  today: Date,
): { followUps: FollowUp[]; problems: FollowUpProblem[] } {
  const followUps: FollowUp[] = []
  const problems: FollowUpProblem[] = []
  // Where it is still yesterday, yesterday is no past.
  const earliest = new Date(today.getTime() - 86_400_000).toISOString().slice(0, 10)
  for (const [row, written] of rows.entries()) {
    const text = written.text.trim()
    const { owner, due } = written
    if (text === "" && owner === "" && due === "") continue
    if (text === "") problems.push({ row, field: "text", why: "no_text" })
    if (!/^[UW][A-Z0-9]{1,30}$/.test(owner)) problems.push({ row, field: "owner", why: "no_owner" })
    if (!/^\d{4}-\d\d-\d\d$/.test(due)) problems.push({ row, field: "due", why: "no_date" })
    else if (due < earliest) problems.push({ row, field: "due", why: "past" })
    followUps.push({ text, owner, due })
  }
  return { followUps, problems }
}
