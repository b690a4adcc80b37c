-- What keeps the costs of the queue, of retention and of counts apart from how much was done before.

-- The time below which nothing of a destination is due: leases begin there (queue.rs).
create table queue_floor (
    target text collate "C" primary key,
    due_ms bigint not null
) with (fillfactor = 50, autovacuum_vacuum_cost_delay = 0);

-- How far the keys of a source are swept: none before this time is left that could go (expiry.rs).
create table swept (
    source text collate "C" primary key,
    before_ms bigint not null
) with (fillfactor = 50, autovacuum_vacuum_cost_delay = 0);

-- Counts, made by one gateway for all (figures.rs).
create table figure (
    name text collate "C" primary key,
    at_ms bigint not null,
    took_ms bigint not null,
    claimed_ms bigint not null,
    body text not null
) with (fillfactor = 50, autovacuum_vacuum_cost_delay = 0);

-- A vacuum of `dedupe` reads its whole index: it comes when a fiftieth is dead, not when a fifth is.
-- What was inserted is frozen when it is vacuumed for the first time, so that no later pass has to
-- write it again (docs/scaling.md has the arithmetic).
alter table dedupe set (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_freeze_min_age = 0
);

-- The same for the days that are there; those that are made later get it from the gateway (days.rs).
do $$
declare
    part regclass;
begin
    for part in
        select inhrelid::regclass from pg_inherits
        where inhparent in ('event'::regclass, 'attempt'::regclass, 'replayed'::regclass)
    loop
        execute format('alter table %s set (autovacuum_freeze_min_age = 0)', part);
    end loop;
end
$$;
