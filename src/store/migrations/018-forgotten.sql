-- Of a state database that was put back to its backup the targets may know more: a fence there that no worker known here can
-- have raised says that this run went on in what was forgotten.

-- The epochs of the newest claim of a run, and of the one before it.
alter table stepback.rollbacks add column run_epoch integer not null default 0;
alter table stepback.rollbacks add column run_epoch_before integer not null default 0;
-- What has no record of after this may have been begun in what was forgotten.
alter table stepback.rollbacks add column forgotten_at timestamptz;
update stepback.rollbacks set run_epoch = epoch where started_at is not null;
