//! Whom a machine answers: nobody, some of its people, or all of them. Changed while the server runs, and kept.
//!
//! What a rollout says of somebody is a function of its arguments. `Rollouts` holds those of all tenants in memory and
//! saves what is set; that a message is then decided, tried out or left alone is `http`'s business. Events, answers and
//! what operators do are not asked about.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, RwLock};

use kernel::id::{Digest, MachineName, Subject, TenantId};
use kernel::time::Timestamp;
use serde::{Deserialize, Serialize};
use store::{CommitError, LoadError, Setting, Store};

/// The variable that switches everything off at once, whatever is set for each machine.
pub const SWITCH: &str = "ENABLE_FSM";

/// A setting's name is this and the machine's.
const SETTING_PREFIX: &str = "rollout:";

/// Hundredths of a per cent, of which there are this many.
const ALL: u128 = 10_000;

/// What becomes of somebody's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Treatment {
    On,
    /// Decided where it changes nothing real.
    Shadow,
    Off,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    pub mode: Mode,
    /// What those get who are not enrolled.
    pub others: Others,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    Off,
    Shadow,
    AllowList(BTreeSet<Subject>),
    /// In hundredths of a per cent.
    Percentage(u32),
    On,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Others {
    #[default]
    Off,
    Shadow,
}

impl Rollout {
    /// Where nothing is set, as if there were no rollout.
    pub const ON: Self = Self { mode: Mode::On, others: Others::Off };

    pub fn treats(&self, tenant: &TenantId, machine: &MachineName, subject: &Subject) -> Treatment {
        let enrolled = match &self.mode {
            Mode::Off => return Treatment::Off,
            Mode::Shadow => return Treatment::Shadow,
            Mode::On => true,
            Mode::AllowList(users) => users.contains(subject),
            Mode::Percentage(share) => place_of(tenant, machine, subject) < *share,
        };
        match (enrolled, self.others) {
            (true, _) => Treatment::On,
            (false, Others::Off) => Treatment::Off,
            (false, Others::Shadow) => Treatment::Shadow,
        }
    }
}

/// Where somebody stands in the row of all people, the same at every time and on every server: a share of them is those
/// in front, so a larger share has everybody in it whom a smaller one had. Other machines have other rows, or the same
/// people would go first everywhere.
fn place_of(tenant: &TenantId, machine: &MachineName, subject: &Subject) -> u32 {
    let Digest(digest) = Digest::of_parts(&["rollout", tenant.as_str(), machine.as_str(), subject.as_str()]);
    u32::try_from(digest % ALL).expect("what remains is below ten thousand")
}

/// A rollout as it is written, in requests, answers and settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    pub mode: ModeName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<BTreeSet<Subject>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub others: Option<Others>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModeName {
    Off,
    Shadow,
    AllowList,
    Percentage,
    On,
}

impl Written {
    /// # Errors
    /// A fragment that says which field is missing, superfluous or out of range.
    pub fn read(self) -> Result<Rollout, String> {
        let some_only = matches!(self.mode, ModeName::AllowList | ModeName::Percentage);
        if self.users.is_some() && self.mode != ModeName::AllowList {
            return Err("`users` goes with the mode `allow_list` only".into());
        }
        if self.percent.is_some() && self.mode != ModeName::Percentage {
            return Err("`percent` goes with the mode `percentage` only".into());
        }
        if self.others.is_some() && !some_only {
            return Err("`others` goes with the modes `allow_list` and `percentage` only".into());
        }
        let mode = match (self.mode, self.users, self.percent) {
            (ModeName::Off, ..) => Mode::Off,
            (ModeName::Shadow, ..) => Mode::Shadow,
            (ModeName::On, ..) => Mode::On,
            (ModeName::AllowList, Some(users), _) => Mode::AllowList(users),
            (ModeName::AllowList, None, _) => {
                return Err("the mode `allow_list` needs `users`, a list that may be empty".into());
            }
            (ModeName::Percentage, _, Some(percent)) => Mode::Percentage(share(percent)?),
            (ModeName::Percentage, _, None) => {
                return Err("the mode `percentage` needs `percent`, from 0 to 100".into());
            }
        };
        Ok(Rollout { mode, others: self.others.unwrap_or_default() })
    }
}

/// Per cent with two decimals: what is finer would enrol nobody, or one more than was asked for.
fn share(percent: f64) -> Result<u32, String> {
    let hundredths = (percent * 100.0).round();
    if !(0.0..=100.0).contains(&percent) {
        return Err(format!("`percent` is {percent}; it may be 0 to 100"));
    }
    if (percent * 100.0 - hundredths).abs() > 1e-6 {
        return Err(format!("`percent` is {percent}; it may have two decimals"));
    }
    // In range and whole, so it fits.
    Ok(hundredths as u32)
}

impl From<&Rollout> for Written {
    fn from(rollout: &Rollout) -> Self {
        let others = Some(rollout.others);
        let plain = |mode| Self { mode, users: None, percent: None, others: None };
        match &rollout.mode {
            Mode::Off => plain(ModeName::Off),
            Mode::Shadow => plain(ModeName::Shadow),
            Mode::On => plain(ModeName::On),
            Mode::AllowList(users) => {
                Self { users: Some(users.clone()), others, ..plain(ModeName::AllowList) }
            }
            Mode::Percentage(share) => {
                Self { percent: Some(f64::from(*share) / 100.0), others, ..plain(ModeName::Percentage) }
            }
        }
    }
}

/// A rollout that somebody has set.
#[derive(Clone, Debug)]
pub struct Saved {
    pub rollout: Rollout,
    pub saved_at: Timestamp,
}

type ByMachine = HashMap<TenantId, HashMap<MachineName, Arc<Saved>>>;

/// What is set for each machine of each tenant, and the switch over all of it.
#[derive(Debug)]
pub struct Rollouts {
    enabled: bool,
    known: RwLock<ByMachine>,
    /// Held while settings are saved or read again, so that what was read before a change never replaces the change.
    changing: Mutex<()>,
}

impl Default for Rollouts {
    /// Everything is on.
    fn default() -> Self {
        Self { enabled: true, known: RwLock::default(), changing: Mutex::default() }
    }
}

impl Rollouts {
    /// # Errors
    /// When the settings cannot be read.
    pub fn load(store: &dyn Store, enabled: bool) -> Result<Self, LoadError> {
        let rollouts = Self { enabled, ..Self::default() };
        rollouts.refresh(store)?;
        Ok(rollouts)
    }

    /// Takes over what other servers over the same store have set.
    ///
    /// # Errors
    /// When the settings cannot be read; what was known stays known.
    pub fn refresh(&self, store: &dyn Store) -> Result<(), LoadError> {
        let _one_at_a_time = self.changing.lock().expect("no thread panics while it holds this lock");
        let mut known = ByMachine::new();
        for setting in store.settings()? {
            if let Some((machine, saved)) = read_setting(&setting) {
                known.entry(setting.tenant).or_default().insert(machine, Arc::new(saved));
            }
        }
        *self.known.write().expect("no thread panics while it holds this lock") = known;
        Ok(())
    }

    /// Saves a rollout; it holds from the next message on.
    ///
    /// # Errors
    /// When it could not be saved; what held before holds.
    pub fn set(
        &self,
        store: &dyn Store,
        tenant: &TenantId,
        machine: &MachineName,
        saved: Saved,
    ) -> Result<(), CommitError> {
        let _one_at_a_time = self.changing.lock().expect("no thread panics while it holds this lock");
        let body = serde_json::to_value(Written::from(&saved.rollout)).unwrap_or_default();
        store.save_setting(&Setting {
            tenant: tenant.clone(),
            name: format!("{SETTING_PREFIX}{machine}"),
            body,
            saved_at: saved.saved_at,
        })?;
        let mut known = self.known.write().expect("no thread panics while it holds this lock");
        known.entry(tenant.clone()).or_default().insert(machine.clone(), Arc::new(saved));
        Ok(())
    }

    /// Whether the switch over all machines is on.
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// What somebody has set, if anybody has.
    pub fn saved(&self, tenant: &TenantId, machine: &MachineName) -> Option<Arc<Saved>> {
        let known = self.known.read().expect("no thread panics while it holds this lock");
        known.get(tenant)?.get(machine).cloned()
    }

    pub fn treats(&self, tenant: &TenantId, machine: &MachineName, subject: &Subject) -> Treatment {
        if !self.enabled {
            return Treatment::Off;
        }
        match self.saved(tenant, machine) {
            Some(saved) => saved.rollout.treats(tenant, machine, subject),
            None => Treatment::On,
        }
    }
}

/// One that this release cannot read counts as off: nobody is answered who was perhaps not meant to be.
fn read_setting(setting: &Setting) -> Option<(MachineName, Saved)> {
    let machine = MachineName::parse(setting.name.strip_prefix(SETTING_PREFIX)?).ok()?;
    let written = serde_json::from_value::<Written>(setting.body.clone()).map_err(|error| error.to_string());
    let rollout = written.and_then(Written::read).unwrap_or_else(|problem| {
        tracing::error!(tenant = %setting.tenant, %machine, "failed to read a rollout, which counts as off: {problem}");
        Rollout { mode: Mode::Off, others: Others::Off }
    });
    Some((machine, Saved { rollout, saved_at: setting.saved_at }))
}

/// What the environment says of the switch; on if it says nothing.
///
/// # Errors
/// A fragment that says what may be written: a switch that is misspelt must not be taken for either.
pub fn switch(value: Option<&str>) -> Result<bool, String> {
    let Some(value) = value else { return Ok(true) };
    match value.to_lowercase().as_str() {
        "true" | "1" | "on" | "yes" => Ok(true),
        "false" | "0" | "off" | "no" => Ok(false),
        _ => Err(format!(
            "{SWITCH} is `{value}`; write true, 1, on or yes, or false, 0, off or no, or leave it unset, which is on"
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use serde_json::json;

    use super::*;

    fn names(tenant: &str, machine: &str) -> (TenantId, MachineName) {
        (TenantId::parse(tenant).unwrap(), MachineName::parse(machine).unwrap())
    }

    fn people(count: usize) -> Vec<Subject> {
        (0..count).map(|n| Subject::parse(&format!("whatsapp:+1555{n:07}")).unwrap()).collect()
    }

    fn enrolled(percent: f64, tenant: &str, machine: &str, people: &[Subject]) -> BTreeSet<Subject> {
        let (tenant, machine) = names(tenant, machine);
        let rollout = Rollout { mode: Mode::Percentage(share(percent).unwrap()), others: Others::Off };
        let on = |subject: &&Subject| rollout.treats(&tenant, &machine, subject) == Treatment::On;
        people.iter().filter(on).cloned().collect()
    }

    #[test]
    fn a_tenth_of_ten_thousand_people_is_about_a_thousand_and_another_tenth_elsewhere() {
        let people = people(10_000);
        let here = enrolled(10.0, "acme", "bot", &people);
        assert!((850..=1_150).contains(&here.len()), "{}", here.len());
        for (tenant, machine) in [("acme", "other"), ("other", "bot")] {
            let there = enrolled(10.0, tenant, machine, &people);
            assert!((850..=1_150).contains(&there.len()), "{}", there.len());
            assert!(here.intersection(&there).count() < 200, "the same people go first everywhere");
        }
    }

    #[test]
    fn a_larger_share_keeps_everybody_whom_a_smaller_one_had() {
        let people = people(2_000);
        let mut before = BTreeSet::new();
        for percent in [0.0, 0.5, 1.0, 7.25, 33.33, 50.0, 99.99, 100.0] {
            let now = enrolled(percent, "acme", "bot", &people);
            assert!(before.is_subset(&now), "{percent}");
            assert_eq!(now, enrolled(percent, "acme", "bot", &people), "{percent}");
            before = now;
        }
        assert_eq!(before.len(), people.len());
        assert!(enrolled(0.0, "acme", "bot", &people).is_empty());
    }

    #[test]
    fn where_somebody_stands_is_the_same_in_every_release() {
        let (tenant, machine) = names("acme", "bot");
        let places: Vec<u32> = people(3).iter().map(|subject| place_of(&tenant, &machine, subject)).collect();
        assert_eq!(places, [4_112, 9_945, 3_867]);
    }

    #[test]
    fn each_mode_treats_the_listed_and_the_others_as_it_says() {
        let (tenant, machine) = names("acme", "bot");
        let treatments = [Treatment::On, Treatment::Off, Treatment::Shadow];
        let [on, off, shadow] = treatments;
        for (written, ann, bob) in [
            (json!({"mode": "on"}), on, on),
            (json!({"mode": "off"}), off, off),
            (json!({"mode": "shadow"}), shadow, shadow),
            (json!({"mode": "allow_list", "users": ["ann"]}), on, off),
            (json!({"mode": "allow_list", "users": ["ann"], "others": "shadow"}), on, shadow),
            (json!({"mode": "allow_list", "users": []}), off, off),
            (json!({"mode": "percentage", "percent": 0, "others": "shadow"}), shadow, shadow),
            (json!({"mode": "percentage", "percent": 100}), on, on),
        ] {
            let read = serde_json::from_value::<Written>(written.clone()).unwrap().read().unwrap();
            let treats = |name| read.treats(&tenant, &machine, &Subject::parse(name).unwrap());
            assert_eq!((treats("ann"), treats("bob")), (ann, bob), "{written}");
            assert_eq!(Written::from(&read).read().as_ref(), Ok(&read), "{written}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused_with_its_field() {
        for (written, part) in [
            (json!({"mode": "allow_list"}), "`users`"),
            (json!({"mode": "percentage"}), "`percent`"),
            (json!({"mode": "percentage", "percent": 100.01}), "0 to 100"),
            (json!({"mode": "percentage", "percent": -1}), "0 to 100"),
            (json!({"mode": "percentage", "percent": 0.001}), "two decimals"),
            (json!({"mode": "on", "percent": 5}), "`percentage` only"),
            (json!({"mode": "percentage", "percent": 5, "users": []}), "`allow_list` only"),
            (json!({"mode": "shadow", "others": "off"}), "`others`"),
        ] {
            let problem = serde_json::from_value::<Written>(written.clone()).unwrap().read().unwrap_err();
            assert!(problem.contains(part), "{written}: {problem}");
        }
        for (percent, expected) in [(0.07, 7), (0.57, 57), (12.5, 1_250), (33.33, 3_333), (100.0, 10_000)] {
            assert_eq!(share(percent), Ok(expected));
        }
    }

    #[test]
    fn the_switch_is_on_unless_it_says_off_and_nothing_is_guessed() {
        for (value, expected) in [
            (None, Some(true)),
            (Some("true"), Some(true)),
            (Some("YES"), Some(true)),
            (Some("1"), Some(true)),
            (Some("On"), Some(true)),
            (Some("False"), Some(false)),
            (Some("0"), Some(false)),
            (Some("OFF"), Some(false)),
            (Some("no"), Some(false)),
            (Some(""), None),
            (Some("flase"), None),
            (Some(" false"), None),
        ] {
            assert_eq!(switch(value).ok(), expected, "{value:?}");
        }
        assert!(switch(Some("maybe")).unwrap_err().contains("true, 1, on or yes"));
    }

    #[test]
    fn what_is_set_is_kept_and_what_cannot_be_read_is_off() {
        let store = store::MemoryStore::new();
        let (tenant, machine) = names("acme", "bot");
        let (ann, now) = (Subject::parse("ann").unwrap(), Timestamp::from_millis(1));
        let (first, second) = (Rollouts::load(&store, true).unwrap(), Rollouts::load(&store, true).unwrap());
        assert_eq!(first.treats(&tenant, &machine, &ann), Treatment::On);
        let shadow = Rollout { mode: Mode::Shadow, others: Others::Off };
        first.set(&store, &tenant, &machine, Saved { rollout: shadow, saved_at: now }).unwrap();
        assert_eq!(first.treats(&tenant, &machine, &ann), Treatment::Shadow);
        assert_eq!(second.treats(&tenant, &machine, &ann), Treatment::On);
        second.refresh(&store).unwrap();
        assert_eq!(second.treats(&tenant, &machine, &ann), Treatment::Shadow);
        assert_eq!(second.treats(&names("other", "bot").0, &machine, &ann), Treatment::On);

        let switched_off = Rollouts::load(&store, false).unwrap();
        assert_eq!(switched_off.treats(&tenant, &names("acme", "other").1, &ann), Treatment::Off);
        let name = format!("{SETTING_PREFIX}{machine}");
        let body = json!({"mode": "by_the_moon"});
        store.save_setting(&Setting { tenant: tenant.clone(), name, body, saved_at: now }).unwrap();
        second.refresh(&store).unwrap();
        assert_eq!(second.treats(&tenant, &machine, &ann), Treatment::Off);
    }
}
