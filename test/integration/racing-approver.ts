import { randomUUID } from "node:crypto"
import { approve } from "../../src/commands/approve.ts"
import type { Deps, People } from "../../src/commands/ports.ts"
import { createLogger } from "../../src/log.ts"
import { createPlanFolder } from "../../src/plans/plan-folder.ts"
import { createPool } from "../../src/store/database.ts"
import { createStore } from "../../src/store/store.ts"

/** One of several processes: when it is told a card's token, all of its people press Approve at once. */
const [databaseUrl = "", plans = "", ...users] = process.argv.slice(2)
const pool = createPool(databaseUrl, { log: createLogger({ level: "fatal", role: "bot" }) })

const people: People = {
  homeTeams: () => Promise.resolve(["T1"]),
  find: (id) => {
    const facts = { isBot: false, isGuest: false, isStranger: false, isDeactivated: false }
    return Promise.resolve({ kind: "person", person: { id, teamId: "T1", ...facts } })
  },
  members: () => Promise.resolve([]),
  channel: () => Promise.resolve({ kind: "ok" }),
}
const deps: Deps = {
  store: createStore(pool),
  people,
  plans: createPlanFolder(plans),
  ring: () => undefined,
  wakeOutbox: () => undefined,
  newId: randomUUID,
}

async function race(token: string): Promise<string[]> {
  const presses = users.map((userId) =>
    approve({ token, actor: { userId, teamId: "T1", requestKey: randomUUID() } }, deps).then(
      (outcome) => (outcome.kind === "refuse" ? outcome.refusal.reason : outcome.kind),
      (error: unknown) => String(error),
    ),
  )
  return Promise.all(presses)
}

process.on("message", (token: string) => {
  void race(token).then((outcomes) => process.send?.(outcomes))
})
process.once("disconnect", () => void pool.end())
process.send?.("ready")
