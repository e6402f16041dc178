import { randomUUID } from "node:crypto"
import { approve } from "../../src/commands/approve.ts"
import type { Deps, People } from "../../src/commands/ports.ts"
import { isPassing } from "../../src/errors.ts"
import { createLogger } from "../../src/log.ts"
import { createPlanFolder } from "../../src/plans/plan-folder.ts"
import { createPool } from "../../src/store/database.ts"
import { createStore } from "../../src/store/store.ts"

/** One of several processes: when it is told a card's token, all of its people press Approve at once. */
const [databaseUrl = "", plans = "", ...users] = process.argv.slice(2)
const links = 8
const pool = createPool(databaseUrl, { log: createLogger({ level: "fatal", role: "bot" }), max: links })

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

/** Who is told that the database is busy presses again; an approval that had counted would be missed in the sum. */
async function press(token: string, userId: string): Promise<string> {
  for (let tries = 1; ; tries++)
    try {
      const outcome = await approve({ token, actor: { userId, teamId: "T1", requestKey: randomUUID() } }, deps)
      return outcome.kind === "refuse" ? outcome.refusal.reason : outcome.kind
    } catch (error) {
      if (!isPassing(error) || tries === 10) return String(error)
    }
}

const race = (token: string) => Promise.all(users.map((userId) => press(token, userId)))

process.on("message", (token: string) => {
  void race(token).then((outcomes) => process.send?.(outcomes))
})
process.once("disconnect", () => void pool.end())
// Links first, so that the first race is one.
await Promise.all(Array.from({ length: links }, () => pool.query("select pg_sleep(0.1)")))
process.send?.("ready")
