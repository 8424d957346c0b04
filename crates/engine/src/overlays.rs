//! Overlays: what tenants want otherwise in the machines that all have, each with the machine that it comes to.
//!
//! An overlay is a setting of its tenant: the text, and which combination is current. The combination is a definition
//! like any other, saved before it is used, so that instances pinned to it always find it. How the two are merged is
//! for `kernel::definition::overlay` to say.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kernel::definition::overlay::{Header, Part, combine, load_over};
use kernel::diagnostic::{Diagnostic, Place, Severity};
use kernel::id::{DefinitionHash, MachineName, TenantId};
use kernel::machine::Machine;
use kernel::time::Timestamp;
use serde::{Deserialize, Serialize};
use store::{Setting, Store};

use crate::machines::{Machines, MachinesError, save};

/// A setting's name is this and the machine's.
const SETTING_PREFIX: &str = "overlay:";

pub(crate) type Overlays = HashMap<TenantId, BTreeMap<MachineName, Arc<Overlay>>>;

/// What a tenant has made of a machine.
#[derive(Clone, Debug)]
pub struct Overlay {
    pub text: String,
    /// The last combination with a base that it fits.
    pub machine: Arc<Machine>,
    pub saved_at: Timestamp,
}

impl Overlay {
    /// Whether its machine is made of this base.
    fn is_over(&self, base: &Machine) -> bool {
        DefinitionHash::of(&combine(&base.source, &self.text)) == self.machine.hash
    }
}

/// An overlay that does not fit the current base: its tenant stays on the last combination that was good.
#[derive(Clone, Debug)]
pub struct Misfit {
    pub tenant: TenantId,
    pub diagnostics: Vec<Diagnostic>,
}

/// A setting's body.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    /// Absent when the tenant has gone back to the base.
    overlay: Option<String>,
    definition: Option<DefinitionHash>,
}

impl Machines {
    /// What a tenant has made of a machine, if anything. What is kept beside a tenant runs as the tenant does.
    pub fn overlay(&self, tenant: &TenantId, name: &MachineName) -> Option<Arc<Overlay>> {
        let known = self.read();
        if known.overlays.is_empty() {
            return None;
        }
        let owner = tenant.is_beside().then(|| tenant.owner());
        known.overlays.get(owner.as_ref().unwrap_or(tenant))?.get(name).cloned()
    }

    /// Checks an overlay over the current base, saves it with what it comes to, and makes that the tenant's current
    /// machine. Instances that have begun stay on theirs. The warnings come back with it.
    ///
    /// # Errors
    /// When there is no such base, or with every diagnostic if one of them is an error; nothing is changed then.
    pub fn set_overlay(
        &self,
        store: &dyn Store,
        tenant: &TenantId,
        name: &MachineName,
        text: &str,
        now: Timestamp,
    ) -> Result<(Arc<Overlay>, Vec<Diagnostic>), MachinesError> {
        let _one_at_a_time = self.one_at_a_time();
        let base = self.current(name).map_err(MachinesError::UnknownBase)?;
        let (machine, mut diagnostics) = load_over(&base.source, text);
        let whose = Header::read(text).and_then(|header| header.tenant);
        if let Some(other) = whose.filter(|whose| whose != tenant) {
            let message = format!("the overlay is for the tenant `{other}`, and would be set for `{tenant}`");
            let help = "leave `tenant` out, or set it as that tenant".to_owned();
            let mut diagnostic = Diagnostic::error("bad_overlay", Place::START, message, help);
            diagnostic.part = Some(Part::Overlay);
            diagnostics.insert(0, diagnostic);
            return Err(MachinesError::Diagnostics(diagnostics));
        }
        let Some(machine) = machine else { return Err(MachinesError::Diagnostics(diagnostics)) };
        let before = self.overlay(tenant, name).filter(|before| before.machine.hash == machine.hash);
        let overlay = match before {
            Some(before) => before,
            None => {
                let machine = Arc::new(machine);
                self.adopt_overlay(store, tenant, Overlay { text: text.to_owned(), machine, saved_at: now })?
            }
        };
        Ok((overlay, diagnostics))
    }

    /// Puts a tenant back on the base; instances that have begun stay on theirs. `false` when there was no overlay.
    ///
    /// # Errors
    /// When the store cannot save it; nothing is changed then.
    pub fn remove_overlay(
        &self,
        store: &dyn Store,
        tenant: &TenantId,
        name: &MachineName,
        now: Timestamp,
    ) -> Result<bool, MachinesError> {
        let _one_at_a_time = self.one_at_a_time();
        if self.overlay(tenant, name).is_none() {
            return Ok(false);
        }
        let nothing = Saved { overlay: None, definition: None };
        store.save_setting(&setting(tenant, name, &nothing, now)).map_err(MachinesError::Commit)?;
        self.forget(tenant, name);
        Ok(true)
    }

    /// Applies all overlays of a machine to its current base. One that does not fit leaves its tenant where it is, and
    /// is logged; so is one that cannot be saved.
    pub fn refit_overlays(&self, store: &dyn Store, name: &MachineName, now: Timestamp) {
        let _one_at_a_time = self.one_at_a_time();
        let Ok(base) = self.current(name) else { return };
        for (tenant, overlay) in self.overlays_of(name).into_iter().filter(|(_, o)| !o.is_over(&base)) {
            let (machine, diagnostics) = load_over(&base.source, &overlay.text);
            let Some(machine) = machine else {
                let first = first_error(&diagnostics);
                tracing::error!(%tenant, machine = %name, version = base.version, kept = overlay.machine.hash.as_str(), "failed to apply an overlay to the new base; the tenant stays on the last that was good: {first}");
                continue;
            };
            let refitted = Overlay { text: overlay.text.clone(), machine: Arc::new(machine), saved_at: now };
            if let Err(error) = self.adopt_overlay(store, &tenant, refitted) {
                tracing::error!(%tenant, machine = %name, "failed to save an overlay over the new base; the tenant stays on the last: {error}");
            }
        }
    }

    /// The overlays of a machine that do not fit its current base, with what is wrong.
    pub fn misfits(&self, name: &MachineName) -> Vec<Misfit> {
        let Ok(base) = self.current(name) else { return Vec::new() };
        let stale = self.overlays_of(name).into_iter().filter(|(_, overlay)| !overlay.is_over(&base));
        let loaded = stale.map(|(tenant, overlay)| (tenant, load_over(&base.source, &overlay.text)));
        let unfit = loaded.filter(|(_, (machine, _))| machine.is_none());
        unfit.map(|(tenant, (_, diagnostics))| Misfit { tenant, diagnostics }).collect()
    }

    /// Takes over what is set: at the start, and what other servers over the same store have set since.
    ///
    /// # Errors
    /// When the store cannot be read; what was known stays known.
    pub fn refresh_overlays(&self, store: &dyn Store) -> Result<(), MachinesError> {
        let _one_at_a_time = self.one_at_a_time();
        let mut wanted = Vec::new();
        for setting in store.settings().map_err(MachinesError::Load)? {
            let Some((name, saved)) = read_setting(&setting) else { continue };
            let known = self.overlay(&setting.tenant, &name);
            match (saved.overlay, saved.definition) {
                (Some(text), Some(hash)) => {
                    let is_known = |known: &Arc<Overlay>| known.machine.hash == hash && known.text == text;
                    if !known.as_ref().is_some_and(is_known) {
                        wanted.push((setting.tenant, name, text, hash, setting.saved_at));
                    }
                }
                _ if known.is_some() => self.forget(&setting.tenant, &name),
                _ => {}
            }
        }
        if wanted.iter().any(|(.., hash, _)| self.by_hash(hash).is_none()) {
            let hashes: Vec<_> = wanted.iter().map(|(.., hash, _)| hash).collect();
            self.pin_stored(store, &hashes).map_err(MachinesError::Load)?;
        }
        for (tenant, name, text, hash, saved_at) in wanted {
            match self.by_hash(&hash) {
                Some(machine) => self.know(&tenant, Overlay { text, machine, saved_at }),
                None => {
                    tracing::error!(%tenant, machine = %name, hash = hash.as_str(), "failed to find what an overlay comes to; the tenant stays on what it has");
                }
            }
        }
        Ok(())
    }

    /// The definition is saved first: a setting never names one that is not there.
    fn adopt_overlay(
        &self,
        store: &dyn Store,
        tenant: &TenantId,
        overlay: Overlay,
    ) -> Result<Arc<Overlay>, MachinesError> {
        let Overlay { text, machine, saved_at } = &overlay;
        if self.by_hash(&machine.hash).is_none() {
            save(store, machine, *saved_at)?;
            self.pin(Arc::clone(machine));
        }
        let saved = Saved { overlay: Some(text.clone()), definition: Some(machine.hash.clone()) };
        let setting = setting(tenant, &machine.name, &saved, *saved_at);
        store.save_setting(&setting).map_err(MachinesError::Commit)?;
        let overlay = Arc::new(overlay);
        self.know(tenant, Overlay::clone(&overlay));
        Ok(overlay)
    }

    fn know(&self, tenant: &TenantId, overlay: Overlay) {
        let mut known = self.write();
        let of_tenant = known.overlays.entry(tenant.clone()).or_default();
        of_tenant.insert(overlay.machine.name.clone(), Arc::new(overlay));
    }

    fn forget(&self, tenant: &TenantId, name: &MachineName) {
        let mut known = self.write();
        if let Some(of_tenant) = known.overlays.get_mut(tenant) {
            of_tenant.remove(name);
        }
        known.overlays.retain(|_, of_tenant| !of_tenant.is_empty());
    }

    /// Who has customised a machine, by tenant.
    fn overlays_of(&self, name: &MachineName) -> Vec<(TenantId, Arc<Overlay>)> {
        let known = self.read();
        let of =
            known.overlays.iter().filter_map(|(tenant, all)| Some((tenant.clone(), all.get(name)?.clone())));
        let mut of: Vec<_> = of.collect();
        of.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
        of
    }
}

fn setting(tenant: &TenantId, name: &MachineName, saved: &Saved, saved_at: Timestamp) -> Setting {
    let body = serde_json::to_value(saved).unwrap_or_default();
    Setting { tenant: tenant.clone(), name: format!("{SETTING_PREFIX}{name}"), body, saved_at }
}

/// One that this release cannot read changes nothing about what is known.
fn read_setting(setting: &Setting) -> Option<(MachineName, Saved)> {
    let name = MachineName::parse(setting.name.strip_prefix(SETTING_PREFIX)?).ok()?;
    match serde_json::from_value(setting.body.clone()) {
        Ok(saved) => Some((name, saved)),
        Err(problem) => {
            tracing::error!(tenant = %setting.tenant, machine = %name, "failed to read an overlay: {problem}");
            None
        }
    }
}

fn first_error(diagnostics: &[Diagnostic]) -> String {
    let first = diagnostics.iter().find(|diagnostic| diagnostic.severity == Severity::Error);
    first.map_or_else(String::new, |first| format!("line {}: {}; {}", first.line, first.message, first.help))
}
