import { beforeAll, expect, it } from "vitest"
import { describe as describeReport, wrongs } from "../../playground/faults/storm/report.ts"
import { faultKinds } from "../../playground/faults/storm/schedule.ts"
import { keyOf } from "../../playground/faults/storm/people.ts"
import type { StormStage } from "../../playground/faults/storm/stage.ts"
import { runStorm, type Report } from "../../playground/faults/storm/storm.ts"

/** As it is printed, it plays the same faults again. The long storm is `npm run storm`. */
const seed = Number(process.env["STORM_SEED"] ?? 20_261_125)
const lastsMs = 30_000

let report: Report

beforeAll(async () => {
  console.log(`storm of ${lastsMs / 1000} s, STORM_SEED=${seed}`)
  report = await runStorm({ seed, lastsMs, kinds: faultKinds, tell: (line) => console.log(line), doWrong })
  for (const line of [...report.leftOut.map((why) => `left out: ${why}`), ...report.lines, describeReport(report)])
    console.log(line)
}, 900_000)

it("a short storm loses nothing, doubles nothing and leaves nothing stuck", () => {
  // How long a takeover takes is for the long storm, on a machine that does nothing else.
  expect(wrongs(report).filter((wrong) => !wrong.startsWith("takeovers:"))).toEqual([])

  // A storm in which nothing happened would prove nothing.
  const leftOut = faultKinds.filter((kind) => report.leftOut.some((why) => why.includes(kind)))
  const wanted = faultKinds.filter((kind) => !leftOut.includes(kind))
  const names = Object.keys(report.thrown)
  expect(wanted.filter((kind) => !names.some((name) => name.startsWith(kind)))).toEqual([])
  expect(report.takeovers.length).toBeGreaterThan(0)
  expect(report.count.rollbacks["rollback succeeded"]).toBeGreaterThan(0)
  expect(report.count.effects).toBeGreaterThan(0)
  expect(report.count.replies).toBeGreaterThan(0)
})

it("what is lost, doubled or out of order is counted", () => {
  expect(report.recount?.violations.map(({ what, kind }) => `${what} ${kind}`).sort()).toEqual([
    "effect doubled",
    "effect doubled",
    "effect lost",
    "reply doubled",
    "reply lost",
    "reply out of order",
  ])
})

/** Does to a rollback that went well what must not be, and one effect that is no rollback's. */
async function doWrong({ look, slack }: StormStage): Promise<void> {
  const { rows } = await look.state.query<{ id: string; environment: string; run: number }>(
    `select id, environment, (frozen::jsonb -> 'parameters' ->> 'run')::integer as run from stepback.rollbacks
     where kind = 'rollback' and state = 'succeeded' order by number limit 1`,
  )
  const [victim] = rows
  if (!victim) throw new Error("no rollback succeeded in the whole storm")
  const { id, environment, run } = victim
  const target = look.targets.get(environment)
  await target?.query("insert into marks (run, step) values ($1, 'put')", [run])
  await target?.query("delete from seen where run = $1 and step = 'raise' and what = 'done'", [run])
  await target?.query("insert into seen (run, step, what) values (9999, 'put', 'done')")

  const post = (method: string, args: Record<string, unknown>) =>
    fetch(`${slack.apiUrl}${method}`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${slack.botToken}` },
      body: JSON.stringify(args),
    })
  const card = slack.messages(environment).find((message) => keyOf(message) === `${id}/card`)
  const thread = slack.replies(environment, card?.ts ?? "")
  const [lost, twice, late] = thread.filter((message) => keyOf(message)?.includes("/audit") === false)
  if (!lost || !twice || !late) throw new Error(`the thread of ${id} has fewer than three replies`)
  await post("chat.delete", { channel: lost.channel, ts: lost.ts })
  await post("chat.delete", { channel: late.channel, ts: late.ts })
  for (const { channel, thread_ts, text, metadata } of [twice, late])
    await post("chat.postMessage", { channel, thread_ts, text, metadata })
}
