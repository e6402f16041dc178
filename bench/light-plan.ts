import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import type { BenchEnvironment } from "./rig.ts"

/** A small table with a primary key, a configuration row, and what fills both again. */
export const lightSchema = `
create table bench_config (key text primary key, value text not null);
insert into bench_config values ('version', 'bad');
create table bench_rows (id integer primary key, version text not null, note text not null);
insert into bench_rows select n, 'bad', repeat('x', 40) from generate_series(1, 2000) n;
analyze;`

export const refill = `
update bench_config set value = 'bad' where key = 'version';
insert into bench_rows select n, 'bad', repeat('x', 40) from generate_series(1, 15) n on conflict do nothing;`

export const deletions = [1, 2, 3, 4, 5].map((n) => ({
  id: `remove-${n}`,
  read: `select id, version from bench_rows where id between ${n * 3 - 2} and ${n * 3}`,
  remove: `delete from bench_rows where id between ${n * 3 - 2} and ${n * 3}`,
}))

const head = (environment: BenchEnvironment, http: boolean) => `version: 1
environment: ${environment.name}
title: A benchmark
target:
  postgres: \${${environment.variable}}
${http ? "  http: ${BENCH_URL}\n" : ""}params:
  good: { type: string, default: good }
request: anyone
approve:
  low: { count: 1, from: anyone }
  medium: { count: 1, from: anyone }
  high: { count: 1, from: anyone }
  expires: 60m
rto: 15m
components:
  all:
    title: All of it
    risk: low
    steps:
      - id: set-version
        sql: update bench_config set value = $1 where key = 'version'
        params: [good]
        expect: { rows: 1 }
`

const tail = `escalate:
  channel: C0ONCALL
  mention: [S0ONCALL]
`

/** One update: the shortest rollback that there is. */
export function onePlan(environment: BenchEnvironment): string {
  return head(environment, false) + tail
}

/** Eight light steps: an update, five small reads and deletes, a call, a check. */
export function lightPlan(environment: BenchEnvironment): string {
  const removals = deletions.map(
    ({ id, remove }) => `      - id: ${id}
        sql: ${remove}
        expect: { rows: 3 }
`,
  )
  return `${head(environment, true)}${removals.join("")}      - id: call
        http: { method: POST, path: /call, json: { version: $good } }
        effect: none
        expect: { status: 200, json: { /version: $good } }
      - id: version-is-good
        check: select value from bench_config where key = 'version'
        expect: { rows: 1, values: { value: $good } }
${tail}success:
  - { text: The version is good, from: version-is-good }
`
}

/** What the plan's HTTP step calls: answers what it was sent. */
export async function startEcho(): Promise<{ url: string; stop(): Promise<void> }> {
  const server = createServer((request, response) => {
    const parts: Buffer[] = []
    request.on("data", (part: Buffer) => parts.push(part))
    request.on("end", () => response.writeHead(200, { "content-type": "application/json" }).end(Buffer.concat(parts)))
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}
