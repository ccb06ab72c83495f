-- How far the messages of an account of WeCom's 微信客服 have been read (store::kf_cursors). Losing a row
-- only makes the platform tell three days again, which the receipts notice.
CREATE TABLE kf_cursors (
    account_id INTEGER PRIMARY KEY,
    cursor     TEXT NOT NULL      -- the platform's own; at most 64 bytes
);
