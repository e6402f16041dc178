-- Messages that were posted while nobody knew whether they stood in Slack already. The process that posted before may have
-- been frozen, post when it wakes and die before it can look: so these are looked for again, a few times, later and later.
create table stepback.second_looks (
  rollback_id uuid not null references stepback.rollbacks (id),
  -- Of the message in the outbox; 0 is the card.
  seq integer not null,
  channel text not null,
  thread_ts text,
  -- A file is known by its name.
  file_name text,
  looks integer not null default 0,
  due_at timestamptz not null,
  primary key (rollback_id, seq)
);
