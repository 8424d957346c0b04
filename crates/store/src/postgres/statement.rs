//! The statement that saves commits: one for a whole group, whatever is in it.
//!
//! Owns its SQL. Chains of commits, their lines and what comes with them go in as arrays; chains are numbered from 1.
//! All of it is one statement with parts that see one snapshot and tell each other what they did, so that it is saved
//! whole or not at all, in one round trip. The parts that a group has nothing for are left out.
//!
//! A chain that was not saved is one that met something else than it expected: its instance is at another revision or
//! exists, or its receipt is there. It leaves no trace, and the others are saved. A receipt that is there is one that
//! came to be since the commit was decided on, which is so rare that it is looked for only after the whole statement
//! has failed of it.
//!
//! Arrays are taken apart in the list of a `SELECT`, which goes through all of them side by side; in a `FROM`, each of
//! them is first written to a table of its own, which takes four times as long. That nothing joins one array to another
//! by nested loops is taken care of by looking things up in arrays and by grouping.

/// Which of the parts a group needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Parts {
    /// Whether receipts that are there are looked for. Otherwise the statement fails of the first.
    pub repeats: bool,
    pub inserts: bool,
    pub updates: bool,
    pub locks: bool,
    pub clarifications: bool,
    pub phases: bool,
    pub effects: bool,
}

/// Chains of which a receipt is there. `$1` is how many chains there are.
const REPEATED: &str = "
WITH repeated AS MATERIALIZED (
    SELECT coalesce(array_agg(DISTINCT l.chain), '{}') AS chains
    FROM (SELECT unnest($2::bigint[]) AS chain, unnest($6::bytea[]) AS receipt) AS l
    WHERE EXISTS (SELECT 1 FROM receipts AS r WHERE r.receipt = l.receipt)
)";

/// None is looked for.
const UNREPEATED: &str = "
WITH repeated AS (SELECT '{}'::bigint[] AS chains)";

/// Their numbers are drawn before, so that it is known whose row has come to be.
const INSERTS: &str = ", fresh AS MATERIALIZED (
    SELECT array_agg(nextval('instance_numbers')) AS numbers FROM generate_subscripts($a::bigint[], 1)
), inserted AS (
    INSERT INTO instances (number, tenant, id, machine, version, definition, subject, ordinal, revision, state,
        closure_reason, created_at, updated_at, wake_at, looping_until, format, checksum, body)
    SELECT (SELECT numbers FROM fresh)[c.place], c.tenant, c.id, c.machine, c.version, c.definition, c.subject, c.ordinal,
        c.revision, c.state, c.closure_reason, c.created_at, c.updated_at, c.wake_at, c.looping_until, c.format,
        c.checksum, c.body
    FROM (
        SELECT unnest($a::bigint[]) AS n, unnest($b::text[]) AS tenant, unnest($c::text[]) AS id,
            unnest($d::bigint[]) AS expected, unnest($e::text[]) AS machine, unnest($f::bigint[]) AS version,
            unnest($g::text[]) AS definition, unnest($h::text[]) AS subject, unnest($i::bigint[]) AS ordinal,
            unnest($j::bigint[]) AS revision, unnest($k::text[]) AS state, unnest($l::text[]) AS closure_reason,
            unnest($m::bigint[]) AS created_at, unnest($n::bigint[]) AS updated_at, unnest($o::bigint[]) AS wake_at,
            unnest($p::bigint[]) AS looping_until, unnest($q::bigint[]) AS format, unnest($r::bigint[]) AS checksum,
            unnest($s::text[]) AS body, generate_subscripts($a::bigint[], 1) AS place
    ) AS c
    WHERE c.n <> ALL ((SELECT chains FROM repeated)::bigint[])
    ORDER BY c.place
    ON CONFLICT DO NOTHING
    RETURNING number
)";

const UPDATES: &str = ", updated AS (
    UPDATE instances AS i SET
        version = c.version, definition = c.definition, revision = c.revision, state = c.state,
        closure_reason = c.closure_reason, created_at = c.created_at, updated_at = c.updated_at,
        claimed_until = NULL, looping_until = c.looping_until, format = c.format, checksum = c.checksum, body = c.body,
        -- A bound that is too low costs one look at the instance; moving it costs every commit an entry of the index.
        wake_at = CASE WHEN i.wake_at < c.wake_at THEN i.wake_at ELSE c.wake_at END,
        -- Machine, subject and ordinal are for life, because sessions are found by them: the table refuses a null.
        ordinal = CASE WHEN i.machine = c.machine AND i.subject IS NOT DISTINCT FROM c.subject
            AND i.ordinal = c.ordinal THEN i.ordinal END
    FROM (
        SELECT unnest($a::bigint[]) AS n, unnest($b::text[]) AS tenant, unnest($c::text[]) AS id,
            unnest($d::bigint[]) AS expected, unnest($e::text[]) AS machine, unnest($f::bigint[]) AS version,
            unnest($g::text[]) AS definition, unnest($h::text[]) AS subject, unnest($i::bigint[]) AS ordinal,
            unnest($j::bigint[]) AS revision, unnest($k::text[]) AS state, unnest($l::text[]) AS closure_reason,
            unnest($m::bigint[]) AS created_at, unnest($n::bigint[]) AS updated_at, unnest($o::bigint[]) AS wake_at,
            unnest($p::bigint[]) AS looping_until, unnest($q::bigint[]) AS format, unnest($r::bigint[]) AS checksum,
            unnest($s::text[]) AS body
    ) AS c
    WHERE c.n <> ALL ((SELECT chains FROM repeated)::bigint[])
        AND i.tenant = c.tenant AND i.id = c.id AND i.revision = c.expected
    RETURNING i.number, c.n
)";

/// Of chains that change nothing: their instances stay at that revision until the end.
const LOCKS: &str = ", locked AS (
    SELECT i.number, c.n
    FROM (
        SELECT unnest($a::bigint[]) AS n, unnest($b::text[]) AS tenant, unnest($c::text[]) AS id,
            unnest($d::bigint[]) AS expected
    ) AS c
    JOIN instances AS i ON i.tenant = c.tenant AND i.id = c.id
    WHERE c.n <> ALL ((SELECT chains FROM repeated)::bigint[]) AND i.revision = c.expected
    FOR NO KEY UPDATE OF i
)";

/// By the number of the chain, the number of its instance; 0 for a chain that is not saved.
const OWNERS: [&str; 5] = [
    ", owners AS MATERIALIZED (
    SELECT array_agg(found.number ORDER BY found.n) AS numbers FROM (
        SELECT each.n, max(each.number) AS number FROM (
            SELECT all_of.n, 0 AS number FROM generate_series(1, $1::bigint) AS all_of (n)",
    "
            UNION ALL SELECT max(made.n), made.number FROM (
                SELECT c.n, (SELECT numbers FROM fresh)[c.place] AS number, 0 AS times
                FROM (SELECT unnest($a::bigint[]) AS n, generate_subscripts($a::bigint[], 1) AS place) AS c
                UNION ALL SELECT NULL, number, 1 FROM inserted
            ) AS made GROUP BY made.number HAVING sum(made.times) > 0",
    "
            UNION ALL SELECT n, number FROM updated",
    "
            UNION ALL SELECT n, number FROM locked",
    "
        ) AS each GROUP BY each.n
    ) AS found
)",
];

/// A number is drawn when the instance is locked, so that they are in the order of its history.
const LINES: &str = ", appended AS (
    INSERT INTO log (seq, owner, tenant, instance, revision, at, receipt, checksum, body)
    SELECT nextval('log_numbers'), l.owner, l.tenant, l.instance, l.revision, l.at, l.receipt, l.checksum, l.body
    FROM (
        SELECT m.*, (SELECT numbers FROM owners)[m.chain] AS owner
        FROM (
            SELECT unnest($2::bigint[]) AS chain, unnest($3::text[]) AS tenant, unnest($4::text[]) AS instance,
                unnest($5::bigint[]) AS revision, unnest($6::bytea[]) AS receipt, unnest($7::bigint[]) AS at,
                unnest($8::bigint[]) AS checksum, unnest($9::text[]) AS body,
                generate_subscripts($2::bigint[], 1) AS place
        ) AS m
        ORDER BY m.place
    ) AS l
    WHERE l.owner > 0
    RETURNING receipt, tenant, owner, seq, at
), kept AS (
    INSERT INTO receipts (receipt, tenant, owner, seq, at)
    SELECT receipt, tenant, owner, seq, at FROM appended
)";

/// One that ends makes room for the one that begins, so all that end are done before the first that begins.
const CLARIFICATIONS: &str = ", question AS MATERIALIZED (
    SELECT q.*
    FROM (
        SELECT unnest($a::bigint[]) AS chain, unnest($b::text[]) AS tenant, unnest($c::text[]) AS id,
            unnest($d::text[]) AS instance, unnest($e::text[]) AS status, unnest($f::bigint[]) AS created_at,
            unnest($g::bigint[]) AS checksum, unnest($h::text[]) AS body
    ) AS q
    WHERE (SELECT numbers FROM owners)[q.chain] > 0
), ended AS (
    INSERT INTO clarifications (tenant, id, instance, status, created_at, checksum, body)
    SELECT tenant, id, instance, status, created_at, checksum, body FROM question WHERE status <> 'pending'
    ON CONFLICT (tenant, id) DO UPDATE SET instance = excluded.instance, status = excluded.status,
        created_at = excluded.created_at, checksum = excluded.checksum, body = excluded.body
    RETURNING 1
), begun AS (
    INSERT INTO clarifications (tenant, id, instance, status, created_at, checksum, body)
    SELECT tenant, id, instance, status, created_at, checksum, body FROM question
    WHERE status = 'pending' AND (SELECT count(*) FROM ended) >= 0
    ON CONFLICT (tenant, id) DO UPDATE SET instance = excluded.instance, status = excluded.status,
        created_at = excluded.created_at, checksum = excluded.checksum, body = excluded.body
)";

const PHASES: &str = ", phase_line AS (
    INSERT INTO phases (owner, place, tenant, instance, machine, phase, state, since, attempts, retries, error, offered_at,
        kind, lease, worker, checksum)
    SELECT (SELECT numbers FROM owners)[p.chain], p.place, p.tenant, p.instance, p.machine, p.phase, p.state, p.since,
        p.attempts, p.retries, p.error, p.offered_at, p.kind, p.lease, p.worker, p.checksum
    FROM (
        SELECT unnest($a::bigint[]) AS chain, unnest($b::bigint[]) AS place, unnest($c::text[]) AS tenant,
            unnest($d::text[]) AS instance, unnest($e::text[]) AS machine, unnest($f::text[]) AS phase,
            unnest($g::text[]) AS state, unnest($h::bigint[]) AS since, unnest($i::bigint[]) AS attempts,
            unnest($j::bigint[]) AS retries, unnest($k::text[]) AS error, unnest($l::bigint[]) AS offered_at,
            unnest($m::text[]) AS kind, unnest($n::text[]) AS lease, unnest($o::text[]) AS worker,
            unnest($p::bigint[]) AS checksum
    ) AS p
    WHERE (SELECT numbers FROM owners)[p.chain] > 0
    ON CONFLICT (owner, place) DO UPDATE SET tenant = excluded.tenant, instance = excluded.instance,
        machine = excluded.machine, phase = excluded.phase, state = excluded.state, since = excluded.since,
        attempts = excluded.attempts, retries = excluded.retries, error = excluded.error,
        offered_at = excluded.offered_at, kind = excluded.kind, lease = excluded.lease, worker = excluded.worker,
        checksum = excluded.checksum
)";

/// The number of a lane is a multiple of its instance's number and something added. Only the first of a lane is seated,
/// and only if nobody of the lane was unsettled before.
const EFFECTS: &str = ", effect AS MATERIALIZED (
    SELECT e.*, (SELECT numbers FROM owners)[e.chain] * e.times + e.added AS lane
    FROM (
        SELECT unnest($a::bigint[]) AS chain, unnest($b::text[]) AS tenant, unnest($c::text[]) AS key,
            unnest($d::text[]) AS instance, unnest($e::text[]) AS machine, unnest($f::text[]) AS subject,
            unnest($g::bigint[]) AS times, unnest($h::bigint[]) AS added, unnest($i::bigint[]) AS created_at,
            unnest($j::bigint[]) AS checksum, unnest($k::text[]) AS body,
            generate_subscripts($a::bigint[], 1) AS place
    ) AS e
    WHERE (SELECT numbers FROM owners)[e.chain] > 0
), laned AS (
    INSERT INTO lanes AS l (lane, unsettled)
    SELECT lane, count(*) FROM effect WHERE lane IS NOT NULL GROUP BY lane ORDER BY lane
    ON CONFLICT (lane) DO UPDATE SET unsettled = l.unsettled + excluded.unsettled
    RETURNING l.lane, l.unsettled
), queued AS (
    INSERT INTO outbox (seq, tenant, key, instance, machine, subject, lane, created_at, due_at, claimable_at, checksum,
        body)
    SELECT nextval('outbox_numbers'), q.tenant, q.key, q.instance, q.machine, q.subject, q.lane, q.created_at,
        q.created_at, CASE WHEN q.lane IS NULL OR (q.turn = 1 AND q.unsettled = q.fresh) THEN q.created_at END,
        q.checksum, q.body
    FROM (
        SELECT w.*
        FROM (
            SELECT each.*,
                row_number() OVER (PARTITION BY each.lane ORDER BY each.place) - 1 AS turn,
                max(each.now) OVER (PARTITION BY each.lane) AS unsettled,
                count(*) OVER (PARTITION BY each.lane) - 1 AS fresh
            FROM (
                SELECT tenant, key, instance, machine, subject, lane, created_at, checksum, body, place, NULL::bigint AS now
                FROM effect
                UNION ALL
                SELECT NULL, NULL, NULL, NULL, NULL, lane, NULL, NULL, NULL, 0, unsettled FROM laned
            ) AS each
        ) AS w
        WHERE w.place > 0 ORDER BY w.place
    ) AS q
)";

/// What the statement says: which chains were saved.
const ANSWER: &str = "
SELECT numbers FROM owners";

/// How many values each part takes.
const BASE_VALUES: usize = 9;
const CHAIN_VALUES: usize = 19;
const LOCK_VALUES: usize = 4;
const CLARIFICATION_VALUES: usize = 8;
const PHASE_VALUES: usize = 16;

/// The values are those of the lines, then of each part in the order of `Parts`.
pub(super) fn sql(parts: Parts) -> String {
    let mut sql = if parts.repeats { REPEATED } else { UNREPEATED }.to_owned();
    let [owners, inserted, updated, locked, end] = OWNERS;
    let mut owners = owners.to_owned();
    let mut given = BASE_VALUES;
    if parts.inserts {
        sql += &numbered(INSERTS, given);
        owners += &numbered(inserted, given);
        given += CHAIN_VALUES;
    }
    if parts.updates {
        sql += &numbered(UPDATES, given);
        owners += updated;
        given += CHAIN_VALUES;
    }
    if parts.locks {
        sql += &numbered(LOCKS, given);
        owners += locked;
        given += LOCK_VALUES;
    }
    sql = sql + &owners + end + LINES;
    if parts.clarifications {
        sql += &numbered(CLARIFICATIONS, given);
        given += CLARIFICATION_VALUES;
    }
    if parts.phases {
        sql += &numbered(PHASES, given);
        given += PHASE_VALUES;
    }
    if parts.effects {
        sql += &numbered(EFFECTS, given);
    }
    sql + ANSWER
}

/// With the number of a value in the place of each `$` and letter, from the one after `given` on.
fn numbered(part: &str, given: usize) -> String {
    let mut numbered = String::with_capacity(part.len() + 32);
    let mut characters = part.chars();
    while let Some(character) = characters.next() {
        numbered.push(character);
        if character == '$'
            && let Some(letter) = characters.next()
        {
            let place = given + 1 + (letter as usize).saturating_sub('a' as usize);
            numbered += &place.to_string();
        }
    }
    numbered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_become_numbers() {
        assert_eq!(numbered("unnest($a::text[], $c) = $p", 28), "unnest($29::text[], $31) = $44");
    }
}
