-- What every node has to know of what another one was asked, so that any of them may be asked next.

-- Answers to requests with an idempotency key (store::replays).
CREATE TABLE replays (
    key     TEXT COLLATE "C" PRIMARY KEY,   -- a hash over caller and key
    request TEXT NOT NULL,                  -- a hash over what was asked for
    answer  TEXT NOT NULL,                  -- JSON; '' while it is being made
    claim   TEXT NOT NULL,                  -- whoever makes it knows this
    until   BIGINT NOT NULL,                -- and has it made by then
    at      BIGINT NOT NULL
);
CREATE INDEX replays_by_age ON replays (at);

-- Who is signed in to the console (store::sessions).
CREATE TABLE sessions (
    id      TEXT COLLATE "C" PRIMARY KEY,   -- a hash over the cookie
    mark    TEXT NOT NULL,                  -- a hash over the API key: one that is taken back ends it
    ends_at BIGINT NOT NULL
);

-- Access tokens of third-party platforms and their accounts (store::tokens): SECRET, as refresh tokens
-- are. Instants are the database's own.
CREATE TABLE access_tokens (
    name           TEXT COLLATE "C" PRIMARY KEY,  -- app ids: the platform's, and the account's
    token          TEXT NOT NULL DEFAULT '',
    ends_at        BIGINT NOT NULL DEFAULT 0,
    claim          TEXT NOT NULL DEFAULT '',      -- whoever fetches another knows this
    fetching_until BIGINT NOT NULL DEFAULT 0      -- and others wait until then
);
