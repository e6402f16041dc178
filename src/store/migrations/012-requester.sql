-- Who asked stays who asked: whoever could change that could let the requester approve their own request.
create function stepback.keep_requester() returns trigger language plpgsql as $$
begin
  raise exception 'the requester of rollback % cannot be changed', old.id using errcode = 'SB004';
end $$;
create trigger requester_is_kept before update on stepback.rollbacks for each row
  when (old.requester_id is distinct from new.requester_id) execute function stepback.keep_requester();
