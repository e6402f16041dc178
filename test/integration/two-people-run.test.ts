import { readFile, writeFile } from "node:fs/promises"
import { basename, join } from "node:path"
import { afterAll, beforeAll, beforeEach, describe, expect, inject, it } from "vitest"

import { approve } from "../../src/commands/approve.ts"
import { stop } from "../../src/commands/cancel.ts"
import { loadView } from "../../src/commands/view.ts"
import { canonicalJson, sha256, type FrozenRun } from "../../src/plans/frozen.ts"
import type { StoredRollback } from "../../src/store/rows.ts"
import { as, startTown, type Town } from "./two-people-town.ts"

let town: Town

beforeAll(async () => {
  town = await startTown(inject("postgresUrl"))
})
beforeEach(() => town.reset())
afterAll(() => town.stop())

const sql = (text: string, values: unknown[]) => town.state.query(text, values)
const get = (card: StoredRollback) => town.store.rollbacks.get(card.id)
const press = (card: StoredRollback, who = "U0BOB") => approve({ token: card.token ?? "", actor: as(who) }, town.deps)
const deployed = () => readFile(join(town.repo, "deployed.txt"), "utf8")

async function approved(words: Parameters<Town["card"]>[0] = {}): Promise<StoredRollback> {
  const card = await town.card(words)
  const first = await press(card)
  if (first.kind === "counted") await press(card, "U0CAROL")
  expect(await get(card)).toMatchObject({ state: "approved" })
  return card
}

/** Swaps the frozen run for another one, digest and all, the way somebody with the state database's password would. */
async function tamper(card: StoredRollback, edit: (run: FrozenRun) => void, withDigest: boolean): Promise<void> {
  const run = JSON.parse(card.frozen ?? "") as FrozenRun
  edit(run)
  const frozen = canonicalJson(run)
  await sql("update stepback.rollbacks set frozen = $2, digest = $3 where id = $1", [
    card.id,
    frozen,
    withDigest ? sha256(frozen) : card.digest,
  ])
}

const raise = (run: FrozenRun) => {
  run.parameters["good"] = "666"
}

describe("bypass: what is changed between the approval and the run", () => {
  it.each<[string, () => Promise<unknown>, string]>([
    [
      "the script",
      () => writeFile(join(town.repo, "deploy.sh"), "#!/bin/sh\necho owned > deployed.txt\n"),
      "a file that a command runs",
    ],
    ["the target's variable", async () => (town.environment["SHOP_DATABASE_URL"] = town.otherUrl), "another database"],
    [
      "the host's variable",
      async () => (town.environment["SHOP_URL"] = "http://127.0.0.2:1"),
      "another database or host",
    ],
  ])("%s: nothing runs, the approvers are asked again", async (_what, change, moved) => {
    const before = { ...town.environment }
    const card = await approved({ with: ["service"] })
    await change()
    await town.work(card.id)
    Object.assign(town.environment, before)
    expect(await get(card)).toMatchObject({
      state: "preparing",
      approved_at: null,
      moved: [expect.stringContaining(moved) as string],
    })
    expect(await town.store.approvals.list(card.id, card.round)).toEqual([])
    expect(await town.version()).toBe("2")
  })

  it("the tag: what runs is the commit that was shown", async () => {
    const shown = await town.git("rev-parse", "good")
    const card = await approved({ with: ["service"] })
    await town.git("tag", "--force", "good", "HEAD")
    await town.work(card.id)
    expect(await get(card)).toMatchObject({ state: "succeeded" })
    expect((await deployed()).trim()).toBe(`1 ${shown}`)
  })

  it("a script in a folder that a parameter names: it runs as it was approved, and not otherwise", async () => {
    const place = '  place: { type: string, default: "." }\napprove:'
    town.written.source = town.written.source.replace("approve:", place).replace("{SHOP_REPO}", "{SHOP_REPO}/$place")
    const first = await approved({ with: ["service"] })
    await town.work(first.id)
    expect(await get(first)).toMatchObject({ state: "succeeded" })
    const second = await approved({ with: ["service"], parameters: { place: "../" + basename(town.repo) } })
    await writeFile(join(town.repo, "deploy.sh"), "#!/bin/sh\necho owned > deployed.txt\n")
    await town.work(second.id)
    expect(await get(second)).toMatchObject({ state: "preparing" })
    expect(await deployed()).not.toContain("owned")
  })

  it("the plan file: what runs is what was approved", async () => {
    const card = await approved()
    town.written.source = town.written.source.replace('default: "1"', 'default: "666"')
    await town.work(card.id)
    expect(await town.version()).toBe("1")
  })

  it("an approver who may no longer: void before the first step", async () => {
    const card = await approved({ with: ["data"] })
    town.workspace.groups.set("S0ONCALL", ["U0CAROL"])
    await sql("update stepback.rollbacks set approved_at = now() - interval '1 hour' where id = $1", [card.id])
    await town.work(card.id)
    expect(await get(card)).toMatchObject({ state: "preparing", moved: ["an approver may no longer approve"] })
    expect(await town.version()).toBe("2")
  })

  it("Stop before the first step stops, whatever else has moved", async () => {
    const card = await approved({ with: ["service"] })
    expect(await stop(await get(card), as("U0ALICE"), town.deps)).toEqual({ kind: "stopping" })
    await writeFile(join(town.repo, "deploy.sh"), "#!/bin/sh\n")
    await town.work(card.id)
    expect(await get(card)).toMatchObject({ state: "stopped", ended_by: "U0ALICE" })
    expect(await town.version()).toBe("2")
  })
})

describe("bypass: somebody with the password of the state database", () => {
  it.each<[string, (card: StoredRollback) => Promise<unknown>]>([
    ["state := approved", (card) => sql("update stepback.rollbacks set state = 'approved' where id = $1", [card.id])],
    ["state := running", (card) => sql("update stepback.rollbacks set state = 'running' where id = $1", [card.id])],
    [
      "an approval by the requester",
      (card) =>
        sql(
          "insert into stepback.approvals (rollback_id, round, user_id, requester_id, digest) values ($1, $2, 'U0ALICE', 'U0ALICE', $3)",
          [card.id, card.round, card.digest],
        ),
    ],
    [
      "an approval under a wrong requester",
      (card) =>
        sql(
          "insert into stepback.approvals (rollback_id, round, user_id, requester_id, digest) values ($1, $2, 'U0ALICE', 'U0BOB', $3)",
          [card.id, card.round, card.digest],
        ),
    ],
    [
      "a row that is inserted as running",
      (card) =>
        sql(
          `insert into stepback.rollbacks (id, number, kind, environment, title, state, requester_id, channel_id, reason, selection, round, frozen, digest)
         select gen_random_uuid(), 1000000 + number, 'rollback', environment || '2', title, 'running', requester_id, channel_id, reason, selection, round,
           frozen, digest from stepback.rollbacks where id = $1`,
          [card.id],
        ),
    ],
    [
      "no approvals needed",
      (card) => sql("update stepback.rollbacks set approvals_needed = 0 where id = $1", [card.id]),
    ],
    ["an edited audit", (card) => sql("update stepback.audit set actor = 'U0BOB' where rollback_id = $1", [card.id])],
  ])("%s is refused by the database itself", async (_what, statement) => {
    const card = await town.card()
    await expect(statement(card)).rejects.toThrow()
    await town.work(card.id)
    expect(await get(card)).toMatchObject({ state: "awaiting_approval" })
    expect(await town.version()).toBe("2")
  })

  it.each<[string, (card: StoredRollback) => Promise<unknown>]>([
    [
      "a rollback that calls itself a rehearsal",
      (card) => sql("update stepback.rollbacks set kind = 'rehearsal', state = 'running' where id = $1", [card.id]),
    ],
    [
      "one approval where two are asked for",
      async (card) => {
        await press(card)
        await sql("update stepback.rollbacks set approvals_needed = 1 where id = $1", [card.id])
        await sql("update stepback.rollbacks set state = 'approved' where id = $1", [card.id])
      },
    ],
  ])("%s is refused by the worker", async (_what, statement) => {
    const card = await town.card({ with: ["data"] })
    await statement(card)
    await town.work(card.id)
    expect(await town.version()).toBe("2")
    expect(await get(card)).toMatchObject({
      state: "failed",
      end_reason: expect.stringContaining("approvals") as string,
    })
  })

  it("frozen bytes that were swapped after the approval do not run", async () => {
    const card = await approved()
    await tamper(card, raise, false).catch(() => undefined)
    await tamper(card, raise, true).catch(() => undefined)
    await town.work(card.id)
    expect(await town.version()).not.toBe("666")
    expect((await get(card)).end_reason ?? "").not.toContain("succeeded")
  })

  it("frozen bytes that were swapped before the approval do not run", async () => {
    const card = await town.card()
    await tamper(card, raise, false)
    await press(card)
    await town.work(card.id)
    expect(await get(card)).toMatchObject({ state: "failed", end_reason: expect.stringContaining("digest") as string })
    expect(await town.version()).toBe("2")
  })
})

describe("parameters", () => {
  it("SQL in a value stays a value", async () => {
    const good = "1';drop_table_config;--"
    const card = await approved({ parameters: { good } })
    await town.work(card.id)
    expect(await town.version()).toBe(good)
  })

  it.each(["$(touch pwned)", "`id`", "a;b", "../../etc/passwd", "*", "-rf"])(
    "%s reaches a program as one argument",
    async (good) => {
      const card = await approved({ with: ["service"], parameters: { good } })
      await town.work(card.id)
      expect((await deployed()).trim()).toBe(`${good} ${await town.git("rev-parse", "good")}`)
    },
  )

  it.each(["--upload-pack=x", "-x", "a b", "$(id)", "HEAD;ls", "x\u0000"])("the ref %s is refused", async (ref) => {
    await expect(town.card({ with: ["service"], parameters: { ref } })).rejects.toThrow("bad_parameter")
  })

  it.each(["__proto__", "constructor", "toString"])("a parameter named %s is none", async (name) => {
    const parameters = Object.fromEntries([[name, "x"]])
    await expect(town.card({ parameters })).rejects.toThrow("unknown_parameter")
  })

  it.each(["${SHOP_OTHER_SECRET}", "$${SHOP_OTHER_SECRET}", "$good${SHOP_OTHER_SECRET}"])(
    "%s reads no variable of the worker, in no argument and no header",
    async (good) => {
      const card = await approved({ with: ["service", "answer"], parameters: { good } })
      await town.work(card.id)
      expect(await deployed()).toContain(good)
      expect(town.site.seen.at(-1)?.headers["x-label"]).toBe(good)
      expect(JSON.stringify(town.site.seen)).not.toContain("another-team")
    },
  )

  it.each(["/evil.example/x", "\\evil.example", "@evil.example", "/@evil.example", "..//evil.example"])(
    "%s in a path leads to no other host",
    async (good) => {
      const card = await town.card({ with: ["answer"], parameters: { good } })
      const [, answer] = (JSON.parse(card.frozen ?? "") as FrozenRun).rehearsal.steps
      expect(town.site.seen.every(({ url }) => url.startsWith("/"))).toBe(true)
      expect(town.site.seen.length === 1 || /own target only|leads to another path/.test(answer?.note ?? "")).toBe(true)
    },
  )
})

describe("what a target answers", () => {
  it.each<[string, { status?: number; body?: string; headers?: Record<string, string> }]>([
    ["an escaped NUL", { status: 500, body: '{"error":"a\\u0000b"}' }],
    ["a NUL", { status: 500, body: "a\u0000b" }],
    ["an emoji where the text is cut", { status: 500, body: `${"x".repeat(299)}😀 and more` }],
    ["ten megabytes", { status: 500, body: "x".repeat(10_000_000) }],
    ["a redirect to a host within", { status: 302, headers: { location: "http://169.254.169.254/latest/meta-data" } }],
  ])("%s: the run ends and can be shown", async (_what, answer) => {
    const card = await approved({ with: ["answer"] })
    Object.assign(town.site.answer, answer)
    await town.work(card.id)
    const ended = await get(card)
    expect(ended.state).toBe("failed")
    const view = await loadView(town.store, ended)
    expect(JSON.stringify(view.stepRuns).length).toBeLessThan(5_000)
    expect(town.site.seen).toHaveLength(2)
  })

  it.each<[string, string]>([
    ["an escaped NUL", '{"label":"a\\u0000b"}'],
    ["half of a character", '{"label":"a\\ud800b"}'],
    ["an emoji where the text is cut", JSON.stringify({ label: `${"x".repeat(199)}😀 and more` })],
  ])("%s, at the rehearsal, does not keep later cards from being shown", async (_what, body) => {
    const { body: fine } = town.site.answer
    town.site.answer.body = body
    const card = await town.card({ with: ["answer"] })
    await press(card)
    town.site.answer.body = fine
    await town.work(card.id)
    expect((await get(card)).state).toBe("succeeded")
    expect((await loadView(town.store, await town.card({ with: ["answer"] }))).forecast?.runs).toBeGreaterThan(0)
  })

  it.each<[string, string, string]>([
    ["whole", "key-that-nobody-may-see", "denied: key-that-nobody-may-see"],
    ["across the cut", "key-that-nobody-may-see", `${"x".repeat(290)}key-that-nobody-may-see`],
    ["in JSON", 'key"that/nobody\\sees', JSON.stringify({ error: 'key"that/nobody\\sees' })],
    ["without the line feed of its file", "key-that-nobody-may-see\n", "denied: key-that-nobody-may-see"],
    ["in an address", "key that+nobody/sees", `see /login?key=${encodeURIComponent("key that+nobody/sees")}`],
  ])("our key, told back %s, is stored and shown nowhere", async (_how, key, body) => {
    town.environment["SHOP_KEY"] = key
    Object.assign(town.site.answer, { status: 403, body })
    const card = await approved({ with: ["answer"] })
    await town.work(card.id)
    const everything = JSON.stringify([
      await loadView(town.store, await get(card)),
      (await sql("select * from stepback.step_runs", [])).rows,
    ])
    expect(everything).toContain("403")
    for (const trace of ["nobody", "key-t", "key t", "key%20"]) expect(everything).not.toContain(trace)
  })
})

describe("words of people", () => {
  it.each([
    "\\u0000",
    "\u0000",
    "\ud800",
    "a\udc00b",
    "\u202e\u200b",
    "x".repeat(10_000),
    "'; drop table stepback.rollbacks; --",
  ])("the reason %j is taken", async (reason) => {
    const card = await town.card({ reason })
    expect(card.state).toBe("awaiting_approval")
    expect(Array.from(card.reason).length).toBeLessThan(520)
  })
})

describe("a worker's environment that is wrong", () => {
  it.each([
    ["no address", "nonsense"],
    ["a password with a bare percent sign", "postgres://user:100%@127.0.0.1:1/shop"],
    ["a password with a hash", "postgres://user:pa#ss@127.0.0.1:1/shop"],
  ])("%s: the request gets its card or its end, and the password is not in it", async (_what, url) => {
    town.environment["SHOP_DATABASE_URL"] = url
    const card = await town.card()
    expect(["awaiting_approval", "cancelled"]).toContain(card.state)
    for (const trace of ["100%", "pa#ss"]) expect(JSON.stringify(card)).not.toContain(trace)
  })

  it("a variable that is missing ends the request with its name", async () => {
    delete town.environment["SHOP_DATABASE_URL"]
    expect(await town.card()).toMatchObject({
      state: "cancelled",
      end_reason: expect.stringContaining("SHOP_DATABASE_URL is not set") as string,
    })
  })
})
