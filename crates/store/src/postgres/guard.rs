//! Whether tenants are kept apart in this database, looked at each time a store is opened.
//!
//! Row-level security has many ways of not being there: an owner bypasses it unless it is forced, a superuser always
//! does, and a role may have been given more than it should have. Nothing is served where one of them is found.

use tokio_postgres::error::SqlState;

use crate::postgres::failure::OpenError;
use crate::postgres::link::{Hat, Link, Step};

const ROLES: &str = "SELECT rolname::text, rolsuper, rolbypassrls FROM pg_roles
     WHERE rolname IN ('statewright_writer', 'statewright_reader')";

/// Tables that are not protected, or belong to one of the roles.
const TABLES: &str = "SELECT c.relname::text, c.relrowsecurity AND c.relforcerowsecurity,
         pg_get_userbyid(c.relowner) IN ('statewright_writer', 'statewright_reader')
     FROM pg_class AS c WHERE c.relnamespace = 'statewright'::regnamespace AND c.relkind IN ('r', 'p')";

/// What a role may not have been made a member of: whoever owns the tables, or the writer.
const MEMBERS: &str = "SELECT DISTINCT pg_get_userbyid(c.relowner)::text FROM pg_class AS c
     WHERE c.relnamespace = 'statewright'::regnamespace AND c.relkind IN ('r', 'p')
         AND (pg_has_role('statewright_reader', c.relowner, 'MEMBER')
             OR pg_has_role('statewright_reader', 'statewright_writer', 'MEMBER'))";

/// A name that no tenant can have: it is too long.
const NOBODY: &str =
    "~nobody~nobody~nobody~nobody~nobody~nobody~nobody~nobody~nobody~nobody~nobody~nobody~nobody~nobody";

const OF_TENANTS: [&str; 7] =
    ["instances", "clarifications", "phases", "outbox", "settings", "log", "receipts"];

/// Of the tables of tenants, those that find out fast that they have nothing of one.
const INDEXED: usize = 5;

/// What lets the reader see more, or do more, than its tenant's rows.
const POLICIES: &str = "SELECT tablename::text, policyname::text FROM pg_policies
     WHERE schemaname = 'statewright' AND (roles && ARRAY['public', 'statewright_reader']::name[])
         AND (cmd <> 'SELECT' OR qual NOT LIKE '(tenant = NULLIF(current_setting(''statewright.tenant''%')";

/// # Errors
/// `NotIsolated`, with what is wrong.
pub(super) fn check(link: &mut Link) -> Result<(), OpenError> {
    let not_isolated = |detail: String| Err(OpenError::NotIsolated(detail));
    link.put_on(Hat::Owner)?;
    for row in link.query(ROLES, &[])? {
        let (role, is_super, bypasses): (String, bool, bool) =
            (value(&row, 0)?, value(&row, 1)?, value(&row, 2)?);
        if is_super || bypasses {
            return not_isolated(format!("the role `{role}` bypasses row-level security"));
        }
    }
    for row in link.query(TABLES, &[])? {
        let (table, is_forced, is_owned): (String, bool, bool) =
            (value(&row, 0)?, value(&row, 1)?, value(&row, 2)?);
        if !is_forced {
            return not_isolated(format!(
                "row-level security is not enabled and forced on the table `statewright.{table}`"
            ));
        }
        if is_owned {
            return not_isolated(format!(
                "the table `statewright.{table}` belongs to a role that serves requests"
            ));
        }
    }
    if let Some(row) = link.query(POLICIES, &[])?.first() {
        let (table, policy): (String, String) = (value(row, 0)?, value(row, 1)?);
        return not_isolated(format!(
            "the policy `{policy}` on `statewright.{table}` lets `statewright_reader` see other tenants' rows"
        ));
    }
    if let Some(row) = link.query(MEMBERS, &[])?.first() {
        let owner: String = value(row, 0)?;
        return not_isolated(format!(
            "the role `statewright_reader` is a member of `statewright_writer` or of the owner `{owner}`"
        ));
    }
    check_reader(link)
}

/// Tries what must not be possible.
fn check_reader(link: &mut Link) -> Result<(), OpenError> {
    link.put_on(Hat::Reader)?;
    for tenant in [NOBODY, ""] {
        for table in &OF_TENANTS[..INDEXED] {
            let sql = format!("SELECT EXISTS (SELECT 1 FROM statewright.{table})");
            let steps = [
                Step::new("SELECT set_config('statewright.tenant', $1, false)", vec![&tenant]),
                Step::plain(&sql),
            ];
            let rows = link.ask(&steps)?.pop().unwrap_or_default();
            if rows.first().is_none_or(|row| row.try_get(0).unwrap_or(true)) {
                return Err(OpenError::NotIsolated(format!(
                    "the role `statewright_reader` sees rows of `statewright.{table}` that are no tenant's of its own"
                )));
            }
        }
    }
    for table in OF_TENANTS {
        // It matches no row, so nothing is lost if it is possible.
        let attempt = link.batch(&format!("DELETE FROM statewright.{table} WHERE false"));
        if !attempt.is_err_and(|trouble| trouble.has_code(&SqlState::INSUFFICIENT_PRIVILEGE)) {
            return Err(OpenError::NotIsolated(format!(
                "the role `statewright_reader` may change `statewright.{table}`"
            )));
        }
    }
    let attempt = link.batch(
        "INSERT INTO statewright.settings (tenant, name, saved_at, checksum, body)
         SELECT '', '', 0, 0, '' WHERE false",
    );
    if !attempt.is_err_and(|trouble| trouble.has_code(&SqlState::INSUFFICIENT_PRIVILEGE)) {
        return Err(OpenError::NotIsolated("the role `statewright_reader` may insert".to_owned()));
    }
    Ok(())
}

fn value<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a tokio_postgres::Row,
    column: usize,
) -> Result<T, OpenError> {
    row.try_get(column).map_err(|error| OpenError::Unusable(error.to_string()))
}
