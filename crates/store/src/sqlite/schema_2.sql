-- Step 2 of the schema: an outbox that can be delivered from, settings, and a place for a hint. It is never edited once
-- released, only followed by another. What `schema.sql` says of times, bodies, checksums and indices holds here too.

-- A lane is what waits for each other: effects of one instance for one reader, in the order of `seq`. Of each lane, only the first
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
    lane         INTEGER,                      -- twice instances.row, one more for the person rather than the host; null for a call
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
    CASE WHEN json_valid(o.body) AND json_type(o.body, '$.call') IS NOT NULL THEN NULL ELSE 2 * i.row END,
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

-- What waits with no way out by time may wait for ever: the first place to look for what is stuck.
CREATE INDEX instances_timeless ON instances (tenant, id) WHERE closure_reason IS NULL AND wake_at IS NULL;
-- What is kept beside a tenant goes with the retention.
CREATE INDEX instances_beside ON instances (updated_at) WHERE closure_reason IS NOT NULL AND instr(tenant, '~') > 0;

-- The views for operators again, without what is kept beside a tenant: its shadow, where what would have happened is
-- tried out, and its receipts.

DROP VIEW progress_update_sessions;
DROP VIEW fsm_transition_log;
DROP VIEW fsm_clarification_requests;
DROP VIEW fsm_idempotency_records;

-- One row for each session of each subject, of every machine.
CREATE VIEW progress_update_sessions AS
SELECT
    i.id                                                                         AS id,
    i.id                                                                         AS session_id,
    i.tenant                                                                     AS tenant,
    i.machine                                                                    AS machine,
    i.subject                                                                    AS user_id,
    i.ordinal                                                                    AS ordinal,
    i.state                                                                      AS fsm_state,
    i.closure_reason                                                             AS closure_reason,
    json_extract(i.body, '$.context')                                            AS session_metadata,
    (
        SELECT json_group_array(json(step)) FROM (
            SELECT json_object(
                'from_state', json_extract(l.body, '$.from'),
                'to_state', json_extract(l.body, '$.to'),
                'event', json_extract(l.body, '$.event'),
                'success', json(CASE json_extract(l.body, '$.success') WHEN 1 THEN 'true' ELSE 'false' END),
                'reason', json_extract(l.body, '$.reason'),
                'at', json_extract(l.body, '$.at')
            ) AS step
            FROM log AS l
            WHERE l.owner = i.row
            ORDER BY l.seq
        )
    )                                                                            AS transition_history,
    i.revision                                                                   AS revision,
    strftime('%Y-%m-%dT%H:%M:%fZ', i.updated_at / 1000.0, 'unixepoch')           AS last_activity,
    strftime('%Y-%m-%dT%H:%M:%fZ', i.created_at / 1000.0, 'unixepoch')           AS created_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', i.updated_at / 1000.0, 'unixepoch')           AS updated_at,
    json_extract(i.body, '$.closure.at')                                         AS closed_at
FROM instances AS i
WHERE i.ordinal > 0 AND instr(i.tenant, '~') = 0;

-- One row for each input that was taken or refused.
CREATE VIEW fsm_transition_log AS
SELECT
    l.seq                                                                        AS id,
    l.tenant                                                                     AS tenant,
    l.instance                                                                   AS session_id,
    i.subject                                                                    AS user_id,
    json_extract(l.body, '$.from')                                               AS from_state,
    json_extract(l.body, '$.to')                                                 AS to_state,
    json_extract(l.body, '$.event')                                              AS event,
    json_extract(l.body, '$.success')                                            AS success,
    json_extract(l.body, '$.reason')                                             AS reason,
    l.revision                                                                   AS revision,
    strftime('%Y-%m-%dT%H:%M:%fZ', l.at / 1000.0, 'unixepoch')                   AS logged_at
FROM log AS l
LEFT JOIN instances AS i ON i.row = l.owner
WHERE instr(l.tenant, '~') = 0;

-- One row for each question that was asked.
CREATE VIEW fsm_clarification_requests AS
SELECT
    c.id                                                                         AS id,
    c.tenant                                                                     AS tenant,
    c.instance                                                                   AS session_id,
    json_extract(c.body, '$.subject')                                            AS user_id,
    c.status                                                                     AS status,
    json_extract(c.body, '$.question')                                           AS question,
    json_extract(c.body, '$.options')                                            AS options,
    json_extract(c.body, '$.answer')                                             AS answer,
    strftime('%Y-%m-%dT%H:%M:%fZ', c.created_at / 1000.0, 'unixepoch')           AS created_at,
    json_extract(c.body, '$.expires_at')                                         AS expires_at,
    CASE c.status WHEN 'answered' THEN json_extract(c.body, '$.resolved_at') END AS answered_at
FROM clarifications AS c
WHERE instr(c.tenant, '~') = 0;

-- One row for each key that was seen. An input is received and processed by one commit, so both times are its time.
CREATE VIEW fsm_idempotency_records AS
SELECT
    l.tenant                                                                     AS tenant,
    i.subject                                                                    AS user_id,
    l.instance                                                                   AS session_id,
    json_extract(l.body, '$.key')                                                AS message_id,
    strftime('%Y-%m-%dT%H:%M:%fZ', l.at / 1000.0, 'unixepoch')                   AS created_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', l.at / 1000.0, 'unixepoch')                   AS processed_at
FROM log AS l
LEFT JOIN instances AS i ON i.row = l.owner
WHERE instr(l.tenant, '~') = 0;
