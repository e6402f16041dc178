/** Apart from the rest, since ledgers of before have no such table. Never the value that was asked for. */
export const erasuresSql = `-- How many kept rows were erased for a person's sake, so that an undo can say what it does not bring back.
create table if not exists stepback_ledger.erasures (
  rollback_id uuid not null,
  step_id text not null,
  relation text not null,
  rows integer not null,
  erased_at timestamptz not null default clock_timestamp()
);
`

/**
 * What Stepback keeps in a target database. Effects and their ledger entries commit together, so they are also lost
 * together: a target that was restored from a backup says by itself what it no longer has.
 */
export const ledgerSql = `-- Stepback's ledger and archive in a target database. Safe to run again.
create schema if not exists stepback_ledger;

-- The youngest worker of each rollback. A transaction of an older one is refused.
create table if not exists stepback_ledger.fence (
  rollback_id uuid primary key,
  epoch integer not null
);

-- What was done: one entry a step and batch, written in the transaction of its effect.
create table if not exists stepback_ledger.entries (
  rollback_id uuid not null,
  step_id text not null,
  batch integer not null,
  digest text not null,
  result jsonb not null,
  done_at timestamptz not null default clock_timestamp(),
  primary key (rollback_id, step_id, batch)
);

-- Rows as they were before a step (as they became, for an insert): the row's own text, exact for every type.
create table if not exists stepback_ledger.before_images (
  rollback_id uuid not null,
  step_id text not null,
  n bigint generated always as identity,
  relation text not null,
  operation text not null check (operation in ('update', 'delete', 'insert')),
  row_text text not null,
  -- The row as the step left it: what undo compares with, before it touches anything.
  after_text text,
  kept_at timestamptz not null default clock_timestamp(),
  primary key (rollback_id, step_id, n)
);

-- Tables of removed rows: one for each table that a step of a run took rows of, with that table's own columns.
create table if not exists stepback_ledger.archives (
  name text primary key,
  rollback_id uuid not null,
  step_id text not null,
  relation text not null,
  columns jsonb not null,
  -- Parents come back before their children.
  depth integer not null,
  -- Columns that a foreign key emptied; null where the rows themselves were removed.
  cut jsonb,
  created_at timestamptz not null default clock_timestamp()
);
create index if not exists archives_of_step on stepback_ledger.archives (rollback_id, step_id);

${erasuresSql}`
