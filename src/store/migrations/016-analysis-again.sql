-- An analysis that the channel did not take, as while the bot was out of it, is posted with its next edition: a note, or
-- what was filled in, would else be heard of nowhere. What else was refused was for its moment.

create or replace function stepback.edit_messages(p_rollback uuid, p_prefix text) returns void language sql as $$
  update stepback.outbox set revision = revision + 1,
    state = case when state = 'sent' or (state = 'refused' and (ts is not null or body ->> 'kind' = 'analysis'))
      then 'pending' else state end
    where rollback_id = p_rollback and starts_with(key, p_prefix) and body ->> 'kind' <> 'file';
  update stepback.rollbacks set deliver_at = least(deliver_at, now()) where id = p_rollback;
$$;
