import { once } from "node:events"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { createServer, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import pg from "pg"
import { startLocalPager, type LocalPager } from "../../playground/pager/local-pager.ts"
import { hasButton, startPlay, type Play } from "../../playground/scenarios/play.ts"
import type { Message } from "../../playground/slack/local-slack.ts"
import { startStage, type Stage } from "../../playground/stage.ts"
import type { StepbackProcess } from "../../playground/stepback-process.ts"

const webhook = '{ kind: webhook, url: "${ONCALL_HOOK_URL}", secret: "${ONCALL_HOOK_SECRET}" }'
const pagerDuty = '{ kind: pagerduty, key: "${PAGERDUTY_KEY}", url: "${PAGERDUTY_URL}" }'

type Wishes = {
  steps: string[]
  more?: string
  expires?: string
  hook?: string
  acknowledge?: string
  component?: string
}

function plan(environment: string, wishes: Wishes): string {
  return `version: 1
environment: ${environment}
title: Way back of ${environment}
target: { postgres: "\${TRIGGERS_DATABASE_URL}", http: "\${TRIGGERS_URL}" }
approve:
  low: { count: 1, from: anyone }
  medium: { count: 1, from: anyone }
  high: { count: 1, from: anyone }
  expires: ${wishes.expires ?? "60m"}
components:
  all:
    title: The whole
    risk: low
${wishes.component ?? ""}    steps:
${wishes.steps.map((step) => `      - ${step}\n`).join("")}escalate:
  channel: C0ONCALL
  mention: [S0ONCALL]
  acknowledge_within: ${wishes.acknowledge ?? "1s"}
  hook: ${wishes.hook ?? webhook}
${wishes.more ?? ""}`
}

const set = (name: string) =>
  `{ id: set, title: Set it, sql: "update settings set value = 'good' where name = '${name}'", expect: { rows: 1 } }`
const answers = "{ id: answers, title: The function answers, http: { path: /answers }, expect: { status: 200 } }"
const asked = "{ id: asked, title: Somebody looks, manual: Look at it, timeout: 10m }"
const held = (name: string) =>
  `{ id: held, title: It holds, check: "select value from settings where name = '${name}'", expect: { values: { value: good } } }`

const plans: Record<string, string> = {
  fine: plan("fine", {
    steps: [set("fine"), held("fine"), answers],
    more: "rto: 10m\nwatch: { for: 5s, every: 300ms, steps: [answers] }\n",
  }),
  sql: plan("sql", { steps: [set("sql")] }),
  functions: plan("functions", { steps: [answers] }),
  data: plan("data", { steps: [held("data")] }),
  slow: plan("slow", {
    steps: [answers],
    more: "watch: { for: 5m, every: 200ms, steps: [answers], slower_than: 4x, failures: 2 }\n",
  }),
  rto: plan("rto", { steps: [asked], more: "rto: 10m\n" }),
  late: plan("late", {
    steps: [`{ id: nap, title: A nap, check: "select pg_sleep(1.2)" }`, set("sql")],
    more: "rto: 1s\n",
  }),
  part: plan("part", { steps: [asked], component: "    rto: 2s\n" }),
  lost: plan("lost", { steps: [asked] }),
  nobody: plan("nobody", { steps: [answers], expires: "1s" }),
  revoked: plan("revoked", {
    steps: ["{ id: gate, title: The gate, http: { path: /gate }, expect: { status: 200 } }"],
    hook: pagerDuty,
    acknowledge: "10m",
  }),
}

/** What the plans call: it answers as it is told to. */
export const target = { status: 200, body: "{}", delayMs: 0 }

export type Town = {
  stage: Stage
  pager: LocalPager
  bot: StepbackProcess
  worker(): StepbackProcess
  startWorker(): Promise<void>
  play(): Play
  /** Asked by alice, approved by bob. */
  approved(environment: string): Promise<{ scene: Play; card: Message }>
  /** The newest call of this environment in #oncall for which it holds. */
  call(scene: Play, environment: string, holds: (message: Message) => boolean): Promise<Message>
  state(text: string, values?: unknown[]): Promise<Record<string, unknown>[]>
  inTarget(text: string): Promise<void>
  /** Resolves when a request is held at the gate; its answer is the caller's. */
  atTheGate(): Promise<ServerResponse>
  close(): Promise<void>
}

export async function openTown(): Promise<Town> {
  const folder = await mkdtemp(join(tmpdir(), "stepback-triggers-"))
  for (const [name, text] of Object.entries(plans)) await writeFile(join(folder, `${name}.yaml`), text)
  const gate: { open: (response: ServerResponse) => void; held: Promise<ServerResponse> | null } = {
    open: (response) => response.end("{}"),
    held: null,
  }
  const server = createServer((request, response) => {
    if (request.url === "/gate") return gate.open(response)
    setTimeout(() => response.writeHead(target.status).end(target.body), target.delayMs)
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  const pager = await startLocalPager()
  const stage = await startStage({ mode: "http", queue: "redis", plans: folder })
  const database = await stage.postgres.createDatabase("triggers")
  const query = async (url: string, text: string, values: unknown[] = []) => {
    const client = new pg.Client({ connectionString: url })
    await client.connect()
    try {
      return (await client.query<Record<string, unknown>>(text, values)).rows
    } finally {
      await client.end()
    }
  }
  await query(
    database,
    `create table settings (name text primary key, value text not null);
     insert into settings select n, 'bad' from unnest(array['fine', 'sql', 'data']) n;
     alter table settings add constraint sql_is_pinned check (name <> 'sql' or value = 'bad')`,
  )
  const environment = {
    TRIGGERS_DATABASE_URL: database,
    TRIGGERS_URL: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    ONCALL_HOOK_URL: pager.webhookUrl,
    ONCALL_HOOK_SECRET: pager.secret,
    PAGERDUTY_KEY: pager.routingKey,
    PAGERDUTY_URL: pager.pagerDutyUrl,
  }
  const bot = await stage.start({ STEPBACK_ROLE: "bot" })
  let worker = await stage.start({ STEPBACK_ROLE: "worker", ...environment })
  const play = () => startPlay(stage, () => undefined)
  return {
    stage,
    pager,
    bot,
    worker: () => worker,
    startWorker: async () => {
      worker = await stage.start({ STEPBACK_ROLE: "worker", ...environment })
    },
    play,
    async approved(name) {
      const scene = play()
      await scene.types("alice", `${name} it is broken`)
      const card = await scene.waitingCard()
      await scene.presses("bob", card, "approve")
      return { scene, card }
    },
    call: (scene, name, holds) =>
      scene.sees(
        "oncall",
        `a call for ${name}`,
        (message) => message.text.includes(`${name} rollback R-`) && holds(message),
      ),
    state: (text, values) => query(stage.environment["DATABASE_URL"] ?? "", text, values),
    inTarget: async (text) => void (await query(database, text)),
    atTheGate: () => {
      // What was looked at in the rehearsal is let through; the next one is held.
      gate.held ??= new Promise((resolve) => {
        gate.open = (response) => {
          gate.open = (other) => other.end("{}")
          gate.held = null
          resolve(response)
        }
      })
      return gate.held
    },
    async close() {
      await stage.stop()
      await pager.stop()
      server.close()
      server.closeAllConnections()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

export const isOpen = (message: Message): boolean => hasButton(message, "acknowledge")
