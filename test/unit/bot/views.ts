import type {
  Analysis,
  Escalation,
  RehearsedStep,
  RollbackView,
  StepResult,
  StepRun,
} from "../../../src/rollback/facts.ts"

export const now = new Date("2025-11-22T14:19:13Z")

function looked(stepId: string, seen: Partial<RehearsedStep>): RehearsedStep {
  return {
    stepId,
    outcome: "looked",
    rows: null,
    changed: null,
    total: null,
    changes: [],
    children: [],
    holds: null,
    note: null,
    warnings: [],
    ms: 4,
    ...seen,
  }
}

export const versionChange = {
  row: "scoring_config.results_version",
  column: "value",
  before: '"v1.2.1"',
  after: '"v1.2.0"',
  afterKnown: true,
}

const components: RollbackView["components"] = [
  {
    id: "db-config",
    title: "Database configuration",
    risk: "low",
    rtoMs: 120_000,
    steps: [
      {
        id: "set-version",
        title: "Set results_version",
        kind: "sql",
        effect: "transactional",
        irreversible: null,
        script: "update scoring_config set value = to_jsonb($1::text) where key = 'results_version'",
        bindings: ['$1 = "v1.2.0"'],
      },
    ],
  },
  {
    id: "edge-functions",
    title: "Edge functions",
    risk: "low",
    rtoMs: 300_000,
    steps: [
      {
        id: "deploy-finalize",
        title: "Redeploy finalizeAssessment",
        kind: "command",
        effect: "keyed",
        irreversible: null,
        script: "./deploy.sh finalizeAssessment 9f8e7d6",
        bindings: [],
      },
      {
        id: "finalize-answers",
        title: "finalizeAssessment answers",
        kind: "http",
        effect: "none",
        irreversible: null,
        script: "POST /functions/v1/finalizeAssessment",
        bindings: [],
      },
    ],
  },
  {
    id: "data-cleanup",
    title: "Profiles of v1.2.1",
    risk: "medium",
    rtoMs: 600_000,
    steps: [
      {
        id: "remove-profiles",
        title: "Remove profiles",
        kind: "purge",
        effect: "transactional",
        irreversible: null,
        script: "profiles where results_version = $1",
        bindings: ['$1 = "v1.2.1"'],
      },
    ],
  },
]

export const waiting: RollbackView = {
  id: "6f1c2f0e-8a55-4d0e-9d2e-000000000017",
  number: 17,
  kind: "rollback",
  environment: "staging",
  title: "Version alignment v1.2.1 back to v1.2.0",
  state: "awaiting_approval",
  requesterId: "UALICE",
  generation: 0,
  channelId: "C0DEPLOY",
  reason: "scoring is broken since the alignment",
  planNotes: "going back may not mend what was broken before.",
  createdAt: "2025-11-22T14:16:02Z",
  rehearsedAt: "2025-11-22T14:16:05Z",
  approvedAt: null,
  startedAt: null,
  endedAt: null,
  expiresAt: "2025-11-22T15:16:02Z",
  endedBy: null,
  endReason: null,
  stopRequestedBy: null,
  left: null,
  risk: "medium",
  riskReasons: [],
  rtoMs: 900_000,
  digest: "4f3a91cc77e0",
  token: "tok-17-1",
  round: 1,
  approvalsNeeded: 1,
  approveFrom: ["S0ONCALL"],
  approvals: [],
  components,
  rehearsal: {
    lookedAt: "2025-11-22T14:16:05Z",
    problems: [],
    warnings: [],
    steps: [
      looked("set-version", { rows: 1, changed: 1, changes: [versionChange] }),
      looked("deploy-finalize", {
        changed: 1,
        changes: [
          {
            row: "Redeploy finalizeAssessment",
            column: "deployed",
            before: "a1b2c3d",
            after: "9f8e7d6",
            afterKnown: true,
          },
        ],
      }),
      looked("finalize-answers", { holds: false, note: "answers 500" }),
      looked("remove-profiles", {
        rows: 37,
        changed: 37,
        total: 12_480,
        children: [{ table: "answers", rows: 74, action: "cascade" }],
        warnings: ["trigger touch_profile on profiles fires"],
      }),
    ],
  },
  stepRuns: [],
  forecast: {
    runs: 6,
    medianMs: 70_000,
    p90Ms: 95_000,
    fastestMs: 50_000,
    slowestMs: 100_000,
    components: [{ id: "db-config", runs: 9, medianMs: 1_000, p90Ms: 3_000 }],
  },
  notes: [],
  criteria: [
    { text: "Database shows results_version = v1.2.0", from: ["set-version"] },
    { text: "Edge functions operational", from: ["finalize-answers"] },
    { text: "Profiles are gone", from: ["remove-profiles"] },
  ],
  moved: [],
  cardTs: "1.1",
  cardChannel: "C0DEPLOY",
  permalink: "https://team.slack.com/archives/C0DEPLOY/p11",
}

export function result(facts: Partial<StepResult> = {}): StepResult {
  return {
    outcome: "succeeded",
    rows: null,
    changed: null,
    changes: [],
    affected: [],
    evidence: [],
    issues: [],
    captures: {},
    failure: null,
    attempts: 1,
    ms: 12,
    output: null,
    deployedBefore: null,
    skipped: null,
    ...facts,
  }
}

export function stepRun(stepId: string, done: StepResult | null, at = "2025-11-22T14:18:08Z"): StepRun {
  const endedAt = done === null ? null : new Date(Date.parse(at) + done.ms).toISOString()
  return { stepId, attempt: 1, generation: 0, result: done, startedAt: at, endedAt, skippedBy: null, skipReason: null }
}

const approvals = [{ userId: "UBOB", decidedAt: "2025-11-22T14:18:07Z" }]
export const versionSet = stepRun(
  "set-version",
  result({
    rows: 1,
    changed: 1,
    changes: [versionChange],
    affected: [{ table: "scoring_config", did: "changed", rows: 1 }],
    evidence: ["1 row of scoring_config changed"],
  }),
)

export const approved: RollbackView = {
  ...waiting,
  state: "approved",
  approvals,
  approvedAt: "2025-11-22T14:18:07Z",
  token: null,
}

export const running: RollbackView = {
  ...approved,
  state: "running",
  startedAt: "2025-11-22T14:18:08Z",
  stepRuns: [
    versionSet,
    stepRun("deploy-finalize", result({ ms: 20_000 }), "2025-11-22T14:18:10Z"),
    stepRun("finalize-answers", null, "2025-11-22T14:18:31Z"),
  ],
}

export const succeeded: RollbackView = {
  ...running,
  state: "succeeded",
  endedAt: "2025-11-22T14:19:16Z",
  stepRuns: [
    versionSet,
    stepRun("deploy-finalize", result({ ms: 20_000 }), "2025-11-22T14:18:10Z"),
    stepRun("finalize-answers", result({ evidence: ["200 in 85 ms"], ms: 85 }), "2025-11-22T14:18:31Z"),
    stepRun(
      "remove-profiles",
      result({ rows: 37, changed: 37, affected: [{ table: "profiles", did: "removed", rows: 37 }] }),
      "2025-11-22T14:18:40Z",
    ),
  ],
}

export const failedAnswer = stepRun(
  "finalize-answers",
  result({
    outcome: "failed",
    attempts: 5,
    ms: 10_000,
    evidence: ["500 in 30 ms", '{"error":"scoring_config not found"}', "5 attempts in 10.0 s"],
    failure: { code: "http_500", message: "expected 200", position: null, statement: null, detail: null, hint: null },
  }),
  "2025-11-22T14:18:31Z",
)

export const failed: RollbackView = {
  ...running,
  state: "failed",
  endedAt: "2025-11-22T14:18:41Z",
  stepRuns: [...running.stepRuns.slice(0, 2), failedAnswer],
}
export const stopped: RollbackView = {
  ...failed,
  state: "stopped",
  stopRequestedBy: "UCAROL",
  stepRuns: running.stepRuns.slice(0, 2),
}

export const escalation: Escalation = {
  id: "esc-1",
  trigger: "functions_failing",
  stepId: "finalize-answers",
  headline: "finalizeAssessment answered 500 five times after the redeploy of 9f8e7d6",
  evidence: ['Last answer: {"error":"scoring_config not found"}'],
  byHand: "update scoring_config set value = '\"v1.2.0\"' where key = 'results_version';",
  mention: ["S0ONCALL", "ULEAD"],
  channelId: "C0ONCALL",
  acknowledgeWithinMs: 300_000,
  raisedAt: "2025-11-22T14:18:42Z",
  timesTold: 1,
  acknowledgedBy: null,
  acknowledgedAt: null,
  resolvedAt: null,
}

export const analysis: Analysis = {
  watch: null,
  startedAt: "2025-11-22T14:16:02Z",
  endedAt: "2025-11-22T14:19:16Z",
  waitedMs: 125_000,
  ranMs: 69_000,
  issues: ["finalizeAssessment needed 3 attempts (cold start)"],
  affected: [
    { table: "scoring_config", did: "changed", rows: 1 },
    { table: "profiles", did: "removed", rows: 37 },
  ],
  criteria: [
    { text: "Database shows results_version = v1.2.0", outcome: "holds", evidence: "read back 14:19:10" },
    { text: "No scoring errors in the logs", outcome: "not_checked", evidence: "" },
    { text: "Edge functions operational", outcome: "fails", evidence: "2 of 3 answer" },
  ],
  components: [{ title: "Database configuration", ranMs: 12, rtoMs: 120_000 }],
  auditHead: "7d0c11aa22bb33cce2",
  auditEntries: 214,
  rootCause: null,
  prevention: null,
  followUps: [],
  revision: 0,
  requestedAt: "2025-11-22T14:13:57Z",
  approvals: [{ userId: "UBOB", afterMs: 125_000 }],
  keptUntil: "2025-12-22T14:19:16Z",
  timeline: [{ at: "2025-11-22T14:13:57Z", kind: "requested", actor: "UALICE" }],
  filledBy: null,
}
