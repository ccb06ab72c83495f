-- The one node of an embedded store, in the same words as where several share one.

ALTER TABLE nodes ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE nodes ADD COLUMN version TEXT NOT NULL DEFAULT '';

-- Its one shard. The epoch counts the starts and fences what an earlier start left behind.
CREATE TABLE shard_leases (
    shard   INTEGER PRIMARY KEY,
    node_id INTEGER NOT NULL,
    epoch   INTEGER NOT NULL
);
INSERT INTO shard_leases (shard, node_id, epoch)
    SELECT 0, 1, coalesce((SELECT max(epoch) FROM nodes), 0);

-- Grows with every change of what nodes keep in memory; here nobody else has to be told.
CREATE TABLE revisions (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    number INTEGER NOT NULL
);
INSERT INTO revisions (id, number) VALUES (1, 1);
