//! The schema of a database: its steps, its roles, and taking it from where it is to where this program needs it.
//!
//! Several servers may start at once: one of them does the work, and the others wait for it. A step, once released, never
//! changes.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::postgres::failure::{OpenError, Trouble};
use crate::postgres::link::{Hat, Link};

/// Each step takes the database from the version that is its index to the next.
const STEPS: [&str; 2] = [include_str!("schema_1.sql"), include_str!("schema_2.sql")];

/// Who holds it may change the schema. The number has no meaning but to be ours.
const LOCK: &str = "SELECT pg_advisory_lock(7308891523614029172)";
const UNLOCK: &str = "SELECT pg_advisory_unlock(7308891523614029172)";

/// What an administrator has to run where the program may not.
const ROLES: &str = "CREATE ROLE statewright_writer NOLOGIN NOBYPASSRLS; \
                     CREATE ROLE statewright_reader NOLOGIN NOBYPASSRLS;";

/// What operators find by an unqualified name, if nobody else has the name.
const VIEWS: [&str; 6] = [
    "progress_update_sessions",
    "fsm_transition_log",
    "fsm_clarification_requests",
    "fsm_idempotency_records",
    "flow_phases",
    "flow_summary",
];

/// How often roles are tried again: they belong to all databases of a server, which has no lock for that.
const ROLE_TRIES: usize = 20;

/// Makes the database what this program needs. Gives what whoever runs it should know.
pub(super) fn migrate(link: &mut Link) -> Result<Vec<String>, OpenError> {
    let encoding = text(link, "SHOW server_encoding")?;
    if encoding != "UTF8" {
        return Err(OpenError::Unusable(format!("its texts are in {encoding}; they have to be in UTF8")));
    }
    assume_roles(link)?;
    link.put_on(Hat::Owner)?;
    if let Some(found) = version(link)?
        && found == STEPS.len() as i64
    {
        return expose(link);
    }
    link.query(LOCK, &[])?;
    let migrated = migrate_alone(link).and_then(|()| expose(link));
    let unlocked = link.query(UNLOCK, &[]);
    let notes = migrated?;
    unlocked?;
    Ok(notes)
}

fn migrate_alone(link: &Link) -> Result<(), OpenError> {
    let known = STEPS.len() as i64;
    let found = version(link)?.unwrap_or(0);
    if found > known {
        return Err(OpenError::NewerSchema { found, known });
    }
    for (version, step) in (1_i64..).zip(STEPS).skip(usize::try_from(found).unwrap_or(0)) {
        let mut sql = "BEGIN;".to_owned();
        if version == 1 {
            sql += "CREATE SCHEMA IF NOT EXISTS statewright;
                    CREATE TABLE statewright.schema_steps (step bigint PRIMARY KEY);";
        }
        sql += step;
        sql += &format!("; INSERT INTO statewright.schema_steps (step) VALUES ({version}); COMMIT");
        if let Err(trouble) = link.batch(&sql) {
            let _ = link.batch("ROLLBACK");
            return Err(OpenError::Unusable(format!("step {version} of the schema: {trouble}")));
        }
    }
    Ok(())
}

/// How many steps the database has been through, if any of this is there. Asked as the owner.
fn version(link: &Link) -> Result<Option<i64>, OpenError> {
    let there = link.query("SELECT to_regclass('statewright.schema_steps') IS NOT NULL", &[])?;
    if !there.first().is_some_and(|row| row.try_get(0).unwrap_or(false)) {
        return Ok(None);
    }
    let rows = link.query("SELECT max(step) FROM statewright.schema_steps", &[])?;
    Ok(rows.first().and_then(|row| row.try_get::<_, Option<i64>>(0).ok().flatten()))
}

/// Sees to it that there are roles that can be assumed.
fn assume_roles(link: &mut Link) -> Result<(), OpenError> {
    let mut tries = 0;
    loop {
        let (Err(missing), tried) = (assume(link), tries) else { return Ok(()) };
        let created = link.batch(CREATE_ROLES);
        match created {
            _ if tried < ROLE_TRIES && !is_forbidden(&created) => {}
            Ok(()) => return Err(OpenError::Roles { detail: missing.to_string(), sql: sql_for_admin(link) }),
            Err(trouble) => {
                return Err(OpenError::Roles { detail: trouble.to_string(), sql: sql_for_admin(link) });
            }
        }
        tries += 1;
        std::thread::sleep(std::time::Duration::from_millis(10 * tries as u64));
    }
}

fn assume(link: &mut Link) -> Result<(), Trouble> {
    link.put_on(Hat::Reader)?;
    link.put_on(Hat::Writer)?;
    link.put_on(Hat::Owner)
}

fn is_forbidden(created: &Result<(), Trouble>) -> bool {
    let forbidden = &tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE;
    created.as_ref().is_err_and(|trouble| trouble.has_code(forbidden))
}

/// Another server may be doing the same in another database.
const CREATE_ROLES: &str = "
RESET ROLE;
DO $roles$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['statewright_writer', 'statewright_reader'] LOOP
        IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = name) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN NOBYPASSRLS', name);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;
            END;
        END IF;
    END LOOP;
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('GRANT statewright_writer, statewright_reader TO %I', current_user);
    END IF;
END
$roles$";

fn sql_for_admin(link: &Link) -> String {
    let user = text(link, "SELECT quote_ident(session_user)").unwrap_or_else(|_| "the_login".to_owned());
    format!("{ROLES} GRANT statewright_writer, statewright_reader TO {user};")
}

/// Puts the views and the function for operators where an unqualified name finds them.
fn expose(link: &Link) -> Result<Vec<String>, OpenError> {
    let mut notes = Vec::new();
    for view in VIEWS {
        let sql = format!("CREATE VIEW public.{view} AS SELECT * FROM statewright.{view}");
        let found = format!("SELECT coalesce((SELECT pg_get_viewdef(to_regclass('public.{view}'))), '')");
        // Of the schema that is searched, names are shown without it.
        let ours = format!("FROM {view}");
        expose_one(link, view, "view", &sql, &found, &ours, &mut notes)?;
    }
    let function = "cleanup_expired_fsm_records";
    let sql = format!(
        "CREATE FUNCTION public.{function}(older_than interval DEFAULT '30 days') RETURNS integer LANGUAGE sql
         AS 'SELECT statewright.{function}(older_than)'"
    );
    let found = format!(
        "SELECT coalesce((SELECT prosrc FROM pg_proc WHERE oid = to_regprocedure('public.{function}(interval)')), '')"
    );
    expose_one(link, function, "function", &sql, &found, &format!("statewright.{function}"), &mut notes)?;
    Ok(notes)
}

#[allow(clippy::too_many_arguments)]
fn expose_one(
    link: &Link,
    name: &str,
    kind: &str,
    sql: &str,
    found: &str,
    ours: &str,
    notes: &mut Vec<String>,
) -> Result<(), OpenError> {
    let is_ours = || Ok::<_, OpenError>(text(link, found)?.contains(ours));
    if is_ours()? {
        return Ok(());
    }
    match link.batch(sql) {
        Ok(()) => Ok(()),
        Err(Trouble::Refused(error)) => {
            // Another server that starts at the same time may have been first.
            if !is_ours()? {
                notes.push(format!(
                    "the {kind} `{name}` is in the schema `statewright` only, because it could not be created in \
                     `public`: {}",
                    error.message()
                ));
            }
            Ok(())
        }
        Err(trouble) => Err(trouble.into()),
    }
}

/// The one text that a question has for an answer.
pub(super) fn text(link: &Link, sql: &str) -> Result<String, Trouble> {
    let rows = link.query(sql, &[])?;
    Ok(rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or_default())
}

const WEEK_MS: i64 = 7 * 24 * 60 * 60 * 1_000;

/// This week, and so many after it.
const WEEKS_AHEAD: i64 = 4;

/// How long somebody who wants to change the partitions holds up commits.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '200ms'";

/// Makes partitions of the log for this week and the next ones. One that cannot be made now, because somebody is in the
/// way or the default partition has lines of that week, is made later or never: its lines are in the default one.
pub(super) fn make_partitions(link: &Link) -> Result<(), Trouble> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    let week = now.div_euclid(WEEK_MS);
    for week in week..=week + WEEKS_AHEAD {
        let name = format!("log_week_{week}");
        let rows = link.query("SELECT to_regclass('statewright.' || $1::text) IS NULL", &[&name])?;
        if !rows.first().is_some_and(|row| row.try_get(0).unwrap_or(false)) {
            continue;
        }
        let (from, to) = (week * WEEK_MS, (week + 1) * WEEK_MS);
        let sql = format!(
            "BEGIN; {LOCK_TIMEOUT};
             CREATE TABLE statewright.{name} PARTITION OF statewright.log FOR VALUES FROM ({from}) TO ({to});
             ALTER TABLE statewright.{name} ENABLE ROW LEVEL SECURITY;
             ALTER TABLE statewright.{name} FORCE ROW LEVEL SECURITY;
             COMMIT"
        );
        if link.batch(&sql).is_err() {
            link.batch("ROLLBACK")?;
        }
    }
    Ok(())
}

/// Drops the partitions of weeks that ended before `before` and have nothing in them any more.
pub(super) fn drop_empty_partitions(link: &Link, before: i64) -> Result<(), Trouble> {
    let rows = link.query(
        "SELECT c.relname::text FROM pg_inherits AS h JOIN pg_class AS c ON c.oid = h.inhrelid
         WHERE h.inhparent = 'statewright.log'::regclass AND c.relname LIKE 'log\\_week\\_%'",
        &[],
    )?;
    for row in rows {
        let name: String = row.try_get(0)?;
        let week: Option<i64> = name.strip_prefix("log_week_").and_then(|week| week.parse().ok());
        if week.is_none_or(|week| (week + 2).saturating_mul(WEEK_MS) > before) {
            continue;
        }
        // Looked at first without a lock, which most have to be spared.
        let is_empty = |link: &Link| {
            let sql = format!(
                "SELECT NOT EXISTS (SELECT 1 FROM statewright.log AS l WHERE l.tableoid = 'statewright.{name}'::regclass)"
            );
            let rows = link.query(&sql, &[])?;
            Ok::<_, Trouble>(rows.first().is_some_and(|row| row.try_get(0).unwrap_or(false)))
        };
        if !is_empty(link)? {
            continue;
        }
        let lock = format!("BEGIN; {LOCK_TIMEOUT}; LOCK TABLE statewright.log IN ACCESS EXCLUSIVE MODE");
        let dropped = link.batch(&lock).and_then(|()| is_empty(link)).and_then(|is_empty| {
            if is_empty { link.batch(&format!("DROP TABLE statewright.{name}")) } else { Ok(()) }
        });
        link.batch(if dropped.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
    }
    Ok(())
}
