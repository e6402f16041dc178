import type { RestoreStep } from "../../src/plans/plan.ts"
import { captureBaseline, type KeptSnapshot } from "../../src/steps/baseline.ts"
import type { BaselineContext } from "../../src/steps/step.ts"
import type { TargetFixture } from "./steps-fixture.ts"

export type Rule = { table: string; key: string[]; ignore: string[] }

export function restoreStepOf(facts: Partial<RestoreStep> & { table: string }): RestoreStep {
  return {
    id: "restore-config",
    title: "Put the configuration back",
    kind: "restore",
    effect: "transactional",
    timeoutMs: 30_000,
    retries: 0,
    needs: [],
    onFailure: "stop",
    irreversible: null,
    keys: null,
    after: null,
    ...facts,
  }
}

/** Snapshots as the state database would keep them, in memory. */
export function snapshots(target: TargetFixture, rules: Rule[]) {
  const kept: KeptSnapshot[] = []
  return {
    kept,
    async capture(name = "baseline"): Promise<KeptSnapshot> {
      const { snapshot, content, sha256 } = await captureBaseline(target.pools.get(target.url), {
        environment: "fixture",
        name,
        rules: { file: null, maxAgeMs: null, tables: rules },
        database: null,
      })
      const one = { name, sha256, content, capturedAt: snapshot.capturedAt, ageMs: 0 }
      kept.push(one)
      return one
    },
    context(others: BaselineContext["others"] = []): BaselineContext {
      return {
        rules: { file: null, maxAgeMs: null, tables: rules },
        newest: async (name) => kept.findLast((one) => one.name === name) ?? null,
        find: async (sha256) => kept.find((one) => one.sha256 === sha256) ?? null,
        others,
      }
    },
  }
}
