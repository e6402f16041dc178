-- Of a state database that was put back to its backup the targets may know more: a fence there that no worker known here can
-- have raised says that this run went on in what was forgotten.

-- The epochs of the newest claim of a run, and of the one before it.
alter table stepback.rollbacks add column run_epoch integer not null default 0;
alter table stepback.rollbacks add column run_epoch_before integer not null default 0;
-- What has no record of after this may have been begun in what was forgotten.
alter table stepback.rollbacks add column forgotten_at timestamptz;
update stepback.rollbacks set run_epoch = epoch where started_at is not null;

-- For whoever has put this database back to a backup, before any process starts: only they know. What runs, or could be gone
-- on with, may have gone further than is on record here. Nothing goes on by an approval of before: it may have been stopped,
-- denied or taken back since, so its people are asked anew, and told why. What Slack shows is drawn again, and what waits to
-- be posted may stand there already: it is looked for first. Gives how many are asked anew.
create function stepback.put_back() returns integer language plpgsql as $$
declare
  v_row record;
  v_asked integer := 0;
  v_moved text := 'Stepback''s database was put back to a backup: whether this was denied, cancelled or run since is not on record here';
begin
  update stepback.outbox set state = 'sending' where state = 'pending' and ts is null;
  update stepback.rollbacks set card_state = 'sending' where card_state = 'none';
  -- What has not begun and has a database for its target is told by that one whether it has run.
  update stepback.rollbacks set forgotten_at = clock_timestamp()
    where kind in ('rollback', 'undo') and (state in ('failed', 'stopped')
      or (state in ('preparing', 'awaiting_approval', 'approved', 'running')
        and (started_at is not null or frozen::jsonb #>> '{target,postgres}' is null)));
  for v_row in select id, state, started_at is not null as begun from stepback.rollbacks
    where ended_at is null or ended_at > now() - interval '7 days' order by number loop
    perform stepback.edit_messages(v_row.id, v_row.id || '/');
    perform stepback.redraw_card(v_row.id);
    if v_row.state in ('preparing', 'awaiting_approval', 'approved', 'running') then
      v_asked := v_asked + 1;
      update stepback.rollbacks set state = 'preparing', token = null, moved = jsonb_build_array(v_moved), lease_until = null,
        worker = null, due_at = now(), approved_at = null, resumed_at = null, generation = generation + 1,
        stop_requested_at = null, stop_requested_by = null where id = v_row.id;
      update stepback.approvals set voided_at = now(), void_reason = v_moved where rollback_id = v_row.id and voided_at is null;
      -- Its time is over long since, and what was answered is not on record: the message stays, the question comes anew.
      with gone as (delete from stepback.confirmations where rollback_id = v_row.id and answer is null returning id)
      update stepback.outbox set key = key || '/put-back/' || floor(extract(epoch from clock_timestamp())),
        body = jsonb_build_object('kind', 'text', 'text', 'Something was asked here, and what was answered is not on record any '
          || 'more: my database was put back to a backup. It is asked anew if the run goes on.')
        where rollback_id = v_row.id and body ->> 'confirmationId' in (select id::text from gone);
      perform stepback.append_audit(v_row.id, 'moved', 'stepback', jsonb_build_object('moved', jsonb_build_array(v_moved)));
    end if;
    if v_row.begun and v_row.state in ('preparing', 'awaiting_approval', 'approved', 'running') then
      perform stepback.enqueue(v_row.id, v_row.id || '/forgotten/' || floor(extract(epoch from clock_timestamp())),
        jsonb_build_object('kind', 'text', 'text', 'My database was put back to a backup: what this run did after that is '
          || 'not on record here. If it is approved again, what the target''s own record has of it is not repeated; requests '
          || 'and commands that may not be repeated wait for somebody to look.'));
    end if;
  end loop;
  return v_asked;
end $$;
