//! Archives: that all of a store is in one and comes back from it, and that whatever is wrong with one is found.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use store::archive::{self, Contents, Counts, Passphrase, Problem, Reader, Restored, Sealing, Waiting};
use store::contract::{Draft, at, definition, dossiers, lived_in, tenant};
use store::{
    EffectStatus, KeyedStore, MasterKey, Outcome, Records, Secrets, Setting, SqliteOptions, SqliteStore,
    Store, Vault,
};
use tempfile::TempDir;

const SECRET: &str = "hunter2-is-a-secret";

fn vault(byte: u8) -> Arc<Vault> {
    let master = MasterKey::parse("a", &format!("{byte:02x}").repeat(32)).unwrap();
    Arc::new(Vault::new(vec![master]).unwrap())
}

fn open(path: &Path, byte: u8) -> KeyedStore {
    let vault = vault(byte);
    let secrets = Secrets::Sealed(Arc::clone(&vault));
    let records = Records { secrets, ..Records::default() };
    let inner = SqliteStore::open_as(path, SqliteOptions { records, ..SqliteOptions::default() }).unwrap();
    KeyedStore::open(Arc::new(inner), vault).unwrap()
}

struct World {
    directory: TempDir,
    store: KeyedStore,
}

/// A store with one of everything, and a secret.
fn world() -> World {
    let directory = TempDir::new().unwrap();
    let store = open(&directory.path().join("from.db"), 1);
    for version in [2, 1, 3] {
        store.save_definition(&definition("order", version)).unwrap();
    }
    let setting = Setting { tenant: tenant("u"), name: "s".into(), body: json!([1.5]), saved_at: at(7) };
    store.save_setting(&setting).unwrap();
    lived_in(&store);
    let secret = Draft::creation("s1").session("zoe", 1).context("token", json!(SECRET)).secret("token");
    assert_eq!(store.commit(&[secret.effect(SECRET).build()]), Ok(vec![Outcome::Committed]));
    World { directory, store }
}

impl World {
    fn empty(&self, byte: u8) -> KeyedStore {
        open(&self.directory.path().join(format!("to-{byte}.db")), byte)
    }
}

fn written(store: &KeyedStore) -> Vec<u8> {
    let (bytes, trailer) =
        archive::write(store, at(9_000), Vec::new(), &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!((trailer.corrupt, trailer.at_one_moment), (0, true));
    bytes
}

fn checked(bytes: &[u8], byte: u8, must_open: bool) -> Result<Contents, Problem> {
    let mut reader = Reader::open(Box::new(bytes), vault(byte))?;
    archive::check(&mut reader, must_open, &mut |_| {})
}

fn restored(bytes: &[u8], store: &KeyedStore, waiting: Waiting) -> Result<Restored, Problem> {
    let mut reader = Reader::open(Box::new(bytes), Arc::clone(store.vault()))?;
    archive::restore(&mut reader, store, waiting, at(10_000), &mut |_| {})
}

/// What is in an archive behind its first line.
fn lines(bytes: &[u8]) -> Vec<u8> {
    let begin = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    zstd::decode_all(&bytes[begin..]).unwrap()
}

fn archive_of(lines: &[u8]) -> Vec<u8> {
    [b"statewright backup 1\n", &zstd::encode_all(lines, 1).unwrap()[..]].concat()
}

#[test]
fn all_of_a_store_comes_back_from_an_archive() {
    let world = world();
    let bytes = written(&world.store);
    let contents = checked(&bytes, 1, true).unwrap();
    let Counts { definitions, settings, instances, .. } = contents.trailer.counts;
    assert_eq!((definitions, settings, instances), (3, 2, 9));
    assert_eq!((contents.header.backend.as_str(), contents.header.created_at), ("sqlite", at(9_000)));
    assert_eq!(contents.tenants["u"].instances, 1);
    let to = world.empty(1);
    assert_eq!(archive::what_is_there(&to), Ok(None));
    let restored = restored(&bytes, &to, Waiting::Send).unwrap();
    assert_eq!((&restored.contents, restored.held), (&contents, 0));
    assert_eq!(dossiers(&to), dossiers(&world.store));
    assert_eq!(to.definitions(), world.store.definitions());
    assert_eq!(to.settings(), world.store.settings());
    assert!(archive::what_is_there(&to).unwrap().unwrap().starts_with("the instance `"));
    assert_eq!(checked(&written(&to), 1, true).unwrap(), contents);
}

#[test]
fn what_is_secret_is_sealed_in_an_archive() {
    let world = world();
    let bytes = lines(&written(&world.store));
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.contains("zoe"), "it is readable otherwise");
    assert!(!text.contains(SECRET));
}

#[test]
fn without_its_master_key_an_archive_is_not_restored_and_nothing_is_written() {
    let world = world();
    let bytes = written(&world.store);
    // All that can be told without the key is told.
    let contents = checked(&bytes, 2, false).unwrap();
    assert_eq!((contents.locked, contents.trailer.counts.instances), (1, 9));
    let told = checked(&bytes, 2, true).unwrap_err().to_string();
    assert!(told.contains("the encryption key `a`") && told.contains("put them into the settings"), "{told}");
}

#[test]
fn a_part_of_an_archive_is_never_taken_for_the_whole() {
    let world = world();
    let bytes = written(&world.store);
    for length in 0..bytes.len() {
        let problem = checked(&bytes[..length], 1, true).expect_err("a part is no whole");
        let is_told = match length {
            0 => matches!(problem, Problem::Foreign),
            _ => matches!(problem, Problem::Cut(_)),
        };
        assert!(is_told, "{length} of {}: {problem:?}", bytes.len());
    }
    let whole = lines(&bytes);
    let ends = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    let ends: Vec<usize> = ends.collect();
    for (number, end) in (1..).zip(&ends[..ends.len() - 1]) {
        let problem = checked(&archive_of(&whole[..*end]), 1, true).unwrap_err();
        assert!(matches!(problem, Problem::Cut(lines) if lines == number), "{number}: {problem:?}");
    }
    // A line that is left out, and one that comes twice.
    let (second, third) = (ends[1], ends[2]);
    let without = [&whole[..second], &whole[third..]].concat();
    let twice = [&whole[..third], &whole[second..]].concat();
    for (lines, expected) in [(without, 3), (twice, 4)] {
        let problem = checked(&archive_of(&lines), 1, true).unwrap_err();
        assert!(matches!(problem, Problem::Damaged(line, _) if line == expected), "{problem:?}");
    }
    // A line of another archive, in which an effect has come further, fits by itself and not among these.
    let text = String::from_utf8(whole.clone()).unwrap();
    let (number, line) = (1_u64..).zip(text.lines()).find(|(_, line)| line.contains(r#"\"dead\""#)).unwrap();
    let json = line[17..].replacen(r#"\"dead\""#, r#"\"unknown\""#, 1);
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(json.as_bytes());
    let other = text.replace(line, &format!("{:016x} {json}", hasher.digest()));
    let problem = checked(&archive_of(other.as_bytes()), 1, true).unwrap_err();
    assert!(problem.to_string().contains("the checksum over all that is before it"), "{problem}");
    let more = [&bytes[..], b"x"].concat();
    assert!(matches!(checked(&more, 1, true), Err(Problem::Damaged(..))));
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    let world = world();
    let bytes = written(&world.store);
    let contents = checked(&bytes, 1, true).unwrap();
    let whole = lines(&bytes);
    for at in (0..whole.len()).step_by(31) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        let number = whole[..at].iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
        let problem = checked(&archive_of(&flipped), 1, true).expect_err("it is damaged");
        let (Problem::Damaged(line, _) | Problem::Cut(line)) = problem else { panic!("{at}: {problem:?}") };
        // A line break that is gone makes one of two lines, and one that has come makes two of one.
        assert!((number - 1..=number + 1).contains(&line), "{at} in {number}: {problem:?}");
    }
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        // Bits of the compression's own header may say the same in another way.
        assert!(checked(&flipped, 1, true).map_or(true, |found| found == contents), "{at}");
    }
}

#[test]
fn what_is_no_archive_is_told() {
    let world = world();
    let newer = [b"statewright backup 2\n", &written(&world.store)[21..]].concat();
    for (bytes, expected) in [
        (&b"PK\x03\x04"[..], "it does not begin as a backup does"),
        (b"", "it does not begin as a backup does"),
        (b"statewright ba", "it is cut off, and no record of it can be read"),
        (&newer, "it has format 2 and this program reads up to 1: use a newer program"),
    ] {
        let told = checked(bytes, 1, true).unwrap_err().to_string();
        assert!(told.starts_with(expected), "{told}");
    }
}

/// Whoever has activated a definition, or made a key, while all is read finds an archive in which nothing is missing.
#[test]
fn what_is_made_while_an_archive_is_written_is_in_it() {
    let world = world();
    let store = &world.store;
    let mut is_first = true;
    let (bytes, _) = archive::write(store, at(9_000), Vec::new(), &mut |_| {
        if std::mem::take(&mut is_first) {
            store.rotate_data(&tenant("t"), at(9_000)).unwrap();
            store.save_definition(&definition("order", 4)).unwrap();
            store.save_definition(&definition("order", 2)).unwrap();
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    let to = world.empty(1);
    restored(&bytes, &to, Waiting::Send).unwrap();
    assert_eq!(dossiers(&to), dossiers(store));
    let versions = |store: &dyn Store| -> Vec<u32> {
        store.definitions().unwrap().iter().map(|definition| definition.version).collect()
    };
    assert_eq!(versions(&to), versions(store));
    assert_eq!(to.settings(), store.settings());
}

#[test]
fn replies_that_wait_can_be_held_back() {
    let world = world();
    let to = world.empty(1);
    let all = dossiers(&world.store);
    let waits = all.iter().flat_map(|dossier| &dossier.effects);
    let waits = waits.filter(|effect| effect.status == EffectStatus::Pending);
    let replies = waits.filter(|effect| matches!(effect.effect.kind, kernel::commit::EffectKind::Reply(_)));
    let keys: Vec<_> = replies.map(|effect| (effect.tenant.clone(), effect.effect.key.clone())).collect();
    assert!(keys.len() > 3, "{keys:?}");
    let restored = restored(&written(&world.store), &to, Waiting::Hold).unwrap();
    assert_eq!(restored.held, keys.len() as u64);
    let found = dossiers(&to);
    for (before, after) in all.iter().zip(&found) {
        for (before, after) in before.effects.iter().zip(&after.effects) {
            let is_held = keys.contains(&(before.tenant.clone(), before.effect.key.clone()));
            assert_eq!(after.status == EffectStatus::Unknown && before != after, is_held, "{after:?}");
        }
    }
    let (of, key) = &keys[0];
    assert_eq!(to.retry_effect(of, key, at(11_000)), Ok(Some(EffectStatus::Unknown)));
}

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(text).unwrap()
}

fn encrypted(bytes: &[u8], text: &str) -> Vec<u8> {
    let mut sealing = Sealing::new(Vec::new(), &passphrase(text)).unwrap();
    sealing.write_all(bytes).unwrap();
    sealing.finish().unwrap()
}

fn decrypted(bytes: &[u8], text: Option<&str>) -> Result<Vec<u8>, String> {
    let passphrase = text.map(passphrase);
    let mut opened = archive::opened(Box::new(bytes), passphrase.as_ref()).map_err(|p| p.to_string())?;
    let mut all = Vec::new();
    opened.read_to_end(&mut all).map_err(|error| error.to_string())?;
    Ok(all)
}

#[test]
fn what_is_encrypted_opens_with_its_passphrase_only() {
    const CHUNK: usize = 64 << 10;
    for length in [0, 1, CHUNK, CHUNK + 1] {
        let plain: Vec<u8> = (0..length).map(|at| (at / 7) as u8).collect();
        let bytes = encrypted(&plain, "correct horse");
        assert_eq!(decrypted(&bytes, Some("correct horse\n")).as_deref(), Ok(&plain[..]), "{length}");
        if length == CHUNK + 1 {
            let cut = bytes.len() - 18;
            assert!(decrypted(&bytes[..cut], Some("correct horse")).is_err());
            let mut flipped = bytes.clone();
            flipped[cut - 100] ^= 1;
            assert!(decrypted(&flipped, Some("correct horse")).unwrap_err().contains("not what was written"));
        }
        if length == 1 {
            assert!(decrypted(&bytes, Some("wrong")).unwrap_err().contains("the passphrase is not the one"));
            assert!(decrypted(&bytes, None).unwrap_err().contains("STATEWRIGHT_BACKUP_PASSPHRASE"));
        }
    }
    assert_eq!(decrypted(b"not encrypted", None).as_deref(), Ok(&b"not encrypted"[..]));
    assert!(Passphrase::new("\n").is_err());
}

/// A file that age's own program has made.
#[test]
fn files_of_age_are_read() {
    const MADE: &str = "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IHNjcnlwdCBZRDNLS1hha3FXckhSZkxqN2VxRmlRIDEwCnBtMHp0T2ZVKy8vbUpoeG9yRmhxWk\
        dMcG9vSG9NbENPZDB0OTdnSm1kdjAKLS0tIGpGKzg5VGE3ekJyb0kxOWVjUTFRS3BvbTdRbVJTS3J6MWQ2N0dVUVVTSDQKB/P16RQ2IOzMkaKJfsRA\
        6z3Yr/fXgCDTU/H8Zhil0t6iNxPCTvNAaCB0+zMkMA==";
    let made = STANDARD.decode(MADE).unwrap();
    assert_eq!(decrypted(&made, Some("correct horse")).as_deref(), Ok(&b"hello from age"[..]));
    let text = String::from_utf8_lossy(&made).replacen("-> scrypt", "-> X25519", 1);
    assert!(decrypted(text.as_bytes(), Some("x")).unwrap_err().contains("`age -d`"));
}

#[test]
fn a_cut_archive_that_is_encrypted_is_known_as_cut() {
    let world = world();
    let bytes = encrypted(&written(&world.store), "p");
    for left in [bytes.len() - 1, bytes.len() / 2] {
        let problem = archive::opened(Box::new(&bytes[..left]), Some(&passphrase("p")))
            .and_then(|opened| Reader::open(opened, vault(1)))
            .and_then(|mut reader| archive::check(&mut reader, true, &mut |_| {}))
            .unwrap_err();
        assert!(matches!(problem, Problem::Cut(_)), "{problem:?}");
    }
}
