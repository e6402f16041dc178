-- Stepback's own state. Times are the database's: no decision is made on a process's clock.

create table stepback.counters (
  name text primary key,
  value integer not null
);
insert into stepback.counters (name, value) values ('rollback', 0);

create table stepback.rollbacks (
  id uuid primary key,
  -- R-1, R-2, … without gaps: taken from the counter in the inserting transaction. Rehearsals have none.
  number integer unique,
  kind text not null check (kind in ('rollback', 'undo', 'rehearsal', 'record')),
  environment text not null,
  title text not null,
  state text not null check (state in ('preparing', 'awaiting_approval', 'approved', 'running', 'succeeded', 'failed',
    'stopped', 'denied', 'cancelled', 'expired')),
  requester_id text not null,
  team_id text,
  channel_id text not null,
  reason text not null,
  -- What was asked for: components, parameters.
  selection jsonb not null,
  -- The same request delivered twice is one rollback.
  request_key text unique,
  -- The plan's reference to its database (`${NAME}`): two plans with one database share one lock.
  target_reference text,
  target_fingerprint text,
  undo_of uuid references stepback.rollbacks (id),

  -- The run as it was shown and approved: these bytes are hashed and these bytes run.
  round integer not null default 0,
  -- Grows with each approval and each Retry: what failed in an earlier one is tried again.
  generation integer not null default 0,
  -- Steps that are to be skipped, by whom and why; part of what is approved.
  skips jsonb not null default '{}',
  frozen text,
  digest text,
  rehearsal jsonb,
  moved jsonb not null default '[]',
  token uuid,
  risk text check (risk in ('low', 'medium', 'high')),
  approvals_needed integer not null default 1 check (approvals_needed >= 1),

  created_at timestamptz not null default now(),
  rehearsed_at timestamptz,
  expires_at timestamptz,
  nudged_at timestamptz,
  approved_at timestamptz,
  started_at timestamptz,
  ended_at timestamptz,
  ended_by text,
  end_reason text,
  -- When a Retry went on: the RTO's clock begins anew.
  resumed_at timestamptz,
  stop_requested_at timestamptz,
  stop_requested_by text,

  -- The fencing token and the lease of the worker that has it.
  epoch integer not null default 0,
  worker text,
  lease_until timestamptz,
  due_at timestamptz not null default now(),

  card_version integer not null default 0,
  card_sent_version integer not null default 0,
  card_state text not null default 'none' check (card_state in ('none', 'sending', 'sent', 'lost')),
  card_channel text,
  card_ts text,
  permalink text,
  message_seq integer not null default 0,
  -- Null: nothing to deliver.
  deliver_at timestamptz,
  lane_until timestamptz,
  lane_owner uuid,
  delivery_attempts integer not null default 0,

  audit_entries integer not null default 0,
  audit_head text not null default '',

  unique (id, requester_id),
  check (kind = 'rehearsal' or number is not null)
);

-- The environment lock. It survives everything and has no time to live.
create unique index one_live_rollback_per_environment on stepback.rollbacks (environment)
  where state in ('preparing', 'awaiting_approval', 'approved', 'running') and kind <> 'rehearsal';
create unique index one_live_rollback_per_target_reference on stepback.rollbacks (target_reference)
  where state in ('preparing', 'awaiting_approval', 'approved', 'running') and kind <> 'rehearsal';
create unique index one_live_rollback_per_target on stepback.rollbacks (target_fingerprint)
  where state in ('preparing', 'awaiting_approval', 'approved', 'running') and kind <> 'rehearsal';
create index rollbacks_to_work_on on stepback.rollbacks (due_at)
  where state in ('preparing', 'awaiting_approval', 'approved', 'running');
create index rollbacks_to_deliver on stepback.rollbacks (deliver_at) where deliver_at is not null;
create index rollbacks_by_environment on stepback.rollbacks (environment, number desc);

-- Every card ever shown, so that an old one can be told from a forged one.
create table stepback.cards (
  token uuid primary key,
  rollback_id uuid not null references stepback.rollbacks (id),
  round integer not null,
  digest text not null,
  created_at timestamptz not null default now()
);

create table stepback.approvals (
  rollback_id uuid not null,
  round integer not null,
  user_id text not null,
  team_id text,
  requester_id text not null,
  digest text not null,
  decided_at timestamptz not null default now(),
  voided_at timestamptz,
  void_reason text,
  primary key (rollback_id, round, user_id),
  -- The last line of the two-person rule: the requester is the one of the rollback, and is not the approver.
  foreign key (rollback_id, requester_id) references stepback.rollbacks (id, requester_id),
  check (user_id <> requester_id)
);

-- Nothing is approved or runs without the approvals that its policy asks, whoever wrote the update.
create function stepback.check_approvals() returns trigger language plpgsql as $$
begin
  if new.kind in ('rollback', 'undo') and (
    select count(*) from stepback.approvals a
    where a.rollback_id = new.id and a.round = new.round and a.digest = new.digest and a.voided_at is null
      and a.user_id not in (select s.value ->> 'by' from jsonb_each(new.skips) s)
  ) < new.approvals_needed then
    raise exception 'rollback % lacks approvals for its digest', new.id using errcode = 'SB002';
  end if;
  return new;
end $$;
create trigger approvals_before_approved before update on stepback.rollbacks for each row
  when (new.state in ('approved', 'running') and (old.state, old.kind, old.round, old.digest, old.frozen, old.approvals_needed)
    is distinct from (new.state, new.kind, new.round, new.digest, new.frozen, new.approvals_needed))
  execute function stepback.check_approvals();
create trigger approvals_before_insert before insert on stepback.rollbacks for each row
  when (new.state in ('approved', 'running')) execute function stepback.check_approvals();

create table stepback.step_runs (
  rollback_id uuid not null references stepback.rollbacks (id),
  step_id text not null,
  attempt integer not null,
  generation integer not null,
  epoch integer not null,
  started_at timestamptz not null default now(),
  ended_at timestamptz,
  outcome text check (outcome in ('succeeded', 'failed', 'unknown', 'skipped')),
  result jsonb,
  -- The process group of a command, so that a takeover ends what its predecessor left running.
  process jsonb,
  primary key (rollback_id, step_id, attempt)
);

-- Append-only, hash-chained, one chain per rollback; its first entry names the head of the chain before.
create table stepback.audit (
  rollback_id uuid not null references stepback.rollbacks (id),
  entry integer not null,
  at text not null,
  kind text not null,
  actor text not null,
  facts text not null,
  previous text not null,
  hash text not null,
  primary key (rollback_id, entry)
);
create function stepback.refuse_change() returns trigger language plpgsql as $$
begin
  raise exception 'the audit is append-only' using errcode = 'SB003';
end $$;
create trigger audit_is_append_only before update or delete on stepback.audit
  for each row execute function stepback.refuse_change();
create trigger audit_is_not_truncated before truncate on stepback.audit
  for each statement execute function stepback.refuse_change();

-- hash = sha256(previous, entry, at, kind, actor, facts), joined by line feeds.
create function stepback.append_audit(p_rollback uuid, p_kind text, p_actor text, p_facts jsonb) returns void
language plpgsql as $$
declare
  v_entry integer;
  v_previous text;
  v_at text := to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
  v_hash text;
begin
  select audit_entries + 1, audit_head into v_entry, v_previous
    from stepback.rollbacks where id = p_rollback for update;
  v_hash := encode(sha256(convert_to(
    concat_ws(e'\n', v_previous, v_entry::text, v_at, p_kind, p_actor, p_facts::text), 'UTF8')), 'hex');
  insert into stepback.audit (rollback_id, entry, at, kind, actor, facts, previous, hash)
    values (p_rollback, v_entry, v_at, p_kind, p_actor, p_facts::text, v_previous, v_hash);
  update stepback.rollbacks set audit_entries = v_entry, audit_head = v_hash where id = p_rollback;
end $$;

-- Messages on their way to Slack, in order per rollback. The card is not here: only its newest state is worth sending.
create table stepback.outbox (
  rollback_id uuid not null references stepback.rollbacks (id),
  seq integer not null,
  -- Names the message for good; it goes along as metadata, so that a message whose fate is unknown can be looked for.
  key text not null unique,
  body jsonb not null,
  state text not null default 'pending' check (state in ('pending', 'sending', 'sent', 'refused')),
  -- Grows when its facts change: what is on its way meanwhile is sent once more, as an edit.
  revision integer not null default 0,
  created_at timestamptz not null default now(),
  sent_at timestamptz,
  channel text,
  ts text,
  primary key (rollback_id, seq)
);
create index outbox_unsent on stepback.outbox (rollback_id, seq) where state in ('pending', 'sending');

create function stepback.enqueue(p_rollback uuid, p_key text, p_body jsonb) returns void language plpgsql as $$
declare
  v_seq integer;
begin
  if exists (select 1 from stepback.outbox where key = p_key) then
    return;
  end if;
  update stepback.rollbacks set message_seq = message_seq + 1, deliver_at = least(deliver_at, now())
    where id = p_rollback returning message_seq into v_seq;
  insert into stepback.outbox (rollback_id, seq, key, body) values (p_rollback, v_seq, p_key, p_body);
end $$;

-- Messages whose key begins so are drawn again: those that were sent are edited.
create function stepback.edit_messages(p_rollback uuid, p_prefix text) returns void language sql as $$
  update stepback.outbox set revision = revision + 1, state = case when state = 'sent' then 'pending' else state end
    where rollback_id = p_rollback and starts_with(key, p_prefix);
  update stepback.rollbacks set deliver_at = least(deliver_at, now()) where id = p_rollback;
$$;

create function stepback.redraw_card(p_rollback uuid) returns void language sql as $$
  update stepback.rollbacks set card_version = card_version + 1, deliver_at = least(deliver_at, now())
    where id = p_rollback;
$$;

-- Raised inside a worker's transaction when a younger worker has taken over. Tells whether Stop was pressed.
create function stepback.guard_epoch(p_rollback uuid, p_epoch integer) returns boolean language plpgsql as $$
declare
  v_stop boolean;
begin
  select stop_requested_at is not null into v_stop from stepback.rollbacks
    where id = p_rollback and epoch = p_epoch and state in ('preparing', 'running') for update;
  if not found then
    raise exception 'rollback % belongs to another worker', p_rollback using errcode = 'SB001';
  end if;
  return v_stop;
end $$;

-- A step's result, its audit entry, its message and a new drawing of the card: what guard_epoch, append_audit, enqueue and
-- redraw_card would do one after the other, with one lock and one new version of the rollback's row instead of three.
create function stepback.record_step(p_rollback uuid, p_epoch integer, p_step text, p_attempt integer, p_ms float8,
  p_outcome text, p_result jsonb, p_facts jsonb, p_key text, p_body jsonb) returns boolean language plpgsql as $$
declare
  v_row record;
  v_told integer := 0;
  v_at text := to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
  v_hash text;
begin
  select stop_requested_at is not null as stop, generation, audit_entries + 1 as entry, audit_head as previous, message_seq
    into v_row from stepback.rollbacks
    where id = p_rollback and epoch = p_epoch and state in ('preparing', 'running') for update;
  if not found then
    raise exception 'rollback % belongs to another worker', p_rollback using errcode = 'SB001';
  end if;
  insert into stepback.step_runs (rollback_id, step_id, attempt, generation, epoch, started_at, ended_at, outcome, result)
    values (p_rollback, p_step, p_attempt, v_row.generation, p_epoch, clock_timestamp() - p_ms * interval '1 millisecond',
      clock_timestamp(), p_outcome, p_result)
    on conflict (rollback_id, step_id, attempt) do update
      set ended_at = excluded.ended_at, outcome = excluded.outcome, result = excluded.result;
  v_hash := encode(sha256(convert_to(
    concat_ws(e'\n', v_row.previous, v_row.entry::text, v_at, 'step', 'stepback', p_facts::text), 'UTF8')), 'hex');
  insert into stepback.audit (rollback_id, entry, at, kind, actor, facts, previous, hash)
    values (p_rollback, v_row.entry, v_at, 'step', 'stepback', p_facts::text, v_row.previous, v_hash);
  insert into stepback.outbox (rollback_id, seq, key, body) values (p_rollback, v_row.message_seq + 1, p_key, p_body)
    on conflict (key) do nothing;
  get diagnostics v_told = row_count;
  -- Output that is too long for a reply follows it as a file.
  if v_told = 1 and p_result ->> 'output' is not null then
    insert into stepback.outbox (rollback_id, seq, key, body) values (p_rollback, v_row.message_seq + 2, p_key || '/output',
      jsonb_build_object('kind', 'file', 'what', 'output', 'stepId', p_step, 'attempt', p_attempt)) on conflict (key) do nothing;
    v_told := 2;
  end if;
  update stepback.rollbacks set audit_entries = v_row.entry, audit_head = v_hash, message_seq = message_seq + v_told,
    card_version = card_version + 1, deliver_at = least(deliver_at, now()) where id = p_rollback;
  return v_row.stop;
end $$;

create table stepback.escalations (
  id uuid primary key,
  rollback_id uuid not null references stepback.rollbacks (id),
  key text not null unique,
  facts jsonb not null,
  raised_at timestamptz not null default now(),
  next_telling_at timestamptz,
  times_told integer not null default 1,
  acknowledged_by text,
  acknowledged_at timestamptz,
  resolved_at timestamptz
);

create table stepback.analyses (
  rollback_id uuid primary key references stepback.rollbacks (id),
  facts jsonb not null,
  root_cause text,
  prevention text,
  follow_ups text,
  filled_by text,
  filled_at timestamptz,
  remind_at timestamptz
);

create table stepback.notes (
  rollback_id uuid not null references stepback.rollbacks (id),
  request_key text unique,
  user_id text not null,
  text text not null,
  at timestamptz not null default now()
);
create index notes_by_rollback on stepback.notes (rollback_id, at);

-- Workers that live, for `readyz` and for telling a lost one.
create table stepback.workers (
  id text primary key,
  role text not null,
  seen_at timestamptz not null default now()
);
