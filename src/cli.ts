import { readFile } from "node:fs/promises"
import { didYouMean } from "./cli/arguments.ts"
import { CommandError, exitCodes, type Command, type CommandContext } from "./cli/terminal.ts"
import { errorMessage } from "./errors.ts"
import { withoutSecrets } from "./log.ts"

const usage = `stepback: takes an environment back to a known-good state. Rollbacks are asked for and approved in Slack; this is
for the people who write plans and run the bot. Nothing here approves.

  stepback plan check FILE…                 validates plans (files or folders): file:line:col: message
  stepback plan show ENV [options]          the resolved plan and its digest
  stepback plan show ENV --sql [options]    the same as statements to paste: psql runs them as they are
  stepback plan rehearse ENV [options]      looks at the live target, read-only, as the card would show it
  stepback baseline capture ENV [--as NAME] keeps a snapshot of the plan's baseline tables; "after" when a bad version has come
  stepback baseline diff ENV [--as NAME]    what differs from it now
  stepback target init ENV [--print]        creates ledger and archive in the target, or prints their SQL
  stepback archive list [ENV]               what runs keep in the target for undo: rows, size, until when
  stepback archive erase ENV TABLE COLUMN=VALUE [--yes]
                                            takes one person's data out of it; undo will not bring that back
  stepback state init [--print]             brings the state database to this version, as its owner, or prints the
                                            SQL of a role for the processes that cannot change tables or audit
  stepback audit verify [--heads FILE]      walks the audit chains and compares them with the heads posted in Slack
  stepback audit export [--rollback R-7]    the audit as JSON lines
  stepback doctor                           tries every connection, scope and privilege

  stepback --version

  options: [--only a,b] [--with c] [name=value…], as behind /rollback
  Plans are read from the folder that STEPBACK_PLANS names, "plans" otherwise.
  Exit codes: 0 good, 1 not good.`

// Loaded when they are asked for: `plan check` need not wait for database and Slack clients.
const commands: Record<string, () => Promise<Command>> = {
  "plan check": async () => (await import("./cli/plan-check.ts")).planCheck,
  "plan show": async () => (await import("./cli/plan-show.ts")).planShow,
  "plan rehearse": async () => (await import("./cli/plan-rehearse.ts")).planRehearse,
  "baseline capture": async () => (await import("./cli/baseline.ts")).baselineCapture,
  "baseline diff": async () => (await import("./cli/baseline.ts")).baselineDiff,
  "target init": async () => (await import("./cli/target-init.ts")).targetInit,
  "archive list": async () => (await import("./cli/archive-list.ts")).archiveList,
  "archive erase": async () => (await import("./cli/archive-erase.ts")).archiveErase,
  "state init": async () => (await import("./cli/state-init.ts")).stateInit,
  "audit verify": async () => (await import("./cli/audit.ts")).auditVerify,
  "audit export": async () => (await import("./cli/audit.ts")).auditExport,
  doctor: async () => (await import("./cli/doctor.ts")).doctor,
}

async function run(words: readonly string[], io: Omit<CommandContext, "words">): Promise<number> {
  const [first, second] = words
  if (first === "--version" || first === "-v") {
    const about = await readFile(new URL("../package.json", import.meta.url), "utf8")
    io.out((JSON.parse(about) as { version: string }).version)
    return exitCodes.good
  }
  if (first === undefined || first === "help" || words.includes("--help") || words.includes("-h")) {
    io.out(usage)
    return exitCodes.good
  }
  const name = Object.hasOwn(commands, first) ? first : `${first} ${second ?? ""}`.trim()
  const load = Object.hasOwn(commands, name) ? commands[name] : undefined
  if (load === undefined) throw new CommandError(unknown(name))
  const command = await load()
  return command({ ...io, words: words.slice(name.split(" ").length) })
}

function unknown(given: string): string {
  const known = Object.keys(commands)
  const [group = ""] = given.split(" ")
  const members = known.filter((name) => name.startsWith(`${group} `))
  if (members.length > 0 && !given.includes(" "))
    return `stepback ${given} what? There is: ${members.map((name) => `stepback ${name}`).join(", ")}.`
  return `There is no command "stepback ${given}".${didYouMean(given, known)} \`stepback --help\` lists them.`
}

// A reader that has seen enough, like `head`, is no error.
process.stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? 0 : 1))

/** A link to a server that hangs must not keep a command from its end. */
const lingerMs = 1_000

const io = { env: process.env, out: (text: string) => console.log(text), err: (text: string) => console.error(text) }
try {
  process.exitCode = await run(process.argv.slice(2), io)
} catch (error) {
  console.error(withoutSecrets(errorMessage(error)))
  process.exitCode = error instanceof CommandError ? error.exitCode : exitCodes.bad
}
setTimeout(() => process.exit(), lingerMs).unref()
