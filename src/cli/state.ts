import { readConfig } from "../config.ts"
import { CommandError, type CommandContext } from "./terminal.ts"

/** The address of the state database; an end with what is missing when there is none. */
export function getDatabaseUrl(env: CommandContext["env"]): string {
  const read = readConfig(env)
  if (read.ok) return read.config.databaseUrl
  const problems = read.problems.filter((problem) => problem.name === "DATABASE_URL")
  if (problems.length === 0) return env["DATABASE_URL"]?.trim() ?? ""
  throw new CommandError(problems.map(({ name, problem, purpose }) => `${name} ${problem}: ${purpose}`).join("\n"))
}
