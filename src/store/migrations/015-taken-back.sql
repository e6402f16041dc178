create index rollbacks_undo_of on stepback.rollbacks (undo_of) where undo_of is not null;

-- Which undo took a rollback back, as things stand: neither one that left something (a step was skipped, rows had changed
-- since, a step had no way back) nor one that has been taken back itself. Null: none.
create function stepback.taken_back_by(p_rollback uuid) returns uuid language plpgsql stable as $$
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
$$;

-- The cards of those that it took back, gave back, and so on: each says how it stands now.
create function stepback.redraw_undone(p_undo uuid) returns void language sql as $$
  with recursive undone as (
    select undo_of as id from stepback.rollbacks where id = p_undo
    union all select r.undo_of from stepback.rollbacks r join undone on r.id = undone.id)
  select stepback.redraw_card(id) from undone where id is not null;
$$;
