-- What these backends keep. Each runs this file when it starts. PostgreSQL takes it without the PRAGMA, and settle.sql as it is.
PRAGMA journal_mode = WAL;

CREATE TABLE IF NOT EXISTS event (
    id       TEXT PRIMARY KEY,      -- webhook-id: the same on every attempt and replay
    source   TEXT NOT NULL,
    tx       TEXT NOT NULL,         -- the sender's transaction: the same even after a restore of the gateway's store
    kind     TEXT,
    effect   TEXT,                  -- grant, revoke, none
    test     INTEGER NOT NULL,
    user_id  TEXT,
    item     TEXT,
    amount   INTEGER NOT NULL,      -- 0 if the event's text is not a whole number
    reverses TEXT,                  -- the transaction that a revoke takes back
    body     TEXT NOT NULL,         -- the event as delivered
    state    TEXT NOT NULL          -- see settle.sql
);
CREATE INDEX IF NOT EXISTS event_tx ON event (source, tx);
CREATE INDEX IF NOT EXISTS event_reverses ON event (source, reverses);

CREATE TABLE IF NOT EXISTS balance (
    user_id TEXT NOT NULL,
    item    TEXT NOT NULL,
    amount  INTEGER NOT NULL,
    PRIMARY KEY (user_id, item)
);
