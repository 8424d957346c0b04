-- Step 2 of the schema: an outbox that can be delivered from, settings, and a place for a hint. It is never edited once
-- released, only followed by another. What `schema.sql` says of times, bodies, checksums and indices holds here too.

-- A lane is what waits for each other: the replies to one instance, in the order of `seq`. Of each lane, only the first
-- that is not settled has a `claimable_at`, which is its `due_at`; so neither a claim nor the question when the next is
-- due ever looks at what waits behind it, however much that is. What has no lane is claimable whenever it is due.
--
-- What never changes is under the checksum: tenant, key, instance, machine, subject, created_at and body.

ALTER TABLE outbox RENAME TO outbox_of_step_1;

CREATE TABLE outbox (
    seq          INTEGER PRIMARY KEY,          -- in the order of saving
    tenant       TEXT NOT NULL,
    key          TEXT NOT NULL,                -- unique within its tenant only
    instance     TEXT NOT NULL,
    machine      TEXT NOT NULL,
    subject      TEXT,
    lane         INTEGER,                      -- instances.row; null for a call
    status       TEXT NOT NULL DEFAULT 'pending',
    attempts     INTEGER NOT NULL DEFAULT 0,
    parts_done   INTEGER NOT NULL DEFAULT 0,
    created_at   INTEGER NOT NULL,
    due_at       INTEGER,                      -- the next attempt or the end of a claim; null once it is settled
    claimable_at INTEGER,
    settled_at   INTEGER,
    provider_id  TEXT,                         -- what the receiver calls it
    stage        TEXT,                         -- what the receiver has reported since
    error        TEXT,                         -- the last failure
    checksum     INTEGER NOT NULL,
    body         TEXT NOT NULL
) STRICT;

INSERT INTO outbox (tenant, key, instance, machine, subject, lane, created_at, due_at, checksum, body)
SELECT
    o.tenant,
    o.key,
    o.instance,
    coalesce(i.machine, ''),                   -- of an instance that is gone: is found damaged when it is claimed
    i.subject,
    CASE WHEN json_valid(o.body) AND json_type(o.body, '$.call') IS NOT NULL THEN NULL ELSE i.row END,
    o.created_at,
    o.created_at,
    0,                                         -- the program seals them in the same transaction
    '{"key":' || json_quote(o.key) || ',"kind":' || o.body || '}'
FROM outbox_of_step_1 AS o
LEFT JOIN instances AS i ON i.tenant = o.tenant AND i.id = o.instance
-- A key is `instance:revision:ordinal`; a cast reads as far as there are digits.
ORDER BY
    o.created_at,
    o.tenant,
    o.instance,
    CAST(substr(o.key, length(o.instance) + 2) AS INTEGER),
    length(o.key),
    o.key;

DROP TABLE outbox_of_step_1;

CREATE UNIQUE INDEX outbox_by_key ON outbox (tenant, key);
CREATE INDEX outbox_by_lane ON outbox (lane) WHERE lane IS NOT NULL AND settled_at IS NULL;
CREATE INDEX outbox_by_claim ON outbox (claimable_at) WHERE claimable_at IS NOT NULL;
CREATE INDEX outbox_by_provider_id ON outbox (provider_id) WHERE provider_id IS NOT NULL;
CREATE INDEX outbox_by_settlement ON outbox (settled_at) WHERE settled_at IS NOT NULL;

UPDATE outbox SET claimable_at = due_at
WHERE lane IS NULL
   OR seq = (SELECT min(first.seq) FROM outbox AS first WHERE first.lane = outbox.lane AND first.settled_at IS NULL);

-- What a tenant has decided while the server runs.
CREATE TABLE settings (
    row      INTEGER PRIMARY KEY,
    tenant   TEXT NOT NULL,
    name     TEXT NOT NULL,
    saved_at INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    body     TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX settings_by_name ON settings (tenant, name);

-- Until when an instance is taken to go round in circles. A hint, not under the checksum.
ALTER TABLE instances ADD COLUMN looping_until INTEGER;

CREATE INDEX instances_looping ON instances (looping_until) WHERE looping_until IS NOT NULL;
