-- Clicks on the links of messages, and what became of messages in sums.

-- What links are sealed with (journey::link::token): SECRET. The newest seals, all of them open.
CREATE TABLE link_keys (
    id      INTEGER PRIMARY KEY,
    secret  BLOB NOT NULL,
    made_at INTEGER NOT NULL               -- 0 for the installation's first
);

-- One row per passage, step and link that was clicked, and one with link 0 for any link of the step.
CREATE TABLE clicks (
    enrollment_id INTEGER NOT NULL,
    step          INTEGER NOT NULL,
    link          INTEGER NOT NULL,        -- its number in the step, from 1 (journey::parse::links)
    account_id    INTEGER NOT NULL,
    version_id    INTEGER NOT NULL,
    first_at      INTEGER NOT NULL,
    last_at       INTEGER NOT NULL,
    count         INTEGER NOT NULL,
    PRIMARY KEY (enrollment_id, step, link)
) WITHOUT ROWID;

-- How often what became of steps and links (store::statistics).
CREATE TABLE statistics (
    version_id INTEGER NOT NULL,
    day        INTEGER NOT NULL,           -- since 1970, in the account's zone
    account_id INTEGER NOT NULL,
    step       INTEGER NOT NULL,
    link       INTEGER NOT NULL,           -- as in clicks; 0 for the step
    kind       INTEGER NOT NULL,           -- store::statistics::Kind
    code       INTEGER NOT NULL,           -- the platform's errcode of what it refused; 0 for none
    language   TEXT NOT NULL,           -- of the follower, as it was known; '' for unknown
    n          INTEGER NOT NULL,
    PRIMARY KEY (version_id, day, account_id, step, link, kind, code, language)
) WITHOUT ROWID;

-- What commits have added since: rows are taken together into statistics, and go.
CREATE TABLE statistics_fresh (
    id         INTEGER PRIMARY KEY,
    version_id INTEGER NOT NULL,
    day        INTEGER NOT NULL,
    account_id INTEGER NOT NULL,
    step       INTEGER NOT NULL,
    link       INTEGER NOT NULL,
    kind       INTEGER NOT NULL,
    code       INTEGER NOT NULL,
    language   TEXT NOT NULL,
    n          INTEGER NOT NULL
);

-- What is known from before, by days of UTC and the languages of now.
INSERT INTO statistics (version_id, day, account_id, step, link, kind, code, language, n)
    SELECT e.version_id, e.enrolled_at / 86400000, e.account_id, 0, 0, 0, 0, coalesce(f.language, ''),
        count(*)
    FROM enrollments AS e LEFT JOIN followers AS f ON f.id = (e.id >> 16)
    GROUP BY e.version_id, e.enrolled_at / 86400000, e.account_id, coalesce(f.language, '');
INSERT INTO statistics (version_id, day, account_id, step, link, kind, code, language, n)
    WITH RECURSIVE steps(further) AS
        (SELECT 0 UNION ALL SELECT further + 1 FROM steps WHERE further < 199)
    SELECT o.version_id, o.at / 86400000, o.account_id, o.step + s.further, 0, o.result,
        CASE WHEN o.result IN (2, 6) THEN coalesce(o.code, 0) ELSE 0 END, coalesce(f.language, ''),
        count(*)
    FROM outcomes AS o JOIN steps AS s ON s.further = 0 OR s.further < o.steps
    LEFT JOIN followers AS f ON f.id = (o.enrollment_id >> 16)
    GROUP BY 1, 2, 3, 4, 6, 7, 8;
