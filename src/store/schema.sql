-- Made from the migrations; compared by a test.

table analyses
  rollback_id uuid not null
  facts jsonb not null
  root_cause text
  prevention text
  follow_ups text
  filled_by text
  filled_at timestamp with time zone
  remind_at timestamp with time zone
  follow_up_list jsonb not null default '[]'::jsonb
  revision integer not null default 0
  remind_every_ms double precision not null default 86400000

table approvals
  rollback_id uuid not null
  round integer not null
  user_id text not null
  team_id text
  requester_id text not null
  digest text not null
  decided_at timestamp with time zone not null default now()
  voided_at timestamp with time zone
  void_reason text

table audit
  rollback_id uuid not null
  entry integer not null
  at text not null
  kind text not null
  actor text not null
  facts text not null
  previous text not null
  hash text not null

table baseline_requests
  id uuid not null
  request_key text
  environment text not null
  what text not null
  name text not null
  requester_id text not null
  channel_id text not null
  state text not null default 'waiting'::text
  attempts integer not null default 0
  answer jsonb
  created_at timestamp with time zone not null default now()
  due_at timestamp with time zone not null default now()

table baselines
  id bigint not null
  environment text not null
  name text not null
  sha256 text not null
  content text not null
  tables jsonb not null
  captured_at timestamp with time zone not null
  captured_by text not null
  kept_at timestamp with time zone not null default now()

table cards
  token uuid not null
  rollback_id uuid not null
  round integer not null
  digest text not null
  created_at timestamp with time zone not null default now()

table confirmations
  id uuid not null
  rollback_id uuid not null
  step_id text not null
  attempt integer not null
  instruction text not null
  asked_at timestamp with time zone not null default now()
  expires_at timestamp with time zone not null
  answer text
  answered_by text
  answered_at timestamp with time zone
  kind text not null default 'manual'::text
  reason text

table counters
  name text not null
  value integer not null

table escalations
  id uuid not null
  rollback_id uuid not null
  key text not null
  facts jsonb not null
  raised_at timestamp with time zone not null default now()
  next_telling_at timestamp with time zone
  times_told integer not null default 1
  acknowledged_by text
  acknowledged_at timestamp with time zone
  resolved_at timestamp with time zone

table hook_events
  escalation_id uuid not null
  seq integer not null
  kind text not null
  times_told integer not null
  state text not null default 'pending'::text
  attempts integer not null default 0
  created_at timestamp with time zone not null default now()
  due_at timestamp with time zone not null default now()
  ended_at timestamp with time zone
  problem text

table migrations
  name text not null
  applied_at timestamp with time zone not null default now()

table notes
  rollback_id uuid not null
  request_key text
  user_id text not null
  text text not null
  at timestamp with time zone not null default now()

table outbox
  rollback_id uuid not null
  seq integer not null
  key text not null
  body jsonb not null
  state text not null default 'pending'::text
  revision integer not null default 0
  created_at timestamp with time zone not null default now()
  sent_at timestamp with time zone
  channel text
  ts text

table requests
  key text not null
  at timestamp with time zone not null default now()

table rollbacks
  id uuid not null
  number integer
  kind text not null
  environment text not null
  title text not null
  state text not null
  requester_id text not null
  team_id text
  channel_id text not null
  reason text not null
  selection jsonb not null
  request_key text
  target_reference text
  target_fingerprint text
  undo_of uuid
  round integer not null default 0
  generation integer not null default 0
  skips jsonb not null default '{}'::jsonb
  frozen text
  digest text
  rehearsal jsonb
  moved jsonb not null default '[]'::jsonb
  token uuid
  risk text
  approvals_needed integer not null default 1
  created_at timestamp with time zone not null default now()
  rehearsed_at timestamp with time zone
  expires_at timestamp with time zone
  nudged_at timestamp with time zone
  approved_at timestamp with time zone
  started_at timestamp with time zone
  ended_at timestamp with time zone
  ended_by text
  end_reason text
  resumed_at timestamp with time zone
  stop_requested_at timestamp with time zone
  stop_requested_by text
  epoch integer not null default 0
  worker text
  lease_until timestamp with time zone
  due_at timestamp with time zone not null default now()
  card_version integer not null default 0
  card_sent_version integer not null default 0
  card_state text not null default 'none'::text
  card_channel text
  card_ts text
  permalink text
  message_seq integer not null default 0
  deliver_at timestamp with time zone
  lane_until timestamp with time zone
  lane_owner uuid
  delivery_attempts integer not null default 0
  audit_entries integer not null default 0
  audit_head text not null default ''::text
  archive_removed_at timestamp with time zone
  left_at timestamp with time zone
  left_by text
  steps_now jsonb not null default '{}'::jsonb
  run_epoch integer not null default 0
  run_epoch_before integer not null default 0
  forgotten_at timestamp with time zone

table second_looks
  rollback_id uuid not null
  seq integer not null
  channel text not null
  thread_ts text
  file_name text
  since timestamp with time zone not null default now()
  looks integer not null default 0
  due_at timestamp with time zone not null

table step_runs
  rollback_id uuid not null
  step_id text not null
  attempt integer not null
  generation integer not null
  epoch integer not null
  started_at timestamp with time zone not null default now()
  ended_at timestamp with time zone
  outcome text
  result jsonb
  process jsonb

table watches
  rollback_id uuid not null
  until timestamp with time zone not null
  next_at timestamp with time zone not null default now()
  probes integer not null default 0
  seen jsonb not null default '{}'::jsonb
  ended_at timestamp with time zone

table workers
  id text not null
  role text not null
  seen_at timestamp with time zone not null default now()

constraint stepback.analyses analyses_pkey PRIMARY KEY (rollback_id)

constraint stepback.analyses analyses_rollback_id_fkey FOREIGN KEY (rollback_id) REFERENCES stepback.rollbacks(id)

constraint stepback.approvals approvals_check CHECK ((user_id <> requester_id))

constraint stepback.approvals approvals_pkey PRIMARY KEY (rollback_id, round, user_id)

constraint stepback.approvals approvals_rollback_id_requester_id_fkey FOREIGN KEY (rollback_id, requester_id) REFERENCES stepback.rollbacks(id, requester_id)

constraint stepback.audit audit_pkey PRIMARY KEY (rollback_id, entry)

constraint stepback.audit audit_rollback_id_fkey FOREIGN KEY (rollback_id) REFERENCES stepback.rollbacks(id)

constraint stepback.baseline_requests baseline_requests_pkey PRIMARY KEY (id)

constraint stepback.baseline_requests baseline_requests_request_key_key UNIQUE (request_key)

constraint stepback.baseline_requests baseline_requests_state_check CHECK ((state = ANY (ARRAY['waiting'::text, 'answered'::text, 'posting'::text, 'posted'::text, 'refused'::text])))

constraint stepback.baseline_requests baseline_requests_what_check CHECK ((what = ANY (ARRAY['capture'::text, 'diff'::text])))

constraint stepback.baselines baselines_pkey PRIMARY KEY (id)

constraint stepback.cards cards_pkey PRIMARY KEY (token)

constraint stepback.cards cards_rollback_id_fkey FOREIGN KEY (rollback_id) REFERENCES stepback.rollbacks(id)

constraint stepback.confirmations confirmations_answer_check CHECK ((answer = ANY (ARRAY['done'::text, 'not_done'::text, 'retry'::text, 'skip'::text, 'leave'::text, 'timed_out'::text, 'stopped'::text])))

constraint stepback.confirmations confirmations_answered_by_check CHECK (((answer <> ALL (ARRAY['done'::text, 'not_done'::text, 'retry'::text, 'skip'::text, 'leave'::text])) OR (answered_by IS NOT NULL)))

constraint stepback.confirmations confirmations_check CHECK (((answer IS NULL) = (answered_at IS NULL)))

constraint stepback.confirmations confirmations_kind_check CHECK ((kind = ANY (ARRAY['manual'::text, 'failure'::text])))

constraint stepback.confirmations confirmations_pkey PRIMARY KEY (id)

constraint stepback.confirmations confirmations_reason_check CHECK (((answer IS DISTINCT FROM 'skip'::text) OR (reason IS NOT NULL)))

constraint stepback.confirmations confirmations_rollback_id_fkey FOREIGN KEY (rollback_id) REFERENCES stepback.rollbacks(id)

constraint stepback.confirmations confirmations_rollback_id_step_id_attempt_kind_key UNIQUE (rollback_id, step_id, attempt, kind)

constraint stepback.counters counters_pkey PRIMARY KEY (name)

constraint stepback.escalations escalations_key_key UNIQUE (key)

constraint stepback.escalations escalations_pkey PRIMARY KEY (id)

constraint stepback.escalations escalations_rollback_id_fkey FOREIGN KEY (rollback_id) REFERENCES stepback.rollbacks(id)

constraint stepback.hook_events hook_events_escalation_id_fkey FOREIGN KEY (escalation_id) REFERENCES stepback.escalations(id)

constraint stepback.hook_events hook_events_kind_check CHECK ((kind = ANY (ARRAY['trigger'::text, 'repeat'::text, 'acknowledge'::text, 'resolve'::text])))

constraint stepback.hook_events hook_events_pkey PRIMARY KEY (escalation_id, seq)

constraint stepback.hook_events hook_events_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'sent'::text, 'refused'::text])))

constraint stepback.migrations migrations_pkey PRIMARY KEY (name)

constraint stepback.notes notes_request_key_key UNIQUE (request_key)

constraint stepback.notes notes_rollback_id_fkey FOREIGN KEY (rollback_id) REFERENCES stepback.rollbacks(id)

constraint stepback.outbox outbox_key_key UNIQUE (key)

constraint stepback.outbox outbox_pkey PRIMARY KEY (rollback_id, seq)

constraint stepback.outbox outbox_rollback_id_fkey FOREIGN KEY (rollback_id) REFERENCES stepback.rollbacks(id)

constraint stepback.outbox outbox_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'sending'::text, 'sent'::text, 'refused'::text])))

constraint stepback.requests requests_pkey PRIMARY KEY (key)

constraint stepback.rollbacks rollbacks_approvals_needed_check CHECK ((approvals_needed >= 1))

constraint stepback.rollbacks rollbacks_card_state_check CHECK ((card_state = ANY (ARRAY['none'::text, 'sending'::text, 'sent'::text, 'lost'::text])))

constraint stepback.rollbacks rollbacks_check CHECK (((kind = 'rehearsal'::text) OR (number IS NOT NULL)))

constraint stepback.rollbacks rollbacks_id_requester_id_key UNIQUE (id, requester_id)

constraint stepback.rollbacks rollbacks_kind_check CHECK ((kind = ANY (ARRAY['rollback'::text, 'undo'::text, 'rehearsal'::text, 'record'::text])))

constraint stepback.rollbacks rollbacks_left_check CHECK (((left_at IS NULL) = (left_by IS NULL)))

constraint stepback.rollbacks rollbacks_number_key UNIQUE (number)

constraint stepback.rollbacks rollbacks_pkey PRIMARY KEY (id)

constraint stepback.rollbacks rollbacks_request_key_key UNIQUE (request_key)

constraint stepback.rollbacks rollbacks_risk_check CHECK ((risk = ANY (ARRAY['low'::text, 'medium'::text, 'high'::text])))

constraint stepback.rollbacks rollbacks_state_check CHECK ((state = ANY (ARRAY['preparing'::text, 'awaiting_approval'::text, 'approved'::text, 'running'::text, 'succeeded'::text, 'failed'::text, 'stopped'::text, 'denied'::text, 'cancelled'::text, 'expired'::text])))

constraint stepback.rollbacks rollbacks_undo_of_fkey FOREIGN KEY (undo_of) REFERENCES stepback.rollbacks(id)

constraint stepback.second_looks second_looks_pkey PRIMARY KEY (rollback_id, seq)

constraint stepback.second_looks second_looks_rollback_id_fkey FOREIGN KEY (rollback_id) REFERENCES stepback.rollbacks(id)

constraint stepback.step_runs step_runs_outcome_check CHECK ((outcome = ANY (ARRAY['succeeded'::text, 'failed'::text, 'unknown'::text, 'skipped'::text])))

constraint stepback.step_runs step_runs_pkey PRIMARY KEY (rollback_id, step_id, attempt)

constraint stepback.step_runs step_runs_rollback_id_fkey FOREIGN KEY (rollback_id) REFERENCES stepback.rollbacks(id)

constraint stepback.watches watches_pkey PRIMARY KEY (rollback_id)

constraint stepback.watches watches_rollback_id_fkey FOREIGN KEY (rollback_id) REFERENCES stepback.rollbacks(id)

constraint stepback.workers workers_pkey PRIMARY KEY (id)

CREATE UNIQUE INDEX analyses_pkey ON stepback.analyses USING btree (rollback_id)

CREATE UNIQUE INDEX approvals_pkey ON stepback.approvals USING btree (rollback_id, round, user_id)

CREATE UNIQUE INDEX audit_pkey ON stepback.audit USING btree (rollback_id, entry)

CREATE INDEX baseline_requests_due ON stepback.baseline_requests USING btree (due_at) WHERE (state = ANY (ARRAY['waiting'::text, 'answered'::text, 'posting'::text]))

CREATE UNIQUE INDEX baseline_requests_pkey ON stepback.baseline_requests USING btree (id)

CREATE UNIQUE INDEX baseline_requests_request_key_key ON stepback.baseline_requests USING btree (request_key)

CREATE INDEX baselines_by_hash ON stepback.baselines USING btree (sha256)

CREATE INDEX baselines_newest ON stepback.baselines USING btree (environment, name, id DESC)

CREATE UNIQUE INDEX baselines_pkey ON stepback.baselines USING btree (id)

CREATE UNIQUE INDEX cards_pkey ON stepback.cards USING btree (token)

CREATE UNIQUE INDEX confirmations_pkey ON stepback.confirmations USING btree (id)

CREATE UNIQUE INDEX confirmations_rollback_id_step_id_attempt_kind_key ON stepback.confirmations USING btree (rollback_id, step_id, attempt, kind)

CREATE UNIQUE INDEX counters_pkey ON stepback.counters USING btree (name)

CREATE UNIQUE INDEX escalations_key_key ON stepback.escalations USING btree (key)

CREATE UNIQUE INDEX escalations_pkey ON stepback.escalations USING btree (id)

CREATE INDEX hook_events_due ON stepback.hook_events USING btree (due_at) WHERE (state = 'pending'::text)

CREATE UNIQUE INDEX hook_events_pkey ON stepback.hook_events USING btree (escalation_id, seq)

CREATE UNIQUE INDEX migrations_pkey ON stepback.migrations USING btree (name)

CREATE INDEX notes_by_rollback ON stepback.notes USING btree (rollback_id, at)

CREATE UNIQUE INDEX notes_request_key_key ON stepback.notes USING btree (request_key)

CREATE UNIQUE INDEX one_live_rollback_per_environment ON stepback.rollbacks USING btree (environment) WHERE ((state = ANY (ARRAY['preparing'::text, 'awaiting_approval'::text, 'approved'::text, 'running'::text])) AND (kind <> 'rehearsal'::text))

CREATE UNIQUE INDEX one_live_rollback_per_target ON stepback.rollbacks USING btree (target_fingerprint) WHERE ((state = ANY (ARRAY['preparing'::text, 'awaiting_approval'::text, 'approved'::text, 'running'::text])) AND (kind <> 'rehearsal'::text))

CREATE UNIQUE INDEX one_live_rollback_per_target_reference ON stepback.rollbacks USING btree (target_reference) WHERE ((state = ANY (ARRAY['preparing'::text, 'awaiting_approval'::text, 'approved'::text, 'running'::text])) AND (kind <> 'rehearsal'::text))

CREATE UNIQUE INDEX outbox_key_key ON stepback.outbox USING btree (key)

CREATE UNIQUE INDEX outbox_pkey ON stepback.outbox USING btree (rollback_id, seq)

CREATE INDEX outbox_unsent ON stepback.outbox USING btree (rollback_id, seq) WHERE (state = ANY (ARRAY['pending'::text, 'sending'::text]))

CREATE UNIQUE INDEX requests_pkey ON stepback.requests USING btree (key)

CREATE INDEX rollbacks_by_environment ON stepback.rollbacks USING btree (environment, number DESC)

CREATE INDEX rollbacks_expired ON stepback.rollbacks USING btree (ended_at) WHERE (state = 'expired'::text)

CREATE UNIQUE INDEX rollbacks_id_requester_id_key ON stepback.rollbacks USING btree (id, requester_id)

CREATE UNIQUE INDEX rollbacks_number_key ON stepback.rollbacks USING btree (number)

CREATE UNIQUE INDEX rollbacks_pkey ON stepback.rollbacks USING btree (id)

CREATE UNIQUE INDEX rollbacks_request_key_key ON stepback.rollbacks USING btree (request_key)

CREATE INDEX rollbacks_to_deliver ON stepback.rollbacks USING btree (deliver_at) WHERE (deliver_at IS NOT NULL)

CREATE INDEX rollbacks_to_work_on ON stepback.rollbacks USING btree (due_at) WHERE (state = ANY (ARRAY['preparing'::text, 'awaiting_approval'::text, 'approved'::text, 'running'::text]))

CREATE INDEX rollbacks_undo_of ON stepback.rollbacks USING btree (undo_of) WHERE (undo_of IS NOT NULL)

CREATE INDEX rollbacks_with_archive ON stepback.rollbacks USING btree (ended_at) WHERE ((archive_removed_at IS NULL) AND (started_at IS NOT NULL))

CREATE UNIQUE INDEX second_looks_pkey ON stepback.second_looks USING btree (rollback_id, seq)

CREATE UNIQUE INDEX step_runs_pkey ON stepback.step_runs USING btree (rollback_id, step_id, attempt)

CREATE INDEX watches_due ON stepback.watches USING btree (next_at) WHERE (ended_at IS NULL)

CREATE UNIQUE INDEX watches_pkey ON stepback.watches USING btree (rollback_id)

CREATE UNIQUE INDEX workers_pkey ON stepback.workers USING btree (id)

CREATE TRIGGER audit_is_append_only BEFORE DELETE OR UPDATE ON stepback.audit FOR EACH ROW EXECUTE FUNCTION stepback.refuse_change()

CREATE TRIGGER audit_is_not_truncated BEFORE TRUNCATE ON stepback.audit FOR EACH STATEMENT EXECUTE FUNCTION stepback.refuse_change()

CREATE TRIGGER escalations_tell_hook AFTER INSERT OR UPDATE ON stepback.escalations FOR EACH ROW WHEN ((((new.facts -> 'hook'::text) ->> 'kind'::text) IS NOT NULL)) EXECUTE FUNCTION stepback.tell_hook()

CREATE TRIGGER approvals_before_approved BEFORE UPDATE ON stepback.rollbacks FOR EACH ROW WHEN (((new.state = ANY (ARRAY['approved'::text, 'running'::text])) AND ((((((old.state IS DISTINCT FROM new.state) OR (old.kind IS DISTINCT FROM new.kind)) OR (old.round IS DISTINCT FROM new.round)) OR (old.digest IS DISTINCT FROM new.digest)) OR (old.frozen IS DISTINCT FROM new.frozen)) OR (old.approvals_needed IS DISTINCT FROM new.approvals_needed)))) EXECUTE FUNCTION stepback.check_approvals()

CREATE TRIGGER approvals_before_insert BEFORE INSERT ON stepback.rollbacks FOR EACH ROW WHEN ((new.state = ANY (ARRAY['approved'::text, 'running'::text]))) EXECUTE FUNCTION stepback.check_approvals()

CREATE TRIGGER requester_is_kept BEFORE UPDATE ON stepback.rollbacks FOR EACH ROW WHEN ((old.requester_id IS DISTINCT FROM new.requester_id)) EXECUTE FUNCTION stepback.keep_requester()

CREATE OR REPLACE FUNCTION stepback.analyse_if_begun(p_rollback uuid)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
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
end $function$


CREATE OR REPLACE FUNCTION stepback.append_audit(p_rollback uuid, p_kind text, p_actor text, p_facts jsonb)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
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
end $function$


CREATE OR REPLACE FUNCTION stepback.check_approvals()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
begin
  if new.kind in ('rollback', 'undo') and (
    select count(*) from stepback.approvals a
    where a.rollback_id = new.id and a.round = new.round and a.digest = new.digest and a.voided_at is null
      and a.user_id not in (select s.value ->> 'by' from jsonb_each(new.skips) s)
  ) < new.approvals_needed then
    raise exception 'rollback % lacks approvals for its digest', new.id using errcode = 'SB002';
  end if;
  return new;
end $function$


CREATE OR REPLACE FUNCTION stepback.edit_messages(p_rollback uuid, p_prefix text)
 RETURNS void
 LANGUAGE sql
AS $function$
  update stepback.outbox set revision = revision + 1,
    state = case when state = 'sent' or (state = 'refused' and (ts is not null or body ->> 'kind' = 'analysis'))
      then 'pending' else state end
    where rollback_id = p_rollback and starts_with(key, p_prefix) and body ->> 'kind' <> 'file';
  update stepback.rollbacks set deliver_at = least(deliver_at, now()) where id = p_rollback;
$function$


CREATE OR REPLACE FUNCTION stepback.enqueue(p_rollback uuid, p_key text, p_body jsonb)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
declare
  v_seq integer;
begin
  if exists (select 1 from stepback.outbox where key = p_key) then
    return;
  end if;
  update stepback.rollbacks set message_seq = message_seq + 1, deliver_at = least(deliver_at, now())
    where id = p_rollback returning message_seq into v_seq;
  insert into stepback.outbox (rollback_id, seq, key, body) values (p_rollback, v_seq, p_key, p_body);
end $function$


CREATE OR REPLACE FUNCTION stepback.guard_epoch(p_rollback uuid, p_epoch integer)
 RETURNS boolean
 LANGUAGE plpgsql
AS $function$
declare
  v_stop boolean;
begin
  select stop_requested_at is not null into v_stop from stepback.rollbacks
    where id = p_rollback and epoch = p_epoch and state in ('preparing', 'running') for update;
  if not found then
    raise exception 'rollback % belongs to another worker', p_rollback using errcode = 'SB001';
  end if;
  return v_stop;
end $function$


CREATE OR REPLACE FUNCTION stepback.keep_requester()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
begin
  raise exception 'the requester of rollback % cannot be changed', old.id using errcode = 'SB004';
end $function$


CREATE OR REPLACE FUNCTION stepback.put_back()
 RETURNS integer
 LANGUAGE plpgsql
AS $function$
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
end $function$


CREATE OR REPLACE FUNCTION stepback.record_step(p_rollback uuid, p_epoch integer, p_step text, p_attempt integer, p_ms double precision, p_outcome text, p_result jsonb, p_facts jsonb, p_key text, p_body jsonb)
 RETURNS boolean
 LANGUAGE plpgsql
AS $function$
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
end $function$


CREATE OR REPLACE FUNCTION stepback.redraw_card(p_rollback uuid)
 RETURNS void
 LANGUAGE sql
AS $function$
  update stepback.rollbacks set card_version = card_version + 1, deliver_at = least(deliver_at, now())
    where id = p_rollback;
$function$


CREATE OR REPLACE FUNCTION stepback.redraw_undone(p_undo uuid)
 RETURNS void
 LANGUAGE sql
AS $function$
  with recursive undone as (
    select undo_of as id from stepback.rollbacks where id = p_undo
    union all select r.undo_of from stepback.rollbacks r join undone on r.id = undone.id)
  select stepback.redraw_card(id) from undone where id is not null;
$function$


CREATE OR REPLACE FUNCTION stepback.refuse_change()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
begin
  raise exception 'the audit is append-only' using errcode = 'SB003';
end $function$


CREATE OR REPLACE FUNCTION stepback.taken_back_by(p_rollback uuid)
 RETURNS uuid
 LANGUAGE plpgsql
 STABLE
AS $function$
begin
  return (select u.id from stepback.rollbacks u
    where u.undo_of = p_rollback and u.state = 'succeeded' and stepback.taken_back_by(u.id) is null
      and frozen::jsonb #> '{rehearsal,warnings}' = '[]'
      and not exists (
        select from (select distinct on (step_id) result from stepback.step_runs
          where rollback_id = u.id order by step_id, attempt desc) s
        where result ->> 'outcome' is distinct from 'succeeded' or result -> 'issues' <> '[]')
    order by u.number desc limit 1);
end
$function$


CREATE OR REPLACE FUNCTION stepback.tell_hook()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
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
end $function$

