import { randomUUID } from "node:crypto"
import { drawCard } from "../bot/blocks/card.ts"
import { errorCode, errorMessage } from "../errors.ts"
import { prepareRun, type AskedRun } from "../jobs/rehearse.ts"
import { createLogger } from "../log.ts"
import type { FrozenRun } from "../plans/frozen.ts"
import { createPlanFolder } from "../plans/plan-folder.ts"
import { componentViews } from "../plans/step-view.ts"
import type { RollbackView } from "../rollback/facts.ts"
import { createTargetPools } from "../steps/target.ts"
import { createPool } from "../store/database.ts"
import { createStore } from "../store/store.ts"
import { readPlanArguments } from "./arguments.ts"
import { getPlan, plansFolder, resolvePlan } from "./plans.ts"
import { createRedactor, missingVariables } from "./secrets.ts"
import { getDatabaseUrl } from "./state.ts"
import { CommandError, exitCodes, forTerminal, type Command } from "./terminal.ts"

const usage = "stepback plan rehearse ENV [--only a,b] [--with c] [name=value…]"

/** `plan rehearse ENV`: looks at the live target from this machine, with this environment's variables, and shows the card's text. */
export const planRehearse: Command = async ({ words, env, out }) => {
  const { environment, selection } = readPlanArguments(words, usage)
  const loaded = await getPlan(environment, env)
  const { components } = resolvePlan(loaded, selection)
  const missing = missingVariables({ target: loaded.plan.target, components }, env)
  if (missing.length > 0) throw new CommandError(missing.join("\n"))
  const redact = createRedactor(env, loaded.plan)
  const log = createLogger({ level: "silent", role: "worker" })
  const targets = createTargetPools(log)
  // Snapshots are in the state database: where it is named, the look compares with them as a request's does.
  const state = env["DATABASE_URL"]?.trim() ? createPool(getDatabaseUrl(env), { log, max: 2 }) : null
  const stop = new AbortController()
  process.once("SIGINT", () => stop.abort())
  try {
    const asked: AskedRun = { id: randomUUID(), kind: "rehearsal", environment, selection, skips: {} }
    const run = await prepareRun(asked, stop.signal, {
      plans: createPlanFolder(plansFolder(env)),
      targets,
      environment: env,
      log,
      ...(state === null ? {} : { store: createStore(state) }),
    })
    out(forTerminal(cardText(run)))
    const { problems, steps } = run.rehearsal
    return problems.length === 0 && !steps.some(({ refused }) => refused) ? exitCodes.good : exitCodes.bad
  } catch (error) {
    // The target's own tables that are missing are told step by step.
    if (["42P01", "3F000"].includes(errorCode(error)) && /"stepback[".]/.test(errorMessage(error)))
      throw new CommandError(
        "The state database has no place for baselines yet: Stepback creates it when it starts. Without DATABASE_URL the target is looked at alone.",
      )
    throw new CommandError(redact(error instanceof Error ? error.message : String(error)))
  } finally {
    await Promise.all([targets.close(), state?.end()])
  }
}

/** Without the line that says who asks: that is whoever reads it. */
function cardText(run: FrozenRun): string {
  const { text } = drawCard(rehearsalView(run), new Date())
  return text
    .split("\n")
    .filter((line) => line !== " asks, without a reason")
    .join("\n")
}

/** A run that nobody stored, as the card takes it. */
function rehearsalView(run: FrozenRun): RollbackView {
  const at = run.rehearsal.lookedAt
  return {
    id: run.rollbackId,
    generation: 0,
    number: null,
    kind: "rehearsal",
    environment: run.environment,
    title: run.title,
    state: "succeeded",
    requesterId: "",
    channelId: "",
    reason: "",
    planNotes: run.notes,
    createdAt: at,
    rehearsedAt: at,
    approvedAt: null,
    startedAt: null,
    endedAt: at,
    expiresAt: null,
    endedBy: null,
    endReason: null,
    stopRequestedBy: null,
    left: null,
    risk: run.policy.risk,
    riskReasons: run.policy.riskReasons,
    rtoMs: run.rtoMs,
    // A request looks for itself: its digest will be another.
    digest: null,
    token: null,
    round: 1,
    approvalsNeeded: run.policy.count,
    approveFrom: run.policy.from,
    approvals: [],
    components: componentViews(run),
    rehearsal: run.rehearsal,
    stepRuns: [],
    forecast: null,
    notes: [],
    criteria: run.success,
    moved: [],
    cardTs: null,
    cardChannel: null,
    permalink: null,
  }
}
