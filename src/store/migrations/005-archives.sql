-- When what a run kept in its target was removed for good: from then on there is no way back.
alter table stepback.rollbacks add column archive_removed_at timestamptz;
create index rollbacks_with_archive on stepback.rollbacks (ended_at)
  where archive_removed_at is null and started_at is not null and state in ('succeeded', 'failed', 'stopped');
