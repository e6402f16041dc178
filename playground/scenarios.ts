import { denied } from "./scenarios/denied.ts"
import { functionsStillFailing } from "./scenarios/functions-still-failing.ts"
import { happy } from "./scenarios/happy.ts"
import { startPlay, type Fact } from "./scenarios/play.ts"
import type { Scenario } from "./scenarios/scenario.ts"
import { sqlFails } from "./scenarios/sql-fails.ts"
import type { Stage } from "./stage.ts"

/** By the name that `--scenario` takes. */
export const scenarios: Readonly<Record<string, Scenario>> = {
  happy,
  denied,
  "sql-fails": sqlFails,
  "functions-still-failing": functionsStillFailing,
}

/** Plays a scenario on a stage where a process runs, and gives the facts that were checked. */
export async function playScenario(scenario: Scenario, stage: Stage, tell: (text: string) => void): Promise<Fact[]> {
  const play = startPlay(stage, tell)
  await scenario.play(play)
  return play.facts
}
