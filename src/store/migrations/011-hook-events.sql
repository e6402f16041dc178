-- Calls to a pager beside Slack: a row for each event of an escalation whose plan names a hook, written in the transaction
-- of what it tells. Workers send them, in order per escalation. Secrets are not in here: a hook is kept as it was written.
create table stepback.hook_events (
  escalation_id uuid not null references stepback.escalations (id),
  seq integer not null,
  kind text not null check (kind in ('trigger', 'repeat', 'acknowledge', 'resolve')),
  -- How often people had been told by then.
  times_told integer not null,
  state text not null default 'pending' check (state in ('pending', 'sent', 'refused')),
  attempts integer not null default 0,
  created_at timestamptz not null default now(),
  due_at timestamptz not null default now(),
  ended_at timestamptz,
  -- Why the last attempt was not taken, without secrets.
  problem text,
  primary key (escalation_id, seq)
);
create index hook_events_due on stepback.hook_events (due_at) where state = 'pending';

-- A trigger, so that no way of raising, taking or ending an escalation can forget the pager.
create function stepback.tell_hook() returns trigger language plpgsql as $$
declare
  v_kind text;
begin
  if tg_op = 'INSERT' then
    v_kind := 'trigger';
  elsif new.resolved_at is not null and old.resolved_at is null then
    v_kind := 'resolve';
  elsif new.acknowledged_at is not null and old.acknowledged_at is null and new.resolved_at is null then
    v_kind := 'acknowledge';
  -- A pager repeats by itself. Of a hook that does not answer one call waits, not one for each time.
  elsif new.times_told > old.times_told and new.facts -> 'hook' ->> 'kind' = 'webhook' and not exists (
      select 1 from stepback.hook_events e where e.escalation_id = new.id and e.state = 'pending') then
    v_kind := 'repeat';
  else
    return null;
  end if;
  insert into stepback.hook_events (escalation_id, seq, kind, times_told)
    select new.id, coalesce(max(e.seq), 0) + 1, v_kind, new.times_told
    from stepback.hook_events e where e.escalation_id = new.id;
  return null;
end $$;
create trigger escalations_tell_hook after insert or update on stepback.escalations for each row
  when (new.facts -> 'hook' ->> 'kind' is not null) execute function stepback.tell_hook();
