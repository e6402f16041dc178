-- When what a run kept in its target was removed for good: from then on there is no way back.
alter table stepback.rollbacks add column archive_removed_at timestamptz;
create index rollbacks_with_archive on stepback.rollbacks (ended_at)
  where archive_removed_at is null and started_at is not null;

-- Requests that must count once however often they are delivered.
create table stepback.requests (
  key text primary key,
  at timestamptz not null default now()
);

-- A run that asked again in its middle and was then turned down has done something: it has its analysis too.
create function stepback.analyse_if_begun(p_rollback uuid) returns void language plpgsql as $$
begin
  if not exists (select 1 from stepback.rollbacks where id = p_rollback and started_at is not null) then
    return;
  end if;
  insert into stepback.analyses (rollback_id, facts, remind_at) values (p_rollback, '{}', now() + interval '1 day')
    on conflict (rollback_id) do nothing;
  perform stepback.edit_messages(p_rollback, p_rollback || '/analysis');
  perform stepback.enqueue(p_rollback, p_rollback || '/analysis', '{"kind": "analysis"}');
end $$;
