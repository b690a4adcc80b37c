-- What the embedded engine keeps in journal and index, as tables.
--
-- Times are milliseconds since the Unix epoch. Texts that come from senders are bytea: they may hold
-- a NUL, which PostgreSQL's text can't, and one such callback must not fail the batch that it is in.
-- Transactions and users are looked up by eight bytes of their hash, because they may be longer than
-- an index entry may be. No sequences, no triggers, no foreign keys.

create table dedupe (
    k bytea primary key,
    id uuid not null,
    seen_ms bigint not null,
    fingerprint bigint not null,
    source text collate "C" not null,
    keys bytea                              -- all keys of its event, where there are several
);
create index dedupe_seen on dedupe using brin (seen_ms) with (pages_per_range = 32, autosummarize = on);

-- Partitions by the day in the id: to forget a day is to drop three tables.
create table day (
    n integer primary key                   -- days since 1970
);

create table event (
    id uuid not null,
    source text collate "C" not null,
    tx bigint not null,                     -- hash of the transaction
    transaction bytea not null,
    usr bigint,                             -- hash of the user
    player bytea,
    received_ms bigint not null,
    test boolean not null,
    fingerprint bigint not null,
    keys bytea not null,
    targets text[] not null,                -- every destination that it has or had, by name
    body bytea not null,
    primary key (id)
) partition by range (id);
create index event_source on event (source, id);
create index event_tx on event (tx);
create index event_usr on event (usr, id) where usr is not null;

-- The token of the lease names the attempt, so that no attempt is counted twice.
create table attempt (
    event_id uuid not null,
    target text collate "C" not null,
    token bigint not null,
    at_ms bigint not null,
    latency_ms bigint not null,
    status smallint,
    head bytea not null,
    error bytea,
    primary key (event_id, target, token)
) partition by range (event_id);

create table replayed (
    event_id uuid not null,
    replay_id uuid not null,
    target text collate "C" not null,
    primary key (event_id, replay_id, target)
) partition by range (event_id);

-- Pending deliveries. A lease is the due time itself, so that nothing has to reap it. A row that is
-- gone from here and from `dead` is done.
create table delivery (
    event_id uuid not null,
    target text collate "C" not null,
    due_ms bigint not null,
    attempt integer not null,
    token bigint not null,
    owner text,
    primary key (event_id, target)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
create index delivery_due on delivery (target, due_ms, event_id);

create table dead (
    event_id uuid not null,
    target text collate "C" not null,
    attempt integer not null,
    died_ms bigint not null,
    primary key (event_id, target)
);
create index dead_target on dead (target, event_id);

create table nonce (
    k bytea primary key,
    exp_ms bigint not null
);

create table document (
    kind text collate "C" not null,
    id bytea not null,
    version bigint not null,
    at_ms bigint not null,
    who bytea not null,
    body bytea not null,
    primary key (kind, id)
);

insert into meta (k, v) values ('revision', 0);
