create index rollbacks_undo_of on stepback.rollbacks (undo_of) where undo_of is not null;

-- Which undo took a rollback back, as things stand: one that has been taken back itself does not count. Null: none.
create function stepback.taken_back_by(p_rollback uuid) returns uuid language plpgsql stable as $$
begin
  return (select u.id from stepback.rollbacks u
    where u.undo_of = p_rollback and u.state = 'succeeded' and stepback.taken_back_by(u.id) is null
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
