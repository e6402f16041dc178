import { execFile } from "node:child_process"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import pg from "pg"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { until } from "../../playground/faults/until.ts"
import type { Message } from "../../playground/slack/local-slack.ts"
import { startStage, type Stage } from "../../playground/stage.ts"
import { compileCache } from "../../playground/stepback-process.ts"
import { readPostedHead, type AuditEntry, type PostedHead } from "../../src/rollback/audit.ts"
import { isIntact, seeded, tamperings, tamperWith } from "./tampering.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))
const tries = 10_000

let stage: Stage
let state: pg.Pool
let folder: string

beforeAll(async () => {
  stage = await startStage({ mode: "http", queue: "redis" })
  state = new pg.Pool({ connectionString: stage.environment["DATABASE_URL"], max: 2 })
  folder = await mkdtemp(join(tmpdir(), "stepback-audit-"))
  await stage.start()
  for (const end of ["cancel", "run", "cancel", "run", "cancel"]) await rollback(end)
  await command("alice", "note R-2 the door stuck")
  await command("bob", "note R-5 so it was")
  // Both notes, and the end of the first run's watch, which the second one brought: a command is answered before it is done.
  await until("the heads of what came later", async () => {
    const later = await state.query("select from stepback.audit where kind in ('noted', 'watched')")
    const { rows } = await state.query<{ number: number; entries: number }>(
      "select number, audit_entries as entries from stepback.rollbacks order by number",
    )
    const told = rows.map((row) => heads(row.number).at(-1)?.head.entry === row.entries)
    return later.rowCount === 3 && told.length === 5 && told.every(Boolean)
  })
})
afterAll(async () => {
  await state.end()
  await stage.stop()
  await rm(folder, { recursive: true, force: true })
})

const command = (user: string, text: string) => stage.slack.command({ user, channel: "staging", text })
const cardOf = (number: number) =>
  stage.slack
    .messages("staging")
    .find(({ text }) => new RegExp(`R-${number}\\b`).test(text) && !text.startsWith("Post-"))

/** What stands in the rollback's thread, as a person would copy it. */
function heads(number: number): { head: PostedHead; message: Message }[] {
  const ts = cardOf(number)?.ts ?? ""
  return stage.slack.replies("staging", ts).flatMap((message) => {
    const head = readPostedHead(message.text)
    return head === null ? [] : [{ head: { ...head, edited: false }, message }]
  })
}

let number = 0
async function rollback(end: string): Promise<void> {
  number++
  await command("alice", "staging --only db-config why not")
  const card = await stage.slack.waitFor(() => {
    const found = cardOf(number)
    return found && JSON.stringify(found.blocks).includes('"approve"') ? found : null
  })
  if (end === "cancel") await command("alice", `cancel R-${number}`)
  else await stage.slack.click({ user: "bob", channel: "staging", ts: card.ts, action: "approve" })
  await stage.slack.waitFor(() => heads(number).length > 0, { timeoutMs: 20_000, what: `the head of R-${number}` })
}

function cli(words: string[], env: Record<string, string>): Promise<{ code: number; out: string; err: string }> {
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      ["src/cli.ts", "audit", ...words],
      {
        cwd: root,
        env: { PATH: process.env["PATH"], NODE_COMPILE_CACHE: compileCache, ...env },
        maxBuffer: 20_000_000,
      },
      (_error, out, err) => resolve({ code: child.exitCode ?? -1, out, err }),
    )
  })
}

const verify = (...words: string[]) => cli(["verify", ...words], stage.environment)

async function exported(): Promise<AuditEntry[]> {
  const { code, out } = await cli(["export"], stage.environment)
  expect(code).toBe(0)
  return out
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as AuditEntry)
}

/** Does as the database's owner what no trigger stops then, asks for the verdict, and puts everything back. */
async function tampered(...statements: string[]): Promise<{ code: number; out: string }> {
  const { rows: entries } = await state.query<{ all: string }>("select json_agg(a)::text as all from stepback.audit a")
  const { rows: ends } = await state.query<{ id: string; audit_entries: number; audit_head: string }>(
    "select id, audit_entries, audit_head from stepback.rollbacks",
  )
  await state.query("alter table stepback.audit disable trigger user")
  try {
    for (const statement of statements) await state.query(statement)
    return await verify()
  } finally {
    await state.query("delete from stepback.audit")
    await state.query("insert into stepback.audit select * from json_populate_recordset(null::stepback.audit, $1)", [
      entries[0]?.all,
    ])
    for (const { id, audit_entries, audit_head } of ends)
      await state.query("update stepback.rollbacks set audit_entries = $2, audit_head = $3 where id = $1", [
        id,
        audit_entries,
        audit_head,
      ])
    await state.query("alter table stepback.audit enable trigger user")
  }
}

const r2 = "rollback_id = (select id from stepback.rollbacks where number = 2)"
/** Every hash anew, chain after chain, and what the rollbacks say of them: nothing in the database contradicts itself. */
const restampAll = `do $$
  declare v record; v_previous text; v_old text; v_names jsonb := '{}';
  begin
    for v in select a.*, r.number from stepback.audit a join stepback.rollbacks r on r.id = a.rollback_id order by r.number, a.entry loop
      v_previous := coalesce(v_names ->> v.previous, v.previous);
      v_old := v.hash;
      v.hash := encode(sha256(convert_to(concat_ws(e'\n', v_previous, v.entry::text, v.at, v.kind, v.actor, v.facts), 'UTF8')), 'hex');
      update stepback.audit set previous = v_previous, hash = v.hash where rollback_id = v.rollback_id and entry = v.entry;
      v_names := v_names || jsonb_build_object(v_old, v.hash);
    end loop;
    update stepback.rollbacks r set audit_head = (select hash from stepback.audit a where a.rollback_id = r.id order by entry desc limit 1);
  end $$`

describe("the audit's heads", () => {
  it("stand in each ended rollback's thread, the newest last, and none is ever edited", async () => {
    expect((await verify()).out).toMatch(/^intact: \d+ entries; the newest head of 5 of 5 rollbacks compared/)
    for (const each of [1, 2, 3, 4, 5]) {
      const { rows } = await state.query<{ head: string; entries: number }>(
        "select audit_head as head, audit_entries as entries from stepback.rollbacks where number = $1",
        [each],
      )
      expect(heads(each).at(-1)?.head).toEqual({
        number: each,
        entry: rows[0]?.entries,
        hash: rows[0]?.head,
        edited: false,
      })
      expect(heads(each).some(({ message }) => message.edited)).toBe(false)
    }
  })

  it("are read from a file too, as copied or as JSON, and what was not compared is said", async () => {
    const copied = join(folder, "heads.txt")
    const [first] = heads(2)
    const { entry, hash } = heads(1)[0]?.head ?? { entry: 0, hash: "" }
    await writeFile(copied, `> ${first?.message.text ?? ""}\n{"hash":"${hash}","entry":${entry},"rollback":"R-1"}\n`)
    const { code, out, err } = await verify("--heads", copied)
    expect({ code, out }).toEqual({ code: 0, out: expect.stringContaining("newest head of 1 of 5 rollbacks") })
    expect(err).toMatch(/not compared.*R-2, R-3, R-4, R-5/)
    const { SLACK_BOT_TOKEN: _, ...without } = stage.environment
    const alone = await cli(["verify"], without)
    expect(alone).toMatchObject({ code: 0, err: expect.stringContaining("SLACK_BOT_TOKEN is missing") })
    await writeFile(copied, `{"entry":${entry},"rollback":"R-1","hash":"${"0".repeat(64)}"}`)
    expect(await verify("--heads", copied)).toMatchObject({ code: 1, out: expect.stringContaining(`R-1 entry`) })
    await writeFile(copied, `{"entry":1,"rollback":"R-6","hash":"${"0".repeat(64)}"}`)
    expect(await verify("--heads", copied)).toMatchObject({ code: 1, out: expect.stringContaining("R-6: its head") })
  })
})

describe("tampering through the database, seen on the command line", () => {
  it.each([
    ["an edit", [`update stepback.audit set actor = 'U0NOBODY' where ${r2} and entry = 3`], "R-2 entry 3"],
    ["a drop", [`delete from stepback.audit where ${r2} and entry = 3`], "R-2: entry 3 is missing"],
    [
      "a swap",
      [
        [0, 3],
        [3, 4],
        [4, 0],
      ].map(([to, from]) => `update stepback.audit set entry = ${to} where ${r2} and entry = ${from}`),
      "R-2 entry 3: it does not follow",
    ],
    [
      "a truncation, with the count put right",
      [
        `delete from stepback.audit where ${r2.replace("= 2)", "= 5)")} and entry > 2`,
        `update stepback.rollbacks set audit_entries = 2, audit_head = (select hash from stepback.audit where rollback_id = id and entry = 2) where number = 5`,
      ],
      "R-5: entry 3 was posted and is missing",
    ],
    [
      "a restamping of everything",
      [`update stepback.audit set actor = 'U0NOBODY' where ${r2} and entry = 3`, restampAll],
      "the chain was computed anew",
    ],
  ])("%s", async (_what, statements, words) => {
    expect(await tampered(...statements)).toMatchObject({
      code: 1,
      out: expect.stringContaining(words),
    })
    expect(await verify()).toMatchObject({ code: 0 })
  })

  it("a head that was edited in Slack is not trusted, and words that others post are not heads", async () => {
    const [posted] = heads(3)
    stage.slack.say({
      user: "carol",
      channel: "staging",
      thread_ts: cardOf(3)?.ts ?? "",
      text: `Audit head R-3, entry 1: ${"0".repeat(64)}`,
    })
    expect(await verify()).toMatchObject({ code: 0 })
    const { ts = "", text = "" } = posted?.message ?? {}
    await fetch(`${stage.slack.apiUrl}chat.update`, {
      method: "POST",
      headers: { authorization: `Bearer ${stage.slack.botToken}`, "content-type": "application/json" },
      body: JSON.stringify({
        channel: posted?.message.channel,
        ts,
        text: text.replace(/[0-9a-f]{64}/, "0".repeat(64)),
      }),
    })
    expect(await verify()).toMatchObject({ code: 1, out: expect.stringContaining("R-3 entry") })
  })
})

describe(`${tries} tamperings with the exported record`, () => {
  it("are all found, and some of them only by the posted heads", async () => {
    const record = await exported()
    const posted = [1, 2, 3, 4, 5]
      .flatMap((each) => heads(each).map(({ head }) => head))
      .filter(({ hash }) => !/^0+$/.test(hash))
    expect(isIntact(record, posted)).toBe(true)
    const random = seeded(20_260)
    const found = new Map<string, number>()
    let aloneMissed = 0
    for (let turn = 0; turn < tries; turn++) {
      const how = tamperings[turn % tamperings.length] ?? "edit"
      const after = tamperWith(record, how, random)
      if (!isIntact(after, posted)) found.set(how, (found.get(how) ?? 0) + 1)
      if (isIntact(after, [])) aloneMissed++
    }
    expect(Object.fromEntries(found)).toEqual(Object.fromEntries(tamperings.map((how) => [how, tries / 5])))
    expect(aloneMissed).toBeGreaterThan(tries / 20)
  }, 120_000)
})
