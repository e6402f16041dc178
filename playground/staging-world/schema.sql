create table scoring_config (
  key text primary key,
  value jsonb not null,
  updated_at timestamptz not null default now()
);

create table assessment_sessions (
  id uuid primary key default gen_random_uuid(),
  status text not null default 'open' check (status in ('open', 'completed')),
  started_at timestamptz not null default now(),
  completed_at timestamptz
);

create table assessment_responses (
  session_id uuid not null references assessment_sessions (id),
  question integer not null,
  value integer not null check (value between 1 and 5),
  created_at timestamptz not null default now(),
  primary key (session_id, question)
);

create table profiles (
  id uuid primary key default gen_random_uuid(),
  session_id uuid not null references assessment_sessions (id),
  results_version text not null,
  version text not null,
  scores jsonb not null,
  created_at timestamptz not null default now(),
  unique (session_id, results_version)
);
create index on profiles (results_version, created_at);

create table profile_answers (
  profile_id uuid not null references profiles (id) on delete cascade,
  dimension text not null,
  answered integer not null,
  mean numeric not null,
  primary key (profile_id, dimension)
);

create table fc_scores (
  session_id uuid not null references assessment_sessions (id),
  version text not null,
  scores jsonb not null,
  created_at timestamptz not null default now(),
  primary key (session_id, version)
);
create index on fc_scores (version, created_at);

create table function_logs (
  id bigint generated always as identity primary key,
  function text not null,
  level text not null check (level in ('info', 'error')),
  message text not null,
  created_at timestamptz not null default now()
);
create index on function_logs (created_at);
