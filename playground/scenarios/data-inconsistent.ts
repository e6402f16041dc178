import { hasButton, isAnalysisOf, wordsOf } from "./play.ts"
import type { Scenario } from "./scenario.ts"

/** More profiles arrive after the card was shown than the tolerance allows. */
const more = 60

export const dataInconsistent: Scenario = {
  summary: "between the card and its approval more rows match than were shown",
  expected:
    "no profile is removed, #oncall is called with both numbers, the card asks again with the new one, and after the second approval all go",
  async play(play) {
    const { world, slack } = play.stage
    await play.types("alice", "staging --with data-cleanup scoring is broken")
    const card = await play.waitingCard()
    play.show("while it waits for approval")
    const shown = (await world.state()).rows
    play.check("the card shows 37 profiles", /profiles[\s\S]*37 of/.test(wordsOf(card)))
    await world.addBadProfiles(more)
    await play.presses("bob", card, "approve")

    const call = await play.sees("oncall", "the escalation", (message) => hasButton(message, "acknowledge"))
    const now = shown.badProfiles + more
    play.check("the escalation says that counts do not add up", call.text.includes("the counts do not add up"))
    play.check("the escalation names the step", call.text.includes("Remove profiles that the bad version made"))
    play.check(
      "the escalation carries both numbers",
      new RegExp(`${now} rows match now, .* were approved`).test(call.text),
    )
    const again = await play.sees(
      "staging",
      "the card with the new number",
      (message) => hasButton(message, "approve") && wordsOf(message).includes(`${now} of`),
    )
    play.show("when it asks again")
    const kept = (await world.state()).rows
    play.check("no profile was removed", kept.badProfiles === now && kept.badAnswers === 2 * now)
    play.check("there is no analysis yet", !slack.messages("staging").some((message) => isAnalysisOf(card, message)))
    await play.presses("bob", again, "approve")

    const analysis = await play.analysisOf(card)
    const { rows } = await world.state()
    play.check("all of them are removed", rows.badProfiles === 0 && rows.badAnswers === 0 && rows.badFcScores === 0)
    // Beside them the run's own test profile.
    play.check("the analysis counts them", analysis.text.includes(`profiles ${now + 1} removed`))
    play.check("the analysis has it as an issue", new RegExp(`${now} rows match now`).test(analysis.text))
    play.check(
      "it is posted once",
      slack.messages("staging").filter((message) => isAnalysisOf(card, message)).length === 1,
    )
    const resolved = await play.sees(
      "oncall",
      "that the call is resolved",
      (message) => message.ts === call.ts && /resolved at/.test(message.text),
    )
    play.check("nobody is called for it any more", !hasButton(resolved, "acknowledge"))
    play.show("at the end")
  },
}
