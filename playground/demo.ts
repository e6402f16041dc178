import { parseArgs } from "node:util"
import { findRedis } from "./redis.ts"
import { playScenario, scenarios, writePlans } from "./scenarios.ts"
import type { Scenario } from "./scenarios/scenario.ts"
import { startStage, type Stage } from "./stage.ts"

const usage = "npm run demo [-- --auto [--scenario NAME]]"
const explained = `Starts Postgres, a local Slack with its page, a staging world and the bot, all on this machine and gone at the end.
Without arguments: open the page and be the people yourself. --auto plays a scenario and prints the channel.`

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}

/** What was asked for, or what to say instead. */
function readArguments(
  args: string[],
): { scenario: Scenario | null; name: string } | { refusal: string } | { help: string } {
  try {
    const options = {
      auto: { type: "boolean" },
      scenario: { type: "string" },
      help: { type: "boolean", short: "h" },
    } as const
    const { values } = parseArgs({ args, options })
    if (values.help === true) return { help: `Usage: ${usage}\n${explained}\n\n${listScenarios()}` }
    const name = values.scenario ?? "happy"
    const scenario = Object.hasOwn(scenarios, name) ? scenarios[name] : undefined
    if (scenario === undefined) return { refusal: `There is no scenario "${name}".` }
    // A scenario is something that is played: without people at hand it plays itself.
    return { scenario: values.auto || values.scenario !== undefined ? scenario : null, name }
  } catch (error) {
    return { refusal: error instanceof Error ? error.message : String(error) }
  }
}

function listScenarios(): string {
  const width = Math.max(...Object.keys(scenarios).map((name) => name.length))
  const lines = Object.entries(scenarios).map(([name, { summary }]) => `  ${name.padEnd(width)}  ${summary}`)
  return ["Scenarios:", ...lines].join("\n")
}

/** Resolves at the first Ctrl-C, hang-up or polite request to end. */
const interrupted = new Promise<"interrupted">((resolve) => {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => resolve("interrupted"))
})

async function host(stage: Stage): Promise<number> {
  const running = await stage.start()
  say(
    [
      "",
      `Open the page:  ${stage.slack.url}/?as=U0ALICE&channel=C0STAGING`,
      "",
      "1. You are alice, in #staging. Type:  /rollback staging scoring is broken",
      "2. Look at the card: it has been filled in from the live staging database. Press Approve: you may not.",
      `3. Choose bob under "Act as" (or open ${stage.slack.url}/?as=U0BOB&channel=C0STAGING) and press Approve.`,
      "4. Open the card's thread and watch; the post-rollback analysis comes at the end.",
      "",
      "Trouble is told in #oncall. /rollback help shows the rest. Ctrl-C ends it all.",
    ].join("\n"),
  )
  const how = await Promise.race([interrupted, running.ended])
  if (how === "interrupted") return 0
  say(`The bot has ended by itself (${how}).`)
  return 1
}

async function perform(scenario: Scenario, name: string, stage: Stage): Promise<number> {
  await stage.start()
  say(`Scenario ${name}: ${scenario.summary}\n`)
  const facts = await playScenario(scenario, stage, say)
  for (const { what, holds } of facts) say(`${holds ? "✓" : "✗"} ${what}${holds ? "" : ": NOT SO"}`)
  const held = facts.length > 0 && facts.every((fact) => fact.holds)
  say(`\nExpected: ${scenario.expected}. ${held ? "It held." : "It did NOT hold."}`)
  return held ? 0 : 1
}

async function main(): Promise<number> {
  const asked = readArguments(process.argv.slice(2))
  if ("help" in asked) {
    say(asked.help)
    return 0
  }
  if ("refusal" in asked) {
    process.stderr.write(`${asked.refusal}\nUsage: ${usage}\n${listScenarios()}\n`)
    return 1
  }
  const queue = findRedis() === null ? "postgres" : "redis"
  const where = queue === "redis" ? "a Redis" : "the queue in Postgres (no redis-server here)"
  say(`Starting Postgres, ${where}, a local Slack, a staging world and the bot …`)
  // A stage half built cannot be taken down: whoever interrupts meanwhile waits the two seconds.
  const plans = await writePlans(asked.scenario)
  const stage = await startStage({ mode: "http", queue, ...(plans ? { plans: plans.folder } : {}) })
  try {
    const scene = asked.scenario === null ? host(stage) : perform(asked.scenario, asked.name, stage)
    const end = await Promise.race([scene, interrupted])
    if (end !== "interrupted") return end
    // An interrupted scene is left behind, and what it then meets is its own affair.
    scene.catch(() => undefined)
    return asked.scenario === null ? 0 : 130
  } catch (error) {
    say(`\n${error instanceof Error ? error.message : String(error)}`)
    if (asked.scenario !== null) say(`\nExpected: ${asked.scenario.expected}. It did NOT hold.`)
    return 1
  } finally {
    say("\nCleaning up …")
    await stage.stop()
    await plans?.remove()
  }
}

process.exit(await main())
