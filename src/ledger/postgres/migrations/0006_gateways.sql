-- One record for each gateway: what it counted, replaced every few seconds. A gateway that starts takes over
-- the slot of one that has ended.
create table gateway (
    slot     int primary key,
    node     text not null,
    until_ms bigint not null,   -- while it is in the future, the gateway lives
    body     bytea not null
) with (fillfactor = 50);
