import type { Message } from "../slack/local-slack.ts"
import { captureAround } from "./config-conflict.ts"
import { repliesOf, withoutLogs, wordsOf, type Play } from "./play.ts"
import type { Scenario } from "./scenario.ts"

/** Every component of the plan, the optional ones too, and then the way back. */
export const full: Scenario = {
  summary: "all components run, data and configuration too, and then the rollback is itself taken back",
  expected:
    "the card counts the rows with their cascades and says how old the baseline is, all five criteria are ticked, what was removed is archived, and after the undo staging's data is what it was",
  async play(play) {
    const { world } = play.stage
    await captureAround(play)
    const [before, sums] = [await world.state(), await world.checksums()]
    await play.types("alice", "staging --with data-cleanup,config-restore scoring is broken")
    const card = await play.waitingCard()
    play.show("while it waits for approval")
    checkCard(wordsOf(card), play)
    await play.presses("bob", card, "approve")

    const analysis = await play.analysisOf(card)
    checkRun(card, analysis, play)
    const { resultsVersion, rows } = await world.state()
    play.check("the database says v1.2.0", resultsVersion === "v1.2.0")
    play.check(
      "nothing that the bad version made is left",
      rows.badProfiles === 0 && rows.badAnswers === 0 && rows.badFcScores === 0,
    )
    const archived = await world.archived()
    play.check(
      "archived is what was removed",
      archived["profiles"] === before.rows.badProfiles &&
        archived["profile_answers"] === before.rows.badAnswers &&
        archived["fc_scores"] === before.rows.badFcScores,
    )
    await takeBack(play, card)
    const again = await world.checksums()
    for (const [table, sum] of Object.entries(sums))
      play.check(`${table} is what it was`, again[table as keyof typeof again] === sum)
    play.check("functions and counts are what they were", withoutLogs(await world.state()) === withoutLogs(before))
    play.show("at the end")
  },
}

function checkCard(card: string, play: Play): void {
  play.check("the card counts profiles, their answers and FC scores", /37 of[\s\S]*74[\s\S]*21 of/.test(card))
  play.check("the card says how old the baseline is", /baseline: \d+.* old, captured/.test(card))
  play.check("the card lists the configuration that goes back", /prism_engine[\s\S]*rounding/.test(card))
}

function checkRun(card: Message, analysis: Message, play: Play): void {
  const replies = repliesOf(play.stage, card.ts).map(wordsOf)
  play.check("every step of every component has its reply", replies.length === 22)
  play.check(
    "each went well",
    replies.every((reply) => reply.startsWith("✓")),
  )
  play.check("five criteria are ticked", analysis.text.split("\n").filter((line) => line.startsWith("✓")).length === 5)
  play.check(
    "37 profiles with their 74 answers and 21 scores went",
    [
      "37 rows of profiles archived and removed",
      "74 rows of profile_answers with them",
      "21 rows of fc_scores archived",
    ].every((words) => replies.some((reply) => reply.includes(words))),
  )
  // Beside them the run's own test profile, with its two answers.
  play.check(
    "the analysis counts all that was removed",
    ["profiles 38 removed", "profile_answers 76 removed", "fc_scores 21 removed"].every((words) =>
      analysis.text.includes(words),
    ),
  )
}

/** Another card, another decision by the other person, another analysis. */
async function takeBack(play: Play, card: Message): Promise<void> {
  await play.types("bob", "undo R-1")
  const undo = await play.sees(
    "staging",
    "the undo's card",
    (message) => message.ts !== card.ts && JSON.stringify(message.blocks).includes('"approve"'),
  )
  play.show("while the undo waits for approval")
  await play.presses("bob", undo, "approve")
  await play.isTold("bob", "another person has to approve")
  await play.presses("alice", undo, "approve")
  const analysis = await play.analysisOf(undo)
  play.check("the undo's criterion is ticked", /✓ What was replaced is given back, no conflicts/.test(analysis.text))
}
