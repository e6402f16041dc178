import { chmod, mkdir, readFile, writeFile } from "node:fs/promises"
import { createServer } from "node:http"
import { once } from "node:events"
import type { AddressInfo } from "node:net"
import { join } from "node:path"

export const environments = ["e1", "e2", "e3", "e4", "e5", "e6"]
/** Rows that a run removes. */
export const badRows = 40
/** Steps whose effect and ledger entry are one transaction, and how many rows each touches. */
export const rowsOfStep: Record<string, number> = { raise: 1, put: 1, remove: badRows, "put-more": 1, "raise-more": 1 }
/** Steps with an effect outside: the same key is one effect. */
export const keyedSteps = ["call", "append"]

/** Runs are told apart by the parameter `run`, so that effects are counted without what Stepback says about itself. */
const planOf = (environment: string) => `version: 1
environment: ${environment}
title: Through a storm
target: { postgres: "\${${environment.toUpperCase()}_DATABASE_URL}", http: "\${STORM_URL}" }
params:
  run: { type: integer, default: 0 }
approve:
  low: { count: 1, from: anyone }
  medium: { count: 1, from: anyone }
  high: { count: 1, from: anyone }
  expires: 45s
components:
  rows:
    risk: low
    steps:
      - { id: raise, sql: "update counters set n = n + 1, run = $1 where id = 1", params: [run], expect: { rows: 1 } }
      - { id: put, sql: "insert into marks (run, step) values ($1, 'put')", params: [run], expect: { rows: 1 } }
      - { id: call, http: { method: POST, path: /call, json: { run: $run }, attempts: 20, every: 200ms }, effect: keyed, irreversible: it counts, timeout: 20s }
      - { id: remove, purge: { table: bad, where: "run = $1", at_most: 1000, max_share: 100%, batch: 15 }, params: [run], expect: { rows: rehearsed } }
  outside:
    risk: low
    steps:
      - { id: append, command: [./append.sh, ${environment}, $run], cwd: "\${STORM_FOLDER}", effect: keyed, irreversible: it counts, timeout: 20s }
      - { id: put-more, sql: "insert into marks (run, step) values ($1, 'put-more')", params: [run], expect: { rows: 1 } }
      - { id: raise-more, sql: "update counters set n = n + 1, run = $1 where id = 2", params: [run], expect: { rows: 1 } }
      - { id: all-there, check: "select count(*)::integer as n from marks where run = $1", params: [run], expect: { rows: 1, values: { n: 2 } } }
success:
  - { text: All is there, from: all-there }
analysis: { remind: 24h }
`

/** Appends who asks, and says more than a reply holds, so that a file follows. */
const program = `#!/bin/sh
sleep 0.1
echo "$1 $2 $IDEMPOTENCY_KEY" >> "$(dirname "$0")/appended.txt"
i=0
while [ $i -lt 20 ]; do echo "appended for $1, run $2, and this is line $i of what there is to say"; i=$((i + 1)); done
`

/** Each effect is written down by a trigger in its transaction: which run, which step, done or undone. */
export const targetSchema = `create table counters (id integer primary key, n integer not null default 0, run integer not null default 0);
  insert into counters (id) values (1), (2);
  create table marks (id bigint generated always as identity primary key, run integer not null, step text not null);
  create table bad (id bigint generated always as identity primary key, run integer not null, pad text not null);
  create index on bad (run);
  create table seen (n bigint generated always as identity primary key, run integer not null, step text not null, what text not null);
  create function see_counter() returns trigger language plpgsql as $$
  begin
    perform pg_sleep(0.08);
    insert into seen (run, step, what) values (case when new.n > old.n then new.run else old.run end,
      case when new.id = 1 then 'raise' else 'raise-more' end, case when new.n > old.n then 'done' else 'undone' end);
    return new;
  end $$;
  create trigger see after update on counters for each row execute function see_counter();
  create function see_mark() returns trigger language plpgsql as $$
  begin
    perform pg_sleep(0.08);
    insert into seen (run, step, what) select coalesce(new.run, old.run), coalesce(new.step, old.step), case when tg_op = 'INSERT' then 'done' else 'undone' end;
    return null;
  end $$;
  create trigger see after insert or delete on marks for each row execute function see_mark();
  create function see_bad() returns trigger language plpgsql as $$
  begin
    if tg_op = 'INSERT' and new.pad = 'fresh' then return null; end if;
    insert into seen (run, step, what) values (coalesce(new.run, old.run), 'remove', case when tg_op = 'INSERT' then 'undone' else 'done' end);
    return null;
  end $$;
  create trigger see after insert or delete on bad for each row execute function see_bad();`

/** Rows that the bad version left, for a run to remove; written down when they come back, not when they first come. */
export const leaveBadRows = `with fresh as (insert into bad (run, pad) select $1, 'fresh' from generate_series(1, ${badRows}) returning id) select count(*) from fresh`
export const settleBadRows = "update bad set pad = 'bad' where run = $1"

export type World = {
  plans: string
  /** What plans read, but for the databases. */
  env: Record<string, string>
  /** `step run` -> the keys under which it was asked for. */
  keyed(environment: string): Promise<Map<string, Set<string>>>
  stop(): Promise<void>
}

/** The plans, and what they reach outside of databases: a server and a file that count. */
export async function createWorld(home: string): Promise<World> {
  const plans = join(home, "plans")
  await mkdir(plans, { recursive: true })
  for (const environment of environments) await writeFile(join(plans, `${environment}.yaml`), planOf(environment))
  await writeFile(join(home, "append.sh"), program)
  await chmod(join(home, "append.sh"), 0o755)
  const appended = join(home, "appended.txt")
  await writeFile(appended, "")
  const calls = new Map<string, Set<string>>()
  const server = createServer((request, response) => {
    let body = ""
    request.on("data", (chunk: Buffer) => (body += chunk.toString()))
    request.on("end", () => {
      const { run } = JSON.parse(body) as { run: unknown }
      add(calls, `call ${String(run)}`, String(request.headers["idempotency-key"]))
      setTimeout(() => response.writeHead(200).end("{}"), 60)
    })
  }).listen(0, "127.0.0.1")
  await once(server, "listening")
  return {
    plans,
    env: { STORM_URL: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, STORM_FOLDER: home },
    async keyed(environment) {
      const keys = new Map(calls)
      for (const line of (await readFile(appended, "utf8")).split("\n")) {
        const [of, run, key] = line.split(" ")
        if (of === environment && run !== undefined && key !== undefined) add(keys, `append ${run}`, key)
      }
      return keys
    },
    async stop() {
      server.close()
      server.closeAllConnections()
      await once(server, "close")
    },
  }
}

function add(keys: Map<string, Set<string>>, name: string, key: string): void {
  keys.set(name, (keys.get(name) ?? new Set()).add(key))
}
