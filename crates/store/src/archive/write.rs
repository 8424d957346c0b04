//! Writing an archive of a store that goes on being used.
//!
//! What an instance needs to be read stands before it: the data key that it is sealed with, which may have been made a moment
//! ago. What was activated or decided since the beginning comes at the end, so that nothing is pinned to what is not there.

use std::collections::HashMap;
use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;

use kernel::id::TenantId;
use kernel::time::Timestamp;
use zstd::stream::write::Encoder;

use super::line::Lines;
use super::{Counts, FORMAT, Header, MAGIC, Problem, Record, Trailer};
use crate::dossier::Dossier;
use crate::record::{Filed, Records, definition_checksum};
use crate::vault::parts::Secrets;
use crate::{KeyedStore, Setting, Store, StoredDefinition, row};

/// Where compressing more takes much longer.
const LEVEL: i32 = 3;

/// Writes all of a store, as `passed` is told from time to time, and gives what it wrote to. `now` is when reading begins.
///
/// # Errors
/// When the store or the writer fails, there is no key to seal a secret with, or `passed` has had enough. What was written
/// then does not look whole.
pub fn write<W: Write>(
    store: &KeyedStore,
    now: Timestamp,
    mut to: W,
    passed: &mut dyn FnMut(&Counts) -> ControlFlow<()>,
) -> Result<(W, Trailer), Problem> {
    let header = Header {
        created_at: now,
        backend: store.info().backend.to_owned(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
    };
    writeln!(to, "{MAGIC}{FORMAT}")?;
    let mut encoder = Encoder::new(to, LEVEL)?;
    encoder.include_checksum(true)?;
    let mut writer = Writer {
        store,
        records: Records { secrets: Secrets::Sealed(Arc::clone(store.vault())), ..Records::default() },
        lines: Lines::new(encoder),
        counts: Counts::default(),
        settings: HashMap::new(),
        definitions: Vec::new(),
    };
    writer.lines.put(&Record::Header(header))?;
    writer.put_settings()?;
    writer.put_definitions()?;
    let mut failed = None;
    let gathered = store.dossiers(&mut |dossier| {
        let put = writer.put_dossier(&dossier).and_then(|()| match passed(&writer.counts) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Problem::Stopped),
        });
        match put {
            Ok(()) => ControlFlow::Continue(()),
            Err(problem) => {
                failed = Some(problem);
                ControlFlow::Break(())
            }
        }
    });
    if let Some(problem) = failed {
        return Err(problem);
    }
    let gathered = gathered.map_err(|error| Problem::Store(error.to_string()))?;
    writer.put_settings()?;
    writer.put_definitions()?;
    let Writer { mut lines, counts, .. } = writer;
    let trailer = Trailer { counts, corrupt: gathered.corrupt, at_one_moment: gathered.at_one_moment };
    let all = lines.all();
    lines.put(&Record::End(trailer, all))?;
    Ok((lines.into_inner().finish()?, trailer))
}

struct Writer<'s, W: Write> {
    store: &'s KeyedStore,
    records: Records,
    lines: Lines<Encoder<'static, W>>,
    counts: Counts,
    /// What was written, by tenant and name.
    settings: HashMap<(TenantId, String), Setting>,
    /// In the order in which they were written last.
    definitions: Vec<StoredDefinition>,
}

impl<W: Write> Writer<'_, W> {
    /// Those that are new, or other than they were.
    fn put_settings(&mut self) -> Result<(), Problem> {
        let all = self.store.settings().map_err(|error| Problem::Store(error.to_string()))?;
        for setting in all {
            let key = (setting.tenant.clone(), setting.name.clone());
            if self.settings.get(&key) == Some(&setting) {
                continue;
            }
            let (body, checksum) = self.records.setting(&setting).map_err(Problem::Store)?;
            let value = row::setting_value(&setting, &body, checksum);
            self.lines.put(&Record::Setting(setting.name.clone(), value))?;
            self.counts.settings += 1;
            self.settings.insert(key, setting);
        }
        Ok(())
    }

    /// From the first on that is not where it was: what is saved last is current.
    fn put_definitions(&mut self) -> Result<(), Problem> {
        let all = self.store.definitions().map_err(|error| Problem::Store(error.to_string()))?;
        let same = all.iter().zip(&self.definitions).take_while(|(new, old)| new == old).count();
        for definition in &all[same..] {
            let value = row::definition_value(definition, definition_checksum(definition));
            self.lines.put(&Record::Definition(definition.hash.as_str().to_owned(), value))?;
            self.counts.definitions += 1;
        }
        self.definitions = all;
        Ok(())
    }

    /// With secrets, under a data key that stands before it.
    fn put_dossier(&mut self, dossier: &Dossier) -> Result<(), Problem> {
        let tenant = &dossier.snapshot.tenant;
        loop {
            let key = dossier.secrets.as_ref().and_then(|_| self.store.vault().current_setting(tenant));
            let filed = self.records.file(dossier).map_err(Problem::Store)?;
            let Some(name) = key else { return self.put_filed(&filed) };
            if !self.settings.contains_key(&(tenant.clone(), name.clone())) {
                self.put_settings()?;
            }
            // Another may have been made in between.
            if self.store.vault().current_setting(tenant) == Some(name) {
                return self.put_filed(&filed);
            }
        }
    }

    fn put_filed(&mut self, filed: &Filed<'_>) -> Result<(), Problem> {
        let Filed { instance, lines, clarifications, phases, effects } = filed;
        let snapshot = instance.snapshot;
        let counts = [lines.len(), clarifications.len(), phases.len(), effects.len()].map(|n| n as u64);
        self.lines.put(&Record::Instance(
            snapshot.tenant.to_string(),
            snapshot.instance.to_string(),
            row::head_of(instance),
            instance.body.clone(),
            counts,
        ))?;
        for line in lines {
            self.lines.put(&Record::Entry(row::receipt_name(line.receipt), row::entry_value(line)))?;
        }
        for question in clarifications {
            let id = question.clarification.id.clone();
            self.lines.put(&Record::Question(id, row::question_value(question)))?;
        }
        for phase in phases {
            self.lines.put(&Record::Phase(phase.row.place, row::phase_value(phase)))?;
        }
        for (effect, saved) in effects {
            let (key, value) = (effect.effect.key.clone(), row::effect_value(effect));
            self.lines.put(&Record::Effect(key, value, row::progress_value(saved)))?;
        }
        let [lines, questions, phases, effects] = counts;
        self.counts.instances += 1;
        self.counts.entries += lines;
        self.counts.clarifications += questions;
        self.counts.phases += phases;
        self.counts.effects += effects;
        Ok(())
    }
}
