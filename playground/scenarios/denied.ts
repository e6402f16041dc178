import { repliesOf, hasButton, withoutLogs, wordsOf } from "./play.ts"
import type { Scenario } from "./scenario.ts"

const reason = "the customer demo is running, ask me again at four"

/** A second person says no. */
export const denied: Scenario = {
  summary: "the second person denies, with a reason",
  expected: "the card names who denied and why, has no buttons any more, and staging is as it was",
  async play(play) {
    const before = await play.stage.world.state()
    await play.types("alice", "staging scoring is broken since the alignment")
    const card = await play.waitingCard()
    play.show("while it waits for approval")
    await play.presses("bob", card, "deny")
    await play.fills("bob", { reason })
    const ended = await play.sees(
      "staging",
      "the card with the denial",
      (message) => message.ts === card.ts && /denied/.test(message.text),
    )
    play.check("the card names bob and his reason", /U0BOB/.test(wordsOf(ended)) && wordsOf(ended).includes(reason))
    play.check(
      "the card takes no decision any more",
      !["approve", "deny", "cancel"].some((action) => hasButton(ended, action)),
    )
    play.check("nothing ran", repliesOf(play.stage, card.ts).length === 0)
    play.check("staging is as it was", withoutLogs(await play.stage.world.state()) === withoutLogs(before))
    play.show("at the end")
  },
}
