-- Each process asks each second which requests have expired of which nobody has been told: not over all that ever were.
create index rollbacks_expired on stepback.rollbacks (ended_at) where state = 'expired';
