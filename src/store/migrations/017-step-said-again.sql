-- A result whose answer was lost with the link is sent again: the audit had it twice then, as if the step had ended twice.
-- And a result belongs to the generation in which it came: of a step that was begun before a Retry, and told of after it, the
-- next worker took it for a failure that somebody had seen, and tried again what was in doubt.

create or replace function stepback.record_step(p_rollback uuid, p_epoch integer, p_step text, p_attempt integer, p_ms double precision,
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
  -- Its answer was lost, and it is said once more.
  if exists (select from stepback.step_runs
      where rollback_id = p_rollback and step_id = p_step and attempt = p_attempt and result = p_result) then
    return v_row.stop;
  end if;
  insert into stepback.step_runs (rollback_id, step_id, attempt, generation, epoch, started_at, ended_at, outcome, result)
    values (p_rollback, p_step, p_attempt, v_row.generation, p_epoch, clock_timestamp() - p_ms * interval '1 millisecond',
      clock_timestamp(), p_outcome, p_result)
    on conflict (rollback_id, step_id, attempt) do update
      set generation = excluded.generation, ended_at = excluded.ended_at, outcome = excluded.outcome, result = excluded.result;
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
