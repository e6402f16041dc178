-- Somebody decided that a run which broke off is left as it is: Undo stays, the other ways on are closed.
alter table stepback.rollbacks add column left_at timestamptz, add column left_by text,
  add constraint rollbacks_left_check check ((left_at is null) = (left_by is null));

-- What is to be done, by whom and until when; `revision` tells a form that was opened before somebody else saved.
alter table stepback.analyses add column follow_up_list jsonb not null default '[]',
  add column revision integer not null default 0,
  add column remind_every_ms double precision not null default 86400000;
update stepback.analyses set follow_up_list = jsonb_build_array(
    jsonb_build_object('text', follow_ups, 'owner', null, 'due', null))
  where coalesce(trim(follow_ups), '') <> '';

-- People are also asked what to do about a step that failed (`on_failure: ask`).
alter table stepback.confirmations add column kind text not null default 'manual' check (kind in ('manual', 'failure')),
  add column reason text;
alter table stepback.confirmations drop constraint confirmations_rollback_id_step_id_attempt_key,
  add unique (rollback_id, step_id, attempt, kind);
alter table stepback.confirmations drop constraint confirmations_answer_check, drop constraint confirmations_check1,
  add constraint confirmations_answer_check
    check (answer in ('done', 'not_done', 'retry', 'skip', 'leave', 'timed_out', 'stopped')),
  add constraint confirmations_answered_by_check
    check (answer not in ('done', 'not_done', 'retry', 'skip', 'leave') or answered_by is not null),
  add constraint confirmations_reason_check check (answer is distinct from 'skip' or reason is not null);

-- As the plan says it: an analysis that began in the middle of a run reminds like any other.
create or replace function stepback.analyse_if_begun(p_rollback uuid) returns void language plpgsql as $$
declare
  v_every double precision;
begin
  select coalesce((frozen::jsonb ->> 'remindMs')::float8, 86400000) into v_every
    from stepback.rollbacks where id = p_rollback and started_at is not null;
  if not found then
    return;
  end if;
  insert into stepback.analyses (rollback_id, facts, remind_at, remind_every_ms)
    values (p_rollback, '{}', now() + v_every * interval '1 millisecond', v_every)
    on conflict (rollback_id) do nothing;
  perform stepback.edit_messages(p_rollback, p_rollback || '/analysis');
  perform stepback.enqueue(p_rollback, p_rollback || '/analysis', '{"kind": "analysis"}');
end $$;
