-- Snapshots of configuration tables. Runs load them by hash: what was shown is what goes back.
create table stepback.baselines (
  id bigint generated always as identity primary key,
  environment text not null,
  name text not null,
  sha256 text not null,
  -- Canonical JSON, whose hash that is.
  content text not null,
  tables jsonb not null,
  captured_at timestamptz not null,
  captured_by text not null,
  kept_at timestamptz not null default now()
);
create index baselines_newest on stepback.baselines (environment, name, id desc);
create index baselines_by_hash on stepback.baselines (sha256);

-- Only workers may see a target: a wish from Slack waits here for one. It is no rollback and has no card, so its answer
-- is posted from here too. `due_at` is the lease of whoever serves it.
create table stepback.baseline_requests (
  id uuid primary key,
  -- The same request delivered twice is one.
  request_key text unique,
  environment text not null,
  what text not null check (what in ('capture', 'diff')),
  name text not null,
  requester_id text not null,
  channel_id text not null,
  state text not null default 'waiting' check (state in ('waiting', 'answered', 'posting', 'posted', 'refused')),
  attempts integer not null default 0,
  answer jsonb,
  created_at timestamptz not null default now(),
  due_at timestamptz not null default now()
);
create index baseline_requests_due on stepback.baseline_requests (due_at) where state in ('waiting', 'answered', 'posting');
