-- Transaction, user and body of an event, what an attempt brought, and who changed a document to what
-- are pieces from now on, in clear or sealed (vault.rs). Rows of before stay as they are until they are
-- rekeyed: theirs is what the old columns hold.

alter table event alter column transaction drop not null;   -- null: it is in `body`, and so is the user
alter table attempt alter column head drop not null;        -- null: see `said`
alter table attempt add column said bytea;                  -- null: nothing
alter table document alter column who drop not null;        -- null: it is in `body`

-- The key to write with, 0 for none. Rows `key …` name each key that something may be sealed with.
insert into meta (k, v) values ('key', 0);

-- Sixteen bytes without a length before them: a quarter less of the index that is touched at random.
alter table dedupe alter column k type uuid using encode(k, 'hex')::uuid;
alter table nonce alter column k type uuid using encode(k, 'hex')::uuid;

-- An event has few attempts, and its delivery's row sees to it that none is written twice.
alter table attempt drop constraint attempt_pkey;
create index attempt_event on attempt (event_id);
