//! Reading an archive: one record after the other, each checked, and at its end whether that was all.
//!
//! Never more than one instance is in memory. What is sealed opens with the data keys that were read before it, if the
//! vault has the master keys that these are wrapped by.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use kernel::id::TenantId;
use zstd::stream::read::Decoder;

use super::line::ReadLines;
use super::{Contents, Counts, FORMAT, Header, MAGIC, Problem, Record, Trailer};
use crate::dossier::Dossier;
use crate::outbox::EffectStatus;
use crate::row::{self, Fault};
use crate::seal;
use crate::vault::parts::Secrets;
use crate::{Setting, StoredDefinition, Vault};

/// What is read of an archive.
#[derive(Debug)]
pub enum Item {
    Definition(StoredDefinition),
    Setting(Setting),
    Dossier(Box<Dossier>),
    /// An instance that is whole, and that there is no key to; why.
    Locked(TenantId, String),
}

/// Reads an archive from its beginning.
pub struct Reader<'r> {
    lines: ReadLines<BufReader<Decoder<'static, Box<dyn BufRead + 'r>>>>,
    vault: Arc<Vault>,
    secrets: Secrets,
    header: Header,
    counts: Counts,
    tenants: BTreeMap<String, Counts>,
    locked: u64,
    pending: u64,
    trailer: Option<Trailer>,
}

impl std::fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("header", &self.header)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

/// Longer than any first line of ours.
const FIRST_LINE_BYTES_MAX: u64 = 64;

impl<'r> Reader<'r> {
    /// `vault` has the master keys, and learns the data keys.
    ///
    /// # Errors
    /// When it is no archive, or none that this program reads.
    pub fn open(mut from: Box<dyn BufRead + 'r>, vault: Arc<Vault>) -> Result<Self, Problem> {
        let mut first = Vec::new();
        let read = (&mut from).take(FIRST_LINE_BYTES_MAX).read_until(b'\n', &mut first);
        read.map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Problem::Cut(0),
            _ => Problem::Io(error),
        })?;
        let format = first.strip_prefix(MAGIC.as_bytes()).and_then(|rest| rest.strip_suffix(b"\n"));
        let Some(format) = format else {
            let is_cut = MAGIC.as_bytes().starts_with(&first) || first.starts_with(MAGIC.as_bytes());
            return Err(if is_cut && !first.is_empty() { Problem::Cut(0) } else { Problem::Foreign });
        };
        if format != FORMAT.to_string().as_bytes() {
            return Err(Problem::NewerFormat(String::from_utf8_lossy(format).into_owned()));
        }
        let mut lines = ReadLines::new(BufReader::new(Decoder::with_buffer(from)?));
        let Record::Header(header) = lines.next()? else {
            return Err(Problem::Damaged(1, "it is no header".to_owned()));
        };
        Ok(Self {
            lines,
            secrets: Secrets::Sealed(Arc::clone(&vault)),
            vault,
            header,
            counts: Counts::default(),
            tenants: BTreeMap::new(),
            locked: 0,
            pending: 0,
            trailer: None,
        })
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What was read so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// What was in it, once it was read to its end.
    pub fn contents(&self) -> Option<Contents> {
        Some(Contents {
            header: self.header.clone(),
            trailer: self.trailer?,
            tenants: self.tenants.clone(),
            locked: self.locked,
            pending: self.pending,
        })
    }

    /// The next item; nothing at the end of a whole archive.
    ///
    /// # Errors
    /// When it is cut off or damaged.
    #[expect(clippy::should_implement_trait, reason = "what fails is the end of it")]
    pub fn next(&mut self) -> Result<Option<Item>, Problem> {
        if self.trailer.is_some() {
            return Ok(None);
        }
        match self.lines.next()? {
            Record::Definition(hash, value) => {
                let definition = self.read(row::definition(&hash, value.as_bytes()))?;
                self.counts.definitions += 1;
                Ok(Some(Item::Definition(definition)))
            }
            Record::Setting(name, value) => {
                let setting = self.read(row::setting(&name, value.as_bytes()))?;
                self.vault.learn(std::slice::from_ref(&setting));
                self.counts.settings += 1;
                self.of(&setting.tenant).settings += 1;
                Ok(Some(Item::Setting(setting)))
            }
            Record::Instance(tenant, id, head, body, counts) => {
                self.instance(&tenant, &id, (&head, &body), counts).map(Some)
            }
            Record::End(_, all) if !self.lines.is_before(&all) => {
                Err(self.damaged("the checksum over all that is before it does not fit"))
            }
            Record::End(trailer, _) => {
                if trailer.counts != self.counts {
                    return Err(self.damaged("there are not as many records as it says"));
                }
                self.lines.end()?;
                self.trailer = Some(trailer);
                Ok(None)
            }
            _ => Err(self.damaged("it belongs to no instance")),
        }
    }

    fn damaged(&self, detail: &str) -> Problem {
        Problem::Damaged(self.lines.number, detail.to_owned())
    }

    fn of(&mut self, tenant: &TenantId) -> &mut Counts {
        self.tenants.entry(tenant.to_string()).or_default()
    }

    /// A record that has to be there.
    fn read<T>(&self, found: Result<T, Fault>) -> Result<T, Problem> {
        found.map_err(|fault| match fault {
            seal::Fault::Backend(never) => match never {},
            seal::Fault::Damaged(damage) => self.damaged(&format!("{}: {}", damage.key, damage.detail)),
            seal::Fault::NewerFormat(format) => Problem::NewerFormat(format!("{format} of instances")),
            seal::Fault::Locked(locked) => Problem::Locked(locked.detail),
        })
    }

    /// An instance with all that belongs to it, also if it is locked.
    fn instance(
        &mut self,
        tenant: &str,
        id: &str,
        (head, body): (&str, &str),
        counts: [u64; 4],
    ) -> Result<Item, Problem> {
        let of = TenantId::stored(tenant).map_err(|problem| self.damaged(&problem))?;
        let secrets = self.secrets.clone();
        let mut locked = None;
        let snapshot = row::instance(&of, id, head.as_bytes(), body.as_bytes(), &secrets);
        let mut dossier = self.unless_locked(snapshot, &mut locked)?.map(Dossier::of);
        if let Some(dossier) = &mut dossier {
            dossier.note_body(body.as_bytes());
        }
        for _ in 0..counts.iter().sum() {
            match self.lines.next()? {
                Record::Entry(receipt, value) => {
                    let number = u128::from_str_radix(&receipt, 16);
                    let number = number.map_err(|_| self.damaged("its receipt is none"))?;
                    let found = row::entry(number.to_be_bytes(), value.as_bytes(), &secrets);
                    let found = self.unless_locked(found, &mut locked)?;
                    note(&mut dossier, found, &value, |dossier, (_, entry)| dossier.entries.push(entry));
                }
                Record::Question(name, value) => {
                    let found = row::question(&of, &name, value.as_bytes(), &secrets);
                    let found = self.unless_locked(found, &mut locked)?;
                    note(&mut dossier, found, &value, |dossier, found| dossier.clarifications.push(found));
                }
                Record::Phase(place, value) => {
                    let found = self.read(row::phase(&of, id, place, value.as_bytes()))?;
                    if let Some(dossier) = &mut dossier {
                        dossier.phases.push(found.row);
                    }
                }
                Record::Effect(key, value, progress) => {
                    let found = row::effect(&of, &key, value.as_bytes(), progress.as_bytes(), &secrets);
                    let found = self.unless_locked(found, &mut locked)?;
                    let waits = |status| matches!(status, EffectStatus::Pending | EffectStatus::Sending);
                    self.pending += u64::from(found.as_ref().is_some_and(|effect| waits(effect.status)));
                    note(&mut dossier, found, &value, |dossier, effect| dossier.effects.push(effect));
                }
                _ => return Err(self.damaged("it is none of the instance before it")),
            }
        }
        self.count(&of, counts);
        match (dossier, locked) {
            (Some(dossier), None) => Ok(Item::Dossier(Box::new(dossier))),
            (_, locked) => {
                self.locked += 1;
                Ok(Item::Locked(of, locked.unwrap_or_default()))
            }
        }
    }

    fn count(&mut self, of: &TenantId, [entries, clarifications, phases, effects]: [u64; 4]) {
        let add = |counts: &mut Counts| {
            counts.instances += 1;
            counts.entries += entries;
            counts.clarifications += clarifications;
            counts.phases += phases;
            counts.effects += effects;
        };
        add(&mut self.counts);
        add(self.of(of));
    }

    fn unless_locked<T>(
        &self,
        found: Result<T, Fault>,
        locked: &mut Option<String>,
    ) -> Result<Option<T>, Problem> {
        match self.read(found) {
            Ok(record) => Ok(Some(record)),
            Err(Problem::Locked(detail)) => {
                locked.get_or_insert(detail);
                Ok(None)
            }
            Err(problem) => Err(problem),
        }
    }
}

fn note<T>(dossier: &mut Option<Dossier>, found: Option<T>, value: &str, add: impl FnOnce(&mut Dossier, T)) {
    if let (Some(dossier), Some(found)) = (dossier, found) {
        dossier.note_body(row::body_of(value.as_bytes()));
        add(dossier, found);
    }
}
