//! Whom a machine answers: nobody, some of its people, or all of them. Changed while the server runs, and kept.
//!
//! What a rollout says of somebody is a function of its arguments. `Rollouts` holds those of all tenants in memory and
//! saves what is set; that a message is then decided, tried out or left alone is `http`'s business. Events, answers and
//! what operators do are not asked about.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
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
/// Every server reads every list again every few seconds; more people than this are a percentage.
const USERS_MAX: usize = 10_000;

/// What becomes of somebody's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Treatment {
    On,
    /// Decided where it changes nothing real.
    Shadow,
    Off,
}

/// As it is shown and kept. Each mode looks at its own part; the others are kept for when their mode comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollout {
    pub mode: Mode,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<BTreeSet<Subject>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<Percent>,
    /// What those get who are not enrolled; nothing, if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub others: Option<Others>,
    /// What becomes of the sessions of those whom a list or a share leaves out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_sessions: Option<OpenSessions>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpenSessions {
    /// Who is left out is left out at once.
    #[default]
    Follow,
    /// A session is finished where it was begun; the next follows the rollout.
    Finish,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    Off,
    Shadow,
    AllowList,
    Percentage,
    On,
}

impl Mode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Shadow => "shadow",
            Self::AllowList => "allow_list",
            Self::Percentage => "percentage",
            Self::On => "on",
        }
    }

    /// Whether it tells people apart.
    fn is_for_some(self) -> bool {
        matches!(self, Self::AllowList | Self::Percentage)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Others {
    #[default]
    Off,
    Shadow,
}

/// A share of all people, in hundredths of a per cent: what is finer would enrol nobody, or one more than was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Percent(u32);

impl TryFrom<f64> for Percent {
    type Error = String;

    fn try_from(percent: f64) -> Result<Self, String> {
        let hundredths = (percent * 100.0).round();
        if !(0.0..=100.0).contains(&percent) {
            return Err(format!("`percent` is {percent}; it may be 0 to 100"));
        }
        if (percent * 100.0 - hundredths).abs() > 1e-6 {
            return Err(format!("`percent` is {percent}; it may have two decimals"));
        }
        // In range and whole, so it fits.
        Ok(Self(hundredths as u32))
    }
}

impl From<Percent> for f64 {
    fn from(Percent(hundredths): Percent) -> Self {
        Self::from(hundredths) / 100.0
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", f64::from(*self))
    }
}

impl Rollout {
    /// Where nothing is set, as if there were no rollout.
    pub const ON: Self = Self::plain(Mode::On);

    const fn plain(mode: Mode) -> Self {
        Self { mode, users: None, percent: None, others: None, open_sessions: None }
    }

    pub fn treats(&self, tenant: &TenantId, machine: &MachineName, subject: &Subject) -> Treatment {
        let enrolled = match self.mode {
            Mode::Off => return Treatment::Off,
            Mode::Shadow => return Treatment::Shadow,
            Mode::On => true,
            Mode::AllowList => self.lists(subject),
            Mode::Percentage => self.percent.is_some_and(|share| place_of(tenant, machine, subject) < share),
        };
        match (enrolled, self.others.unwrap_or_default()) {
            (true, _) => Treatment::On,
            (false, Others::Off) => Treatment::Off,
            (false, Others::Shadow) => Treatment::Shadow,
        }
    }

    /// Why somebody is treated so, as a fragment.
    fn because(&self, tenant: &TenantId, machine: &MachineName, subject: &Subject) -> String {
        match (self.mode, self.percent) {
            (Mode::AllowList, _) => match self.lists(subject) {
                true => "on the list".to_owned(),
                false => "not on the list".to_owned(),
            },
            (Mode::Percentage, Some(share)) => {
                let place = place_of(tenant, machine, subject);
                let compared = if place < share { "<" } else { "≥" };
                format!("the place among all people is {place} {compared} {share}")
            }
            (mode, _) => format!("the mode is `{}`", mode.as_str()),
        }
    }

    fn lists(&self, subject: &Subject) -> bool {
        self.users.as_ref().is_some_and(|users| users.contains(subject))
    }
}

/// Where somebody stands in the row of all people, the same at every time and on every server: a share of them is those
/// in front, so a larger share has everybody in it whom a smaller one had. Other machines have other rows, or the same
/// people would go first everywhere.
fn place_of(tenant: &TenantId, machine: &MachineName, subject: &Subject) -> Percent {
    let Digest(digest) = Digest::of_parts(&["rollout", tenant.as_str(), machine.as_str(), subject.as_str()]);
    Percent(u32::try_from(digest % ALL).expect("what remains is below ten thousand"))
}

/// What is to be different in a rollout. What is not named stays as it was, whatever the mode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    pub mode: Option<Mode>,
    /// The whole list.
    pub users: Option<BTreeSet<Subject>>,
    #[serde(default)]
    pub add_users: BTreeSet<Subject>,
    #[serde(default)]
    pub remove_users: BTreeSet<Subject>,
    pub percent: Option<Percent>,
    pub others: Option<Others>,
    pub open_sessions: Option<OpenSessions>,
}

impl Change {
    /// # Errors
    /// A fragment that says which field is missing, or which do not go together.
    pub fn of(self, rollout: Rollout) -> Result<Rollout, String> {
        if self == Self::default() {
            return Err(
                "nothing is named; there are `mode`, `users`, `add_users`, `remove_users`, `percent`, `others` and `open_sessions`"
                    .into(),
            );
        }
        let touched = !self.add_users.is_empty() || !self.remove_users.is_empty();
        if self.users.is_some() && touched {
            return Err(
                "`users` is the whole list; leave `add_users` and `remove_users` out beside it".into()
            );
        }
        let mode = self.mode.unwrap_or(rollout.mode);
        let mut users = self.users.or(rollout.users);
        if touched {
            let users = users.get_or_insert_default();
            users.extend(self.add_users);
            users.retain(|user| !self.remove_users.contains(user));
        }
        let percent = self.percent.or(rollout.percent);
        let others = self.others.or(rollout.others).or(mode.is_for_some().then(Others::default));
        let open_sessions = self.open_sessions.or(rollout.open_sessions);
        if let Some(users) = users.as_ref().filter(|users| users.len() > USERS_MAX) {
            return Err(format!("`users` would have {} entries; it may have {USERS_MAX}", users.len()));
        }
        match mode {
            Mode::AllowList if users.is_none() => {
                Err("the mode `allow_list` needs `users`, a list that may be empty".into())
            }
            Mode::Percentage if percent.is_none() => {
                Err("the mode `percentage` needs `percent`, from 0 to 100".into())
            }
            _ => Ok(Rollout { mode, users, percent, others, open_sessions }),
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

    /// Changes a rollout; it holds from the next message on. Of several changes at once each finds what the one before
    /// has left, on one server.
    ///
    /// # Errors
    /// When the change makes no sense, or could not be saved; what held before holds.
    pub fn change(
        &self,
        store: &dyn Store,
        tenant: &TenantId,
        machine: &MachineName,
        change: Change,
        saved_at: Timestamp,
    ) -> Result<Arc<Saved>, ChangeError> {
        let _one_at_a_time = self.changing.lock().expect("no thread panics while it holds this lock");
        // Another server may have set it a moment ago.
        let name = format!("{SETTING_PREFIX}{machine}");
        let stored = store.settings()?.into_iter().find(|s| s.tenant == *tenant && s.name == name);
        let before = match stored.as_ref().and_then(read_setting) {
            Some((_, saved)) => saved.rollout,
            None => self.saved(tenant, machine).map_or(Rollout::ON, |saved| saved.rollout.clone()),
        };
        let rollout = change.of(before).map_err(ChangeError::Refused)?;
        let body = serde_json::to_value(&rollout).unwrap_or_default();
        store.save_setting(&Setting { tenant: tenant.clone(), name, body, saved_at })?;
        let saved = Arc::new(Saved { rollout, saved_at });
        let mut known = self.known.write().expect("no thread panics while it holds this lock");
        known.entry(tenant.clone()).or_default().insert(machine.clone(), Arc::clone(&saved));
        Ok(saved)
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

    /// Why somebody is treated so, as a fragment.
    pub fn because(&self, tenant: &TenantId, machine: &MachineName, subject: &Subject) -> String {
        if !self.enabled {
            return format!("{SWITCH} is off");
        }
        match self.saved(tenant, machine) {
            Some(saved) => saved.rollout.because(tenant, machine, subject),
            None => "nothing was set, which is on".to_owned(),
        }
    }

    /// Whether those who are left out go on with a session that is open: whoever was asked a question may answer it.
    /// What is switched off, or only tried out, is so at once.
    pub fn finishes_sessions(&self, tenant: &TenantId, machine: &MachineName) -> bool {
        let finishes = |saved: Arc<Saved>| {
            let Rollout { mode, open_sessions, .. } = &saved.rollout;
            mode.is_for_some() && *open_sessions == Some(OpenSessions::Finish)
        };
        self.enabled && self.saved(tenant, machine).is_some_and(finishes)
    }
}

/// Why a rollout was not changed.
#[derive(Debug)]
pub enum ChangeError {
    /// A fragment that says what makes no sense.
    Refused(String),
    Load(LoadError),
    Save(CommitError),
}

impl From<LoadError> for ChangeError {
    fn from(error: LoadError) -> Self {
        Self::Load(error)
    }
}

impl From<CommitError> for ChangeError {
    fn from(error: CommitError) -> Self {
        Self::Save(error)
    }
}

/// One that this release cannot read counts as off: nobody is answered who was perhaps not meant to be.
fn read_setting(setting: &Setting) -> Option<(MachineName, Saved)> {
    let machine = MachineName::parse(setting.name.strip_prefix(SETTING_PREFIX)?).ok()?;
    let rollout = serde_json::from_value(setting.body.clone()).unwrap_or_else(|problem| {
        tracing::error!(tenant = %setting.tenant, %machine, "failed to read a rollout, which counts as off: {problem}");
        Rollout::plain(Mode::Off)
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
        let percent = Some(Percent::try_from(percent).unwrap());
        let rollout = Rollout { percent, ..Rollout::plain(Mode::Percentage) };
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
        let places = people(3).iter().map(|subject| place_of(&tenant, &machine, subject)).collect::<Vec<_>>();
        assert_eq!(places, [4_112, 9_945, 3_867].map(Percent));
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
            let read = changed(&Rollout::ON, &written).unwrap();
            let treats = |name| read.treats(&tenant, &machine, &Subject::parse(name).unwrap());
            assert_eq!((treats("ann"), treats("bob")), (ann, bob), "{written}");
            let kept = serde_json::to_value(&read).unwrap();
            assert_eq!(serde_json::from_value::<Rollout>(kept).unwrap(), read, "{written}");
        }
    }

    /// A rollout after a change, as both are written.
    fn changed(before: &Rollout, change: &serde_json::Value) -> Result<Rollout, String> {
        let change = serde_json::from_value::<Change>(change.clone()).map_err(|error| error.to_string())?;
        change.of(before.clone())
    }

    #[test]
    fn what_a_change_does_not_name_stays_whatever_the_mode() {
        let mut rollout = Rollout::ON;
        let some = json!({"mode": "allow_list", "users": ["ann", "bob"], "percent": 5.0, "others": "shadow"});
        for (change, expected) in [
            (json!({"mode": "allow_list", "users": ["ann"]}), json!({"users": ["ann"], "others": "off"})),
            (json!({"mode": "off"}), json!({"mode": "off"})),
            (json!({"others": "shadow"}), json!({"others": "shadow"})),
            (json!({"add_users": ["bob", "eve"]}), json!({"users": ["ann", "bob", "eve"]})),
            (json!({"mode": "percentage", "percent": 5}), json!({"mode": "percentage", "percent": 5.0})),
            (json!({"remove_users": ["eve", "nobody"], "mode": "on"}), json!({"users": ["ann", "bob"]})),
            (json!({"mode": "shadow"}), json!({"mode": "shadow"})),
            (json!({"mode": "allow_list"}), some.clone()),
            // What is shown may be written back.
            (some.clone(), some.clone()),
            (json!({"users": []}), json!({"users": []})),
            (json!({"add_users": ["ann"], "remove_users": ["ann"]}), json!({"users": []})),
        ] {
            let before = serde_json::to_value(&rollout).unwrap();
            rollout = changed(&rollout, &change).unwrap();
            let after = serde_json::to_value(&rollout).unwrap();
            for (field, value) in expected.as_object().unwrap() {
                assert_eq!(&after[field], value, "{field} of {after} after {change}");
            }
            let named = |field: &str| !change[field].is_null() || !expected[field].is_null();
            for field in ["mode", "percent", "others", "users"].into_iter().filter(|field| !named(field)) {
                assert_eq!(after[field], before[field], "{field} of {after} after {change}");
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_field() {
        let too_many: Vec<String> = (0..=USERS_MAX).map(|n| n.to_string()).collect();
        for (change, part) in [
            (json!({}), "nothing is named"),
            (json!({"mode": "allow_list"}), "`users`"),
            (json!({"mode": "percentage"}), "`percent`"),
            (json!({"mode": "percentage", "percent": 100.01}), "0 to 100"),
            (json!({"mode": "percentage", "percent": -1}), "0 to 100"),
            (json!({"mode": "percentage", "percent": 0.001}), "two decimals"),
            (json!({"users": ["ann"], "add_users": ["bob"]}), "the whole list"),
            (json!({"users": [], "remove_users": ["bob"]}), "the whole list"),
            (json!({"mode": "on", "user": []}), "unknown field `user`"),
            (json!({"add_users": too_many}), "10001 entries"),
        ] {
            let problem = changed(&Rollout::ON, &change).unwrap_err();
            assert!(problem.contains(part), "{change}: {problem}");
        }
        for (percent, expected) in [(0.07, 7), (0.57, 57), (12.5, 1_250), (33.33, 3_333), (100.0, 10_000)] {
            assert_eq!(Percent::try_from(percent), Ok(Percent(expected)));
        }
    }

    #[test]
    fn everybody_is_told_why() {
        let store = store::MemoryStore::new();
        let (tenant, machine) = names("acme", "bot");
        let (rollouts, subject) = (Rollouts::default(), people(1).remove(0));
        let because = |rollouts: &Rollouts| rollouts.because(&tenant, &machine, &subject);
        assert_eq!(because(&rollouts), "nothing was set, which is on");
        for (change, reason) in [
            (json!({"mode": "percentage", "percent": 10}), "41.12 % ≥ 10 %"),
            (json!({"percent": 41.12}), "41.12 % ≥ 41.12 %"),
            (json!({"percent": 41.13}), "41.12 % < 41.13 %"),
            (json!({"mode": "allow_list", "users": []}), "not on the list"),
            (json!({"users": [subject]}), "on the list"),
            (json!({"mode": "shadow"}), "the mode is `shadow`"),
        ] {
            let named = serde_json::from_value(change.clone()).unwrap();
            rollouts.change(&store, &tenant, &machine, named, Timestamp::from_millis(1)).unwrap();
            assert!(because(&rollouts).ends_with(reason), "{change}: {}", because(&rollouts));
        }
        assert_eq!(because(&Rollouts::load(&store, false).unwrap()), "ENABLE_FSM is off");
    }

    #[test]
    fn of_those_who_are_listed_at_the_same_time_none_is_lost() {
        let store = store::MemoryStore::new();
        let (tenant, machine) = names("acme", "bot");
        // Two servers take turns; each finds what the other has set, also before it reads everything again.
        let servers = [Rollouts::load(&store, true).unwrap(), Rollouts::load(&store, true).unwrap()];
        let add = |rollouts: &Rollouts, name: String| {
            let add_users = BTreeSet::from([Subject::parse(&name).unwrap()]);
            let change = Change { add_users, ..Change::default() };
            rollouts.change(&store, &tenant, &machine, change, Timestamp::from_millis(1)).unwrap()
        };
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (add, server) = (&add, &servers[0]);
                scope.spawn(move || (0..20).for_each(|n| drop(add(server, format!("{thread}-{n}")))));
            }
        });
        let saved = add(&servers[1], "one-more".to_owned());
        assert_eq!(saved.rollout.users.as_ref().unwrap().len(), 161);
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
        let shadow = Change { mode: Some(Mode::Shadow), ..Change::default() };
        first.change(&store, &tenant, &machine, shadow, now).unwrap();
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
