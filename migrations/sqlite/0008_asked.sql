-- What outlasts a restart of what was asked; the same as where several nodes share a database.

-- Answers to requests with an idempotency key (store::replays).
CREATE TABLE replays (
    key     TEXT PRIMARY KEY,   -- a hash over caller and key
    request TEXT NOT NULL,                  -- a hash over what was asked for
    answer  TEXT NOT NULL,                  -- JSON; '' while it is being made
    claim   TEXT NOT NULL,                  -- whoever makes it knows this
    until   INTEGER NOT NULL,                -- and has it made by then
    at      INTEGER NOT NULL
);
CREATE INDEX replays_by_age ON replays (at);

-- Who is signed in to the console (store::sessions).
CREATE TABLE sessions (
    id      TEXT PRIMARY KEY,   -- a hash over the cookie
    mark    TEXT NOT NULL,                  -- a hash over the API key: one that is taken back ends it
    ends_at INTEGER NOT NULL
);

-- Access tokens of third-party platforms and their accounts (store::tokens): SECRET, as refresh tokens
-- are. Empty here: one node keeps them in memory.
CREATE TABLE access_tokens (
    name           TEXT PRIMARY KEY,  -- app ids: the platform's, and the account's
    token          TEXT NOT NULL DEFAULT '',
    ends_at        INTEGER NOT NULL DEFAULT 0,
    claim          TEXT NOT NULL DEFAULT '',      -- whoever fetches another knows this
    fetching_until INTEGER NOT NULL DEFAULT 0      -- and others wait until then
);
