import { createHash } from "node:crypto"
import type { PurgeStep, SqlStep } from "../plans/plan.ts"
import { pasteable, sqlLiteral } from "../plans/step-view.ts"
import type { Values } from "../plans/values.ts"
import { qualified, referringTo } from "../steps/catalog.ts"
import { splitName } from "../steps/purge-counts.ts"

/** Not one that an API in front of the database would show. */
const byHandSchema = "stepback_by_hand"
/** Postgres cuts longer names. */
const longestName = 63

/** Steps that write rows. */
export type Write = SqlStep | PurgeStep

/** Columns of a foreign key `f`, and those that it refers to, as lists to put between parentheses. */
const keyColumns = `(select string_agg(quote_ident(a.attname), ', ' order by k.n) from unnest(f.conkey) with ordinality as k (attnum, n)
        join pg_attribute a on a.attrelid = f.conrelid and a.attnum = k.attnum) as columns,
      (select string_agg(quote_ident(a.attname), ', ' order by k.n) from unnest(f.confkey) with ordinality as k (attnum, n)
        join pg_attribute a on a.attrelid = f.confrelid and a.attnum = k.attnum) as parents`

const referring = referringTo("source")

/** Foreign keys of the table to itself by which rows go along, where the purge lists it. */
const ownKeys = `pg_constraint f join pg_class c on c.oid = f.conrelid join pg_namespace n on n.oid = c.relnamespace
      where f.contype = 'f' and f.conrelid = source and f.confrelid = source and f.confdeltype not in ('n', 'd')
        and (c.relname = any(cascade) or n.nspname || '.' || c.relname = any(cascade))`

/** How a row `t` is told to be one that is kept. */
const sameRow = `select string_agg(format('t.%1$I = kept.%1$I', a.attname), ' and ') into same
    from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1])
    where i.indrelid = source and i.indisprimary;`

/**
 * Deletes the kept rows by their keys, since the condition may not hold any more when what refers to them is gone, and ends
 * the transaction where one of them, or of what refers to them, is spared.
 */
const removeProcedure = `create or replace procedure ${byHandSchema}.remove(kept regclass, source regclass)
language plpgsql as $$
declare
  n bigint;
  gone bigint;
  same text;
  child record;
begin
  ${sameRow}
  if same is null then
    raise exception '% has no primary key: its rows cannot be told apart, nothing is changed', source;
  end if;
  execute format('select count(*) from %s where stepback_kept_at = now()', kept) into n;
  execute format('delete from %s as t using %s as kept where kept.stepback_kept_at = now() and %s', source, kept, same);
  get diagnostics gone = row_count;
  if gone <> n then
    raise exception '% of % rows of % could be deleted: nothing is changed', gone, n, source;
  end if;
  for child in
    select f.conrelid::regclass as name,
      ${keyColumns}
    from pg_constraint f where ${referring}
  loop
    execute format('select count(*) from %s where (%s) in (select %s from %s where stepback_kept_at = now())', child.name, child.columns, child.parents, kept) into n;
    if n > 0 then
      raise exception '% rows of % still refer to what was deleted: nothing is changed', n, child.name;
    end if;
  end loop;
end $$;`

/**
 * Ends the transaction when the kept rows are not as many as expected, or when deleting them would take along or change
 * rows of other tables. Rows of the tables that a purge lists are kept as well, and deleted where no foreign key does it.
 */
export const guardProcedure = `create schema if not exists ${byHandSchema};
create or replace procedure ${byHandSchema}.guard(kept regclass, source regclass, fewest bigint, most bigint, most_share numeric, deletes boolean, cascade text[])
language plpgsql as $$
declare
  n bigint;
  total bigint;
  child record;
  kept_child text;
  same text;
  added bigint;
begin
  ${sameRow}
  loop
    added := 0;
    for child in select ${keyColumns} from ${ownKeys} and deletes loop
      execute format('insert into %1$s select now(), t.* from %2$s as t where (%3$s) in (select %4$s from %1$s where stepback_kept_at = now())
        and not exists (select from %1$s as kept where kept.stepback_kept_at = now() and %5$s) for update of t', kept, source, child.columns, child.parents, same);
      get diagnostics n = row_count;
      added := added + n;
    end loop;
    exit when added = 0;
  end loop;
  execute format('select count(*) from %s where stepback_kept_at = now()', kept) into n;
  if n not between fewest and most then
    raise exception '% rows of % match, % expected: nothing is changed', n, source, case when fewest = most then most::text else fewest || ' to ' || most end;
  end if;
  if most_share < 1 then
    execute format('select count(*) from %s', source) into total;
    if n > total * most_share then
      raise exception '% of the % rows of % match, more than the share of % that the plan allows: nothing is changed', n, total, source, most_share;
    end if;
  end if;
  for child in
    select i.inhrelid::regclass as name from pg_inherits i join pg_class c on c.oid = i.inhparent
    where i.inhparent = source and c.relkind = 'r' and deletes
  loop
    raise exception '% inherits from %, and its rows would go with columns that are not kept: nothing is changed', child.name, source;
  end loop;
  for child in
    select f.conrelid::regclass as name, c.relname, c.relname = any(cascade) or n.nspname || '.' || c.relname = any(cascade) as listed, f.confdeltype as action,
      ${keyColumns}
    from pg_constraint f join pg_class c on c.oid = f.conrelid join pg_namespace n on n.oid = c.relnamespace
    where ${referring} and deletes
  loop
    if child.listed and child.name = source and child.action not in ('n', 'd') then
      continue; -- Kept above, with what refers to them in turn.
    elsif child.listed then
      kept_child := format('${byHandSchema}.%I', left(split_part(replace(kept::text, '"', ''), '.', 2), 30) || '_' || left(child.relname, 32));
      execute format('create table if not exists %s as select now() as stepback_kept_at, kept.* from %s as kept with no data', kept_child, child.name);
      execute format('insert into %s select now(), child.* from %s as child where (%s) in (select %s from %s where stepback_kept_at = now()) for update', kept_child, child.name, child.columns, child.parents, kept);
      if child.action not in ('n', 'd') then
        call ${byHandSchema}.guard(kept_child::regclass, child.name, 0, ${Number.MAX_SAFE_INTEGER}, 1, true, cascade);
      end if;
      if child.action in ('a', 'r') then
        execute format('delete from %s where (%s) in (select %s from %s where stepback_kept_at = now())', child.name, child.columns, child.parents, kept);
      end if;
    else
      execute format('select count(*) from %s where (%s) in (select %s from %s where stepback_kept_at = now())', child.name, child.columns, child.parents, kept) into n;
      if n > 0 then
        raise exception '% rows of % refer to them and are not kept: nothing is changed', n, child.name;
      end if;
    end if;
  end loop;
end $$;
${removeProcedure}`

/** What a step writes, in the terms of the guard. */
type Written = {
  table: { schema: string | null; name: string; alias: string }
  /** From its WITH to its FROM and WHERE. */
  head: string
  matching: string
  statement: string
  fewest: number
  most: number
  mostShare: number
  deletes: boolean
  cascade: string[]
}

/** The statement, behind what keeps the rows that it is about to change or delete and looks whether they are as many as expected. */
export function keepAndWrite(environment: string, step: Write, values: Values, orFewer: boolean): string[] {
  const kept = `${byHandSchema}.${qualified(null, keptName(environment, step.id))}`
  const written = step.kind === "purge" ? purged(step, kept) : changed(step)
  if (written === null) {
    const statement = step.kind === "purge" ? "" : pasteable(step.sql, step.params, values)
    return step.kind === "sql" && step.facts.verb === "insert"
      ? [statement]
      : ["-- the rows as they were cannot be kept", statement]
  }
  const table = qualified(written.table.schema, written.table.name)
  const owner = qualified(null, written.table.alias)
  const selected = `insert into ${kept} ${written.head}select now(), ${owner}.* ${written.matching} for update of ${owner}`
  const cascade = `array[${written.cascade.map(sqlLiteral).join(", ")}]::text[]`
  const bounds = `${orFewer ? 0 : written.fewest}, ${written.most}, ${written.mostShare}`
  return [
    // Nobody writes in between: what is kept is what is changed. An isolation level would do as well, but not in editors
    // that send everything in one go.
    `lock table ${table} in share row exclusive mode;`,
    `create table if not exists ${kept} as select now() as stepback_kept_at, kept.* from ${table} as kept with no data;`,
    pasteable(selected, step.params, values),
    ...(step.expectRows.kind === "rehearsed"
      ? [
          "-- how many rows it should be says `stepback plan rehearse`; with rollback in the place of commit this is a trial",
        ]
      : []),
    `call ${byHandSchema}.guard(${sqlLiteral(kept)}, ${sqlLiteral(table)}, ${bounds}, ${written.deletes}, ${cascade});`,
    pasteable(written.statement, step.params, values),
  ]
}

function changed({ facts, sql, expectRows }: SqlStep): Written | null {
  if (facts.verb === "insert" || facts.table === null || facts.matching === null || !facts.reversible) return null
  return {
    table: facts.table,
    head: facts.with === null ? "" : `${facts.with} `,
    matching: facts.matching,
    statement: sql,
    fewest: expectRows.kind === "range" ? expectRows.min : 0,
    most: expectRows.kind === "range" ? Math.min(expectRows.max, Number.MAX_SAFE_INTEGER) : Number.MAX_SAFE_INTEGER,
    mostShare: 1,
    deletes: facts.verb === "delete",
    cascade: [],
  }
}

function purged(step: PurgeStep, kept: string): Written {
  const { schema, name } = splitName(step.table)
  // A line of its own for what follows: the condition may end in a comment.
  const matching = `from ${qualified(schema, name)} where ${step.where}\n`
  const { expectRows } = step
  return {
    table: { schema, name, alias: name },
    head: "",
    matching,
    statement: `call ${byHandSchema}.remove(${sqlLiteral(kept)}, ${sqlLiteral(qualified(schema, name))})`,
    fewest: expectRows.kind === "range" ? expectRows.min : 0,
    most: Math.min(step.atMost, expectRows.kind === "range" ? expectRows.max : step.atMost),
    mostShare: step.maxShare,
    deletes: true,
    cascade: step.cascade,
  }
}

function keptName(environment: string, stepId: string): string {
  const name = `${environment}_${stepId}`
  if (name.length <= longestName) return name
  return `${name.slice(0, longestName - 9)}_${createHash("sha256").update(name).digest("hex").slice(0, 8)}`
}
