-- Everything one follow needs. Instants are milliseconds since 1970, UTC; codes are small integers
-- whose words stand in the module named beside the column.
--
-- No foreign keys between hot tables and no index on a column that the hot path updates: the rows
-- are written in one transaction by one writer, and `dripwheel audit` proves them consistent.

-- One row for this machine; `epoch` counts its starts and fences what an earlier start left behind.
CREATE TABLE nodes (
    id         INTEGER PRIMARY KEY,
    epoch      INTEGER NOT NULL,
    started_at INTEGER NOT NULL
);

CREATE TABLE accounts (
    id           INTEGER PRIMARY KEY,
    key          TEXT NOT NULL UNIQUE,      -- the operator's name for it, from the configuration
    platform     TEXT NOT NULL,
    app_id       TEXT NOT NULL,
    paused_until INTEGER NOT NULL DEFAULT 0, -- nothing is sent before this instant
    pause_reason TEXT NOT NULL DEFAULT '',
    attention    INTEGER NOT NULL DEFAULT 0  -- 1 while a person has to act
);

CREATE TABLE followers (
    id            INTEGER PRIMARY KEY,
    account_id    INTEGER NOT NULL,
    openid        TEXT NOT NULL,
    following     INTEGER NOT NULL,
    muted         INTEGER NOT NULL,          -- 1 while the platform says that messages are blocked
    followed_at   INTEGER NOT NULL,
    left_at       INTEGER NOT NULL,          -- latest unfollow by the platform's clock; 0 for never
    last_event_at INTEGER NOT NULL,
    last_sent_at  INTEGER NOT NULL,          -- latest intent; 0 for never
    language      TEXT,
    scene         TEXT,
    tags          TEXT                       -- JSON array
);
CREATE UNIQUE INDEX followers_openid ON followers (account_id, openid);

-- What a follower's event permits (policy::grant); one row per follower and kind of grant.
CREATE TABLE grants (
    follower_id INTEGER NOT NULL,
    kind        INTEGER NOT NULL,
    opens_at    INTEGER NOT NULL,
    closes_at   INTEGER NOT NULL,
    quota       INTEGER NOT NULL,
    spent       INTEGER NOT NULL,
    PRIMARY KEY (follower_id, kind)
) WITHOUT ROWID;

-- Proof that an event was taken in. Follower 0 stands for events that are about no follower.
CREATE TABLE receipts (
    account_id  INTEGER NOT NULL,
    follower_id INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,            -- by the platform's clock
    digest      INTEGER NOT NULL,            -- inbound::message
    kind        INTEGER NOT NULL,            -- store::receipts
    detail      TEXT,
    taken_at    INTEGER NOT NULL,
    PRIMARY KEY (account_id, follower_id, created_at, digest)
) WITHOUT ROWID;

CREATE TABLE sequence_versions (
    id           INTEGER PRIMARY KEY,
    sequence     TEXT NOT NULL,
    hash         TEXT NOT NULL,              -- SHA-256 over source and assets
    source       TEXT NOT NULL,              -- the YAML as published
    assets       TEXT NOT NULL,              -- JSON object: file as written -> SHA-256
    published_at INTEGER NOT NULL,
    live         INTEGER NOT NULL,           -- 1 for the version that new enrollments get
    UNIQUE (sequence, hash)
);

-- One passage of a follower through one version. The id is (follower << 16 | number).
CREATE TABLE enrollments (
    id          INTEGER PRIMARY KEY,
    account_id  INTEGER NOT NULL,
    version_id  INTEGER NOT NULL,
    enrolled_at INTEGER NOT NULL,
    plan        BLOB NOT NULL,               -- due instants of all steps, as seconds after enrolled_at
    step        INTEGER NOT NULL,            -- next step, from 0
    wake_at     INTEGER NOT NULL,            -- key of its timer or delivery; 0 when finished
    generation  INTEGER NOT NULL,            -- voids deliveries made for an earlier wake
    state       INTEGER NOT NULL,            -- journey::enrollment::State
    attempt     INTEGER NOT NULL,            -- calls made for this step
    entry       INTEGER NOT NULL,            -- outcome rows written for this step
    resent      INTEGER NOT NULL             -- 1 once an unknown send of this step was repeated
);

-- The wheel: wake this enrollment at this instant. Insert and delete only.
CREATE TABLE timers (
    shard         INTEGER NOT NULL,
    due_at        INTEGER NOT NULL,
    enrollment_id INTEGER NOT NULL,
    account_id    INTEGER NOT NULL,
    generation    INTEGER NOT NULL,
    PRIMARY KEY (shard, due_at, enrollment_id)
) WITHOUT ROWID;

-- Due or being sent. While state is 1 the row is the intent.
CREATE TABLE deliveries (
    shard         INTEGER NOT NULL,
    account_id    INTEGER NOT NULL,
    due_at        INTEGER NOT NULL,
    enrollment_id INTEGER NOT NULL,
    generation    INTEGER NOT NULL,
    state         INTEGER NOT NULL,          -- 0 due, 1 being sent
    epoch         INTEGER NOT NULL,          -- of the start that committed the intent
    intent_at     INTEGER NOT NULL,
    PRIMARY KEY (shard, account_id, due_at, enrollment_id)
) WITHOUT ROWID;

-- What became of each step, in order; append only (journey::outcome).
CREATE TABLE outcomes (
    enrollment_id INTEGER NOT NULL,
    step          INTEGER NOT NULL,
    entry         INTEGER NOT NULL,
    account_id    INTEGER NOT NULL,
    version_id    INTEGER NOT NULL,
    result        INTEGER NOT NULL,
    steps         INTEGER NOT NULL,          -- how many steps this ends: 0 goes on, >1 ends the rest
    due_at        INTEGER NOT NULL,
    at            INTEGER NOT NULL,
    code          INTEGER,                   -- the platform's errcode
    detail        TEXT,
    PRIMARY KEY (enrollment_id, step, entry)
) WITHOUT ROWID;

-- Sends whose answer was lost: few, and asked for often. The number stands in the index, so that no
-- other row pays for it.
CREATE INDEX outcomes_unknown ON outcomes (at) WHERE result = 7;

-- Files of messages, by content.
CREATE TABLE assets (
    sha256 TEXT PRIMARY KEY,
    name   TEXT NOT NULL,
    mime   TEXT NOT NULL,
    bytes  BLOB NOT NULL
);

-- What the platform calls an asset that was uploaded to it, until it forgets.
CREATE TABLE media (
    account_id INTEGER NOT NULL,
    identity   TEXT NOT NULL,                -- SHA-256 of a file, or a URL
    kind       TEXT NOT NULL,
    media_id   TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (account_id, identity, kind)
) WITHOUT ROWID;
