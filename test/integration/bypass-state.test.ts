import { execFile } from "node:child_process"
import { randomUUID } from "node:crypto"
import { readdir, readFile } from "node:fs/promises"
import pg from "pg"
import { afterAll, beforeAll, beforeEach, describe, expect, inject, it } from "vitest"
import { compileCache } from "../../playground/stepback-process.ts"
import { approve } from "../../src/commands/approve.ts"
import { deny } from "../../src/commands/deny.ts"
import { retry, skip } from "../../src/commands/reopen.ts"
import { canonicalJson, sha256, type FrozenRun } from "../../src/plans/frozen.ts"
import { runtimeRoleSql } from "../../src/store/roles.ts"
import type { StoredRollback } from "../../src/store/rows.ts"
import { as, plan, startTown, type Town } from "./two-people-town.ts"

/** Past the code: what the bot's own role could write if nothing in it checked, and bytes that are edited anywhere. */
let town: Town
/** The state database as the bot and the workers see it, with no more rights than they have. */
let runtime: pg.Pool
const role = `bypass_${randomUUID().slice(0, 8)}`

beforeAll(async () => {
  town = await startTown(inject("postgresUrl"))
  await town.state.query(`${runtimeRoleSql(role, "no_queue_here")}; alter role ${role} password 'only-for-this-test'`)
  const url = Object.assign(new URL(town.stateUrl), { username: role, password: "only-for-this-test" })
  runtime = new pg.Pool({ connectionString: url.href, max: 2 })
})
beforeEach(() => town.reset())
afterAll(async () => {
  await runtime.end()
  await town.state.query(`drop owned by ${role}; drop role ${role}`)
  await town.stop()
})

type Outcome = { kind: string; refusal?: { reason: string } }
const refusalOf = (outcome: Outcome) => outcome.refusal?.reason ?? outcome.kind
const get = ({ id }: { id: string }) => town.store.rollbacks.get(id)
const press = (card: StoredRollback, who = "U0BOB") => approve({ token: card.token ?? "", actor: as(who) }, town.deps)
const write = (sql: string, values: unknown[] = []) => runtime.query(sql, values)

const give = (
  card: StoredRollback,
  facts: { user?: string; requester?: string; digest?: string | null; round?: number },
) =>
  write(
    "insert into stepback.approvals (rollback_id, round, user_id, requester_id, digest) values ($1, $2, $3, $4, $5)",
    [
      card.id,
      facts.round ?? card.round,
      facts.user ?? "U0BOB",
      facts.requester ?? card.requester_id,
      facts.digest ?? card.digest,
    ],
  )
const setState = (card: StoredRollback, state: string) =>
  write("update stepback.rollbacks set state = $2 where id = $1", [card.id, state])

/** Nothing of it ran, and nothing will. */
async function expectNothing(card: StoredRollback): Promise<void> {
  await town.work(card.id)
  expect(await town.version()).toBe("2")
  expect(["approved", "running", "succeeded"]).not.toContain((await get(card)).state)
}

describe("bypass: the bot's role, with every check of the code taken out", () => {
  it.each<[string, string, (card: StoredRollback) => Promise<unknown>]>([
    ["approved, without any approval", "SB002", (card) => setState(card, "approved")],
    ["running, without any approval", "SB002", (card) => setState(card, "running")],
    ["an approval by the requester", "23514", (card) => give(card, { user: "U0ALICE" })],
    [
      "an approval by the requester under another's name",
      "23503",
      (card) => give(card, { user: "U0ALICE", requester: "U0BOB" }),
    ],
    [
      "an approval of other bytes",
      "SB002",
      async (card) => {
        await give(card, { digest: "0".repeat(64) })
        await setState(card, "approved")
      },
    ],
    [
      "an approval of another round",
      "SB002",
      async (card) => {
        await give(card, { round: card.round + 1 })
        await setState(card, "approved")
      },
    ],
    [
      "an approval that was taken back",
      "SB002",
      async (card) => {
        await give(card, {})
        await write("update stepback.approvals set voided_at = now() where rollback_id = $1", [card.id])
        await setState(card, "approved")
      },
    ],
    [
      "an approval by whoever asked for a Skip",
      "SB002",
      async (card) => {
        const skips = JSON.stringify({ set: { by: "U0BOB", reason: "x" } })
        await write("update stepback.rollbacks set skips = $2 where id = $1", [card.id, skips])
        await give(card, {})
        await setState(card, "approved")
      },
    ],
    [
      "one person twice",
      "23505",
      async (card) => {
        await give(card, {})
        await give(card, {})
      },
    ],
    [
      "no approvals needed",
      "23514",
      (card) => write("update stepback.rollbacks set approvals_needed = 0 where id = $1", [card.id]),
    ],
    [
      "another requester, so that the first may approve",
      "SB004",
      (card) => write("update stepback.rollbacks set requester_id = 'U0CAROL' where id = $1", [card.id]),
    ],
    ["an approval of nothing", "23503", (card) => give({ ...card, id: randomUUID() }, {})],
    ["the triggers switched off", "42501", () => write("alter table stepback.rollbacks disable trigger all")],
    ["the triggers passed over", "42501", () => write("set session_replication_role = replica")],
    ["approvals deleted", "42501", (card) => write("delete from stepback.approvals where rollback_id = $1", [card.id])],
    [
      "a card given another digest",
      "42501",
      (card) => write("update stepback.cards set digest = 'x' where token = $1", [card.token]),
    ],
  ])("%s: refused by the database (%s)", async (_what, code, attempt) => {
    const card = await town.card()
    await expect(attempt(card)).rejects.toMatchObject({ code })
    await expectNothing(card)
  })

  it("whoever asked for a Skip, taken off the list of those: refused by the worker, by the approved bytes", async () => {
    const first = await town.card()
    await press(first)
    await town.breakTarget()
    await town.work(first.id)
    await town.mendTarget()
    await skip(await get(first), "not needed", as("U0CAROL"), town.deps)
    await town.work(first.id)
    const card = await get(first)
    await write("update stepback.rollbacks set skips = '{}' where id = $1", [card.id])
    await give(card, { user: "U0CAROL" })
    await setState(card, "approved")
    await town.work(card.id)
    expect(await get(card)).toMatchObject({
      state: "failed",
      end_reason: expect.stringContaining("approvals") as string,
    })
  })

  it("a card made by hand, for a round and bytes of one's own, takes no decision", async () => {
    const card = await town.card()
    const token = randomUUID()
    await write("insert into stepback.cards (token, rollback_id, round, digest) values ($1, $2, $3, $4)", [
      token,
      card.id,
      card.round,
      "0".repeat(64),
    ])
    expect(refusalOf(await approve({ token, actor: as("U0BOB") }, town.deps))).toBe("old_card")
    expect(refusalOf(await deny({ token, actor: as("U0BOB"), reason: "" }, town.deps))).toBe("old_card")
    await expectNothing(card)
  })

  it("the token of a hand-made card, put on the rollback: its bytes are not those of the digest", async () => {
    const card = await town.card()
    const token = randomUUID()
    await write("insert into stepback.cards (token, rollback_id, round, digest) values ($1, $2, $3, $4)", [
      token,
      card.id,
      card.round,
      "0".repeat(64),
    ])
    await write("update stepback.rollbacks set token = $2 where id = $1", [card.id, token])
    expect(refusalOf(await approve({ token, actor: as("U0BOB") }, town.deps))).toBe("already_decided")
    await expectNothing(card)
  })
})

describe("bypass: bytes, digest and round edited", () => {
  const other = (card: StoredRollback) => {
    const run = JSON.parse(card.frozen ?? "") as FrozenRun
    run.parameters["good"] = "666"
    return canonicalJson(run)
  }
  const edit = (card: StoredRollback, set: string, values: unknown[]) =>
    write(`update stepback.rollbacks set ${set} where id = $1`, [card.id, ...values])

  it.each<[string, (card: StoredRollback) => Promise<unknown>, string]>([
    ["the digest alone", (card) => edit(card, "digest = $2", ["0".repeat(64)]), "already_decided"],
    [
      "bytes and digest",
      (card) => edit(card, "frozen = $2, digest = $3", [other(card), sha256(other(card))]),
      "already_decided",
    ],
    ["the round", (card) => edit(card, "round = round + 1", []), "already_decided"],
    ["the token", (card) => edit(card, "token = $2", [randomUUID()]), "old_card"],
  ])("%s, before the press: the card does not approve it", async (_what, change, reason) => {
    const card = await town.card()
    await change(card)
    expect(refusalOf(await press(card))).toBe(reason)
    await expectNothing(card)
  })

  it.each<[string, (card: StoredRollback) => Promise<unknown>]>([
    ["the bytes", (card) => edit(card, "frozen = $2", [other(card)])],
    ["bytes and digest", (card) => edit(card, "frozen = $2, digest = $3", [other(card), sha256(other(card))])],
    ["the round", (card) => edit(card, "round = round + 1", [])],
    ["the digest", (card) => edit(card, "digest = $2", ["0".repeat(64)])],
  ])("%s, after the approval and under the run's nose, is refused or does not run", async (_what, change) => {
    const card = await town.card()
    await press(card)
    await change(await get(card)).catch(() => undefined)
    await town.work(card.id)
    expect(["1", "2"]).toContain(await town.version())
    const { rows } = await town.state.query(
      "select from stepback.approvals a join stepback.rollbacks r on r.id = a.rollback_id and r.digest = a.digest where r.id = $1",
      [card.id],
    )
    if ((await town.version()) === "1") expect(rows).toHaveLength(1)
  })

  it("what was asked for (component, parameter), after the approval: what was approved runs", async () => {
    const card = await town.card()
    await press(card)
    const selection = JSON.stringify({ only: null, with: ["data"], parameters: { good: "666" } })
    await edit(card, "selection = $2", [selection])
    await town.work(card.id)
    expect(await town.version()).toBe("1")
    expect((await town.store.runs.listSteps(card.id)).map(({ stepId }) => stepId)).toEqual(["set"])
  })

  it("the bytes of a run that failed, before its Retry: nothing more runs", async () => {
    const card = await town.card()
    await press(card)
    await town.breakTarget()
    await town.work(card.id)
    await town.mendTarget()
    await edit(card, "frozen = $2", [other(card)])
    await retry(await get(card), as("U0ALICE"), town.deps).catch(() => undefined)
    await town.work(card.id)
    expect(await town.version()).toBe("2")
    expect(await get(card)).toMatchObject({ state: "failed" })
  })

  it("a run of one rollback copied into another: it is for that one alone", async () => {
    const donor = await town.card({ parameters: { good: "7" } })
    await town.store.rollbacks.move(donor.id, "cancelled", { actor: "U0ALICE" })
    const card = await town.card()
    await edit(card, "frozen = $2, digest = $3", [donor.frozen, donor.digest])
    await give(card, { digest: donor.digest })
    await setState(card, "approved")
    await town.work(card.id)
    expect(await get(card)).toMatchObject({
      state: "failed",
      end_reason: expect.stringContaining("approvals") as string,
    })
    expect(await town.version()).toBe("2")
  })
})

describe("bypass: people who change between the press and the run", () => {
  it.each<[string, () => unknown]>([
    ["who was taken out of the group", () => town.workspace.groups.set("S0ONCALL", ["U0CAROL"])],
    [
      "who was deactivated",
      () => town.workspace.known.set("U0BOB", town.workspace.person("U0BOB", { isDeactivated: true })),
    ],
    ["who became a guest", () => town.workspace.known.set("U0BOB", town.workspace.person("U0BOB", { isGuest: true }))],
  ])("an approver %s does not count at the second approval", async (_what, change) => {
    const card = await town.card({ with: ["data"] })
    expect(await press(card, "U0BOB")).toMatchObject({ kind: "counted" })
    change()
    expect(await press(card, "U0CAROL")).toMatchObject({ kind: "counted", have: 1 })
    await expectNothing(card)
  })

  it("a group that shrank between the two presses of one moment lets nobody in", async () => {
    const card = await town.card({ with: ["data"] })
    town.workspace.groups.set("S0ONCALL", [])
    for (const who of ["U0BOB", "U0CAROL"]) expect(refusalOf(await press(card, who))).toBe("not_in_audience")
    await expectNothing(card)
  })
})

describe("bypass: the plan's own policy", () => {
  it("made looser between the card and the press approves nothing, whoever is let in by it", async () => {
    const card = await town.card({ with: ["data"] })
    town.written.source = plan.replace(
      "medium: { count: 2, from: [S0ONCALL, U0LEAD] }",
      "medium: { count: 1, from: anyone }",
    )
    expect(refusalOf(await press(card, "U0DAVE"))).toBe("not_in_audience")
    expect(refusalOf(await press(card, "U0BOB"))).toBe("changed")
    await expectNothing(card)
  })
})

describe("bypass: the command line", () => {
  const cli = (...words: string[]) =>
    new Promise<{ code: unknown; said: string }>((resolve) => {
      const env = { PATH: process.env["PATH"], NODE_COMPILE_CACHE: compileCache, DATABASE_URL: town.stateUrl }
      execFile(process.execPath, ["src/cli.ts", ...words], { env }, (error, out, err) =>
        resolve({ code: error?.code ?? 0, said: out + err }),
      )
    })

  it.each([["approve"], ["approve R-1"], ["rollback approve"], ["skip"], ["retry"]])("has no %s", async (words) => {
    expect(await cli(...words.split(" "))).toEqual({ code: 1, said: expect.stringContaining("no command") as string })
  })

  it("reaches no use case that decides", async () => {
    const folder = new URL("../../src/cli/", import.meta.url)
    const sources = await Promise.all((await readdir(folder)).map((name) => readFile(new URL(name, folder), "utf8")))
    const decide = /commands\/(approve|deny|reopen|confirm|undo|request)\.ts|store\.approvals|approvalStore/
    expect(sources.filter((source) => decide.test(source))).toEqual([])
  })
})
