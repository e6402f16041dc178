import { expect, it } from "vitest"
import { describe as describeReport, wrongs } from "../../playground/faults/storm/report.ts"
import { faultKinds } from "../../playground/faults/storm/schedule.ts"
import type { Message } from "../../playground/slack/local-slack.ts"
import { runStorm } from "../../playground/faults/storm/storm.ts"

/** As it is printed, it plays the same faults again. The long storm is `npm run storm`. */
const seed = Number(process.env["STORM_SEED"] ?? 20_261_125)
const lastsMs = 30_000

it("a short storm loses nothing, doubles nothing and leaves nothing stuck", { timeout: 900_000 }, async () => {
  console.log(`storm of ${lastsMs / 1000} s, STORM_SEED=${seed}`)
  const report = await runStorm({ seed, lastsMs, kinds: faultKinds, tell: (line) => console.log(line) })
  for (const line of [...report.leftOut.map((why) => `left out: ${why}`), ...report.lines, describeReport(report)])
    console.log(line)
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

it("what is lost, doubled or out of order is counted", { timeout: 900_000 }, async () => {
  const report = await runStorm({
    seed,
    lastsMs: 10_000,
    kinds: [],
    tell: () => undefined,
    async beforeCount({ look, slack }) {
      const run = async (environment: string, sql: string) => look.targets.get(environment)?.query(sql)
      await run("e1", "insert into marks (run, step) select run, step from marks order by id limit 1")
      await run("e2", "delete from seen where n = (select min(n) from seen)")
      await run("e3", "insert into seen (run, step, what) values (9999, 'put', 'done')")
      const threads = ["e4", "e5", "e6"].map((name) => {
        const [card] = slack.messages(name)
        return { name, replies: slack.replies(name, card?.ts ?? "") }
      })
      const post = (method: string, args: Record<string, unknown>) =>
        fetch(`${slack.apiUrl}${method}`, {
          method: "POST",
          headers: { "content-type": "application/json", authorization: `Bearer ${slack.botToken}` },
          body: JSON.stringify(args),
        })
      const [lost, twice, late] = threads
      const again = ({ channel, thread_ts, text, metadata }: Message) =>
        post("chat.postMessage", { channel, thread_ts, text, metadata })
      const first = [lost, twice, late].map((thread) => thread?.replies[0])
      if (first[0]) await post("chat.delete", { channel: first[0].channel, ts: first[0].ts })
      if (first[1]) await again(first[1])
      if (first[2]) {
        await post("chat.delete", { channel: first[2].channel, ts: first[2].ts })
        await again(first[2])
      }
    },
  })
  const found = report.count.violations.map(({ what, kind, said }) => `${said.slice(0, 2)} ${what} ${kind}`)
  expect(found.sort()).toEqual([
    "e1 effect doubled",
    "e2 effect lost",
    "e3 effect doubled",
    "e4 reply lost",
    "e5 reply doubled",
    "e6 reply out of order",
  ])
})
