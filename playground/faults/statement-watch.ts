const write =
  /^\s*(insert|update|delete|select stepback\.(enqueue|redraw_card|append_audit|guard_epoch|record_step))\b/i
const inner = /\b(insert into|update|delete from|create|select stepback\.\w+)\s*[\w.]*/gi
/**
 * Turns of loops that found nothing, and signs of life: they come by the clock, so counting them would number the same
 * boundary differently each time.
 */
const byTheClock =
  /stepback\.workers|set lane_(owner|until)|nudged_at = now\(\)|set remind_at|escalations set times_told|skip locked|set lease_until = now\(\)|lane_owner = null|(update|delete from) stepback\.second_looks|expires_at <= clock_timestamp/i

/**
 * Follows one connection. Tells whether a statement is a boundary, by the name that it has, else null: the end of a
 * transaction that wrote, or a write outside of any.
 */
export function createStatementWatch(): (text: string) => string | null {
  let open = false
  let said: string[] = []

  return (text) => {
    const begins = /^\s*begin\b/i.test(text)
    const commits = /^\s*commit\b|;\s*commit\b/i.test(text)
    if (begins) {
      open = true
      said = []
    }
    if (open && !/^\s*commit\b/i.test(text)) said.push(text)
    if (commits) {
      const name = named(said)
      open = false
      return name === null ? null : `commit ${name}`
    }
    if (/^\s*rollback\b/i.test(text)) open = false
    if (open || !write.test(text) || byTheClock.test(text)) return null
    return named([text])
  }
}

/** What a transaction wrote, shortly; null when it wrote nothing. */
function named(statements: string[]): string | null {
  const written = statements.filter((text) => !byTheClock.test(text)).flatMap((text) => text.match(inner) ?? [])
  return written.length === 0
    ? null
    : [...new Set(written.map((part) => part.replace(/\s+/g, " ")))].slice(0, 3).join(" + ")
}
