import { loadPlans } from "../plans/load.ts"
import { keptSizes } from "../steps/kept-sizes.ts"
import { readWords } from "./arguments.ts"
import { bytesInWords, rowsInWords, withBoth } from "./archive-target.ts"
import { plansFolder } from "./plans.ts"
import { CommandError, exitCodes, type Command, type CommandContext } from "./terminal.ts"

/**
 * `archive list [ENV]`: what each run keeps in the target, how much it is, and until when. Without a name of each
 * environment; one that cannot be looked at is told, and the others are listed all the same.
 */
export const archiveList: Command = async ({ words, env, out, err }) => {
  const [given] = readWords(words, "stepback archive list [ENV]", { min: 0, max: 1 })
  const plans = given === undefined ? (await loadPlans(plansFolder(env))).plans : null
  const environments =
    plans === null
      ? [String(given).toLowerCase()]
      : [...plans].filter(([, { plan }]) => plan.target.postgres !== null).map(([name]) => name)
  if (environments.length === 0) throw new CommandError("No plan names a target database, so nothing is kept in one.")
  let code: number = exitCodes.good
  for (const environment of environments) {
    try {
      await listOne(environment, env, out)
    } catch (error) {
      if (given !== undefined || !(error instanceof CommandError)) throw error
      err(`${environment}: ${error.message}`)
      code = exitCodes.bad
    }
  }
  return code
}

function listOne(environment: string, env: CommandContext["env"], out: CommandContext["out"]): Promise<number> {
  return withBoth(environment, env, async ({ target, store }) => {
    const { sizes, bytes } = await keptSizes(target)
    out(
      sizes.length === 0
        ? `${environment}: nothing is kept (the ledger takes ${bytesInWords(bytes)})`
        : `${environment}: ${bytesInWords(bytes)} in schema stepback_ledger`,
    )
    const runs = await store.erasures.listKeeping([...new Set(sizes.map((size) => size.rollbackId))])
    const lines = sizes.map((size) => {
      const run = runs.get(size.rollbackId)
      const until =
        run === undefined
          ? "not a run of this state database: it stays until it is removed by hand"
          : run.until === null
            ? "the run has not ended"
            : `kept until ${run.until}`
      const name = run?.name ?? size.rollbackId
      return {
        name,
        text: `${size.table}: ${rowsInWords(size.rows)} ${size.what}, ${bytesInWords(size.bytes)}, ${until}`,
      }
    })
    const order = new Intl.Collator("en", { numeric: true })
    for (const { name, text } of lines.toSorted(
      (a, b) => order.compare(a.name, b.name) || order.compare(a.text, b.text),
    ))
      out(`  ${name}  ${text}`)
    return exitCodes.good
  })
}
