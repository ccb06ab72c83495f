-- One message to many followers (store::broadcasts, store::recipients). A recipient is an enrollment in
-- a version of one step, so how a message was sent and what came of it stands where it does for
-- sequences.

ALTER TABLE sequence_versions ADD COLUMN kind INTEGER NOT NULL DEFAULT 0; -- journey::sequence::Kind

CREATE TABLE broadcasts (
    id         INTEGER PRIMARY KEY,
    title      TEXT NOT NULL,
    version_id INTEGER NOT NULL,
    audience   TEXT NOT NULL,             -- JSON (broadcast::audience)
    state      INTEGER NOT NULL,          -- 0 not started, 1 sending, 2 interrupted, 3 completed
    per_second INTEGER NOT NULL,          -- recipients; 0 for as many as the accounts' limits let through
    spread_ms  INTEGER NOT NULL,          -- recipients come evenly over this span; 0 for no span
    start_at   INTEGER NOT NULL,          -- when it begins by itself; 0 for never
    cron       TEXT NOT NULL,             -- when it repeats; '' for one that does not
    zone       TEXT NOT NULL,             -- of cron
    parent_id  INTEGER,                   -- of a run: the broadcast that repeats
    run_at     INTEGER,                   -- of a run: its instant
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    started_at INTEGER NOT NULL,          -- 0 before
    ended_at   INTEGER NOT NULL,          -- 0 before
    UNIQUE (parent_id, run_at)
);
CREATE INDEX broadcasts_by_state ON broadcasts (state);

-- A broadcast's part with one account: whoever holds the account's shard goes on with it.
CREATE TABLE broadcast_parts (
    broadcast_id INTEGER NOT NULL,
    account_id   INTEGER NOT NULL,
    phase        INTEGER NOT NULL,        -- store::broadcasts::Phase
    read_to      TEXT NOT NULL,           -- openid up to which followers have been asked
    total        INTEGER NOT NULL,        -- recipients
    retry        INTEGER NOT NULL,        -- which of them are opened again: 1 failed, 2 unknown too
    retried_to   INTEGER NOT NULL,        -- first follower of the chunk up to which that is done
    rate         INTEGER NOT NULL,        -- recipients that ended in 1000 s, as measured last
    PRIMARY KEY (broadcast_id, account_id)
) WITHOUT ROWID;

-- The frozen audience.
CREATE TABLE recipients (
    broadcast_id INTEGER NOT NULL,
    account_id   INTEGER NOT NULL,
    follower_id  INTEGER NOT NULL,
    number       INTEGER NOT NULL,        -- of the follower's enrollment; -1 before there is one
    PRIMARY KEY (broadcast_id, account_id, follower_id)
) WITHOUT ROWID;

-- Neighbouring recipients, counted together: one that has no recipient left to send to is not read again.
CREATE TABLE broadcast_chunks (
    broadcast_id INTEGER NOT NULL,
    account_id   INTEGER NOT NULL,
    first_id     INTEGER NOT NULL,        -- follower
    last_id      INTEGER NOT NULL,        -- follower
    waiting      INTEGER NOT NULL,        -- without an enrollment
    sending      INTEGER NOT NULL,        -- with one that has not ended
    sent         INTEGER NOT NULL,
    failed       INTEGER NOT NULL,
    skipped      INTEGER NOT NULL,
    unknown      INTEGER NOT NULL,
    PRIMARY KEY (broadcast_id, account_id, first_id)
) WITHOUT ROWID;
