import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { configConflict } from "./scenarios/config-conflict.ts"
import { dataInconsistent } from "./scenarios/data-inconsistent.ts"
import { denied } from "./scenarios/denied.ts"
import { full } from "./scenarios/full.ts"
import { functionsStillFailing } from "./scenarios/functions-still-failing.ts"
import { happy } from "./scenarios/happy.ts"
import { startPlay, type Fact } from "./scenarios/play.ts"
import type { Scenario } from "./scenarios/scenario.ts"
import { slowAfterRollback } from "./scenarios/slow-after-rollback.ts"
import { sqlFails } from "./scenarios/sql-fails.ts"
import type { Stage } from "./stage.ts"

/** By the name that `--scenario` takes. */
export const scenarios: Readonly<Record<string, Scenario>> = {
  happy,
  denied,
  "sql-fails": sqlFails,
  "functions-still-failing": functionsStillFailing,
  full,
  "data-inconsistent": dataInconsistent,
  "config-conflict": configConflict,
  "slow-after-rollback": slowAfterRollback,
}

/** A folder with the plan as the scenario wants it, for its stage; null when that is the shipped one. */
export async function writePlans(
  scenario: Scenario | null,
): Promise<{ folder: string; remove(): Promise<void> } | null> {
  if (!scenario?.editPlan) return null
  const shipped = await readFile(new URL("../plans/staging.yaml", import.meta.url), "utf8")
  const edited = scenario.editPlan(shipped)
  if (edited === shipped) throw new Error("the scenario edits something that the plan does not say any more")
  const folder = await mkdtemp(join(tmpdir(), "stepback-plans-"))
  await writeFile(join(folder, "staging.yaml"), edited)
  return { folder, remove: () => rm(folder, { recursive: true, force: true }) }
}

/** Plays a scenario on a stage where a process runs, and gives the facts that were checked. */
export async function playScenario(scenario: Scenario, stage: Stage, tell: (text: string) => void): Promise<Fact[]> {
  const play = startPlay(stage, tell)
  await scenario.play(play)
  return play.facts
}
