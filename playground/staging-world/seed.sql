-- The bad version arrived at 2025-09-17T03:30:00Z. Ids are made of names so that every start gives the same rows.
insert into scoring_config (key, value, updated_at) values
  ('results_version', '"v1.2.1"', '2025-09-17T03:30:00Z'),
  ('prism_engine', '{"midpoint": 3, "spread": 16.5, "weights": {"focus": 1.0, "drive": 1.25}}', '2025-08-11T09:00:00Z'),
  ('dimensions', '{"focus": [1, 3, 5], "drive": [2, 4, 6]}', '2025-06-02T09:00:00Z'),
  ('minimum_responses', '6', '2025-06-02T09:00:00Z'),
  ('fc_settings', '{"blocks": [[1, 2], [3, 4], [5, 6]], "points": 2, "tie": 1}', '2025-06-02T09:00:00Z'),
  ('fc_enabled', 'true', '2025-06-02T09:00:00Z'),
  ('fit_bands', '{"high": 65, "moderate": 45, "low": 0}', '2025-07-14T12:10:00Z'),
  ('norm_group', '"adults-2024"', '2025-06-02T09:00:00Z'),
  ('rounding', '1', '2025-06-02T09:00:00Z'),
  ('languages', '["en", "de", "fr"]', '2025-07-01T08:00:00Z'),
  ('profile_valid_days', '365', '2025-06-02T09:00:00Z');

-- Three thousand sessions of the good version, forty of the bad one, two dozen that nobody finished.
insert into assessment_sessions (id, status, started_at, completed_at)
select md5('good-session-' || n)::uuid, 'completed', at, at + interval '6 minutes'
from generate_series(1, 3000) as n, lateral (select '2025-08-11T10:00:00Z'::timestamptz + n * interval '17 minutes' as at) as clock;

insert into assessment_sessions (id, status, started_at, completed_at)
select md5('bad-session-' || n)::uuid, 'completed', at, at + interval '6 minutes'
from generate_series(1, 40) as n, lateral (select '2025-09-17T03:24:00Z'::timestamptz + n * interval '7 minutes' as at) as clock;

insert into assessment_sessions (id, started_at)
select md5('open-session-' || n)::uuid, '2025-09-17T09:00:00Z'::timestamptz + n * interval '11 minutes'
from generate_series(1, 24) as n;

insert into assessment_responses (session_id, question, value, created_at)
select id, question, 1 + (get_byte(uuid_send(id), question) % 5), started_at + question * interval '40 seconds'
from assessment_sessions, generate_series(1, 6) as question
where status = 'completed' or question <= 3;

insert into profiles (id, session_id, results_version, version, scores, created_at)
select
  md5('good-profile-' || n)::uuid, session.id, 'v1.2.0', 'v1.2.0',
  jsonb_build_object('focus', 30 + n % 41, 'drive', 35 + n % 37), session.completed_at
from generate_series(1, 3000) as n join assessment_sessions as session on session.id = md5('good-session-' || n)::uuid;

-- 37 carry the bad version; three more were computed by the bad engine and labelled as good.
insert into profiles (id, session_id, results_version, version, scores, created_at)
select
  md5('bad-profile-' || n)::uuid, session.id, case when n <= 37 then 'v1.2.1' else 'v1.2.0' end, 'v1.2.1',
  jsonb_build_object('focus', 300 + n % 41, 'drive', 350 + n % 37), session.completed_at
from generate_series(1, 40) as n join assessment_sessions as session on session.id = md5('bad-session-' || n)::uuid;

insert into profile_answers (profile_id, dimension, answered, mean)
select profile.id, dimension, 3, round((profile.scores ->> dimension)::numeric / 20, 2)
from profiles as profile, unnest(array['focus', 'drive']) as dimension;

insert into fc_scores (session_id, version, scores, created_at)
select md5('good-session-' || n)::uuid, 'v1.1', '{"first": 3, "second": 3}', '2025-09-01T10:00:00Z'::timestamptz + n * interval '50 minutes'
from generate_series(1, 420) as n;

insert into fc_scores (session_id, version, scores, created_at)
select md5('bad-session-' || n)::uuid, 'v1.2', '{"first": 0, "second": 0}', '2025-09-17T03:36:00Z'::timestamptz + n * interval '7 minutes'
from generate_series(1, 21) as n;

insert into function_logs (function, level, message, created_at)
select
  'finalizeAssessment', 'error', 'v1.2.1: scoring_config has no key "prism_engine_v121"',
  '2025-09-17T08:05:00Z'::timestamptz + n * interval '13 minutes'
from generate_series(1, 18) as n;

analyze;
