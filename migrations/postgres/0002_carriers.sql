-- Carriers beside the customer message: what each intent spends, what took a step, what the platform
-- reports on later.

-- What the follower did to open the grant (policy::grant::Opener).
ALTER TABLE grants ADD COLUMN opened_by BIGINT NOT NULL DEFAULT 0;

-- What an intent spends (policy::fare): journey::carrier, policy::grant::Kind or 0, and the place in
-- the step's `closed` list counted from 1, or 0.
ALTER TABLE deliveries ADD COLUMN carrier BIGINT NOT NULL DEFAULT 1;
ALTER TABLE deliveries ADD COLUMN grant_kind BIGINT NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN fallback BIGINT NOT NULL DEFAULT 0;

-- How a step travelled (journey::carrier); NULL where nothing was sent.
ALTER TABLE outcomes ADD COLUMN carrier BIGINT;

-- Subscription notices that a follower allowed (policy::consent).
CREATE TABLE consents (
    follower_id BIGINT NOT NULL,
    template    TEXT NOT NULL,
    "left"      BIGINT NOT NULL,
    PRIMARY KEY (follower_id, template)
);

-- Passive replies on their way: the receipt that each answers, so that the platform's repetition of
-- the same callback is given the same answer.
CREATE TABLE replies (
    enrollment_id BIGINT PRIMARY KEY,
    created_at    BIGINT NOT NULL,
    digest        BIGINT NOT NULL,
    answers       BIGINT NOT NULL,          -- how often it was given
    answered_at   BIGINT NOT NULL           -- the last time
);

-- Messages that the platform will report on, by its own id of them.
CREATE TABLE awaited_reports (
    account_id    BIGINT NOT NULL,
    reference     TEXT COLLATE "C" NOT NULL,
    enrollment_id BIGINT NOT NULL,
    version_id    BIGINT NOT NULL,
    step          BIGINT NOT NULL,
    entry         BIGINT NOT NULL,          -- number of the report's own entry in the step's history
    carrier       BIGINT NOT NULL,
    due_at        BIGINT NOT NULL,
    sent_at       BIGINT NOT NULL,
    PRIMARY KEY (account_id, reference, enrollment_id)
);
