import { hasButton, wordsOf } from "./play.ts"
import type { Scenario } from "./scenario.ts"

/** finalizeAssessment fails whatever is deployed. */
export const functionsStillFailing: Scenario = {
  summary: "finalizeAssessment answers 500 after the redeployment too",
  expected:
    "#oncall is called with the answers that were seen, the configuration is on v1.2.0, no test session was made, and the analysis says what does not hold",
  async play(play) {
    const { world } = play.stage
    const before = await world.state()
    world.breakFunctions("finalizeAssessment")
    await play.types("alice", "staging scoring is broken since the alignment")
    const card = await play.waitingCard()
    play.show("while it waits for approval")
    await play.presses("bob", card, "approve")

    const call = await play.sees("oncall", "the escalation", (message) => hasButton(message, "acknowledge"))
    play.check("the escalation mentions @oncall", call.mentions.includes("S0ONCALL"))
    play.check("it says that functions still fail", /finalizeAssessment[\s\S]*functions still failing/.test(call.text))
    play.check("it carries status and body", /500/.test(call.text) && /scoring engine does not answer/.test(call.text))
    const analysis = await play.analysisOf(card)
    const lines = wordsOf(analysis).split("\n")
    play.check(
      "the analysis ticks the database",
      lines.some((line) => line.startsWith("✓ Database shows")),
    )
    play.check(
      "the analysis says that the functions fail",
      lines.some((line) => line.startsWith("✗ Edge functions")),
    )
    play.check(
      "what was not checked is not ticked",
      lines.some((line) => /^– Test session .*not checked/.test(line)),
    )
    const after = await world.state()
    play.check("the configuration is on v1.2.0", after.resultsVersion === "v1.2.0")
    play.check("no test session was made", after.rows.sessions === before.rows.sessions)
    play.show("at the end")
    world.breakFunctions(null)
  },
}
