import { randomUUID } from "node:crypto"
import type { Pool } from "pg"
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest"
import { createDelivery, type DeliveryDeps, type Sender, type Sent } from "../../src/jobs/deliver.ts"
import { createLogger } from "../../src/log.ts"
import type { Store } from "../../src/store/store.ts"
import { awaiting, created, freshState, running } from "./store-fixture.ts"

let pool: Pool
let store: Store

beforeAll(async () => {
  ;({ pool, store } = await freshState())
})
afterAll(() => pool.end())
beforeEach(() =>
  pool.query("update stepback.rollbacks set deliver_at = null, card_sent_version = card_version, lane_owner = null"),
)

const refused = (error: string, hopeless = true): Sent => ({ kind: "refused", error, hopeless })

/** A Slack that takes all but what the test says; `said`: where each message went, in order. */
function slackThat(
  answers: Partial<Record<"post" | "update" | "upload", (key: string, channel: string) => Sent | null>>,
) {
  const said: string[] = []
  const answer = (how: "post" | "update" | "upload", key: string, channel: string): Sent => {
    const own = answers[how]?.(key, channel)
    if (own) return own
    said.push(`${how} ${key.replace(/^[0-9a-f-]{36}\//, "")} ${channel}`)
    return { kind: "sent", channel, ts: String(said.length) }
  }
  const sender: Sender = {
    post: async ({ key, channel }) => answer("post", key, channel),
    update: async ({ key, channel }) => answer("update", key, channel),
    upload: async ({ name, channel }) => answer("upload", name, channel),
    find: async () => ({ kind: "none" }),
    findFile: async () => ({ kind: "none" }),
    remove: async () => true,
    permalink: async () => "https://slack/p1",
  }
  return { said, sender }
}

async function serve(id: string, sender: Sender, how: Partial<DeliveryDeps> = {}): Promise<void> {
  const log = how.log ?? createLogger({ level: "silent", role: "worker" })
  const plain = { draw: ({ kind }: { kind: string }) => ({ text: kind }), document: () => null }
  const delivery = createDelivery({ store, sender, ...plain, ...how, newId: randomUUID, log })
  await pool.query("update stepback.rollbacks set deliver_at = now() where id = $1", [id])
  await delivery.serveOne()
}

const call = {
  trigger: "step_failed" as const,
  stepId: "it",
  headline: "it failed",
  byHand: null,
  evidence: [],
  mention: [],
  channelId: "C-ONCALL",
  acknowledgeWithinMs: 60_000,
  hook: null,
}

/** The views of these tests have no frozen run. */
const forget = (id: string) => pool.query("update stepback.rollbacks set frozen = null where id = $1", [id])

describe("what Slack refuses", () => {
  it("is logged with the block that it points at, and goes out as plain text", async () => {
    const { id } = await created(store)
    const lines: string[] = []
    const log = createLogger({
      level: "error",
      role: "worker",
      destination: { write: (line) => void lines.push(line) },
    })
    const blocks = [{ type: "divider" }, { type: "section", text: "x".repeat(3_001) }]
    const forms: boolean[] = []
    const { sender } = slackThat({})
    const post: Sender["post"] = async ({ drawn, channel }) => {
      forms.push(drawn.blocks !== undefined)
      if (drawn.blocks === undefined) return { kind: "sent", channel, ts: "1" }
      return refused("invalid_blocks: [ERROR] must be less than 3001 characters [json-pointer:/blocks/1/text]", false)
    }
    await serve(id, { ...sender, post }, { draw: ({ kind }) => ({ text: kind, blocks }), log })
    expect(forms).toEqual([true, false])
    const line = JSON.parse(lines[0] ?? "") as { blocks: string[]; msg: string }
    expect(line.msg).toContain("plain text follows")
    expect(line.blocks).toHaveLength(1)
    expect(line.blocks[0]).toMatch(/^\{"type":"section","text":"x+… 3\d{3} characters$/)
  })

  it("in the escalation channel is said in the rollback's own, whatever the reason", async () => {
    const { id } = await created(store)
    await store.records.raise(id, `${id}/it`, randomUUID(), call)
    const { said, sender } = slackThat({
      post: (_key, channel) => (channel === "C-ONCALL" ? refused("some_new_restriction", false) : null),
    })
    await serve(id, sender)
    expect(said).toEqual(["post card C1", "post it/1 C1"])
  })

  it.each(["rollback", "rehearsal"] as const)(
    "as a card of a %s is no wait for nobody: it ends, and who asked hears why",
    async (kind) => {
      const { id, environment } = await created(store, { kind })
      const { said, sender } = slackThat({ post: (key) => (key.endsWith("/card") ? refused("not_in_channel") : null) })
      await serve(id, sender)
      expect(said[0]).toBe("post no-card U1ALICE")
      expect(await store.rollbacks.get(id)).toMatchObject({
        state: "cancelled",
        end_reason: expect.stringContaining("not_in_channel"),
      })
      expect(await store.rollbacks.findLive(environment)).toBeNull()
    },
  )

  it("as an edit of a card that somebody deleted is posted anew, so that it can be decided", async () => {
    const { id } = await awaiting(store)
    await forget(id)
    let gone = false
    const { said, sender } = slackThat({ update: () => (gone ? refused("message_not_found") : null) })
    await serve(id, sender)
    gone = true
    await pool.query("select stepback.redraw_card($1)", [id])
    await serve(id, sender)
    expect(said).toEqual(["post card C1", "post card C1"])
    expect(await store.rollbacks.get(id)).toMatchObject({ card_state: "sent", card_ts: "2" })
  })

  it.each([
    ["cant_update_message", awaiting, 2],
    ["edit_window_closed", awaiting, 2],
    ["edit_window_closed", running, 1],
  ] as const)(
    "as an edit for good (%s) of a card that waits is posted anew, or nobody could decide",
    async (error, begin, cards) => {
      const { id } = await begin(store)
      await forget(id)
      const { said, sender } = slackThat({ update: () => refused(error) })
      await serve(id, sender)
      await pool.query("select stepback.redraw_card($1)", [id])
      await serve(id, sender)
      expect(said).toEqual(Array.from({ length: cards }, () => "post card C1"))
    },
  )

  it.each(["running", "succeeded"])(
    "as an edit of a card that somebody deleted is posted anew before what is said in its thread: %s",
    async (state) => {
      const { id } = await running(store)
      await forget(id)
      let gone = false
      const { said, sender } = slackThat({ update: () => (gone ? refused("message_not_found") : null) })
      await serve(id, sender)
      gone = true
      await pool.query("update stepback.rollbacks set state = $2, ended_at = now() where id = $1", [id, state])
      await pool.query("select stepback.redraw_card($1)", [id])
      await store.outbox.enqueue(id, `${id}/text`, { kind: "text", text: "it" })
      await serve(id, sender)
      expect(said).toEqual(["post card C1", "post card C1", "post text C1"])
    },
  )

  it.each(["message_not_found", "cant_update_message", "edit_window_closed"])(
    "as the last edit of a card (%s) is posted anew where a failed run waits for Retry or Skip, and not once it is left",
    async (error) => {
      const { id } = await running(store)
      await forget(id)
      const { said, sender } = slackThat({ update: () => refused(error) })
      await serve(id, sender)
      await pool.query("update stepback.rollbacks set state = 'failed', ended_at = now() where id = $1", [id])
      await pool.query("select stepback.redraw_card($1)", [id])
      await serve(id, sender)
      expect(said).toEqual(["post card C1", "post card C1"])
      await pool.query("update stepback.rollbacks set left_by = 'U2BOB', left_at = now() where id = $1", [id])
      await pool.query("select stepback.redraw_card($1)", [id])
      await serve(id, sender)
      expect(said).toHaveLength(2)
    },
  )

  it("as a reply to a card that somebody deleted follows the card, which is posted anew", async () => {
    const { id } = await running(store)
    await forget(id)
    await serve(id, slackThat({}).sender)
    await pool.query("update stepback.rollbacks set card_ts = 'old' where id = $1", [id])
    await store.outbox.enqueue(id, `${id}/text`, { kind: "text", text: "it" })
    const threads: (string | null)[] = []
    const { said, sender } = slackThat({ update: () => refused("message_not_found") })
    const post: Sender["post"] = async (message) => {
      threads.push(message.threadTs)
      return message.threadTs === "old" ? refused("thread_not_found", true) : sender.post(message)
    }
    await serve(id, { ...sender, post })
    expect(said).toEqual(["post card C1", "post text C1"])
    expect(threads).toEqual(["old", null, "1"])
  })

  it("as a reply to a card that is there is no reason to post the card again and again", async () => {
    const { id } = await running(store)
    await forget(id)
    await serve(id, slackThat({}).sender)
    await store.outbox.enqueue(id, `${id}/text`, { kind: "text", text: "it" })
    const { said, sender } = slackThat({ post: (key) => (key.endsWith("/text") ? refused("thread_not_found") : null) })
    await serve(id, sender)
    expect(said).toEqual(["update card C1"])
  })

  it("as one drawing of a card does not keep the next from being tried", async () => {
    const { id } = await awaiting(store)
    await forget(id)
    let odd = true
    const { said, sender } = slackThat({ update: () => (odd ? refused("some_new_error", false) : null) })
    await serve(id, sender)
    for (const how of [true, false]) {
      odd = how
      await pool.query("select stepback.redraw_card($1)", [id])
      await serve(id, sender)
    }
    expect(said).toEqual(["post card C1", "update card C1"])
  })

  it("as an edit is tried again with the message's next drawing", async () => {
    const { id } = await created(store)
    await store.outbox.enqueue(id, `${id}/analysis`, { kind: "text", text: "it" })
    let odd = true
    const { said, sender } = slackThat({ update: () => (odd ? refused("some_new_error", false) : null) })
    await serve(id, sender)
    for (const how of [true, false]) {
      odd = how
      await pool.query("select stepback.edit_messages($1, $2)", [id, `${id}/analysis`])
      await serve(id, sender)
    }
    expect(said).toEqual(["post card C1", "post analysis C1", "update analysis C1"])
  })
})

it("an analysis that the channel did not take is posted with its next edition, other words are not", async () => {
  const { id } = await created(store)
  await store.outbox.enqueue(id, `${id}/text`, { kind: "text", text: "it" })
  await store.outbox.enqueue(id, `${id}/analysis`, { kind: "analysis" })
  let away = true
  const { said, sender } = slackThat({
    post: (key) => (away && !key.endsWith("/card") ? refused("restricted_action") : null),
  })
  await serve(id, sender)
  away = false
  for (const key of ["text", "analysis"])
    await pool.query("select stepback.edit_messages($1, $2)", [id, `${id}/${key}`])
  await serve(id, sender)
  expect(said).toEqual(["post card C1", "post analysis C1"])
})

it("an analysis that somebody deleted is posted with its next edition, other words are not", async () => {
  const { id } = await created(store)
  await store.outbox.enqueue(id, `${id}/text`, { kind: "text", text: "it" })
  await store.outbox.enqueue(id, `${id}/analysis`, { kind: "analysis" })
  const { said, sender } = slackThat({
    update: (key) => (key.endsWith("/card") ? null : refused("message_not_found")),
  })
  await serve(id, sender)
  expect(said).toEqual(["post card C1", "post text C1", "post analysis C1"])
  for (const key of ["text", "analysis"])
    await pool.query("select stepback.edit_messages($1, $2)", [id, `${id}/${key}`])
  await serve(id, sender)
  expect(said.slice(3)).toEqual(["post analysis C1"])
})

describe("a channel that the bot is taken out of in the middle of a run", () => {
  /** Its card stands, and this waits to be said. */
  async function left(error: string) {
    const { id } = await running(store)
    await forget(id)
    await serve(id, slackThat({}).sender)
    await store.outbox.enqueue(id, `${id}/first`, { kind: "text", text: "it" })
    await store.records.raise(id, `${id}/trouble`, randomUUID(), call)
    await store.outbox.enqueue(id, `${id}/second`, { kind: "text", text: "it" })
    await pool.query("select stepback.redraw_card($1)", [id])
    const slack = { away: true }
    const answer = (_: string, channel: string) => (slack.away && channel === "C1" ? refused(error) : null)
    return { id, slack, ...slackThat({ post: answer, update: answer }) }
  }

  it.each(["not_in_channel", "channel_not_found", "is_archived"])(
    "hears all of it in order when it is back (%s); a call for help elsewhere does not wait",
    async (error) => {
      const { id, slack, said, sender } = await left(error)
      await serve(id, sender)
      expect(said).toEqual(["post trouble/1 C-ONCALL"])
      expect((await store.outbox.listUnsent(id)).map(({ state }) => state)).toEqual(["pending", "pending"])
      const due = "select deliver_at > now() + interval '20 seconds' as later from stepback.rollbacks where id = $1"
      expect((await pool.query(due, [id])).rows).toEqual([{ later: true }])
      slack.away = false
      await serve(id, sender)
      expect(said.slice(1)).toEqual(["update card C1", "post first C1", "post second C1"])
    },
  )

  it("is waited for for a week", async () => {
    const { id, said, sender } = await left("not_in_channel")
    await pool.query("update stepback.outbox set created_at = now() - interval '8 days' where rollback_id = $1", [id])
    await pool.query(
      "update stepback.rollbacks set ended_at = now() - interval '8 days', state = 'stopped' where id = $1",
      [id],
    )
    await serve(id, sender)
    expect(said).toEqual(["post trouble/1 C-ONCALL"])
    expect(await store.outbox.listUnsent(id)).toEqual([])
  })
})

describe("what waits", () => {
  it("for files alone does not hold up messages: after a while they are given up, and that is said", async () => {
    const { id } = await created(store)
    const { said, sender } = slackThat({ upload: () => ({ kind: "unknown", error: "ENOTFOUND" }) })
    await store.outbox.enqueue(id, `${id}/file`, { kind: "file", what: "output", stepId: "it", attempt: 1 })
    await store.outbox.enqueue(id, `${id}/text`, { kind: "text", text: "after it" })
    const document: DeliveryDeps["document"] = ({ kind }) => (kind === "file" ? { name: "it.txt", content: "x" } : null)
    for (let n = 0; n < 8; n++) await serve(id, sender, { document })
    expect(said).toEqual(["post card C1"])
    await serve(id, sender, { document })
    expect(said).toEqual(["post card C1", "post text C1", "post file/not-sent C1"])
  })

  it("for the limit of edits does not hold up what is to be said", async () => {
    const { id } = await running(store)
    await forget(id)
    let busy = false
    const { said, sender } = slackThat({ update: () => (busy ? { kind: "limited", waitMs: 30_000 } : null) })
    await serve(id, sender)
    busy = true
    await pool.query("select stepback.redraw_card($1)", [id])
    await store.outbox.enqueue(id, `${id}/text`, { kind: "text", text: "it" })
    await serve(id, sender)
    expect(said).toEqual(["post card C1", "post text C1"])
  })

  it("for a reason that may pass, as an edit of the card, does not hold up what is to be said", async () => {
    const { id } = await running(store)
    await forget(id)
    await serve(id, slackThat({}).sender)
    const { said, sender } = slackThat({ update: () => ({ kind: "unknown", error: "internal_error" }) })
    await pool.query("select stepback.redraw_card($1)", [id])
    await store.records.raise(id, `${id}/trouble`, randomUUID(), call)
    await serve(id, sender)
    expect(said).toEqual([expect.stringMatching(/^post trouble\/1 /)])
  })

  it("for Slack is told once: a call that is not taken does not pile up", async () => {
    const { id } = await created(store)
    await store.records.raise(id, `${id}/it`, randomUUID(), call)
    const due = "update stepback.escalations set next_telling_at = now() where rollback_id = $1"
    for (let n = 0; n < 3; n++) {
      await pool.query(due, [id])
      await store.records.tellAgain()
    }
    const { said, sender } = slackThat({})
    await serve(id, sender)
    expect(said).toEqual(["post card C1", "post it/1 C-ONCALL"])
    await pool.query(due, [id])
    await store.records.tellAgain()
    await serve(id, sender)
    expect(said.slice(2)).toEqual(["post it/5 C-ONCALL"])
  })
})

it("an approval of what is decided already is not taken back by a late click", async () => {
  const { id, round } = await awaiting(store)
  await store.approvals.approve({ rollbackId: id, round, digest: "d1", userId: "U2BOB", teamId: "T1" })
  await store.approvals.void(id, round, ["U2BOB"], "may no longer approve")
  expect(await store.approvals.list(id, round)).toMatchObject([{ userId: "U2BOB" }])
  expect(await store.runs.claim(id, "worker", 60_000)).not.toBeNull()
})
