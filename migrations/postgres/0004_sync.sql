-- Followers compared with the platform's list, tags written back, and people forgotten.

-- When this machine was last seen running: how long it was away is the difference.
ALTER TABLE nodes ADD COLUMN seen_at BIGINT NOT NULL DEFAULT 0;

-- The number of the account's sync that last found the follower in the platform's list.
ALTER TABLE followers ADD COLUMN listed_in BIGINT NOT NULL DEFAULT 0;

-- The latest sync of each account, and how far it has come.
CREATE TABLE syncs (
    account_id  BIGINT PRIMARY KEY,
    known_since BIGINT NOT NULL,            -- since when the account is ours: who followed before was never missed
    number      BIGINT NOT NULL,            -- counts the account's syncs
    state       BIGINT NOT NULL,            -- store::syncs::State
    phase       BIGINT NOT NULL,            -- store::syncs::Phase
    reason      BIGINT NOT NULL,            -- store::syncs::Reason: why it was begun
    refresh     BIGINT NOT NULL,            -- 1 when everybody's language and tags are asked for too
    next_openid TEXT NOT NULL,               -- where the next page begins; empty for the first
    after_id    BIGINT NOT NULL,            -- follower up to whom the present phase has come
    total       BIGINT NOT NULL,            -- followers, as the platform counts them
    listed      BIGINT NOT NULL,            -- openids read from its list
    found       BIGINT NOT NULL,            -- who follows and was not known to
    gone        BIGINT NOT NULL,            -- who was known to follow and does not
    enrolled    BIGINT NOT NULL,            -- passages begun
    refreshed   BIGINT NOT NULL,            -- followers whose language and tags were asked for
    failures    BIGINT NOT NULL,            -- calls that failed in a row
    resume_at   BIGINT NOT NULL,            -- nothing is asked before this instant
    detail      TEXT NOT NULL,               -- why it waits, or how it ended
    started_at  BIGINT NOT NULL,
    changed_at  BIGINT NOT NULL,
    ended_at    BIGINT NOT NULL             -- 0 while it runs
);

-- Tags to put on followers, or take off them, on the platform.
CREATE TABLE tag_changes (
    account_id  BIGINT NOT NULL,
    tag         TEXT COLLATE "C" NOT NULL,
    follower_id BIGINT NOT NULL,
    present     BIGINT NOT NULL,            -- 1 to put on, 0 to take off
    number      BIGINT NOT NULL,            -- grows with every change, so that a newer one is not taken for this
    attempts    BIGINT NOT NULL,            -- calls that failed
    alone       BIGINT NOT NULL,            -- 1 after a call for several was refused because of one of them
    next_at     BIGINT NOT NULL,
    PRIMARY KEY (account_id, tag, follower_id)
);

-- What pseudonyms of forgotten followers are made with; one row.
CREATE TABLE erasure (
    id   BIGINT PRIMARY KEY CHECK (id = 1),
    salt BYTEA NOT NULL
);
