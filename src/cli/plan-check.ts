import { readdir, stat } from "node:fs/promises"
import { formatProblem } from "../plans/format-problem.ts"
import { checkPlanFile, loadPlans } from "../plans/load.ts"
import { readWords } from "./arguments.ts"
import { exitCodes, type Command } from "./terminal.ts"

const usage = "stepback plan check FILE…"

/** `plan check FILE…`: a line a problem on stdout; warnings and what is good on stderr. */
export const planCheck: Command = async ({ words, out, err }) => {
  const paths = readWords(words, usage, { min: 1, max: Infinity })
  let problems = 0
  for (const path of paths) {
    const folder = await isFolder(path)
    // A folder is checked as the bot loads it: two files for one environment are a problem of both.
    const found = folder ? await checkFolder(path) : await checkPlanFile(path)
    for (const problem of found.problems) out(formatProblem(problem))
    for (const warning of found.warnings) err(`${formatProblem(warning)} (warning)`)
    problems += found.problems.length
    if (found.problems.length === 0) err(`${path}: ${folder ? "every plan in it is valid" : "valid"}`)
  }
  return problems === 0 ? exitCodes.good : exitCodes.bad
}

async function checkFolder(folder: string) {
  const loaded = await loadPlans(folder)
  const problems = loaded.invalid.flatMap((file) => file.problems)
  const names = (await readdir(folder).catch(() => [])).filter((name) => /^[^.].*\.ya?ml$/.test(name))
  if (problems.length === 0 && names.length === 0)
    problems.push({
      file: folder,
      line: 1,
      column: 1,
      message: "there is no plan in this folder: plans are files that end in .yaml or .yml",
    })
  const checked = await Promise.all([...loaded.plans.values()].map((plan) => checkPlanFile(plan.file)))
  return { problems, warnings: checked.flatMap((plan) => plan.warnings) }
}

async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  )
}
