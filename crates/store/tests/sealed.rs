//! Secrets at rest: the contract, kept over sealed records; and what becomes of them without the key, with another
//! server's, when keys change, and when somebody has the file.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kernel::commit::{Commit, EffectKind, Entry};
use kernel::conversation::{Clarification, Message};
use kernel::id::{InstanceId, MachineName, Subject, TenantId};
use kernel::input::{ReceiptId, ReceiptScope};
use kernel::snapshot::{Invocation, Snapshot};
use kernel::time::Timestamp;
use rusqlite::Connection;
use serde_json::json;
use store::contract::{Draft, Durable, at, id, key_of, tenant};
use store::{
    ClaimedEffect, ClarificationQuery, CleanupReport, CommitError, DeliveryReport, Dossier, EffectQuery,
    EffectStatus, Gathered, HistoryQuery, InstanceQuery, KeyedStore, LoadError, MasterKey, OutboxEffect,
    Outcome, Page, PhaseLine, PhaseQuery, Records, Secrets, Setting, Settlement, SqliteOptions, SqliteStore,
    StandingAt, Standings, Store, StoreInfo, StoreStatistics, StoredDefinition, Vault,
};
use tempfile::TempDir;
use testbed::{Kind, Lodging};

const SECRET: &str = "hunter2-is-a-secret";

fn master(name: &str, byte: u8) -> MasterKey {
    MasterKey::parse(name, &format!("{byte:02x}").repeat(32)).expect("a test's key is valid")
}

/// The file, as a server with these master keys has it.
fn open_with(path: &Path, masters: &[(&str, u8)]) -> KeyedStore {
    let vault = vault(masters);
    let options = SqliteOptions { records: sealed_by(&vault), ..SqliteOptions::default() };
    let inner = SqliteStore::open_as(path, options).expect("the file can be opened");
    KeyedStore::open(Arc::new(inner), vault).expect("the keys can be read")
}

fn vault(masters: &[(&str, u8)]) -> Arc<Vault> {
    let masters = masters.iter().map(|(name, byte)| master(name, *byte)).collect();
    Arc::new(Vault::new(masters).expect("a test's keys have different ids"))
}

fn sealed_by(vault: &Arc<Vault>) -> Records {
    Records { secrets: Secrets::Sealed(Arc::clone(vault)), ..Records::default() }
}

/// Every commit has secrets: each field of its context.
#[derive(Debug)]
struct AllSecret(KeyedStore);

macro_rules! pass_on {
    ($(fn $name:ident(&self $(, $arg:ident: $type:ty)*) -> $out:ty;)*) => {
        $(fn $name(&self $(, $arg: $type)*) -> $out {
            self.0.$name($($arg),*)
        })*
    };
}

impl Store for AllSecret {
    fn commit(&self, batch: &[Commit]) -> Result<Vec<Outcome>, CommitError> {
        let secret = batch.iter().map(|commit| {
            let fields = commit.after.iter().flat_map(|after| after.context.keys());
            let secrets: Vec<Arc<str>> = fields.map(|field| field.as_str().into()).collect();
            let secrets = if secrets.is_empty() { vec!["token".into()] } else { secrets };
            Commit { secrets: secrets.into(), ..commit.clone() }
        });
        self.0.commit(&secret.collect::<Vec<_>>())
    }

    pass_on! {
        fn load(&self, tenant: &TenantId, instance: &InstanceId) -> Result<Option<Snapshot>, LoadError>;
        fn load_session(&self, tenant: &TenantId, machine: &MachineName, subject: &Subject)
            -> Result<Option<Snapshot>, LoadError>;
        fn receipt(&self, tenant: &TenantId, scope: &ReceiptScope, receipt: ReceiptId) -> Result<Option<(InstanceId, Entry)>, LoadError>;
        fn claim_due(&self, now: Timestamp, until: Timestamp, limit: usize)
            -> Result<Vec<(TenantId, InstanceId)>, LoadError>;
        fn next_due(&self) -> Result<Option<Timestamp>, LoadError>;
        fn instances(&self, query: &InstanceQuery) -> Result<Page<Snapshot>, LoadError>;
        fn history(&self, query: &HistoryQuery) -> Result<Page<Entry>, LoadError>;
        fn clarifications(&self, query: &ClarificationQuery) -> Result<Page<Clarification>, LoadError>;
        fn phases(&self, query: &PhaseQuery) -> Result<Page<PhaseLine>, LoadError>;
        fn save_definition(&self, definition: &StoredDefinition) -> Result<(), CommitError>;
        fn definitions(&self) -> Result<Vec<StoredDefinition>, LoadError>;
        fn claim_effects(&self, now: Timestamp, until: Timestamp, limit: usize)
            -> Result<Vec<ClaimedEffect>, CommitError>;
        fn settle_effects(&self, all: &[Settlement], now: Timestamp) -> Result<Vec<bool>, CommitError>;
        fn next_effect_due(&self) -> Result<Option<Timestamp>, LoadError>;
        fn retry_effect(&self, tenant: &TenantId, key: &str, now: Timestamp)
            -> Result<Option<EffectStatus>, CommitError>;
        fn note_stage(&self, report: &DeliveryReport) -> Result<bool, CommitError>;
        fn effects(&self, query: &EffectQuery) -> Result<Page<OutboxEffect>, LoadError>;
        fn save_setting(&self, setting: &Setting) -> Result<(), CommitError>;
        fn dossiers(&self, visit: &mut dyn FnMut(Dossier) -> ControlFlow<()>) -> Result<Gathered, LoadError>;
        fn take_in(&self, dossiers: &[Dossier]) -> Result<(), CommitError>;
        fn clean_up(&self, before: Timestamp, limit: usize) -> Result<CleanupReport, CommitError>;
        fn statistics(&self) -> Result<StoreStatistics, LoadError>;
        fn standings(&self, at: StandingAt) -> Result<Standings, LoadError>;
        fn wait_for_news(&self, at_most: Duration) -> bool;
        fn info(&self) -> StoreInfo;
    }

    /// The contract knows of its own settings only.
    fn settings(&self) -> Result<Vec<Setting>, LoadError> {
        let mut settings = self.0.settings()?;
        settings.retain(|setting| !setting.name.starts_with("key:"));
        Ok(settings)
    }
}

store::store_contract!(sealed, new_files());
store::durable_store_contract!(sealed_reopened, OneFile::new());
store::store_contract!(sealed_postgres, new_lodgings(Kind::Postgres));
store::store_contract!(sealed_redis, new_lodgings(Kind::Redis));

/// A new place at each call, on a server that others use too; all go with the test.
fn new_lodgings(kind: Kind) -> impl Fn() -> Box<dyn Store> {
    let lodgings = RefCell::new(Vec::new());
    move || {
        let lodging = Lodging::new(kind);
        let vault = vault(&[("a", 1)]);
        let inner = store::open(lodging.url(), sealed_by(&vault)).expect("the store can be opened");
        lodgings.borrow_mut().push(lodging);
        Box::new(AllSecret(KeyedStore::open(inner, vault).expect("the keys can be read")))
    }
}

fn new_files() -> impl Fn() -> Box<dyn Store> {
    let directory = TempDir::new().expect("a temporary directory");
    let count = Cell::new(0);
    move || {
        count.set(count.get() + 1);
        let path = directory.path().join(format!("{}.db", count.get()));
        Box::new(AllSecret(open_with(&path, &[("a", 1)])))
    }
}

struct OneFile {
    directory: TempDir,
    copies: Cell<u32>,
}

impl OneFile {
    fn new() -> Self {
        Self { directory: TempDir::new().expect("a temporary directory"), copies: Cell::new(0) }
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("statewright.db")
    }

    fn open(&self, masters: &[(&str, u8)]) -> KeyedStore {
        open_with(&self.path(), masters)
    }

    /// What is in the files of the store, as bytes.
    fn bytes(&self) -> Vec<u8> {
        let files = std::fs::read_dir(self.directory.path()).expect("the directory can be read");
        let paths = files.map(|file| file.expect("a file").path());
        paths.flat_map(|path| std::fs::read(path).expect("the file can be read")).collect()
    }

    fn query<T: rusqlite::types::FromSql>(&self, sql: &str) -> T {
        let connection = Connection::open(self.path()).expect("the file can be opened");
        connection.query_row(sql, (), |row| row.get(0)).expect("the question has an answer")
    }
}

impl Durable for OneFile {
    fn open(&self) -> Box<dyn Store> {
        Box::new(AllSecret(self.open(&[("a", 1)])))
    }

    fn open_as_if_killed(&self) -> Box<dyn Store> {
        self.copies.set(self.copies.get() + 1);
        let copy = self.directory.path().join(format!("copy-{}.db", self.copies.get()));
        for suffix in ["-wal", ""] {
            let with_suffix = |path: &Path| format!("{}{suffix}", path.display());
            std::fs::copy(with_suffix(&self.path()), with_suffix(&copy)).expect("the file can be copied");
        }
        Box::new(AllSecret(open_with(&copy, &[("a", 1)])))
    }
}

/// An instance with a token that is secret, and everything that may hold a copy of it.
fn secretive(instance: &str) -> Commit {
    let fields = json!({ "token": SECRET }).as_object().expect("an object").clone();
    let draft = Draft::creation(instance).context("token", json!(SECRET)).context("stage", json!("open"));
    let mut commit = draft.timer(5_000).calls("ask").secret("token").build();
    let after = commit.after.as_mut().expect("it is a creation");
    after.timers[0].payload = fields.clone();
    let call = Invocation {
        id: "ask".into(),
        src: "tokens".into(),
        input: fields.clone(),
        key: commit.effects[0].key.clone(),
    };
    after.invocations.push(call);
    commit.effects[0].kind =
        EffectKind::Call { id: "ask".into(), src: "tokens".into(), input: fields.clone() };
    commit.entry.message = Some(Message::of_text(SECRET));
    commit.entry.payload = fields;
    commit
}

fn saved(store: &dyn Store, commit: &Commit) {
    assert_eq!(store.commit(std::slice::from_ref(commit)), Ok(vec![Outcome::Committed]));
}

fn detail(found: Result<impl std::fmt::Debug, LoadError>) -> String {
    match found {
        Err(LoadError::Unavailable(detail)) => detail,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_files_hold_no_secret_and_the_store_gives_it_back() {
    let file = OneFile::new();
    let commit = secretive("o-1");
    {
        let store = file.open(&[("a", 1)]);
        saved(&store, &commit);
        assert!(!contains(&file.bytes(), SECRET), "the write-ahead log");
        assert_eq!(store.load(&tenant("t"), &id("o-1")), Ok(commit.after.clone()));
    }
    let store = file.open(&[("a", 1)]);
    assert_eq!(store.load(&tenant("t"), &id("o-1")), Ok(commit.after.clone()));
    let due = store.claim_effects(at(9_000), at(9_500), 10).unwrap();
    assert!(matches!(&due[0].effect.effect.kind, EffectKind::Call { input, .. } if input["token"] == SECRET));
    assert_eq!(store.claim_due(at(5_000), at(6_000), 10), Ok(vec![(tenant("t"), id("o-1"))]));
    assert!(!contains(&file.bytes(), SECRET));
    // What is no secret is there to be read.
    let shown: String = file.query("SELECT json_extract(body, '$.context') FROM instances");
    assert!(shown.contains("\"stage\":\"open\"") && shown.contains("{\"$secret\":\"v1."), "{shown}");
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn commits_without_secrets_are_written_as_ever() {
    let file = OneFile::new();
    let store = file.open(&[("a", 1)]);
    saved(&store, &Draft::creation("o-1").context("stage", json!("open")).build());
    assert_eq!(store.keys(None), Ok(Vec::new()));
    assert!(!contains(&file.bytes(), "$sealed"));
}

#[test]
fn without_a_key_nothing_with_secrets_is_saved() {
    let file = OneFile::new();
    let store = file.open(&[]);
    assert!(!store.keeps_secrets());
    let refused = store.commit(&[secretive("o-1")]);
    assert!(
        matches!(&refused, Err(CommitError::Unavailable(why)) if why.contains("STATEWRIGHT_ENCRYPTION_KEY"))
    );
    let bare = SqliteStore::open(&file.directory.path().join("bare.db")).unwrap();
    let refused = bare.commit(&[secretive("o-1"), Draft::creation("o-2").build()]).unwrap();
    assert!(matches!(&refused[..], [Outcome::TooLarge(_), Outcome::Committed]), "{refused:?}");
    assert!(!contains(&file.bytes(), SECRET));
}

#[test]
fn what_needs_a_key_that_is_not_there_waits_for_it() {
    let file = OneFile::new();
    let commit = secretive("o-1");
    saved(&file.open(&[("2026-11", 1)]), &commit);
    for (round, (masters, expected)) in [
        (&[][..], "needs the encryption key `2026-11`, which the settings do not have"),
        (&[("2027-01", 2)], "needs the encryption key `2026-11`, which the settings do not have"),
        (&[("2026-11", 2)], "the encryption key `2026-11` of the settings is another"),
    ]
    .into_iter()
    .enumerate()
    {
        let store = file.open(masters);
        let t = tenant("t");
        for told in [
            detail(store.load(&t, &id("o-1"))),
            detail(store.receipt(&t, &ReceiptScope::Instance(id("o-1")), key_of(&t, "o-1-1"))),
            detail(store.instances(&InstanceQuery::of(t.clone()))),
            detail(store.history(&HistoryQuery { limit: 10, ..HistoryQuery::of(t.clone(), id("o-1")) })),
            detail(store.effects(&EffectQuery::of(t.clone()))),
        ] {
            assert!(told.contains(expected), "{told}");
        }
        // It is found due, nobody is given its effect, and that is asked for again later.
        let now = 5_000 + round as i64;
        assert_eq!(store.claim_due(at(now), at(now + 1), 10).unwrap().len(), 1);
        assert_eq!(store.claim_effects(at(9_000), at(9_500), 10), Ok(Vec::new()));
        assert_eq!(store.next_effect_due(), Ok(Some(at(9_500))));
        // An input that came before is not taken twice.
        if store.keeps_secrets() {
            assert_eq!(store.commit(std::slice::from_ref(&commit)), Ok(vec![Outcome::Stale]));
        }
        assert_eq!(file.query::<i64>("SELECT count(*) FROM quarantine"), 0);
    }
    let store = file.open(&[("2027-01", 2), ("2026-11", 1)]);
    assert_eq!(store.load(&tenant("t"), &id("o-1")), Ok(commit.after.clone()));
    assert_eq!(store.claim_effects(at(9_500), at(9_900), 10).unwrap().len(), 1);
}

fn keys(store: &KeyedStore) -> Vec<(String, bool)> {
    store.keys(None).expect("the keys can be read").into_iter().map(|key| (key.kek, key.current)).collect()
}

#[test]
fn rotating_wraps_the_keys_anew_and_writes_no_record() {
    let file = OneFile::new();
    let commit = secretive("o-1");
    saved(&file.open(&[("old", 1)]), &commit);
    let before: String = file.query("SELECT body FROM instances");
    {
        let store = file.open(&[("new", 2), ("old", 1)]);
        assert_eq!(keys(&store), [("old".to_owned(), true)]);
        assert_eq!(store.rotate(at(7_000)), Ok(1));
        assert_eq!(store.rotate(at(8_000)), Ok(0));
        assert_eq!(keys(&store), [("new".to_owned(), true)]);
    }
    let store = file.open(&[("new", 2)]);
    assert_eq!(store.load(&tenant("t"), &id("o-1")), Ok(commit.after));
    assert_eq!(file.query::<String>("SELECT body FROM instances"), before);
}

#[test]
fn a_new_data_key_is_used_from_then_on_and_the_old_one_opens_what_it_has_sealed() {
    let file = OneFile::new();
    let (first, second) = (secretive("o-1"), secretive("o-2"));
    {
        let store = file.open(&[("a", 1)]);
        saved(&store, &first);
        assert_eq!(store.rotate_data(&tenant("t"), at(7_000)), Ok(()));
        saved(&store, &second);
        assert_eq!(keys(&store), [("a".to_owned(), false), ("a".to_owned(), true)]);
    }
    let key = |instance: &str| {
        let marker = "json_extract(body, '$.context.token.$secret')";
        file.query::<String>(&format!(
            "SELECT substr({marker}, 4, 16) FROM instances WHERE id = '{instance}'"
        ))
    };
    assert_ne!(key("o-1"), key("o-2"));
    let store = file.open(&[("a", 1)]);
    for commit in [first, second] {
        assert_eq!(store.load(&tenant("t"), &commit.instance.clone()), Ok(commit.after));
    }
}

#[test]
fn tenants_have_keys_of_their_own() {
    let file = OneFile::new();
    let store = file.open(&[("a", 1)]);
    saved(&store, &secretive("o-1"));
    saved(&store, &Draft::creation("o-1").tenant("u").context("token", json!("x")).secret("token").build());
    let tenants: Vec<String> =
        store.keys(None).unwrap().into_iter().map(|key| key.tenant.to_string()).collect();
    assert_eq!(tenants, ["t", "u"]);
    assert_eq!(store.keys(Some(&tenant("u"))).unwrap().len(), 1);
}

#[test]
fn what_another_server_has_sealed_meanwhile_is_opened_at_the_first_time_of_asking() {
    let ask: [fn(&KeyedStore) -> usize; 4] = [
        |store| usize::from(store.load(&tenant("t"), &id("o-1")).unwrap().is_some()),
        |store| {
            usize::from(
                store
                    .receipt(&tenant("t"), &ReceiptScope::Instance(id("o-1")), key_of(&tenant("t"), "o-1-1"))
                    .unwrap()
                    .is_some(),
            )
        },
        |store| store.instances(&InstanceQuery::of(tenant("t"))).unwrap().data.len(),
        |store| store.claim_effects(at(9_000), at(9_500), 10).unwrap().len(),
    ];
    for ask in ask {
        let (theirs, ours) = (OneFile::new(), OneFile::new());
        saved(&theirs.open(&[("a", 1)]), &secretive("o-1"));
        let store = ours.open(&[("a", 1)]);
        // Both have made a key for the tenant, each without knowing of the other.
        store.rotate_data(&tenant("t"), at(900)).unwrap();
        let connection = Connection::open(ours.path()).unwrap();
        connection.execute("ATTACH ?1 AS theirs", [theirs.path().display().to_string()]).unwrap();
        for table in ["settings", "instances", "log", "outbox"] {
            let columns: String = connection
                .query_row(
                    "SELECT group_concat(name) FROM pragma_table_info(?1) WHERE name <> 'row' OR ?1 <> 'settings'",
                    [table],
                    |row| row.get(0),
                )
                .unwrap();
            let sql = format!("INSERT INTO main.{table} ({columns}) SELECT {columns} FROM theirs.{table}");
            connection.execute(&sql, ()).unwrap();
        }
        assert_eq!(ask(&store), 1);
        assert_eq!(keys(&store).len(), 2);
    }
}

#[test]
fn a_key_that_is_nowhere_is_looked_for_once() {
    let file = OneFile::new();
    saved(&file.open(&[("a", 1)]), &secretive("o-1"));
    Connection::open(file.path()).unwrap().execute("DELETE FROM settings", ()).unwrap();
    let store = file.open(&[("a", 1)]);
    for _ in 0..2 {
        let told = detail(store.load(&tenant("t"), &id("o-1")));
        assert!(told.contains("instances t/o-1") && told.contains("is not in the store"), "{told}");
    }
}

#[test]
fn nobodys_own_value_is_taken_for_a_sealed_one() {
    let file = OneFile::new();
    let store = file.open(&[("a", 1)]);
    let mark = json!({ "$secret": "v1.0000000000000000.AAAA" });
    let plain = Draft::creation("o-1").context("note", mark.clone()).build();
    let secret =
        Draft::creation("o-2").context("note", mark.clone()).context("token", mark).secret("token").build();
    for commit in [plain, secret] {
        saved(&store, &commit);
        assert_eq!(store.load(&tenant("t"), &commit.instance), Ok(commit.after));
    }
}
