-- Sums of the callbacks that are held, kept as they change: their bounds are checked for each callback that
-- is held, and counting all of them each time costs more the more there are. Triggers keep them, so that
-- gateways of earlier versions do too.
create table held_sum (
    anchor uuid not null,                   -- the signed text, key or caller; zeros: all of the source
    source text collate "C" not null,
    why smallint not null,
    variants bigint not null,               -- waiting or decided
    waiting bigint not null,
    bytes bigint not null,                  -- of those that wait
    primary key (anchor, source, why)
) with (fillfactor = 50, autovacuum_vacuum_cost_delay = 0);

-- Adds or removes the rows of a statement, in one order: no two statements wait for each other. Samples of
-- rejected callbacks (why = 3) have bounds of their own.
create function held_count() returns trigger language plpgsql set search_path from current as $$
begin
    insert into held_sum as s (anchor, source, why, variants, waiting, bytes)
    select k.anchor, c.source, c.why,
        tg_argv[0]::bigint * count(*),
        tg_argv[0]::bigint * count(*) filter (where c.decision is null),
        tg_argv[0]::bigint * coalesce(sum(c.size) filter (where c.decision is null), 0)
    from changed c
        cross join lateral (values (c.anchor), ('00000000-0000-0000-0000-000000000000'::uuid)) as k(anchor)
    where c.why <> 3
    group by k.anchor, c.source, c.why
    order by k.anchor, c.source, c.why
    on conflict (anchor, source, why) do update set
        variants = s.variants + excluded.variants,
        waiting = s.waiting + excluded.waiting,
        bytes = s.bytes + excluded.bytes;
    return null;
end
$$;

-- Nothing changes while the sums begin.
lock table held in share row exclusive mode;

insert into held_sum (anchor, source, why, variants, waiting, bytes)
select k.anchor, h.source, h.why, count(*), count(*) filter (where h.decision is null),
    coalesce(sum(h.size) filter (where h.decision is null), 0)
from held h cross join lateral (values (h.anchor), ('00000000-0000-0000-0000-000000000000'::uuid)) as k(anchor)
where h.why <> 3
group by k.anchor, h.source, h.why;

create trigger held_added after insert on held
    referencing new table as changed for each statement execute function held_count('1');
create trigger held_removed after delete on held
    referencing old table as changed for each statement execute function held_count('-1');
create trigger held_was after update on held
    referencing old table as changed for each statement execute function held_count('-1');
create trigger held_is after update on held
    referencing new table as changed for each statement execute function held_count('1');
