-- Rejected callbacks are kept beside those that wait for a decision: samples (why = 3), and those in
-- quarantine. They are found by what they claim.
alter table held add column reason text;    -- why it was rejected, as far as is known by now
alter table held add column tx bigint;      -- short hashes of what it claims, as in `event`
alter table held add column usr bigint;
alter table held add column received_ms bigint;

update held set received_ms = ('x' || translate(left(id::text, 13), '-', ''))::bit(48)::bigint;

create index held_newest on held (source, id) where decision is null;
