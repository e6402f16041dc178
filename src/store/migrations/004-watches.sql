-- What an ended rollback is watched for. Not a state of the rollback: its environment is free meanwhile.
create table stepback.watches (
  rollback_id uuid primary key references stepback.rollbacks (id),
  until timestamptz not null,
  next_at timestamptz not null default now(),
  probes integer not null default 0,
  -- step -> what was seen: failures and slow answers in a row, worst, last.
  seen jsonb not null default '{}',
  ended_at timestamptz
);
create index watches_due on stepback.watches (next_at) where ended_at is null;
