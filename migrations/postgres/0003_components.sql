-- Third-party platforms (components) and the accounts that authorized them. Tickets, codes and refresh
-- tokens are secrets: they stand here and nowhere else.

CREATE TABLE components (
    app_id        TEXT COLLATE "C" PRIMARY KEY,
    key           TEXT COLLATE "C" NOT NULL DEFAULT '',  -- the operator's name for it; empty when configured no more
    ticket        TEXT NOT NULL DEFAULT '',  -- the newest component_verify_ticket
    ticket_at     BIGINT NOT NULL DEFAULT 0, -- by the platform's clock
    reconciled_at BIGINT NOT NULL DEFAULT 0 -- last whole comparison with the platform's own list
);

-- One row per account that ever authorized a component.
CREATE TABLE authorizers (
    component     TEXT NOT NULL,             -- app id of the component
    app_id        TEXT COLLATE "C" NOT NULL,
    account_id    BIGINT NOT NULL DEFAULT 0, -- accounts.id; 0 while it is none of ours
    name          TEXT NOT NULL DEFAULT '',  -- for people
    original_id   TEXT NOT NULL DEFAULT '',  -- gh_…, as in ToUserName
    state         BIGINT NOT NULL,          -- store::authorizers::State
    reason        TEXT NOT NULL DEFAULT '',  -- why it does not send
    permissions   TEXT NOT NULL DEFAULT '[]', -- JSON array: the granted permission sets
    refresh_token TEXT NOT NULL DEFAULT '',
    authorized_at BIGINT NOT NULL DEFAULT 0,
    event_at      BIGINT NOT NULL DEFAULT 0, -- newest event of it, by the platform's clock
    changed_at    BIGINT NOT NULL,          -- by ours
    code          TEXT NOT NULL DEFAULT '',  -- an authorization code that waits to be exchanged
    PRIMARY KEY (component, app_id)
);
CREATE INDEX authorizers_code ON authorizers (component) WHERE code <> '';
