-- Deduplication keys have another form from now on. Whether keys of the older form may be there is row
-- `older_keys` of `meta`: a schema that was there before gets it, and so does one that something is
-- imported into.

-- Callbacks that wait for a person's decision, and marks of those that are decided.
create table held (
    id uuid primary key,
    source text collate "C" not null,
    why smallint not null,
    anchor uuid not null,                   -- the signed text or key that it disputes
    variant uuid not null,                  -- the anchor and the content
    size bigint not null,
    body bytea,                             -- a piece (vault.rs); null: it is decided
    decision smallint,                      -- null: it waits
    decided_ms bigint,
    event_id uuid                           -- what it became
);
create unique index held_variant on held (variant);
create index held_anchor on held (anchor);
create index held_waits on held (source, why) where decision is null;

-- Bounds hold on any number of gateways: who holds a callback of a source has its row locked.
create table held_source (
    source text collate "C" primary key
);
