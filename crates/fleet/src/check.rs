//! The judgement afterwards: what every server shows of every session, compared with what the users were told.
//!
//! Owns which questions are asked of the servers; what a session's own records must be like is `session`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http::Client;
use crate::load::{User, digest, message};
use crate::report::{Report, Violation, Violations};
use crate::session::{Held, Shown, examine};
use crate::sink::Delivery;

/// The servers are not hurt any more: what takes longer never comes.
const PATIENCE: Duration = Duration::from_secs(20);
/// After this, effects that wait for a later attempt are tried at once: a receiver that is there answers.
const IMPATIENT_AFTER: Duration = Duration::from_secs(45);
const POLL_INTERVAL: Duration = Duration::from_millis(200);
const THREADS: usize = 6;

/// Everything that is looked at.
#[derive(Debug)]
pub(crate) struct Check<'a> {
    /// Addresses of all servers.
    pub urls: Vec<String>,
    pub tenants: &'a [String],
    pub keys: &'a [String],
    pub users: &'a [User],
    pub may_lose: bool,
    /// How many ids are said again at most.
    pub repeats_max: usize,
    pub settle_max: Duration,
    pub violations: &'a Violations,
}

/// What was found of all users together.
#[derive(Debug, Default)]
struct Total {
    sessions: u64,
    timers: u64,
    timer_late_ms: i64,
    effects: BTreeSet<String>,
    lost: u64,
    /// Ids that are there, by user.
    surviving: BTreeMap<usize, BTreeSet<usize>>,
}

impl Check<'_> {
    /// Waits until nothing is left to be done: no timer set, no call under way, no effect on its way.
    pub fn settle(&self) -> Duration {
        let began = Instant::now();
        let client = Client::new(PATIENCE);
        loop {
            let left = self.left_to_do(&client);
            match left {
                Ok(None) => return began.elapsed(),
                Ok(Some(left)) if began.elapsed() > self.settle_max => {
                    let what = format!(
                        "something is still to be done {} s after the end",
                        self.settle_max.as_secs()
                    );
                    self.violations.say(what, vec![left]);
                    return began.elapsed();
                }
                Err(why) if began.elapsed() > self.settle_max => {
                    self.violations.say("a server does not answer after the end", vec![why]);
                    return began.elapsed();
                }
                Ok(Some(_)) | Err(_) => {}
            }
            if began.elapsed() > IMPATIENT_AFTER {
                self.try_again(&client);
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    fn left_to_do(&self, client: &Client) -> Result<Option<String>, String> {
        for key in self.keys {
            let path = "/v1/dead-letters?status=pending,sending&limit=5";
            let effects = list(client, &self.urls[0], path, key, false)?;
            if let Some(effect) = effects.first() {
                return Ok(Some(format!("{} effects and more, such as {effect}", effects.len())));
            }
            let open =
                list(client, &self.urls[0], "/v1/instances?machine=tally&closed=false&limit=500", key, true)?;
            let busy = open.iter().find(|session| {
                session["state"] != "idle"
                    || session["timers"].as_array().is_none_or(|timers| !timers.is_empty())
            });
            if let Some(session) = busy {
                return Ok(Some(session.to_string()));
            }
        }
        Ok(None)
    }

    fn try_again(&self, client: &Client) {
        for key in self.keys {
            let path = "/v1/dead-letters?status=pending&limit=100";
            let effects = list(client, &self.urls[0], path, key, false).unwrap_or_default();
            for id in effects.iter().filter_map(|effect| effect["id"].as_str()) {
                let _ = client.post(&format!("{}/v1/dead-letters/{id}/retry", self.urls[0]), key, "{}");
            }
        }
    }

    /// Looks at everything, and takes down the figures.
    pub fn run(&self, arrived: &BTreeMap<String, Delivery>, report: &mut Report) {
        let total = Mutex::new(Total::default());
        self.in_parallel(self.users, |client, user| match self.user(client, user, arrived) {
            Ok(held) => total.lock().unwrap_or_else(PoisonError::into_inner).add(user, held),
            Err(violation) => self.violations.add(violation),
        });
        let total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
        report.sessions = total.sessions;
        report.timers = total.timers;
        report.timer_late = Duration::from_millis(total.timer_late_ms.unsigned_abs());
        report.effects = total.effects.len() as u64;
        report.effects_twice = arrived.values().filter(|delivery| delivery.times > 1).count() as u64;
        report.lost = total.lost;
        if !self.may_lose && !self.violations.any() {
            for key in arrived.keys().filter(|key| !total.effects.contains(*key)) {
                self.violations.say("something arrived that no session has sent", vec![key.clone()]);
            }
        }
        report.asked_again = self.ask_again(&total.surviving);
        self.ask_for_damage();
    }

    /// All sessions of somebody, in the order in which they were begun.
    fn user(
        &self,
        client: &Client,
        user: &User,
        arrived: &BTreeMap<String, Delivery>,
    ) -> Result<Vec<Held>, Violation> {
        let key = &self.keys[user.tenant];
        let whose = format!("tenant {}, {}", self.tenants[user.tenant], user.subject);
        let failed = |what: String, look: Vec<String>| Violation { what: format!("{whose}: {what}"), look };
        let path = format!("/v1/instances?machine=tally&subject={}&limit=500", user.subject);
        let sessions =
            list(client, &self.urls[0], &path, key, true).map_err(|why| failed(why, vec![path.clone()]))?;
        let arrived = (!self.may_lose).then_some(arrived);
        let mut held = Vec::new();
        for session in &sessions {
            let id = session["id"].as_str().unwrap_or_default();
            let addresses: Vec<String> = self
                .urls
                .iter()
                .map(|url| format!("curl -H 'authorization: Bearer {key}' {url}/v1/instances/{id}/history"))
                .collect();
            let shown = self.shown(client, id, key).map_err(|why| failed(why, addresses.clone()))?;
            let found = examine(&shown, arrived).map_err(|why| {
                let mut look = addresses.clone();
                look.push(shown.instance.to_string());
                failed(format!("session {id}: {why}"), look)
            })?;
            held.push(found);
        }
        held.sort_by_key(|held| held.messages.first().map(|(number, ..)| *number));
        self.compare_told(user, &held).map_err(|why| {
            let ids = sessions.iter().map(|session| session["id"].to_string()).collect();
            failed(why, ids)
        })?;
        Ok(held)
    }

    /// A session as all servers show it, which has to be the same.
    fn shown(&self, client: &Client, id: &str, key: &str) -> Result<Shown, String> {
        let mut parts = Vec::new();
        for path in ["", "/history", "/effects"] {
            let mut first: Option<Vec<Value>> = None;
            for url in &self.urls {
                let address = format!("/v1/instances/{id}{path}");
                let found = match path {
                    "" => vec![get(client, url, &address, key)?],
                    _ => list(client, url, &format!("{address}?limit=500"), key, true)?,
                };
                match &first {
                    None => first = Some(found),
                    Some(other) if *other == found => {}
                    Some(other) => {
                        return Err(format!(
                            "two servers show {address} differently: {other:?} and {found:?}"
                        ));
                    }
                }
            }
            parts.push(first.unwrap_or_default());
        }
        let (effects, history) = (parts.pop().unwrap_or_default(), parts.pop().unwrap_or_default());
        let instance = parts.pop().and_then(|mut instance| instance.pop()).unwrap_or_default();
        Ok(Shown { instance, history, effects })
    }

    /// Every message that was answered was taken once, in order, and is in the history as it was answered.
    fn compare_told(&self, user: &User, held: &[Held]) -> Result<(), String> {
        let mut last = 0;
        for (number, event, revision) in held.iter().flat_map(|held| &held.messages) {
            if *number <= last {
                return Err(format!("m{number} was taken after m{last}, or twice"));
            }
            if *number != last + 1 && !self.may_lose {
                return Err(format!("m{} was answered and is in no history", last + 1));
            }
            last = *number;
            let Some(told) = user.told.get(number - 1) else {
                if self.may_lose {
                    continue;
                }
                return Err(format!("m{number} was taken and never answered"));
            };
            if *event != told.kind.name() || (*revision != told.revision && !self.may_lose) {
                return Err(format!(
                    "m{number} was answered as {:?}, and the history has {event} at revision {revision}",
                    told
                ));
            }
        }
        if last < user.told.len() && !self.may_lose {
            return Err(format!("m{} was answered and is in no history", last + 1));
        }
        Ok(())
    }

    /// Says ids again, to every server, and compares with what was answered first. How many ids.
    fn ask_again(&self, surviving: &BTreeMap<usize, BTreeSet<usize>>) -> u64 {
        let mut ids: Vec<(&User, usize)> = Vec::new();
        for user in self.users {
            let there = surviving.get(&user.number);
            let is_there = |n: &usize| there.is_some_and(|there| there.contains(n));
            ids.extend((1..=user.told.len()).filter(is_there).map(|n| (user, n)));
        }
        let stride = ids.len().div_ceil(self.repeats_max.max(1)).max(1);
        let ids: Vec<(&User, usize)> = ids.into_iter().step_by(stride).collect();
        self.in_parallel(&ids, |client, (user, n)| {
            let told = &user.told[n - 1];
            let (path, body) = message(&user.subject, *n, told.kind);
            for url in &self.urls {
                let answer = client.post(&format!("{url}{path}"), &self.keys[user.tenant], &body);
                let is_same = answer.as_ref().is_ok_and(|answer| {
                    answer.status == 200 && (digest(&answer.body) == told.digest || self.may_lose)
                });
                if !is_same {
                    let tenant = &self.tenants[user.tenant];
                    let what =
                        format!("tenant {tenant}, {}: m{n}, said again, is answered otherwise", user.subject);
                    self.violations
                        .say(what, vec![format!("by {url}: {answer:?}"), format!("at first: {told:?}")]);
                }
            }
        });
        ids.len() as u64
    }

    fn ask_for_damage(&self) {
        let client = Client::new(PATIENCE);
        for url in &self.urls {
            let figures = client.get(&format!("{url}/metrics"), &self.keys[0]).map(|answer| answer.body);
            let figures = figures.unwrap_or_default();
            let damaged = figures.lines().find_map(|line| line.strip_prefix("statewright_quarantined "));
            if damaged != Some("0") && !self.may_lose {
                self.violations.say("records are in quarantine", vec![format!("{url}/metrics: {damaged:?}")]);
            }
        }
    }

    fn in_parallel<T: Sync>(&self, items: &[T], work: impl Fn(&Client, &T) + Sync) {
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let client = Client::new(PATIENCE);
                    while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                        work(&client, item);
                    }
                });
            }
        });
    }
}

impl Total {
    fn add(&mut self, user: &User, held: Vec<Held>) {
        self.sessions += held.len() as u64;
        let there = self.surviving.entry(user.number).or_default();
        for session in held {
            self.timers += session.timers;
            self.timer_late_ms = self.timer_late_ms.max(session.timer_late_ms);
            self.effects.extend(session.effects);
            there.extend(session.messages.iter().map(|(number, ..)| *number));
        }
        self.lost += (1..=user.told.len()).filter(|number| !there.contains(number)).count() as u64;
    }
}

fn get(client: &Client, url: &str, path: &str, key: &str) -> Result<Value, String> {
    let answer = client.get(&format!("{url}{path}"), key).map_err(|why| format!("{url}{path}: {why}"))?;
    if answer.status != 200 {
        return Err(format!("{url}{path}: {} {}", answer.status, answer.body));
    }
    serde_json::from_str(&answer.body).map_err(|why| format!("{url}{path}: {why}: {}", answer.body))
}

/// The first page of a list, or all of it.
fn list(client: &Client, url: &str, path: &str, key: &str, whole: bool) -> Result<Vec<Value>, String> {
    let mut found = Vec::new();
    let mut address = path.to_owned();
    loop {
        let page = get(client, url, &address, key)?;
        found.extend(page["data"].as_array().cloned().unwrap_or_default());
        match page["next_cursor"].as_str() {
            Some(cursor) if whole => address = format!("{path}&cursor={cursor}"),
            _ => return Ok(found),
        }
    }
}
