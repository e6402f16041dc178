import { createHash } from "node:crypto"
import type { Rehearsal, Risk } from "../rollback/facts.ts"
import type {
  ApprovalRule,
  Audience,
  Criterion,
  EscalationRules,
  Plan,
  PlanComponent,
  PlanStep,
  WatchRules,
} from "./plan.ts"

/** Which database this is, beyond its name: a restored or swapped one differs. */
export type Fingerprint = { database: string; systemIdentifier: string | null; httpOrigin: string | null }

/**
 * A run as it was shown and approved, whole: what is in here is hashed, and nothing else runs.
 * Secrets are not in here: `${NAME}` stays as it was written.
 */
export type FrozenRun = {
  format: 1
  rollbackId: string
  kind: "rollback" | "undo" | "rehearsal"
  environment: string
  title: string
  notes: string | null
  planSha256: string
  parameters: Record<string, string>
  /** step -> parameter of type git_ref -> commit */
  commits: Record<string, Record<string, string>>
  /** Names of values among them that are never shown: captured from redacted columns by the run that an undo takes back. */
  hide?: string[]
  /** step -> file that its command names -> sha256 */
  files: Record<string, Record<string, string>>
  target: {
    postgres: string | null
    http: string | null
    /** The database's name that the plan insists on. */
    database: string | null
    fingerprint: Fingerprint | null
  }
  policy: { risk: Risk; riskReasons: string[]; count: number; from: Audience; expiresMs: number }
  /** The plan's rules for all risks: an undo may have another one than its run, and the plan be gone. Older runs lack them. */
  rules?: PlanRules
  request: Audience
  rtoMs: number | null
  redact: string[]
  escalate: EscalationRules
  watch: WatchRules | null
  success: Criterion[]
  /** Steps that are left out, by whom and why. */
  skip: Record<string, { by: string; reason: string }>
  remindMs: number
  keepMs: number
  components: PlanComponent[]
  rehearsal: Rehearsal
}

/** Who approves at each risk, and the only channel where requests are taken, if there is one. */
export type PlanRules = { approve: Record<Risk, ApprovalRule>; channel: string | null }

export function rulesOf({ approve: { low, medium, high }, channel }: Plan): PlanRules {
  return { approve: { low, medium, high }, channel }
}

/** JSON with sorted keys: equal values give equal bytes. Postgres must be able to read it: no NUL, no half characters. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) => {
    if (typeof inner === "string") return readable(inner)
    return inner !== null && typeof inner === "object" && !Array.isArray(inner)
      ? Object.fromEntries(
          Object.entries(inner)
            .map(([key, each]) => [readable(key), each] as const)
            .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)),
        )
      : inner
  })
}

function readable(text: string): string {
  return text.replaceAll("\u0000", "").toWellFormed()
}

export function sha256(bytes: string | Buffer): string {
  return createHash("sha256").update(bytes).digest("hex")
}

export function freeze(run: FrozenRun): { frozen: string; digest: string } {
  const frozen = canonicalJson(run)
  return { frozen, digest: sha256(frozen) }
}

/** Reads frozen bytes back; throws when they are not those of the digest. */
export function thaw(frozen: string, digest: string): FrozenRun {
  if (sha256(frozen) !== digest) throw new Error("the frozen run is not the one that was approved: its digest differs")
  return JSON.parse(frozen) as FrozenRun
}

export function stepsOf(run: FrozenRun): PlanStep[] {
  return run.components.flatMap((component) => component.steps)
}
