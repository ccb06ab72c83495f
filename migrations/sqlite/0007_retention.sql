-- How far back outcomes and receipts are kept (store::retention).

-- One row, once anything has been deleted.
CREATE TABLE retention (
    id            INTEGER PRIMARY KEY CHECK (id = 1),
    outcomes_from INTEGER NOT NULL,          -- older outcomes and receipts may be gone
    swept_to      INTEGER NOT NULL           -- up to here all of them are
);
