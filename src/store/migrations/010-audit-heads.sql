-- The head of an ended rollback's chain goes into its thread with each entry, as a message of its own: a copy that who
-- writes this database does not reach. One that has been posted is never edited.
create or replace function stepback.append_audit(p_rollback uuid, p_kind text, p_actor text, p_facts jsonb) returns void
language plpgsql as $$
declare
  v_entry integer;
  v_previous text;
  v_posted boolean;
  v_at text := to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
  v_hash text;
begin
  select audit_entries + 1, audit_head,
      number is not null and state in ('succeeded', 'failed', 'stopped', 'denied', 'cancelled', 'expired')
    into v_entry, v_previous, v_posted from stepback.rollbacks where id = p_rollback for update;
  v_hash := encode(sha256(convert_to(
    concat_ws(e'\n', v_previous, v_entry::text, v_at, p_kind, p_actor, p_facts::text), 'UTF8')), 'hex');
  insert into stepback.audit (rollback_id, entry, at, kind, actor, facts, previous, hash)
    values (p_rollback, v_entry, v_at, p_kind, p_actor, p_facts::text, v_previous, v_hash);
  update stepback.rollbacks set audit_entries = v_entry, audit_head = v_hash where id = p_rollback;
  if v_posted then
    perform stepback.enqueue(p_rollback, p_rollback || '/audit/' || v_entry,
      jsonb_build_object('kind', 'audit', 'entry', v_entry, 'head', v_hash));
  end if;
end $$;
