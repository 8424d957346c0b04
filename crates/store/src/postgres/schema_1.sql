-- What Statewright keeps in a PostgreSQL database. Step 1 of the schema: it is never edited once released, only followed
-- by another. It runs in one transaction, as the role that is going to own all of it, in an empty schema `statewright`.
--
-- Times are milliseconds since 1970 and come from the server's clock. A `body` is the record as
-- JSON, kept as text because its checksum is one of bytes. A `checksum` is the 64-bit XXH3 of the table's name and of
-- every column of the record that decides anything; `seal.rs` lists them. Hints are not under it: `wake_at`,
-- `claimed_until` and `looping_until`. In other texts, the character NUL, which PostgreSQL cannot keep, is `␀0`, and `␀`
-- is `␀␀`. Texts are compared byte by byte.
--
-- No column that an ordinary commit changes is indexed, so that the row is updated within its page and no index is
-- written; `wake_at` is left alone when a deadline moves later.

SET LOCAL search_path = statewright;

CREATE TABLE instances (
    number         bigint PRIMARY KEY,
    tenant         text COLLATE "C" NOT NULL,
    id             text COLLATE "C" NOT NULL,
    machine        text COLLATE "C" NOT NULL,
    version        bigint NOT NULL,
    definition     text COLLATE "C" NOT NULL,
    subject        text COLLATE "C",
    ordinal        bigint NOT NULL,            -- which session of its subject; 0 for an instance that is none
    revision       bigint NOT NULL,
    state          text COLLATE "C" NOT NULL,
    closure_reason text COLLATE "C",           -- null while it is open
    created_at     bigint NOT NULL,
    updated_at     bigint NOT NULL,
    wake_at        bigint,                     -- no deadline is earlier than this; it may be earlier than any
    claimed_until  bigint,                     -- a server is seeing to its timers until then
    looping_until  bigint,                     -- until when it is taken to go round in circles
    format         bigint NOT NULL,            -- the layout of the body
    checksum       bigint NOT NULL,
    body           text COLLATE "C" NOT NULL
) WITH (fillfactor = 75);

CREATE SEQUENCE instance_numbers OWNED BY instances.number;
CREATE UNIQUE INDEX instances_by_id ON instances (tenant, id);
CREATE UNIQUE INDEX instances_by_session ON instances (tenant, machine, subject, ordinal) WHERE ordinal > 0;
CREATE INDEX instances_by_wake_at ON instances (wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX instances_looping ON instances (looping_until) WHERE looping_until IS NOT NULL;
-- What waits with no way out by time may wait for ever: the first place to look for what is stuck.
CREATE INDEX instances_timeless ON instances (tenant, id) WHERE closure_reason IS NULL AND wake_at IS NULL;
-- What is kept beside a tenant goes with the retention.
CREATE INDEX instances_beside ON instances (created_at) WHERE closure_reason IS NOT NULL AND strpos(tenant, '~') > 0;

-- One line for each input, with the answer that it got. Partitions for weeks are made ahead, and dropped when cleaning up
-- has left nothing in them; a line of any other time is in the default one.
CREATE TABLE log (
    seq      bigint NOT NULL,                  -- in the order of an instance's history
    owner    bigint NOT NULL,                  -- instances.number
    tenant   text COLLATE "C" NOT NULL,
    instance text COLLATE "C" NOT NULL,
    revision bigint NOT NULL,
    at       bigint NOT NULL,
    receipt  bytea NOT NULL,
    checksum bigint NOT NULL,
    body     text COLLATE "C" NOT NULL
) PARTITION BY RANGE (at);

CREATE SEQUENCE log_numbers OWNED BY log.seq;
CREATE INDEX log_by_owner ON log (owner, seq);
CREATE INDEX log_by_time ON log (at, seq);
CREATE TABLE log_of_other_times PARTITION OF log DEFAULT;

-- An index over all partitions of the log cannot be unique by the receipt, so this is it.
CREATE TABLE receipts (
    receipt bytea PRIMARY KEY,
    tenant  text COLLATE "C" NOT NULL,
    owner   bigint NOT NULL,
    seq     bigint NOT NULL,
    at      bigint NOT NULL
);

CREATE TABLE clarifications (
    number     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant     text COLLATE "C" NOT NULL,
    id         text COLLATE "C" NOT NULL,
    instance   text COLLATE "C" NOT NULL,
    status     text COLLATE "C" NOT NULL,
    created_at bigint NOT NULL,
    checksum   bigint NOT NULL,
    body       text COLLATE "C" NOT NULL
);

CREATE UNIQUE INDEX clarifications_by_id ON clarifications (tenant, id);
CREATE INDEX clarifications_by_time ON clarifications (tenant, created_at, id);
CREATE UNIQUE INDEX clarifications_pending ON clarifications (tenant, instance) WHERE status = 'pending';

-- One line for each phase of each flow. Most indices are only about the few phases that somebody looks for.
CREATE TABLE phases (
    owner      bigint NOT NULL,                -- instances.number
    place      bigint NOT NULL,                -- in its flow, from 0
    tenant     text COLLATE "C" NOT NULL,
    instance   text COLLATE "C" NOT NULL,
    machine    text COLLATE "C" NOT NULL,
    phase      text COLLATE "C" NOT NULL,
    state      text COLLATE "C" NOT NULL,
    since      bigint NOT NULL,
    attempts   bigint NOT NULL,
    retries    bigint NOT NULL,
    error      text COLLATE "C",               -- the code of its last error, while that is what it is about
    offered_at bigint,                         -- from when on a worker may take it; null while none may
    kind       text COLLATE "C" NOT NULL,      -- the kind of worker that it is for; empty for any
    lease      text COLLATE "C",               -- under which a worker has it
    worker     text COLLATE "C",
    checksum   bigint NOT NULL,
    PRIMARY KEY (owner, place)
);

-- All are in the order of their lists, so that a page is read without sorting what is not on it.
CREATE INDEX phases_by_flow ON phases (tenant, instance DESC, place);
CREATE INDEX phases_by_state ON phases (tenant, state, instance DESC, place, since);
CREATE INDEX phases_by_error ON phases (tenant, error, instance DESC, place) WHERE error IS NOT NULL;
CREATE INDEX phases_by_lease ON phases (tenant, lease, instance DESC, place) WHERE lease IS NOT NULL;
CREATE INDEX phases_retried ON phases (tenant, instance DESC, place, retries) WHERE retries > 0;
-- In the order in which workers are given them, with what tells whether one is for them.
CREATE INDEX phases_offered ON phases (tenant, offered_at, instance, place, kind) WHERE offered_at IS NOT NULL;

-- What has to be delivered. Of each lane, only the first that is not settled has a `claimable_at`, which is its `due_at`.
-- What never changes is under the checksum: tenant, key, instance, machine, subject, created_at and body.
CREATE TABLE outbox (
    seq          bigint PRIMARY KEY,           -- in the order of saving
    tenant       text COLLATE "C" NOT NULL,
    key          text COLLATE "C" NOT NULL,    -- unique within its tenant only
    instance     text COLLATE "C" NOT NULL,
    machine      text COLLATE "C" NOT NULL,
    subject      text COLLATE "C",
    lane         bigint,                       -- what waits for each other; null for a call
    status       text COLLATE "C" NOT NULL DEFAULT 'pending',
    attempts     bigint NOT NULL DEFAULT 0,
    parts_done   bigint NOT NULL DEFAULT 0,
    created_at   bigint NOT NULL,
    due_at       bigint,                       -- the next attempt or the end of a claim; null once it is settled
    claimable_at bigint,
    settled_at   bigint,
    provider_id  text COLLATE "C",             -- what the receiver calls it
    stage        text COLLATE "C",             -- what the receiver has reported since
    error        text COLLATE "C",             -- the last failure
    checksum     bigint NOT NULL,
    body         text COLLATE "C" NOT NULL
);

CREATE SEQUENCE outbox_numbers OWNED BY outbox.seq;
CREATE UNIQUE INDEX outbox_by_key ON outbox (tenant, key);
CREATE INDEX outbox_by_lane ON outbox (lane, seq) WHERE lane IS NOT NULL AND settled_at IS NULL;
CREATE INDEX outbox_by_claim ON outbox (claimable_at, seq) WHERE claimable_at IS NOT NULL;
CREATE INDEX outbox_by_provider_id ON outbox (provider_id) WHERE provider_id IS NOT NULL;
CREATE INDEX outbox_by_settlement ON outbox (settled_at, seq) WHERE settled_at IS NOT NULL;

-- How many of a lane are not settled. Whoever saves an effect and whoever settles one both lock this row, so that each
-- knows of the other, and one of them seats the first of the lane.
CREATE TABLE lanes (
    lane      bigint PRIMARY KEY,
    unsettled bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE definitions (
    number   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- in the order of saving
    hash     text COLLATE "C" NOT NULL UNIQUE,
    machine  text COLLATE "C" NOT NULL,
    version  bigint NOT NULL,
    saved_at bigint NOT NULL,
    checksum bigint NOT NULL,
    source   text COLLATE "C" NOT NULL
);

-- What a tenant has decided while the server runs.
CREATE TABLE settings (
    number   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant   text COLLATE "C" NOT NULL,
    name     text COLLATE "C" NOT NULL,
    saved_at bigint NOT NULL,
    checksum bigint NOT NULL,
    body     text COLLATE "C" NOT NULL,
    UNIQUE (tenant, name)
);

-- Records that are not what was saved, each damage once. The record itself stays where it is and is never served.
CREATE TABLE quarantine (
    number        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source        text COLLATE "C" NOT NULL,   -- the table
    source_number bigint NOT NULL,
    fingerprint   bigint NOT NULL,             -- tells two damages of one record apart
    key           text COLLATE "C" NOT NULL,
    detail        text COLLATE "C" NOT NULL,
    raw           bytea NOT NULL,              -- the columns under the checksum as they were found, a line each
    UNIQUE (source, source_number, key, fingerprint)
);

-- Who may do what. The server never works as the owner: as the writer, which may see and change everything here, or, for
-- a question of one tenant, as the reader, which sees the rows of the tenant in the setting `statewright.tenant` and
-- changes nothing. The owner is for migrations, and reads for operators.

GRANT USAGE ON SCHEMA statewright TO statewright_writer, statewright_reader;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA statewright TO statewright_writer;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA statewright TO statewright_writer;
REVOKE ALL ON log_of_other_times, schema_steps FROM statewright_writer;
GRANT SELECT ON schema_steps TO statewright_writer;
GRANT SELECT ON instances, log, receipts, clarifications, phases, outbox, settings TO statewright_reader;

DO $policies$
DECLARE
    of text;
BEGIN
    FOR of IN SELECT tablename FROM pg_tables WHERE schemaname = 'statewright' LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', of);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', of);
        EXECUTE format('CREATE POLICY writer ON %I TO statewright_writer USING (true) WITH CHECK (true)', of);
        EXECUTE format('CREATE POLICY owner ON %I FOR SELECT TO CURRENT_USER USING (true)', of);
    END LOOP;
    FOREACH of IN ARRAY ARRAY['instances', 'log', 'receipts', 'clarifications', 'phases', 'outbox', 'settings'] LOOP
        -- A setting that was set for a transaction that is over reads as the empty text.
        EXECUTE format(
            'CREATE POLICY reader ON %I FOR SELECT TO statewright_reader
             USING (tenant = nullif(current_setting(''statewright.tenant'', true), ''''))', of);
    END LOOP;
END
$policies$;

CREATE POLICY migrator ON schema_steps FOR INSERT TO CURRENT_USER WITH CHECK (true);

-- For views. Neither fails, whatever is in a record: what cannot be read is null.

CREATE FUNCTION as_jsonb(body text) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE STRICT AS $$
BEGIN
    RETURN body::jsonb;
EXCEPTION WHEN others THEN
    BEGIN
        -- What JSON may hold and jsonb may not.
        RETURN replace(body, '\u0000', '\ufffd')::jsonb;
    EXCEPTION WHEN others THEN
        RETURN NULL;
    END;
END
$$;

CREATE FUNCTION as_time(written text) RETURNS timestamptz LANGUAGE plpgsql STABLE STRICT AS $$
BEGIN
    RETURN written::timestamptz;
EXCEPTION WHEN others THEN
    RETURN NULL;
END
$$;

-- Null for times that no calendar has.
CREATE FUNCTION at_time(ms bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN ms BETWEEN -62135596800000 AND 253402300799999 THEN to_timestamp(ms / 1000.0) END
$$;

-- Views for operators. Read-only by nature and not used by the server. None shows what is kept beside a tenant.

-- One row for each session of each subject, of every machine.
CREATE VIEW progress_update_sessions AS
SELECT
    i.id                                        AS id,
    i.id                                        AS session_id,
    i.tenant                                    AS tenant,
    i.machine                                   AS machine,
    i.subject                                   AS user_id,
    i.ordinal                                   AS ordinal,
    i.state                                     AS fsm_state,
    i.closure_reason                            AS closure_reason,
    j.body -> 'context'                         AS session_metadata,
    (
        SELECT jsonb_agg(
            jsonb_build_object(
                'from_state', e.body -> 'from',
                'to_state', e.body -> 'to',
                'event', e.body -> 'event',
                'success', e.body -> 'success',
                'reason', e.body -> 'reason',
                'at', e.body -> 'at'
            ) ORDER BY l.seq)
        FROM statewright.log AS l,
            LATERAL (SELECT statewright.as_jsonb(l.body) AS body OFFSET 0) AS e
        WHERE l.owner = i.number
    )                                           AS transition_history,
    i.revision                                  AS revision,
    statewright.at_time(i.updated_at)           AS last_activity,
    statewright.at_time(i.created_at)           AS created_at,
    statewright.at_time(i.updated_at)           AS updated_at,
    statewright.as_time(j.body #>> '{closure,at}') AS closed_at
FROM statewright.instances AS i,
    LATERAL (SELECT statewright.as_jsonb(i.body) AS body OFFSET 0) AS j
WHERE i.ordinal > 0 AND strpos(i.tenant, '~') = 0;

-- One row for each input that was taken or refused.
CREATE VIEW fsm_transition_log AS
SELECT
    l.seq                                       AS id,
    l.tenant                                    AS tenant,
    l.instance                                  AS session_id,
    i.subject                                   AS user_id,
    j.body ->> 'from'                           AS from_state,
    j.body ->> 'to'                             AS to_state,
    j.body ->> 'event'                          AS event,
    j.body -> 'success' = 'true'::jsonb         AS success,
    j.body ->> 'reason'                         AS reason,
    l.revision                                  AS revision,
    statewright.at_time(l.at)                   AS logged_at
FROM statewright.log AS l
    LEFT JOIN statewright.instances AS i ON i.number = l.owner,
    LATERAL (SELECT statewright.as_jsonb(l.body) AS body OFFSET 0) AS j
WHERE strpos(l.tenant, '~') = 0;

-- One row for each question that was asked.
CREATE VIEW fsm_clarification_requests AS
SELECT
    c.id                                        AS id,
    c.tenant                                    AS tenant,
    c.instance                                  AS session_id,
    j.body ->> 'subject'                        AS user_id,
    c.status                                    AS status,
    j.body ->> 'question'                       AS question,
    j.body -> 'options'                         AS options,
    j.body -> 'answer'                          AS answer,
    statewright.at_time(c.created_at)           AS created_at,
    statewright.as_time(j.body ->> 'expires_at') AS expires_at,
    CASE c.status WHEN 'answered' THEN statewright.as_time(j.body ->> 'resolved_at') END AS answered_at
FROM statewright.clarifications AS c,
    LATERAL (SELECT statewright.as_jsonb(c.body) AS body OFFSET 0) AS j
WHERE strpos(c.tenant, '~') = 0;

-- One row for each key that was seen. An input is received and processed by one commit, so both times are its time.
CREATE VIEW fsm_idempotency_records AS
SELECT
    l.tenant                                    AS tenant,
    i.subject                                   AS user_id,
    l.instance                                  AS session_id,
    j.body ->> 'key'                            AS message_id,
    statewright.at_time(l.at)                   AS created_at,
    statewright.at_time(l.at)                   AS processed_at
FROM statewright.log AS l
    LEFT JOIN statewright.instances AS i ON i.number = l.owner,
    LATERAL (SELECT statewright.as_jsonb(l.body) AS body OFFSET 0) AS j
WHERE strpos(l.tenant, '~') = 0;

-- One row for each phase of each flow.
CREATE VIEW flow_phases AS
SELECT
    p.tenant                                    AS tenant,
    p.instance                                  AS flow_id,
    p.machine                                   AS flow,
    i.state                                     AS flow_status,
    p.place                                     AS place,
    p.phase                                     AS phase,
    p.state                                     AS phase_state,
    statewright.at_time(p.since)                AS since,
    p.attempts                                  AS attempts,
    p.retries                                   AS retries,
    p.error                                     AS error_code,
    statewright.at_time(p.offered_at)           AS offered_at,
    p.kind                                      AS worker_kind,
    p.worker                                    AS worker
FROM statewright.phases AS p
    LEFT JOIN statewright.instances AS i ON i.number = p.owner
WHERE strpos(p.tenant, '~') = 0;

-- One row for each flow, with the states of its phases as one document.
CREATE VIEW flow_summary AS
SELECT
    i.tenant                                    AS tenant,
    i.id                                        AS flow_id,
    i.machine                                   AS flow,
    i.state                                     AS status,
    i.closure_reason                            AS closure_reason,
    p.phase_states                              AS phase_states,
    p.phases                                    AS phases,
    p.completed                                 AS completed_phases,
    p.retries                                   AS retry_count,
    statewright.at_time(i.created_at)           AS created_at,
    statewright.at_time(i.updated_at)           AS updated_at
FROM (
    SELECT
        owner,
        jsonb_object_agg(phase, state)          AS phase_states,
        count(*)                                AS phases,
        count(*) FILTER (WHERE state = 'completed') AS completed,
        sum(retries)::bigint                    AS retries
    FROM statewright.phases GROUP BY owner
) AS p
    JOIN statewright.instances AS i ON i.number = p.owner
WHERE strpos(i.tenant, '~') = 0;

-- Deletes log entries made before `before` whose instance is closed or has newer entries, with their receipts, then
-- effects settled before it, then closed instances beside tenants that have no log any more; together at most `at_most`.
CREATE FUNCTION clean_up(before bigint, at_most bigint, OUT entries bigint, OUT effects bigint, OUT instances bigint)
LANGUAGE plpgsql SET search_path = statewright, pg_temp AS $$
DECLARE
    candidates bigint[];
BEGIN
    WITH doomed AS MATERIALIZED (
        SELECT l.at, l.owner, l.seq
        FROM log AS l JOIN statewright.instances AS i ON i.number = l.owner
        WHERE l.at < before AND (
            i.closure_reason IS NOT NULL
            OR EXISTS (SELECT 1 FROM log AS newer WHERE newer.owner = l.owner AND newer.seq > l.seq)
        )
        ORDER BY l.at, l.seq LIMIT at_most
    ), deleted AS (
        DELETE FROM log AS l USING doomed AS d
        WHERE l.at = d.at AND l.owner = d.owner AND l.seq = d.seq
        RETURNING l.receipt
    ), forgotten AS (
        DELETE FROM receipts AS r USING deleted AS d WHERE r.receipt = d.receipt
    )
    SELECT count(*) INTO entries FROM deleted;

    WITH deleted AS (
        DELETE FROM outbox WHERE seq IN (
            SELECT o.seq FROM outbox AS o WHERE o.settled_at < before
            ORDER BY o.settled_at, o.seq LIMIT at_most - entries)
        RETURNING 1
    )
    SELECT count(*) INTO effects FROM deleted;

    -- Locked first and then looked at again: somebody may be appending to its log.
    SELECT coalesce(array_agg(found.number), '{}') INTO candidates FROM (
        SELECT i.number FROM statewright.instances AS i
        WHERE i.closure_reason IS NOT NULL AND strpos(i.tenant, '~') > 0
            AND i.created_at < before AND i.updated_at < before
            AND NOT EXISTS (SELECT 1 FROM log AS l WHERE l.owner = i.number)
        ORDER BY i.created_at LIMIT at_most - entries - effects
        FOR UPDATE OF i SKIP LOCKED
    ) AS found;
    WITH deleted AS (
        DELETE FROM statewright.instances AS i
        WHERE i.number = ANY (candidates) AND NOT EXISTS (SELECT 1 FROM log AS l WHERE l.owner = i.number)
        RETURNING i.number
    ), without_phases AS (
        DELETE FROM phases AS p USING deleted AS d WHERE p.owner = d.number
    )
    SELECT count(*), coalesce(array_agg(number), '{}') INTO instances, candidates FROM deleted;
    -- As `Lane::number` numbers them.
    DELETE FROM lanes AS l USING unnest(candidates) AS gone (number)
    WHERE l.lane IN (2 * gone.number, 2 * gone.number + 1, -1 - gone.number) AND l.unsettled = 0;
END
$$;

-- What cleaning up deletes, for whoever has a cron job for it. Gives the number of all that was deleted. The one place where
-- the database's clock counts: who calls this has no other.
CREATE FUNCTION cleanup_expired_fsm_records(older_than interval DEFAULT '30 days') RETURNS integer
LANGUAGE plpgsql SET search_path = statewright, pg_temp SET role = statewright_writer AS $$
DECLARE
    before bigint := floor(extract(epoch FROM transaction_timestamp() - older_than) * 1000);
    deleted bigint := 0;
    batch bigint;
BEGIN
    LOOP
        SELECT c.entries + c.effects + c.instances INTO batch FROM clean_up(before, 1000) AS c;
        deleted := deleted + batch;
        EXIT WHEN batch < 1000;
    END LOOP;
    RETURN least(deleted, 2147483647);
END
$$;

REVOKE EXECUTE ON FUNCTION clean_up, cleanup_expired_fsm_records FROM PUBLIC;
GRANT EXECUTE ON FUNCTION clean_up TO statewright_writer;
