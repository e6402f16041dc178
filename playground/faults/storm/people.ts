import { setTimeout as pause } from "node:timers/promises"
import type { Message, Outcome } from "../../slack/local-slack.ts"
import { chance, pick } from "./chance.ts"
import type { StormStage } from "./stage.ts"
import type { Live, Watch } from "./watch.ts"
import { environments, leaveBadRows, settleBadRows } from "./world.ts"

export type People = {
  /** How often somebody did something. */
  done: Record<string, number>
  /** Resolves when somebody next does something: a good moment for a bot to die. */
  nextDeed(): Promise<void>
  /** They ask for nothing new, and see what goes on to its end. */
  finish(): void
  ended: Promise<unknown>
}

/** Nothing happened for this long: they do it again, as people do. */
const patienceMs = 4_000
const askers = ["alice", "carol"]

export function startPeople(stage: StormStage, watch: Watch, seed: number): People {
  const done: Record<string, number> = {}
  let run = 0
  let deeds = 0
  let finishing = false
  let tellDeed: () => void = () => undefined
  let deed = new Promise<void>((resolve) => (tellDeed = resolve))

  /** Through one bot or the other; what fails is seen, and done again. */
  async function act(what: string, work: () => Promise<Outcome>): Promise<boolean> {
    const door = pick(
      stage.crew.seats.filter(({ role, process }) => role === "bot" && process !== null),
      chance(seed, "door", deeds++),
    )
    if (!door?.process) return false
    stage.slack.setRequestUrl(`http://127.0.0.1:${door.process.port}/slack/events`)
    tellDeed()
    deed = new Promise<void>((resolve) => (tellDeed = resolve))
    try {
      const { ok } = await work()
      const name = ok ? what : `${what}, in vain`
      done[name] = (done[name] ?? 0) + 1
      return ok
    } catch {
      // The button has gone in the meantime.
      return false
    }
  }

  function card(environment: string, id: string | null): Message | undefined {
    return stage.slack
      .messages(environment)
      .findLast(
        (message) => keyOf(message)?.endsWith("/card") === true && (id === null || keyOf(message)?.startsWith(id)),
      )
  }

  const press = (what: string, environment: string, message: Message, user: string) =>
    act(what, () => stage.slack.click({ user, channel: environment, ts: message.ts, action: what }))

  async function ask(environment: string): Promise<void> {
    const turn = ++run
    const user = pick(askers, chance(seed, "asker", turn)) ?? "alice"
    const last = card(environment, null)
    if (last && hasButton(last, "undo") && chance(seed, "undo", turn) < 0.15 && (await isPlain(last))) {
      await press("undo", environment, last, user)
      return
    }
    if (last && hasButton(last, "retry") && chance(seed, "retry", turn) < 0.8) {
      await press("retry", environment, last, user)
      return
    }
    const target = stage.look.targets.get(environment)
    await target?.query(leaveBadRows, [turn])
    await target?.query(settleBadRows, [turn])
    await act("ask", () =>
      stage.slack.command({ user, channel: environment, text: `${environment} run=${turn} it storms` }),
    )
  }

  /** What takes another one back is left as it is, so that what was done and undone can be counted. */
  async function isPlain(message: Message): Promise<boolean> {
    const id = keyOf(message)?.split("/")[0]
    const { rowCount } = await stage.look.state.query(
      "select 1 from stepback.rollbacks where id = $1 and kind = 'rollback'",
      [id],
    )
    return rowCount === 1
  }

  /** Some runs are stopped; the rest of the time people look on. */
  async function lookOn(environment: string, { id, number }: Live): Promise<void> {
    const message = card(environment, id)
    if (!message) return
    if (hasButton(message, "approve")) await press("approve", environment, message, "bob")
    else if (hasButton(message, "stop") && chance(seed, "stop", number) < 0.07) {
      await pause(chance(seed, "stop when", number) * 1_000)
      await press("stop", environment, message, "carol")
    }
  }

  async function live(environment: string): Promise<void> {
    let actedAt = -patienceMs
    let before = ""
    for (;;) {
      await pause(150)
      const now = watch.live(environment)
      const fresh = performance.now() - watch.lookedAt() < 5_000
      if (!fresh) continue
      if (!now && finishing) return
      const seen = now ? `${now.id} ${now.state} ${now.round}` : "none"
      if (seen === before && performance.now() - actedAt < patienceMs) continue
      if (seen !== before && now && !hasAnything(card(environment, now.id))) continue
      before = seen
      actedAt = performance.now()
      // One that trips over a database that is away comes again.
      await (now ? lookOn(environment, now) : ask(environment)).catch(() => undefined)
    }
  }

  return {
    done,
    nextDeed: () => deed,
    finish: () => {
      finishing = true
    },
    ended: Promise.all(environments.map(live)),
  }
}

const hasAnything = (message: Message | undefined) =>
  message !== undefined && (hasButton(message, "approve") || hasButton(message, "stop"))

function hasButton(message: Message, action: string): boolean {
  return JSON.stringify(message.blocks).includes(`"action_id":"${action}"`)
}

export function keyOf(message: Message): string | null {
  const payload = (message.metadata as { event_payload?: { key?: string } } | undefined)?.event_payload
  return payload?.key ?? null
}
