import { hasButton, wordsOf } from "./play.ts"
import type { Scenario } from "./scenario.ts"

const slowMs = 600

export const slowAfterRollback: Scenario = {
  summary: "score_prism answers slowly after the rollback, and is mended",
  expected:
    "the watch calls #oncall with both figures, bob is on it, the recovery resolves the call, and the analysis has the watch's word",
  editPlan: (plan) => plan.replace("watch: { for: 10m, every: 30s,", "watch: { for: 8s, every: 500ms,"),
  async play(play) {
    const { world } = play.stage
    await play.types("alice", "staging scoring is broken since the alignment")
    const card = await play.waitingCard()
    await play.presses("bob", card, "approve")
    const posted = await play.analysisOf(card)
    world.slowDown("score_prism", slowMs)

    const call = await play.sees("oncall", "the escalation", (message) => hasButton(message, "acknowledge"))
    play.show("when the watch has called")
    play.check("the escalation says what is slow", call.text.includes("Call score_prism: slower than before"))
    const [, now, before] = /(\d+) ms, right after the rollback: (\d+) ms/.exec(call.text) ?? []
    play.check("it carries both figures", Number(now) >= slowMs && Number(before) < slowMs)
    play.check("it does not call broken what only answered as another version", !call.text.includes("broken before"))
    play.check("it mentions @oncall", call.mentions.includes("S0ONCALL"))
    await play.presses("bob", call, "acknowledge")
    const taken = await play.sees(
      "oncall",
      "that bob is on it",
      (message) => message.ts === call.ts && /<@U0BOB> is on it since/.test(message.text),
    )
    play.check("the button is gone", !hasButton(taken, "acknowledge"))
    world.slowDown(null)
    const resolved = await play.sees(
      "oncall",
      "that it is resolved",
      (message) => message.ts === call.ts && /resolved at/.test(message.text),
    )
    play.check("the escalation is resolved, and says who was on it", /<@U0BOB> is on it/.test(resolved.text))
    const watched = await play.sees(
      "staging",
      "the watch's word in the analysis",
      (message) => message.ts === posted.ts && /Watch: .*Call score_prism/.test(wordsOf(message)),
    )
    play.check("the analysis counts the slow answers", /Call score_prism: 0 of \d+ failed, \d+ slow/.test(watched.text))
    play.show("at the end")
  },
}
