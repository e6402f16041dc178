import { wordsOf, type Play } from "./play.ts"
import type { Scenario } from "./scenario.ts"

/** Somebody else set a key that the bad version had set too. */
export const configConflict: Scenario = {
  summary: "the configuration goes back, but for a key that somebody else has set since",
  expected:
    "three keys go back to the baseline; fit_bands is named as a conflict on the card and in the analysis, and stays as somebody set it",
  async play(play) {
    const { world } = play.stage
    await captureAround(play)
    const bands = { high: 68, moderate: 45, low: 0 }
    await world.setConfiguration("fit_bands", bands)
    await play.types("alice", "staging --only db-config,config-restore --with config-restore scores look off")
    const card = await play.waitingCard()
    play.show("while it waits for approval")
    const waiting = wordsOf(card)
    play.check(
      "the card lists the three keys that go back",
      ["alignment", "prism_engine", "rounding"].every((key) => waiting.includes(key)),
    )
    play.check("the card names fit_bands as a conflict", namesConflict(waiting))
    await play.presses("bob", card, "approve")

    const analysis = await play.analysisOf(card)
    play.check("the analysis names fit_bands as a conflict", namesConflict(wordsOf(analysis)))
    const after = await world.configuration()
    play.check("alignment, which the bad version added, is gone", !Object.hasOwn(after, "alignment"))
    play.check(
      "prism_engine and rounding are as in the baseline",
      JSON.stringify(after["prism_engine"]).includes('"spread":16.5') && after["rounding"] === 1,
    )
    play.check(
      "fit_bands is as somebody set it",
      JSON.stringify(sorted(after["fit_bands"])) === JSON.stringify(sorted(bands)),
    )
    play.show("at the end")
  },
}

/** The baseline, then what the bad version does to the configuration, then a snapshot of that. */
export async function captureAround(play: Play): Promise<void> {
  await play.types("alice", "baseline staging capture")
  await play.sees("staging", "the baseline", (message) => message.text.startsWith("Baseline of staging captured"))
  await play.stage.world.alignConfiguration()
  await play.types("alice", "baseline staging capture --as after")
  await play.sees("staging", "the snapshot after", (message) => message.text.startsWith('Snapshot "after"'))
}

function namesConflict(words: string): boolean {
  return /changed again since and left as they are: [^\n]*fit_bands/.test(words)
}

/** jsonb keeps its keys in an order of its own. */
function sorted(value: unknown): [string, unknown][] {
  return Object.entries(value as object).toSorted(([a], [b]) => a.localeCompare(b))
}
