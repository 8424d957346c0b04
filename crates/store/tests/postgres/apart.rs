//! Tenants are kept apart by the database itself, and a database in which they would not be is refused.

use store::contract::{Draft, id, tenant};
use store::postgres::{OpenError, Options};
use store::{Outcome, PostgresStore, Store};

use super::server::Database;

fn filled() -> (Database, PostgresStore) {
    let database = Database::new();
    let store = database.open();
    for name in ["one", "two"] {
        let draft = Draft::creation("a").tenant(name).session("ana", 1).asks("a:1").effect("hello");
        let commit = draft.phase(store::contract::phase(0, kernel::flow::PhaseState::Completed)).build();
        assert_eq!(store.commit(&[commit]), Ok(vec![Outcome::Committed]));
    }
    (database, store)
}

const TABLES: [&str; 6] = ["instances", "log", "receipts", "clarifications", "phases", "outbox"];

/// Somebody has forgotten the condition: what comes is the tenant's all the same, and nothing without a tenant.
#[test]
fn a_question_without_a_condition_finds_the_tenants_rows_only() {
    let (database, _store) = filled();
    for table in TABLES {
        let ask = |before: &str| {
            let count = "SELECT count(*), coalesce(min(tenant), '-'), coalesce(max(tenant), '-')";
            database.ask(&format!("SET ROLE statewright_reader; {before}; {count} FROM statewright.{table}"))
        };
        assert_eq!(ask("SET statewright.tenant = 'one'"), "1,one,one", "{table}");
        assert_eq!(ask("SET statewright.tenant = 'three'"), "0,-,-", "{table}");
        assert_eq!(ask("SET statewright.tenant = ''"), "0,-,-", "{table}");
        // A setting that was set for a transaction that is over reads as the empty text.
        assert_eq!(ask("BEGIN; SET LOCAL statewright.tenant = 'one'; COMMIT"), "0,-,-", "{table}");
        assert_eq!(ask("SELECT 'unset' WHERE false"), "0,-,-", "{table}");
    }
}

#[test]
fn whoever_reads_can_change_nothing() {
    let (database, _store) = filled();
    for change in [
        "DELETE FROM statewright.log",
        "UPDATE statewright.instances SET tenant = 'two'",
        "INSERT INTO statewright.lanes VALUES (1, 1)",
        "SELECT * FROM statewright.definitions",
        "SELECT * FROM statewright.quarantine",
        "SELECT * FROM statewright.log_of_other_times",
        "SELECT statewright.clean_up(0, 1)",
        "SELECT * FROM progress_update_sessions",
    ] {
        let error =
            database.fails(&format!("SET ROLE statewright_reader; SET statewright.tenant = 'one'; {change}"));
        assert!(error.contains("permission denied"), "{change}: {error}");
    }
}

fn refused(database: &Database) -> String {
    match PostgresStore::open(&database.url(), Options::default()) {
        Err(error @ OpenError::NotIsolated(_)) => error.to_string(),
        other => panic!("expected the database to be refused, got {other:?}"),
    }
}

#[test]
fn a_database_that_does_not_keep_tenants_apart_is_refused() {
    for (change, expected) in [
        (
            "ALTER TABLE statewright.outbox NO FORCE ROW LEVEL SECURITY",
            "row-level security is not enabled and forced on the table `statewright.outbox`",
        ),
        (
            "ALTER TABLE statewright.log DISABLE ROW LEVEL SECURITY",
            "row-level security is not enabled and forced on the table `statewright.log`",
        ),
        (
            "CREATE TABLE statewright.more (tenant text)",
            "row-level security is not enabled and forced on the table `statewright.more`",
        ),
        (
            "CREATE POLICY all_of_it ON statewright.receipts FOR SELECT USING (true)",
            "the policy `all_of_it` on `statewright.receipts` lets `statewright_reader` see other tenants' rows",
        ),
        (
            "GRANT DELETE ON statewright.settings TO PUBLIC",
            "the role `statewright_reader` may change `statewright.settings`",
        ),
        (
            "ALTER TABLE statewright.lanes OWNER TO statewright_writer",
            "the table `statewright.lanes` belongs to a role that serves requests",
        ),
    ] {
        let (database, _store) = filled();
        database.execute(change);
        let shown = format!("tenants would not be kept apart in this database: {expected}");
        assert_eq!(refused(&database), shown, "{change}");
    }
}

/// Whoever logs in need not be a superuser, and need not be allowed to create roles.
#[test]
fn a_login_without_privileges_is_enough() {
    let database = Database::empty();
    let login = format!("login_{}", database.name);
    database.execute(&format!("CREATE ROLE {login} LOGIN PASSWORD '{}'", Database::PASSWORD));
    database.execute(&format!("GRANT CREATE ON DATABASE {} TO {login}", database.name));
    let url = database.url_of(&login);
    let without = PostgresStore::open(&url, Options::default());
    let Err(error @ OpenError::Roles { .. }) = without else { panic!("{without:?}") };
    let sql = format!("GRANT statewright_writer, statewright_reader TO {login};");
    assert!(error.to_string().ends_with(&sql), "{error}");
    database.execute(&sql);
    let store = PostgresStore::open(&url, Options::default()).expect("it can be opened now");
    let commit = Draft::creation("a").session("ana", 1).build();
    assert_eq!(store.commit(std::slice::from_ref(&commit)), Ok(vec![Outcome::Committed]));
    assert_eq!(store.load(&tenant("t"), &id("a")), Ok(commit.after));
    assert_eq!(store.clean_up(store::contract::at(5_000), 10).map(|report| report.more), Ok(false));
    let notes = store.info().notes;
    assert!(notes.iter().any(|note| note.contains("`progress_update_sessions`")), "{notes:?}");
    // What operators do, they do as the owner.
    let as_owner = |sql: &str| database.ask(&format!("SET ROLE {login}; {sql}"));
    assert_eq!(as_owner("SELECT count(*) FROM statewright.progress_update_sessions"), "1");
    assert_eq!(as_owner("SELECT statewright.cleanup_expired_fsm_records()"), "0");
    drop(store);
    database.execute(&format!("DROP OWNED BY {login}; DROP ROLE {login}"));
}
