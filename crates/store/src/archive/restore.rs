//! Filling a store from an archive, and looking through one without a store.
//!
//! Owns what is taken in at once, and what becomes of what waits to be sent.

use std::ops::ControlFlow;

use kernel::commit::EffectKind;
use kernel::time::Timestamp;

use super::read::{Item, Reader};
use super::{Contents, Counts, Problem};
use crate::dossier::Dossier;
use crate::outbox::{EffectStatus, OutboxEffect};
use crate::{KeyedStore, LoadError, Store};

/// What becomes of replies that wait to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// They are sent, though they may have been since the archive was made.
    Send,
    /// Nobody knows whether they have been: somebody has them sent by hand.
    Hold,
}

/// What came of a restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    pub contents: Contents,
    /// Replies that are not sent.
    pub held: u64,
}

/// What an effect that is held back says of itself.
const HELD: &str =
    "it was waiting when the backup was made that it is restored from, and may have been sent since";

/// So many records are taken in at once, but at least one instance.
const RECORDS_AT_ONCE: usize = 2_000;

/// Reads an archive to its end. `passed` is told what was read so far.
///
/// # Errors
/// As `Reader::next`; and if `must_open`, when there is no key to what is sealed.
pub fn check(
    reader: &mut Reader<'_>,
    must_open: bool,
    passed: &mut dyn FnMut(&Counts),
) -> Result<Contents, Problem> {
    while let Some(item) = reader.next()? {
        if let (Item::Locked(_, why), true) = (item, must_open) {
            return Err(Problem::Locked(why));
        }
        passed(reader.counts());
    }
    reader.contents().ok_or(Problem::Cut(0))
}

/// What a store has, if it has anything.
///
/// # Errors
/// When it cannot be reached.
pub fn what_is_there(store: &dyn Store) -> Result<Option<String>, LoadError> {
    let mut instance = None;
    store.dossiers(&mut |dossier| {
        let (tenant, id) = (dossier.snapshot.tenant, dossier.snapshot.instance);
        instance = Some(format!("the instance `{id}` of the tenant `{tenant}`"));
        ControlFlow::Break(())
    })?;
    if instance.is_some() {
        return Ok(instance);
    }
    if let Some(definition) = store.definitions()?.first() {
        return Ok(Some(format!("a definition of `{}`", definition.machine)));
    }
    Ok(store.settings()?.first().map(|setting| format!("the setting `{}`", setting.name)))
}

/// Takes in all that an archive has. Which data keys there are is learned, and saved, before what they are for.
///
/// # Errors
/// As `check` that `must_open`, and when the store fails: then a part of it is there.
pub fn restore(
    reader: &mut Reader<'_>,
    store: &KeyedStore,
    waiting: Waiting,
    now: Timestamp,
    passed: &mut dyn FnMut(&Counts),
) -> Result<Restored, Problem> {
    let failed = |error: crate::CommitError| Problem::Store(error.to_string());
    let (mut batch, mut records, mut held) = (Vec::new(), 0, 0);
    while let Some(item) = reader.next()? {
        match item {
            Item::Definition(definition) => store.save_definition(&definition).map_err(failed)?,
            Item::Setting(setting) => store.save_setting(&setting).map_err(failed)?,
            Item::Locked(_, why) => return Err(Problem::Locked(why)),
            Item::Dossier(mut dossier) => {
                if waiting == Waiting::Hold {
                    held +=
                        dossier.effects.iter_mut().map(|effect| u64::from(hold(effect, now))).sum::<u64>();
                }
                records += size(&dossier);
                batch.push(*dossier);
            }
        }
        if records >= RECORDS_AT_ONCE {
            store.take_in(&batch).map_err(failed)?;
            batch.clear();
            records = 0;
        }
        passed(reader.counts());
    }
    store.take_in(&batch).map_err(failed)?;
    let contents = reader.contents().ok_or(Problem::Cut(0))?;
    Ok(Restored { contents, held })
}

fn size(dossier: &Dossier) -> usize {
    let Dossier { entries, clarifications, phases, effects, .. } = dossier;
    1 + entries.len() + clarifications.len() + phases.len() + effects.len()
}

/// Whether it is one that would have been sent.
fn hold(effect: &mut OutboxEffect, now: Timestamp) -> bool {
    let is_held =
        effect.status == EffectStatus::Pending && matches!(effect.effect.kind, EffectKind::Reply(_));
    if is_held {
        effect.status = EffectStatus::Unknown;
        effect.error = Some(HELD.to_owned());
        (effect.due_at, effect.settled_at) = (None, Some(now));
    }
    is_held
}
