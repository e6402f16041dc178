import { readdir, stat } from "node:fs/promises"
import { join } from "node:path"
import { loadPlans, type LoadedPlans } from "./load.ts"

/** The plans of a folder as they are now; read again only when a file came, went or changed. */
export function createPlanFolder(folder: string): { load(): Promise<LoadedPlans> } {
  let known: { signature: string; plans: Promise<LoadedPlans> } | null = null

  async function signature(): Promise<string> {
    try {
      const names = (await readdir(folder)).filter((name) => /\.ya?ml$/.test(name)).sort()
      const stats = await Promise.all(
        names.map(async (name) => {
          const seen = await stat(join(folder, name), { bigint: true }).catch(() => null)
          return seen === null ? name : `${name} ${seen.ino} ${seen.size} ${seen.mtimeNs} ${seen.ctimeNs}`
        }),
      )
      return stats.join("\n")
    } catch {
      return "unreadable"
    }
  }

  return {
    async load() {
      const now = await signature()
      if (known?.signature !== now) known = { signature: now, plans: loadPlans(folder) }
      return known.plans
    },
  }
}
