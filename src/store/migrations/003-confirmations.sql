-- What people are asked to do by hand: one question an attempt at a step, answered once. The wait is here and nowhere
-- else, so that it outlives workers.
create table stepback.confirmations (
  id uuid primary key,
  rollback_id uuid not null references stepback.rollbacks (id),
  step_id text not null,
  attempt integer not null,
  instruction text not null,
  asked_at timestamptz not null default now(),
  expires_at timestamptz not null,
  answer text check (answer in ('done', 'not_done', 'timed_out', 'stopped')),
  answered_by text,
  answered_at timestamptz,
  unique (rollback_id, step_id, attempt),
  check ((answer is null) = (answered_at is null)),
  -- A person's answer has a person; what time or Stop ended has none.
  check (answer not in ('done', 'not_done') or answered_by is not null)
);
