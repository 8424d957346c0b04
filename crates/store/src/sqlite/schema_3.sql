-- Step 3 of the schema: phases of flows, for lists and for workers. It is never edited once released, only followed by
-- another. What `schema.sql` says of times and checksums holds here too; a line has no body, because it is all columns.
--
-- The row number is made of the instance's and the phase's place, so that a line is found, and written again, by the
-- table itself, and what belongs together lies together. Most columns change with every step of a phase, and so do
-- their indices: most are only about the few phases that somebody looks for.

CREATE TABLE phases (
    row        INTEGER PRIMARY KEY,            -- 65536 times instances.row, and the place
    tenant     TEXT NOT NULL,
    instance   TEXT NOT NULL,
    place      INTEGER NOT NULL,               -- in its flow, from 0
    machine    TEXT NOT NULL,
    phase      TEXT NOT NULL,
    state      TEXT NOT NULL,
    since      INTEGER NOT NULL,
    attempts   INTEGER NOT NULL,
    retries    INTEGER NOT NULL,
    error      TEXT,                           -- the code of its last error, while that is what it is about
    offered_at INTEGER,                        -- from when on a worker may take it; null while none may
    kind       TEXT NOT NULL,                  -- the kind of worker that it is for; empty for any
    lease      TEXT,                           -- under which a worker has it
    worker     TEXT,
    checksum   INTEGER NOT NULL
) STRICT;

-- All are in the order of their lists, so that a page is read without sorting what is not on it.
CREATE INDEX phases_by_flow ON phases (tenant, instance DESC, place);
CREATE INDEX phases_by_state ON phases (tenant, state, instance DESC, place, since);
CREATE INDEX phases_by_error ON phases (tenant, error, instance DESC, place) WHERE error IS NOT NULL;
CREATE INDEX phases_by_lease ON phases (tenant, lease, instance DESC, place) WHERE lease IS NOT NULL;
CREATE INDEX phases_retried ON phases (tenant, instance DESC, place, retries) WHERE retries > 0;
-- In the order in which workers are given them, with what tells whether one is for them.
CREATE INDEX phases_offered ON phases (tenant, offered_at, instance, place, kind) WHERE offered_at IS NOT NULL;

-- One row for each phase of each flow, without what is kept beside a tenant.
CREATE VIEW flow_phases AS
SELECT
    p.tenant                                                                     AS tenant,
    p.instance                                                                   AS flow_id,
    p.machine                                                                    AS flow,
    i.state                                                                      AS flow_status,
    p.place                                                                      AS place,
    p.phase                                                                      AS phase,
    p.state                                                                      AS phase_state,
    strftime('%Y-%m-%dT%H:%M:%fZ', p.since / 1000.0, 'unixepoch')                AS since,
    p.attempts                                                                   AS attempts,
    p.retries                                                                    AS retries,
    p.error                                                                      AS error_code,
    strftime('%Y-%m-%dT%H:%M:%fZ', p.offered_at / 1000.0, 'unixepoch')           AS offered_at,
    p.kind                                                                       AS worker_kind,
    p.worker                                                                     AS worker
FROM phases AS p
LEFT JOIN instances AS i ON i.row = p.row / 65536
WHERE instr(p.tenant, '~') = 0;
