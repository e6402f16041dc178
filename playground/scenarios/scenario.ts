import type { Play } from "./play.ts"

export type Scenario = {
  /** One line for the list of scenarios. */
  summary: string
  /** How it should end, as a sentence. */
  expected: string
  /** What its stage's staging plan differs in; most take it as it is shipped. */
  editPlan?: (plan: string) => string
  /** Plays it with two people; what has to be so goes to `play.check`. */
  play(play: Play): Promise<void>
}
