-- What a run is at, by step id, with when it began: told by its worker together with its signs of life, for the card.
alter table stepback.rollbacks add column steps_now jsonb not null default '{}';
