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
  -- It was posted then, or later by the one that wakes.
  since timestamptz not null default now(),
  looks integer not null default 0,
  due_at timestamptz not null,
  primary key (rollback_id, seq)
);

-- As before, but for files: they cannot be edited, and a step may be called `analysis`.
create or replace function stepback.edit_messages(p_rollback uuid, p_prefix text) returns void language sql as $$
  update stepback.outbox set revision = revision + 1, state = case when state = 'sent' then 'pending' else state end
    where rollback_id = p_rollback and starts_with(key, p_prefix) and body ->> 'kind' <> 'file';
  update stepback.rollbacks set deliver_at = least(deliver_at, now()) where id = p_rollback;
$$;
