-- What a run is at, by step id, with when it began: told by its worker together with its signs of life, for the card.
alter table stepback.rollbacks add column steps_now jsonb not null default '{}';

-- As before; a message whose edit Slack refused is tried again with its next drawing.
create or replace function stepback.edit_messages(p_rollback uuid, p_prefix text) returns void language sql as $$
  update stepback.outbox set revision = revision + 1,
    state = case when state = 'sent' or (state = 'refused' and ts is not null) then 'pending' else state end
    where rollback_id = p_rollback and starts_with(key, p_prefix) and body ->> 'kind' <> 'file';
  update stepback.rollbacks set deliver_at = least(deliver_at, now()) where id = p_rollback;
$$;
