import { functionNames } from "../staging-world/functions-server.ts"
import { repliesOf, withoutLogs, wordsOf, type Play } from "./play.ts"
import type { Scenario } from "./scenario.ts"

/** The main job, from the command to the filled-in analysis. */
export const happy: Scenario = {
  summary: "the rollback goes well, and the analysis is filled in",
  expected:
    "the card shows the live values, alice cannot approve her own request, bob can, every step answers in the thread, staging is back on v1.2.0 and the analysis is complete",
  async play(play) {
    const before = await play.stage.world.state()
    await play.types("alice", "staging scoring is broken since the alignment")
    const card = await play.waitingCard()
    play.show("while it waits for approval")
    checkCard(wordsOf(card), play)

    await play.presses("alice", card, "approve")
    await play.isTold("alice", "another person has to approve")
    play.check(
      "alice's press changed nothing",
      (await play.stage.world.state()).resultsVersion === before.resultsVersion,
    )
    await play.presses("bob", card, "approve")

    const analysis = await play.analysisOf(card)
    checkThread(play, card.ts)
    checkAnalysis(analysis.text, play)
    const after = await play.stage.world.state()
    play.check("the database says v1.2.0", after.resultsVersion === "v1.2.0")
    const refs = functionNames.map((name) => after.functions[name].ref).join(" ")
    play.check("the functions are deployed from v1.2.0, v1.2.0 and v1.1", refs === "v1.2.0 v1.2.0 v1.1")
    play.check(
      "nothing of the test session is left, and nobody's data is gone",
      withoutLogs({ ...after, resultsVersion: "", functions: before.functions }) ===
        withoutLogs({ ...before, resultsVersion: "" }),
    )
    await fillIn(play, analysis.ts)
    play.show("at the end")
  },
}

function checkCard(card: string, play: Play): void {
  play.check("the card shows the value now and the value after", /v1\.2\.1[\s\S]*v1\.2\.0/.test(card))
  play.check("the card shows the reason", card.includes("scoring is broken since the alignment"))
  play.check("the card says that finalizeAssessment fails already", /finalizeAssessment[\s\S]*500/.test(card))
}

function checkThread(play: Play, cardTs: string): void {
  const replies = repliesOf(play.stage, cardTs).map(wordsOf)
  play.check("one reply for each of the 18 steps", replies.length === 18)
  play.check(
    "each says what it did, with its duration",
    replies.every((reply) => reply.startsWith("✓") && /\d m?s/.test(reply)),
  )
  play.check(
    "the first shows the changed value",
    /Set results_version[\s\S]*"v1\.2\.1" → "v1\.2\.0"/.test(replies[0] ?? ""),
  )
  play.check(
    "the fresh profile was verified",
    replies.some((reply) => /version of its profile[\s\S]*v1\.2\.0/.test(reply)),
  )
}

function checkAnalysis(analysis: string, play: Play): void {
  play.check("five criteria are ticked", analysis.split("\n").filter((line) => line.startsWith("✓")).length === 5)
  play.check("the analysis counts the data affected", analysis.includes("scoring_config 1 changed"))
  play.check("the analysis asks people for the rest", analysis.includes("waiting for: root cause, prevention"))
}

async function fillIn(play: Play, analysisTs: string): Promise<void> {
  const posted = await play.sees("staging", "the analysis", (message) => message.ts === analysisTs)
  await play.presses("bob", posted, "fill_analysis")
  await play.fills("bob", {
    "Root cause of the original failure": "the alignment renamed the engine's key before the function read the new one",
    "How it is prevented next time": "deploy the functions first, then switch results_version",
  })
  const filled = await play.sees(
    "staging",
    "the analysis with its root cause",
    (message) => message.ts === analysisTs && message.text.includes("renamed the engine's key"),
  )
  play.check("the analysis waits for nothing any more", !filled.text.includes("waiting for"))
}
