//! Which files are opened, and what is said about those that are not.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rusqlite::Connection;

use super::{Place, fill};
use crate::contract::{id, tenant};
use crate::sqlite::schema::{APPLICATION_ID, STEPS};
use crate::{Durability, SqliteOptions, SqliteStore, Store};

/// What is said, with the directory of the test as `DIR`.
fn refusal(directory: &Path, path: &Path) -> String {
    let error = SqliteStore::open(path).expect_err("it is refused").to_string();
    let directory = directory.canonicalize().unwrap();
    error.replace(&directory.display().to_string(), "DIR")
}

type Case = (&'static str, fn(&Path), &'static str);

/// Each leaves something at `x.db`, and is told so.
const CASES: &[Case] = &[
    (
        "a missing directory",
        |path| std::fs::remove_dir(path.parent().unwrap()).unwrap(),
        "the directory DIR/in does not exist; create it, or name another place",
    ),
    (
        "a directory in place of a file",
        |path| std::fs::create_dir(path).unwrap(),
        "DIR/in/x.db is a directory; name a file",
    ),
    (
        "a file in place of its directory",
        |path| {
            let parent = path.parent().unwrap();
            std::fs::remove_dir(parent).unwrap();
            std::fs::write(parent, "").unwrap();
        },
        "cannot find DIR/in/x.db: Not a directory (os error 20): see to that first",
    ),
    (
        "somebody's notes",
        |path| std::fs::write(path, "these are somebody's notes\n".repeat(100)).unwrap(),
        "DIR/in/x.db is not a database: it does not begin like one; name another file, or move this one away",
    ),
    (
        "a word",
        |path| std::fs::write(path, "word").unwrap(),
        "DIR/in/x.db is not a database: it is too short for one; name another file, or move this one away",
    ),
    (
        "a page size that is none",
        |path| with_byte(path, 16, 0x11),
        "the header of DIR/in/x.db is damaged; put a copy from before in its place, or save what can be read with \
         `sqlite3 FILE .recover`",
    ),
    (
        "a file that was cut off",
        |path| {
            drop(SqliteStore::open(path).unwrap());
            let file = std::fs::File::options().write(true).open(path).unwrap();
            file.set_len(file.metadata().unwrap().len() - 100).unwrap();
        },
        "which is no whole number of pages: it was cut off",
    ),
    ("a first page that is none", |path| with_byte(path, 100, 0x77), "DIR/in/x.db is damaged ("),
    (
        "a log whose file is missing",
        |path| std::fs::write(format!("{}-wal", path.display()), "something").unwrap(),
        "DIR/in/x.db is missing, but its log DIR/in/x.db-wal is there: bring the file back, or move the log away to \
         begin anew",
    ),
    (
        "a log whose file was emptied",
        |path| {
            std::fs::write(path, "").unwrap();
            std::fs::write(format!("{}-wal", path.display()), "something").unwrap();
        },
        "DIR/in/x.db is empty, but its log DIR/in/x.db-wal is there: ",
    ),
    (
        "a database of somebody else",
        |path| Connection::open(path).unwrap().execute_batch("CREATE TABLE people (name)").unwrap(),
        "DIR/in/x.db is a database of another program (it has the tables people); nothing in it was changed; name another \
         file",
    ),
    (
        "a database that says whose it is",
        |path| Connection::open(path).unwrap().execute_batch("PRAGMA application_id = 1196444487").unwrap(),
        "DIR/in/x.db is a database of another program (its application id is 1196444487); ",
    ),
    (
        "a step of the schema that the tables deny",
        |path| change(path, "PRAGMA user_version = 1"),
        "DIR/in/x.db is damaged (its header says step 1 of the schema",
    ),
    (
        "an index over other rows",
        |path| {
            change(
                path,
                "PRAGMA writable_schema = ON;
                 UPDATE sqlite_schema SET sql = replace(sql, 'ordinal > 0', 'ordinal > 1');",
            );
        },
        "DIR/in/x.db is damaged (the definition of the index instances_by_session is not what it was)",
    ),
    (
        "an index that was dropped",
        |path| change(path, "DROP INDEX log_by_receipt"),
        "DIR/in/x.db is damaged (the index log_by_receipt is missing)",
    ),
    (
        "a link to itself",
        |path| symlink(path, path).unwrap(),
        "cannot find DIR/in/x.db: Too many levels of symbolic links",
    ),
];

fn change(path: &Path, sql: &str) {
    drop(SqliteStore::open(path).unwrap());
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

fn with_byte(path: &Path, at: usize, byte: u8) {
    drop(SqliteStore::open(path).unwrap());
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] = byte;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn what_cannot_be_opened_is_told_with_what_to_do_and_left_alone() {
    for (what, prepare, expected) in CASES {
        let place = Place::new();
        let parent = place.directory.path().join("in");
        std::fs::create_dir(&parent).unwrap();
        let path = parent.join("x.db");
        prepare(&path);
        let before = std::fs::read(&path).ok();
        let told = refusal(place.directory.path(), &path);
        assert!(told.contains(expected), "{what}: {told}");
        assert!(std::fs::read(&path).ok() == before, "{what}");
        assert_eq!(refusal(place.directory.path(), &path), told, "{what}, a second time");
    }
}

#[test]
fn an_empty_file_is_a_new_store_and_is_signed() {
    let place = Place::new();
    std::fs::write(place.path(), "").unwrap();
    fill(&place.open());
    let pragma = |name| place.raw().pragma_query_value(None, name, |row| row.get::<_, i32>(0)).unwrap();
    assert_eq!(pragma("application_id"), APPLICATION_ID);
    assert_eq!(pragma("user_version"), STEPS.len() as i32);
}

/// One who is not root, by running this very test as somebody else.
#[test]
fn a_file_that_may_not_be_written_is_told_with_whose_it_is() {
    const VARIABLE: &str = "STATEWRIGHT_TEST_OPEN";
    if let Some(path) = std::env::var_os(VARIABLE) {
        let told = SqliteStore::open(Path::new(&path))
            .map_or_else(|error| error.to_string(), |_| "opened".to_owned());
        std::fs::write(Path::new(&path).with_extension("told"), told).unwrap();
        return;
    }
    let place = Place::new();
    let (open, closed) = (place.directory.path().join("open"), place.directory.path().join("closed"));
    for directory in [&open, &closed] {
        std::fs::create_dir(directory).unwrap();
        drop(SqliteStore::open(&directory.join("x.db")).unwrap());
        std::fs::write(directory.join("x.told"), "").unwrap();
    }
    let mode = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    mode(place.directory.path(), 0o755);
    for (path, bits) in [
        (open.join("x.told"), 0o666),
        (open.join("x.db.lock"), 0o666),
        (open.join("x.db"), 0o444),
        (open.clone(), 0o777),
        (closed.join("x.told"), 0o666),
        (closed.join("x.db.lock"), 0o444),
        (closed.clone(), 0o555),
    ] {
        mode(&path, bits);
    }
    // Where others may run it.
    let program = place.directory.path().join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let told = |directory: &Path| {
        let path = directory.join("x.db");
        let name = std::thread::current().name().unwrap().to_owned();
        let mut command = Command::new(&program);
        command.args(["--exact", &name]).env(VARIABLE, &path).current_dir("/");
        if std::fs::metadata("/proc/self").is_ok_and(|us| std::os::unix::fs::MetadataExt::uid(&us) == 0) {
            command.uid(65_534).gid(65_534);
        }
        let output = command.output().unwrap();
        let is_run = String::from_utf8_lossy(&output.stdout).contains("1 passed");
        assert!(output.status.success() && is_run, "{output:?}");
        std::fs::read_to_string(path.with_extension("told")).unwrap()
    };
    let (of_file, of_directory) = (told(&open), told(&closed));
    mode(&closed, 0o755);
    let expected = [
        ("cannot open for writing ", &of_file),
        ("this is user ", &of_file),
        ("/open/x.db belongs to user ", &of_file),
        (" with mode 444; the server has to write the file and create others beside it", &of_file),
        ("cannot write ", &of_directory),
        ("/closed/x.db.lock belongs to user ", &of_directory),
    ];
    for (part, whole) in expected {
        assert!(whole.contains(part), "{part}: {whole}");
    }
}

#[test]
fn a_second_server_is_refused_by_whatever_name_it_has_the_file() {
    let place = Place::new();
    let directory = place.directory.path().canonicalize().unwrap();
    let store = place.open();
    fill(&store);
    let path = place.path();
    let (link, twin) = (directory.join("link.db"), directory.join("twin.db"));
    symlink(&path, &link).unwrap();
    std::fs::hard_link(&path, &twin).unwrap();
    std::fs::create_dir(directory.join("in")).unwrap();
    let us = std::process::id();
    let by_lock = format!(
        "another server (process {us}) is using this file; it holds the lock DIR/statewright.db.lock; stop that one, or \
         give this one a file of its own"
    );
    for other in [path.clone(), link, directory.join("in/../statewright.db")] {
        assert_eq!(refusal(&directory, &other), by_lock);
    }
    let by_file = |name| {
        format!(
            "another server is using this file; it holds the lock DIR/{name}; stop that one, or give this one a file of \
             its own"
        )
    };
    assert_eq!(refusal(&directory, &twin), by_file("twin.db"));
    std::fs::remove_file(directory.join("statewright.db.lock")).unwrap();
    assert_eq!(refusal(&directory, &path), by_file("statewright.db"));
    // Whoever was refused has taken nothing from who has it.
    assert!(store.load(&tenant("t"), &id("a")).unwrap().is_some());
    drop(store);
    assert!(place.open().load(&tenant("t"), &id("a")).unwrap().is_some());
}

#[test]
fn a_link_to_a_file_that_is_not_there_yet_makes_it_where_the_link_leads() {
    let place = Place::new();
    std::fs::create_dir(place.directory.path().join("data")).unwrap();
    let (link, target) = (place.path(), place.directory.path().join("data/real.db"));
    symlink("data/real.db", &link).unwrap();
    fill(&place.open());
    assert!(target.exists());
    let store = SqliteStore::open(&target).unwrap();
    assert!(store.load(&tenant("t"), &id("a")).unwrap().is_some());
}

/// The very mounts, where this machine has one; `mount` tests what the table says of all others.
#[test]
fn a_file_in_memory_is_volatile_and_says_so() {
    let shared = Path::new("/dev/shm");
    if !cfg!(target_os = "linux") {
        return;
    }
    let directory = tempfile::TempDir::new_in(shared).unwrap();
    let store = SqliteStore::open(&directory.path().join("x.db")).unwrap();
    let info = store.info();
    assert_eq!(info.durability, Durability::Volatile);
    assert_eq!(info.notes, ["its file system is in memory (tmpfs); everything is gone with the power"]);
}

#[test]
fn a_network_file_system_is_refused_unless_it_is_allowed() {
    use crate::sqlite::mount::{Kind, Mount};
    use crate::sqlite::place::judged;
    let path = Path::new("/srv/x.db");
    let of = |kind, name: &str| Mount { kind, name: name.to_owned() };
    let refused = judged(path, Some(&of(Kind::Network, "nfs4")), false).unwrap_err().to_string();
    assert_eq!(
        refused,
        "/srv/x.db is on a network file system (nfs4), where locks and flushes do not keep what is saved; use a disk of \
         this machine, or a database server, or add `?network=allow` if you know better"
    );
    for (mount, allowed, expected, notes) in [
        (Some(of(Kind::Local, "ext4")), false, Durability::Durable, 0),
        (Some(of(Kind::Layered, "overlay")), false, Durability::Durable, 1),
        (Some(of(Kind::Passed, "fuse.x")), false, Durability::BoundedLoss, 1),
        (Some(of(Kind::Volatile, "tmpfs")), false, Durability::Volatile, 1),
        (Some(of(Kind::Network, "nfs4")), true, Durability::BoundedLoss, 1),
        (None, false, Durability::Durable, 1),
    ] {
        let (durability, said) = judged(path, mount.as_ref(), allowed).unwrap();
        assert_eq!((durability, said.len()), (expected, notes), "{mount:?}");
    }
    let place = Place::new();
    let options = SqliteOptions { network_allowed: true, ..SqliteOptions::default() };
    let store = SqliteStore::open_as(&place.path(), options).unwrap();
    assert_eq!(store.info().durability, place_durability(&place), "allowing it changes nothing elsewhere");
}

fn place_durability(place: &Place) -> Durability {
    SqliteStore::open(&place.directory.path().join("other.db")).unwrap().info().durability
}
