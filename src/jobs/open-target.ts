import type { FrozenRun } from "../plans/frozen.ts"
import type { Secrets } from "../steps/secrets.ts"
import { httpBase, type Target, type TargetPools } from "../steps/target.ts"

/** Resolves a plan's target on this worker. Throws when a variable is missing or no address. */
export function openTarget(
  target: Pick<FrozenRun["target"], "postgres" | "http">,
  secrets: Secrets,
  pools: TargetPools,
): Target {
  return {
    pool: target.postgres === null ? null : pools.get(secrets.resolve(target.postgres)),
    httpBase: target.http === null ? null : httpBase(secrets.resolveOpen(target.http)),
  }
}
