import { randomUUID } from "node:crypto"
import type { Pool } from "pg"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import {
  createDelivery,
  type Delivery,
  type DeliveryDeps,
  type Found,
  type Sender,
  type Sent,
} from "../../src/jobs/deliver.ts"
import { createLogger } from "../../src/log.ts"
import { stepResult } from "../../src/steps/step.ts"
import type { Store } from "../../src/store/store.ts"
import { created, freshState, running } from "./store-fixture.ts"

let pool: Pool
let store: Store

beforeAll(async () => {
  ;({ pool, store } = await freshState())
})
afterAll(() => pool.end())

/** The state of this file's database as if all cards and messages so far had been sent. */
async function quiet(): Promise<void> {
  await pool.query(
    "update stepback.rollbacks set deliver_at = null, card_sent_version = card_version, lane_until = null, lane_owner = null",
  )
}

function deliveryOf(sender: Sender, how: Partial<Pick<DeliveryDeps, "draw" | "document">> = {}): Delivery {
  const log = createLogger({ level: "silent", role: "worker" })
  const plain = { draw: ({ kind }: { kind: string }) => ({ text: kind }), document: () => null }
  return createDelivery({ store, sender, ...plain, ...how, newId: randomUUID, log })
}

it("a card that Slack has not taken is as old as its request, for those who watch over it", async () => {
  await quiet()
  const sending: Sent[] = [
    { kind: "unknown", error: "internal_error" },
    { kind: "sent", channel: "C1", ts: "1.1" },
  ]
  const post = async () => sending.shift() ?? { kind: "unknown", error: "internal_error" }
  const sender = { post, find: async () => ({ kind: "none" }), permalink: async () => null } as unknown as Sender
  const { id } = await created(store)
  await pool.query("update stepback.rollbacks set created_at = now() - interval '1 hour' where id = $1", [id])
  const { serveOne } = deliveryOf(sender)
  await serveOne()
  expect(Math.round(await store.figures.outboxAgeSeconds())).toBe(3_600)
  await pool.query("update stepback.rollbacks set deliver_at = now() where id = $1", [id])
  await serveOne()
  expect(await store.figures.outboxAgeSeconds()).toBe(0)
})

describe("the outbox", () => {
  it("keeps the order in which things happened, each once", async () => {
    const { id, epoch } = await running(store)
    const steps = Array.from({ length: 12 }, (_, n) => `step-${n}`)
    for (const step of steps) await store.runs.recordStep(id, epoch, { id: step, attempt: 1, result: stepResult({}) })
    // The same result written again, as after an answer that was lost.
    await store.runs.recordStep(id, epoch, { id: "step-3", attempt: 1, result: stepResult({}) })
    const end = { state: "succeeded", reason: null, by: "stepback", analysis: {}, remindMs: 1 } as const
    await store.runs.finish(id, epoch, end)
    const rows = await store.outbox.listUnsent(id)
    expect(rows.map((row) => row.key)).toEqual([
      ...steps.map((step) => `${id}/${step}/1`),
      `${id}/audit/${(await store.rollbacks.get(id)).audit_entries}`,
      `${id}/analysis`,
    ])
    expect(rows.map((row) => row.seq)).toEqual(rows.map((_row, index) => index + 1))
  })

  it("is in order under messages from everywhere at once", async () => {
    const { id } = await created(store)
    await Promise.all(
      Array.from({ length: 40 }, (_, n) =>
        store.outbox.enqueue(id, `${id}/text/${n % 30}`, { kind: "text", text: "…" }).catch(() => undefined),
      ),
    )
    const rows = await store.outbox.listUnsent(id)
    expect(rows.map((row) => row.seq)).toEqual(rows.map((_row, index) => index + 1))
    expect(new Set(rows.map((row) => row.key)).size).toBe(rows.length)
    expect(rows).toHaveLength(30)
  })

  it("gives a rollback's lane to one of many, and passes it on when its owner is gone", async () => {
    await quiet()
    const { id } = await created(store)
    const owners = Array.from({ length: 10 }, () => randomUUID())
    const claims = await Promise.all(owners.map((owner) => store.outbox.claimLane(owner, 60_000)))
    expect(claims.filter((claim) => claim === id)).toHaveLength(1)
    const owner = owners[claims.indexOf(id)] ?? ""
    expect(await store.outbox.holdLane(id, randomUUID(), 60_000)).toBe(false)
    expect(await store.outbox.holdLane(id, owner, -1)).toBe(true)
    const heir = randomUUID()
    expect(await store.outbox.claimLane(heir, 60_000)).toBe(id)
    await store.outbox.releaseLane(id, owner, null)
    expect(await store.outbox.holdLane(id, heir, 60_000)).toBe(true)
  })

  it("does not put a lane to rest over a message that is just being committed", async () => {
    await quiet()
    const { id } = await created(store)
    await quiet()
    await pool.query("update stepback.rollbacks set deliver_at = now() where id = $1", [id])
    const owner = randomUUID()
    expect(await store.outbox.claimLane(owner, 60_000)).toBe(id)
    const writer = await pool.connect()
    await writer.query("begin")
    await writer.query("select stepback.enqueue($1, $2, $3)", [id, `${id}/late`, { kind: "text", text: "late" }])
    const released = store.outbox.releaseLane(id, owner, null)
    // It waits for the writer's lock; only then the writer commits.
    await waitingForLock(pool)
    await writer.query("commit")
    writer.release()
    await released
    expect(await store.outbox.claimLane(randomUUID(), 60_000)).toBe(id)
  })
})

describe("delivery", () => {
  it("edits a message that changed while nobody knew whether it had arrived", async () => {
    await quiet()
    const { id } = await created(store)
    const key = `${id}/text/asked`
    await store.outbox.enqueue(id, key, { kind: "text", text: "asked" })
    const shown = new Map<string, string>()
    let answers = false
    const sender: Sender = {
      async post(message) {
        shown.set(message.key, message.drawn.text)
        if (!answers && message.key === key) throw new Error("the process died before Slack's answer")
        return { kind: "sent", channel: message.channel, ts: message.key }
      },
      async update({ channel, ts, drawn }) {
        shown.set(ts, drawn.text)
        return { kind: "sent", channel, ts }
      },
      find: async (message) => (shown.has(message.key) ? { kind: "found", ts: message.key } : { kind: "none" }),
      findFile: async () => ({ kind: "none" }),
      remove: async () => true,
      upload: async () => ({ kind: "unknown", error: "not used" }),
      permalink: async () => null,
    }
    let text = "asked"
    const delivery = deliveryOf(sender, { draw: ({ kind }) => ({ text: kind === "text" ? text : kind }) })
    await delivery.serveOne()
    expect(shown.get(key)).toBe("asked")
    text = "answered"
    await pool.query("select stepback.edit_messages($1, $2)", [id, key])
    answers = true
    await pool.query("update stepback.rollbacks set deliver_at = now() where id = $1", [id])
    await delivery.serveOne()
    expect(shown.get(key)).toBe("answered")
    expect(await store.outbox.listUnsent(id)).toEqual([])
  })

  it("takes back what a frozen process posted when it woke, late, and died", async () => {
    await quiet()
    const { id } = await created(store)
    const [reply, file] = [`${id}/text/it`, "R-1-it.txt"]
    const standing: { ts: string; name: string }[] = []
    const write = (name: string): Sent => {
      const ts = String(standing.length + 1)
      standing.push({ ts, name })
      return { kind: "sent", channel: "C1", ts: name === file ? "" : ts }
    }
    // Slack shows a file a while after it has taken it.
    let filesShow = false
    const look = async (name: string): Promise<Found> => {
      if (name === file && !filesShow) return { kind: "none" }
      const [ts, ...twins] = standing.filter((one) => one.name === name).map((one) => one.ts)
      return ts === undefined ? { kind: "none" } : { kind: "found", ts, twins }
    }
    const sender: Sender = {
      post: async ({ key }) => write(key),
      update: async ({ channel, ts }) => ({ kind: "sent", channel, ts }),
      find: ({ key }) => look(key),
      findFile: ({ name }) => look(name),
      remove: async ({ ts }) => {
        standing.splice(
          standing.findIndex((one) => one.ts === ts),
          1,
        )
        return true
      },
      upload: async ({ name }) => write(name),
      permalink: async () => null,
    }
    const delivery = deliveryOf(sender, {
      document: ({ kind }) => (kind === "file" ? { name: file, content: "long" } : null),
    })
    await store.outbox.enqueue(id, reply, { kind: "text", text: "it" })
    await store.outbox.enqueue(id, `${id}/file`, { kind: "file", what: "output", stepId: "it", attempt: 1 })
    // Another process marked all of it and was frozen before it posted.
    await pool.query("update stepback.outbox set state = 'sending' where rollback_id = $1", [id])
    await pool.query("update stepback.rollbacks set card_state = 'sending' where id = $1", [id])
    await delivery.serveOne()
    const all = [`${id}/card`, reply, file]
    expect(standing.map(({ name }) => name)).toEqual(all)
    filesShow = true
    // It wakes, posts, and dies before it can look.
    for (const name of all) write(name)
    // The lane is due again by itself.
    const later = "update stepback.second_looks set due_at = due_at - interval '16 seconds' where rollback_id = $1"
    await pool.query(later, [id])
    await pool.query(
      "update stepback.rollbacks set deliver_at = deliver_at - interval '16 seconds' where id = $1 and deliver_at > now()",
      [id],
    )
    expect(await delivery.serveOne()).toBe(true)
    expect(standing.map(({ name }) => name)).toEqual(all)
    const { rows } = await pool.query<{ looks: number }>(
      "select looks from stepback.second_looks where rollback_id = $1",
      [id],
    )
    expect(rows).toEqual([{ looks: 1 }, { looks: 1 }, { looks: 1 }])
    // After an hour it is enough.
    for (let n = 2; n <= 5; n++) {
      await pool.query("update stepback.second_looks set due_at = now() where rollback_id = $1", [id])
      await pool.query("update stepback.rollbacks set deliver_at = now() where id = $1", [id])
      await delivery.serveOne()
    }
    expect((await pool.query("select 1 from stepback.second_looks where rollback_id = $1", [id])).rowCount).toBe(0)
    expect(await delivery.serveOne()).toBe(false)
    expect(standing.map(({ name }) => name)).toEqual(all)
  })

  it("stops looking for a message in doubt when Slack has not let it for a week", async () => {
    await quiet()
    const { id } = await created(store)
    const sender = { find: async () => ({ kind: "unknown" }) } as unknown as Sender
    const delivery = deliveryOf(sender)
    const looks = async (age: string) => {
      await store.outbox.planLook(id, { seq: 0, channel: "C1", threadTs: null, fileName: null }, 0)
      await pool.query(
        "update stepback.rollbacks set card_state = 'sent', card_sent_version = card_version, card_ts = '1', deliver_at = now() where id = $1",
        [id],
      )
      await pool.query("update stepback.second_looks set since = now() - $2::interval where rollback_id = $1", [
        id,
        age,
      ])
      await delivery.serveOne()
      return (await pool.query("select 1 from stepback.second_looks where rollback_id = $1", [id])).rowCount
    }
    expect(await looks("6 days")).toBe(1)
    expect(await looks("8 days")).toBe(0)
  })

  it("knows of a message that Slack is too busy for whether it was in doubt before", async () => {
    await quiet()
    const { id } = await created(store)
    await store.outbox.enqueue(id, `${id}/text/it`, { kind: "text", text: "it" })
    const busy = { kind: "limited", waitMs: 60_000 } as const
    const sender = { post: async () => busy, find: async () => ({ kind: "none" }) } as unknown as Sender
    const delivery = deliveryOf(sender)
    const attempt = async (): Promise<unknown> => {
      await pool.query("update stepback.rollbacks set deliver_at = now() where id = $1", [id])
      await delivery.serveOne()
      const { card_state: card } = await store.rollbacks.get(id)
      const [row] = await store.outbox.listUnsent(id)
      return [card, row?.state, await store.outbox.deliveryAttempts(id)]
    }
    expect(await attempt()).toEqual(["none", "pending", 0])
    await pool.query("update stepback.rollbacks set card_state = 'sending' where id = $1", [id])
    expect(await attempt()).toEqual(["sending", "pending", 0])
    await pool.query(
      "update stepback.rollbacks set card_state = 'sent', card_sent_version = card_version, card_ts = '1', card_channel = 'C1' where id = $1",
      [id],
    )
    expect(await attempt()).toEqual(["sent", "pending", 0])
    await pool.query("update stepback.outbox set state = 'sending' where rollback_id = $1", [id])
    expect(await attempt()).toEqual(["sent", "sending", 0])
    // Whoever was overtaken says nothing of what the heir has marked.
    const [row] = await store.outbox.listUnsent(id)
    await store.outbox.markPending(id, row?.seq ?? 0, randomUUID())
    expect((await store.outbox.listUnsent(id))[0]?.state).toBe("sending")
  })

  it("posts a call once into the rollback's channel when its own takes none, though the answer is lost", async () => {
    await quiet()
    const { id } = await created(store)
    const facts = { trigger: "step_failed", stepId: "it", headline: "it failed", byHand: null } as const
    const calling = { evidence: [], mention: [], channelId: "C-GONE", acknowledgeWithinMs: 60_000, hook: null }
    await store.records.raise(id, `${id}/it`, randomUUID(), { ...facts, ...calling })
    const standing: string[] = []
    const sender = {
      post: async ({ channel, key }: { channel: string; key: string }): Promise<Sent> => {
        if (channel !== "C1") return { kind: "refused", error: "channel_not_found", hopeless: true }
        standing.push(key)
        if (key.endsWith("/card") || standing.length > 2) return { kind: "sent", channel, ts: String(standing.length) }
        return { kind: "unknown", error: "socket hang up" }
      },
      find: async ({ channel, key }: { channel: string; key: string }): Promise<Found> =>
        channel === "C1" && standing.includes(key) ? { kind: "found", ts: key } : { kind: "none" },
      update: async ({ channel, ts }: { channel: string; ts: string }) => ({ kind: "sent", channel, ts }),
      permalink: async () => null,
    } as unknown as Sender
    const delivery = deliveryOf(sender)
    for (let turn = 0; turn < 3; turn++) {
      await pool.query("update stepback.rollbacks set deliver_at = now() where id = $1", [id])
      await delivery.serveOne()
    }
    expect(standing).toEqual([`${id}/card`, `${id}/it/1`])
    expect(await store.outbox.listUnsent(id)).toEqual([])
  })

  it("calls no approvers for what was decided while Slack was away", async () => {
    const said: string[] = []
    const sender = {
      post: async ({ key, channel, drawn }) => {
        said.push(drawn.text)
        return { kind: "sent", channel, ts: key }
      },
      permalink: async () => null,
    } as Partial<Sender> as Sender
    const delivery = deliveryOf(sender)
    for (const decided of [false, true]) {
      await quiet()
      const { id } = await created(store)
      await pool.query(
        "update stepback.rollbacks set state = 'awaiting_approval', rehearsed_at = now() - interval '1 hour' where id = $1",
        [id],
      )
      expect(await store.waiting.nudge(1_000)).toBe(1)
      if (decided) await store.rollbacks.move(id, "denied", { actor: "U2BOB" })
      await delivery.serveOne()
      expect(await store.outbox.listUnsent(id)).toEqual([])
    }
    expect(said).toEqual(["card", "nudge", "card", "audit"])
  })

  it("has no step's messages taken for those of the analysis, whatever the step is called", async () => {
    const { id, epoch } = await running(store)
    await store.runs.finish(id, epoch, { state: "succeeded", reason: null, by: "stepback", analysis: {}, remindMs: 1 })
    const file = { kind: "file", what: "output", stepId: "analysis-check", attempt: 1 } as const
    await store.outbox.enqueue(id, `${id}/analysis-check/1/output`, file)
    await pool.query("update stepback.outbox set state = 'sent', ts = '' where rollback_id = $1", [id])
    await store.outbox.enqueue(id, `${id}/reminder/1`, { kind: "step", stepId: "reminder", attempt: 1 })
    const filled = { rootCause: "a", prevention: "b", followUps: [] }
    await store.analyses.fill(id, "U1ALICE", 0, filled)
    await store.analyses.fill(id, "U1ALICE", 1, { ...filled, prevention: "c" })
    const unsent = await store.outbox.listUnsent(id)
    expect(unsent.map(({ key }) => key)).not.toContain(`${id}/analysis-check/1/output`)
    expect(unsent.map(({ key }) => key)).toContain(`${id}/reminder/1`)
    const editions = unsent.flatMap(({ body }) =>
      body.kind === "file" && body.what === "analysis" ? body.edition : [],
    )
    expect(editions).toEqual([1, 2])
  })

  it("of a process that ends stops behind the message that is on its way; another goes on at once", async () => {
    await quiet()
    const { id } = await created(store)
    for (const name of ["a", "b", "c"])
      await store.outbox.enqueue(id, `${id}/text/${name}`, { kind: "text", text: name })
    const posted: string[] = []
    const listened = (heard: () => void) => {
      const taken = () => Promise.resolve({ kind: "sent", channel: "C1", ts: String(posted.length) } as const)
      const sender: Sender = {
        post: ({ key }) => {
          posted.push(key)
          heard()
          return taken()
        },
        update: taken,
        find: () => Promise.resolve({ kind: "none" }),
        findFile: () => Promise.resolve({ kind: "none" }),
        remove: () => Promise.resolve(true),
        upload: taken,
        permalink: () => Promise.resolve(null),
      }
      return deliveryOf(sender)
    }
    const ending = listened(() => {
      if (posted.length === 2) ending.close()
    })
    await ending.serveOne()
    expect(posted).toHaveLength(2)
    expect(await listened(() => undefined).serveOne()).toBe(true)
    expect(posted.slice(-3)).toEqual(["a", "b", "c"].map((name) => `${id}/text/${name}`))
    expect(posted).toHaveLength(4)
  })
})

async function waitingForLock(on: Pool): Promise<void> {
  for (;;) {
    const { rows } = await on.query(
      "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    )
    if (rows.length > 0) return
  }
}
