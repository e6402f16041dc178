import pg from "pg"
import { repliesOf, hasButton, withoutLogs, wordsOf } from "./play.ts"
import type { Scenario } from "./scenario.ts"

const pin = "check (key <> 'results_version' or value = '\"v1.2.1\"'::jsonb)"

/** Somebody pinned the version on the live database, so that the UPDATE cannot succeed. */
export const sqlFails: Scenario = {
  summary: "a constraint on the live database refuses the UPDATE",
  expected:
    "#oncall is called with the error, the statement and a button, the database is as before, no function was deployed, and the analysis is posted",
  async play(play) {
    const { world } = play.stage
    const before = await world.state()
    await execute(world.databaseUrl, `alter table scoring_config add constraint results_version_is_pinned ${pin}`)
    await play.types("alice", "staging scoring is broken since the alignment")
    const card = await play.waitingCard()
    play.show("while it waits for approval")
    await play.presses("bob", card, "approve")

    const call = await play.sees("oncall", "the escalation", (message) => hasButton(message, "acknowledge"))
    const words = wordsOf(call)
    play.check("the escalation mentions @oncall", call.mentions.includes("S0ONCALL"))
    play.check(
      "it carries SQLSTATE and message",
      /23514/.test(call.text) && /results_version_is_pinned/.test(call.text),
    )
    play.check("it carries the statement", /update scoring_config set value/.test(words) && /v1\.2\.0/.test(words))
    const analysis = await play.analysisOf(card)
    play.check("the analysis ticks nothing", !wordsOf(analysis).includes("✓"))
    play.check("the analysis names the issue", wordsOf(analysis).includes("results_version_is_pinned"))
    const replies = repliesOf(play.stage, card.ts)
    play.check("only the failed step has a reply", replies.length === 1 && wordsOf(replies[0] ?? call).startsWith("✗"))
    play.check("database and functions are as before", withoutLogs(await world.state()) === withoutLogs(before))

    await play.presses("bob", call, "acknowledge")
    const taken = await play.sees(
      "oncall",
      "that bob is on it",
      (message) => message.ts === call.ts && /is on it since/.test(message.text),
    )
    play.check(
      "the escalation says that bob is on it",
      /<@U0BOB> is on it/.test(taken.text) && !hasButton(taken, "acknowledge"),
    )
    play.show("at the end")
    await execute(world.databaseUrl, "alter table scoring_config drop constraint results_version_is_pinned")
  },
}

async function execute(url: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    await client.query(sql)
  } finally {
    await client.end()
  }
}
