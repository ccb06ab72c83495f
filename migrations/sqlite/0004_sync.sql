-- Followers compared with the platform's list, tags written back, and people forgotten.

-- When this machine was last seen running: how long it was away is the difference.
ALTER TABLE nodes ADD COLUMN seen_at INTEGER NOT NULL DEFAULT 0;

-- The number of the account's sync that last found the follower in the platform's list.
ALTER TABLE followers ADD COLUMN listed_in INTEGER NOT NULL DEFAULT 0;

-- The latest sync of each account, and how far it has come.
CREATE TABLE syncs (
    account_id  INTEGER PRIMARY KEY,
    known_since INTEGER NOT NULL,            -- since when the account is ours: who followed before was never missed
    number      INTEGER NOT NULL,            -- counts the account's syncs
    state       INTEGER NOT NULL,            -- store::syncs::State
    phase       INTEGER NOT NULL,            -- store::syncs::Phase
    reason      INTEGER NOT NULL,            -- store::syncs::Reason: why it was begun
    refresh     INTEGER NOT NULL,            -- 1 when everybody's language and tags are asked for too
    next_openid TEXT NOT NULL,               -- where the next page begins; empty for the first
    after_id    INTEGER NOT NULL,            -- follower up to whom the present phase has come
    total       INTEGER NOT NULL,            -- followers, as the platform counts them
    listed      INTEGER NOT NULL,            -- openids read from its list
    found       INTEGER NOT NULL,            -- who follows and was not known to
    gone        INTEGER NOT NULL,            -- who was known to follow and does not
    enrolled    INTEGER NOT NULL,            -- passages begun
    refreshed   INTEGER NOT NULL,            -- followers whose language and tags were asked for
    failures    INTEGER NOT NULL,            -- calls that failed in a row
    resume_at   INTEGER NOT NULL,            -- nothing is asked before this instant
    detail      TEXT NOT NULL,               -- why it waits, or how it ended
    started_at  INTEGER NOT NULL,
    changed_at  INTEGER NOT NULL,
    ended_at    INTEGER NOT NULL             -- 0 while it runs
);

-- Tags to put on followers, or take off them, on the platform.
CREATE TABLE tag_changes (
    account_id  INTEGER NOT NULL,
    tag         TEXT NOT NULL,
    follower_id INTEGER NOT NULL,
    present     INTEGER NOT NULL,            -- 1 to put on, 0 to take off
    number      INTEGER NOT NULL,            -- grows with every change, so that a newer one is not taken for this
    attempts    INTEGER NOT NULL,            -- calls that failed
    alone       INTEGER NOT NULL,            -- 1 after a call for several was refused because of one of them
    next_at     INTEGER NOT NULL,
    PRIMARY KEY (account_id, tag, follower_id)
) WITHOUT ROWID;

-- What pseudonyms of forgotten followers are made with; one row.
CREATE TABLE erasure (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    salt BLOB NOT NULL
);
