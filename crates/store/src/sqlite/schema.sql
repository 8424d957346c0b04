-- What a statewright file holds. Step 1 of the schema: it is never edited once released, only followed by another.
--
-- Times are milliseconds since 1970 and come from the server's clock, never from SQLite's. A `body` is the record as
-- JSON. A `checksum` is the 64-bit XXH3 of the table's name and of every column of the record that decides anything;
-- `seal.rs` lists them. Two columns are hints and are not under it: `wake_at` and `claimed_until`.
--
-- Every index on a random key costs a page for each commit. So no column that an ordinary commit changes is indexed,
-- the log is found by the row number of its instance, and `wake_at` is left alone when a deadline moves later.

CREATE TABLE instances (
    row            INTEGER PRIMARY KEY,
    tenant         TEXT NOT NULL,
    id             TEXT NOT NULL,
    machine        TEXT NOT NULL,
    version        INTEGER NOT NULL,
    definition     TEXT NOT NULL,
    subject        TEXT,
    ordinal        INTEGER NOT NULL,           -- which session of its subject; 0 for an instance that is none
    revision       INTEGER NOT NULL,
    state          TEXT NOT NULL,
    closure_reason TEXT,                       -- null while it is open
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL,
    wake_at        INTEGER,                    -- no deadline is earlier than this; it may be earlier than any
    claimed_until  INTEGER,                    -- a server is seeing to its timers until then
    format         INTEGER NOT NULL,           -- the layout of the body
    checksum       INTEGER NOT NULL,
    body           TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX instances_by_id ON instances (tenant, id);
CREATE UNIQUE INDEX instances_by_session ON instances (tenant, machine, subject, ordinal) WHERE ordinal > 0;
CREATE INDEX instances_by_wake_at ON instances (wake_at) WHERE wake_at IS NOT NULL;

-- One line for each input, with the answer that it got: history and receipts in one.
CREATE TABLE log (
    seq      INTEGER PRIMARY KEY,
    owner    INTEGER NOT NULL,                 -- instances.row
    tenant   TEXT NOT NULL,
    instance TEXT NOT NULL,
    revision INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    receipt  BLOB NOT NULL,
    checksum INTEGER NOT NULL,
    body     TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX log_by_receipt ON log (receipt);
CREATE INDEX log_by_owner ON log (owner);
CREATE INDEX log_by_time ON log (at);

CREATE TABLE clarifications (
    row        INTEGER PRIMARY KEY,
    tenant     TEXT NOT NULL,
    id         TEXT NOT NULL,
    instance   TEXT NOT NULL,
    status     TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    checksum   INTEGER NOT NULL,
    body       TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX clarifications_by_id ON clarifications (tenant, id);
CREATE INDEX clarifications_by_time ON clarifications (tenant, created_at, id);
CREATE UNIQUE INDEX clarifications_pending ON clarifications (tenant, instance) WHERE status = 'pending';

-- What has to be delivered. An effect's key is unique within its tenant only: two tenants may use one instance id.
CREATE TABLE outbox (
    tenant     TEXT NOT NULL,
    key        TEXT NOT NULL,
    instance   TEXT NOT NULL,
    status     TEXT NOT NULL DEFAULT 'pending',
    created_at INTEGER NOT NULL,
    body       TEXT NOT NULL,
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE definitions (
    row      INTEGER PRIMARY KEY,
    hash     TEXT NOT NULL UNIQUE,
    machine  TEXT NOT NULL,
    version  INTEGER NOT NULL,
    saved_at INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    source   TEXT NOT NULL
) STRICT;

-- Records that are not what was saved, each damage once. The record itself stays where it is and is never served.
CREATE TABLE quarantine (
    row         INTEGER PRIMARY KEY,
    source      TEXT NOT NULL,                 -- the table
    source_row  INTEGER NOT NULL,
    fingerprint INTEGER NOT NULL,              -- tells two damages of one record apart
    key         TEXT NOT NULL,
    detail      TEXT NOT NULL,
    raw         BLOB NOT NULL,                 -- the columns under the checksum as they were found, a line each
    UNIQUE (source, source_row, fingerprint)
) STRICT;

-- Views for operators. Read-only by nature, not under the checksum, and not used by the server.

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
WHERE i.ordinal > 0;

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
LEFT JOIN instances AS i ON i.row = l.owner;

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
FROM clarifications AS c;

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
LEFT JOIN instances AS i ON i.row = l.owner;
