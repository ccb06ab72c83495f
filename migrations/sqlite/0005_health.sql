-- What is told of accounts: hourly sums, pauses and other acts of people, and alerts on their way out.

-- Sums by hour; written every few seconds from memory, so a crash loses at most those seconds.
CREATE TABLE health (
    account_id INTEGER NOT NULL,
    hour       INTEGER NOT NULL,             -- hours since 1970, UTC
    kind       INTEGER NOT NULL,             -- store::health::Kind
    part       INTEGER NOT NULL,             -- journey::carrier of sends, policy::grant::Kind of grants
    code       INTEGER NOT NULL,             -- the platform's errcode of refusals; 0 for none
    reaction   INTEGER NOT NULL,             -- store::health::Reaction to refusals; 0 for none
    n          INTEGER NOT NULL,
    PRIMARY KEY (account_id, hour, kind, part, code, reaction)
) WITHOUT ROWID;

-- Accounts that a person keeps from sending, until a person lets them go on.
CREATE TABLE pauses (
    account_id INTEGER PRIMARY KEY,
    reason     TEXT NOT NULL,
    paused_by  TEXT NOT NULL,                -- name of the API key, or of who signed in
    paused_at  INTEGER NOT NULL
);

-- What people did to accounts.
CREATE TABLE audit_log (
    id         INTEGER PRIMARY KEY,
    account_id INTEGER NOT NULL,
    act        INTEGER NOT NULL,             -- store::audit_log::Act
    at         INTEGER NOT NULL,
    caller     TEXT NOT NULL,                -- name of the API key, or of who signed in
    detail     TEXT NOT NULL
);
CREATE INDEX audit_log_account ON audit_log (account_id, at);

-- Alerts that are not over: one per account and reason. Account 0 stands for the server.
CREATE TABLE open_alerts (
    account_id INTEGER NOT NULL,
    reason     TEXT NOT NULL,
    raised_at  INTEGER NOT NULL,
    PRIMARY KEY (account_id, reason)
) WITHOUT ROWID;

-- Alerts that nobody has taken yet.
CREATE TABLE alert_outbox (
    id      TEXT PRIMARY KEY,                -- the same in every try
    body    TEXT NOT NULL,                   -- as it is signed and sent
    made_at INTEGER NOT NULL,
    tries   INTEGER NOT NULL,
    next_at INTEGER NOT NULL
) WITHOUT ROWID;
