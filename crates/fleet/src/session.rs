//! One session, judged by its own records: the history is played again on a model of the machine.
//!
//! A pure function of what a server shows of the session and of what has arrived outside; asks nobody.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::sink::Delivery;

/// What the machine's definition says of the bell.
const BELL_MS: i64 = 300;

/// A session as a server shows it.
#[derive(Debug)]
pub(crate) struct Shown {
    pub instance: Value,
    /// Oldest first.
    pub history: Vec<Value>,
    pub effects: Vec<Value>,
}

/// What a session holds, when there is nothing wrong with it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// The messages that were taken, in order, each with what it was and the revision that it led to.
    pub messages: Vec<(usize, String, u64)>,
    pub timers: u64,
    pub timer_late_ms: i64,
    /// The keys of all effects.
    pub effects: Vec<String>,
}

/// What the machine must be like after each line of the history.
#[derive(Debug, Default)]
struct Model {
    held: Held,
    /// The message that has set the bell, and when it is to ring.
    bell: Option<(u64, i64)>,
    rang: Vec<u64>,
    worked: Vec<u64>,
    /// The message that asked for the call under way, and the call's key.
    working: Option<(u64, String)>,
    closed: bool,
    /// Calls that nobody waits for any more: they have brought their result, or the session has ended.
    over: BTreeSet<String>,
    /// The keys of calls and of what the host is told, with the message that they are about.
    calls: BTreeMap<String, u64>,
    told: Vec<String>,
}

/// # Errors
/// What is wrong.
pub(crate) fn examine(shown: &Shown, arrived: Option<&BTreeMap<String, Delivery>>) -> Result<Held, String> {
    let id = text(&shown.instance["id"]);
    let mut model = Model::default();
    let mut revision = 0;
    for line in &shown.history {
        let failed = |what: String| format!("{what}, at revision {}: {line}", line["revision"]);
        if line["success"] != true {
            // A result that comes when nobody waits for it any more is refused, and that is recorded.
            let is_late = ["call_over", "instance_closed"].contains(&text(&line["code"]));
            if !is_late || line["cause"]["result"].is_null() {
                return Err(failed("something was refused".to_owned()));
            }
            continue;
        }
        revision += 1;
        if line["revision"] != revision {
            return Err(failed(format!("a gap in the history, revision {revision} was next")));
        }
        model.take(id, revision, line).map_err(failed)?;
    }
    if shown.instance["revision"] != revision {
        return Err(format!("the history ends with revision {revision}, the session is {}", shown.instance));
    }
    model.compare(&shown.instance)?;
    model.compare_effects(shown, arrived)?;
    Ok(model.held)
}

impl Model {
    fn take(&mut self, id: &str, revision: u64, line: &Value) -> Result<(), String> {
        if self.closed {
            return Err("something was taken after the end".to_owned());
        }
        let at = milliseconds(text(&line["at"])).ok_or("no time")?;
        let event = text(&line["event"]);
        let effect = format!("{id}:{revision}:0");
        match event {
            "rung" => {
                let deadline =
                    milliseconds(text(&line["cause"]["timer"]["deadline"])).ok_or("no deadline")?;
                let (message, due) = self.bell.take().ok_or("the bell rang and was not set")?;
                if deadline != due || at < due {
                    return Err(format!("the bell of m{message} was due at {due} and not at {deadline}"));
                }
                self.rang.push(message);
                self.held.timers += 1;
                self.held.timer_late_ms = self.held.timer_late_ms.max(at - due);
                self.told.push(effect);
            }
            "done.invoke.job" => {
                let (message, call) = self.working.take().ok_or("a result came and nothing was asked for")?;
                self.worked.push(message);
                self.over.insert(call);
                self.told.push(effect);
            }
            _ => {
                let number = text(&line["key"]).strip_prefix('m').and_then(|number| number.parse().ok());
                let number: u64 = number.ok_or("nobody said this")?;
                if let Some((message, due)) = self.bell
                    && at > due
                {
                    return Err(format!(
                        "the bell of m{message} was due at {due}, and this was taken before it"
                    ));
                }
                self.note(event, number, at, effect);
                let place = usize::try_from(number).unwrap_or_default();
                self.held.messages.push((place, event.to_owned(), revision));
            }
        }
        Ok(())
    }

    fn note(&mut self, event: &str, number: u64, at: i64, effect: String) {
        match event {
            "arm" => self.bell = Some((number, at + BELL_MS)),
            "disarm" => self.bell = None,
            "work" if self.working.is_none() => {
                self.calls.insert(effect.clone(), number);
                self.working = Some((number, effect));
            }
            "finish" => {
                self.bell = None;
                self.over.extend(self.working.take().map(|(_, call)| call));
                self.closed = true;
            }
            _ => {}
        }
    }

    /// The context holds what the history says, and nothing is left to come.
    fn compare(&self, instance: &Value) -> Result<(), String> {
        let seen: Vec<u64> = self.held.messages.iter().map(|(number, ..)| *number as u64).collect();
        for (field, expected) in [("seen", &seen), ("rang", &self.rang), ("worked", &self.worked)] {
            let found = &instance["context"][field];
            let numbers: Option<Vec<u64>> =
                found.as_array().map(|list| list.iter().filter_map(Value::as_u64).collect());
            if numbers.as_ref() != Some(expected) {
                return Err(format!("`{field}` is {found}, and by the history {expected:?}"));
            }
        }
        if self.closed == instance["closed_at"].is_null() {
            return Err(format!("by the history closed is {}: {instance}", self.closed));
        }
        if let Some((message, due)) = self.bell {
            return Err(format!("the bell of m{message} was due at {due} and never rang"));
        }
        if let Some((message, key)) = &self.working {
            return Err(format!("the call {key} of m{message} has brought nothing"));
        }
        Ok(())
    }

    /// Every effect is there once and has gone where it had to go; replies in their order.
    fn compare_effects(
        &mut self,
        shown: &Shown,
        arrived: Option<&BTreeMap<String, Delivery>>,
    ) -> Result<(), String> {
        let mut found: Vec<&str> = shown.effects.iter().map(|effect| text(&effect["id"])).collect();
        let mut expected: Vec<&str> = self.calls.keys().chain(&self.told).map(String::as_str).collect();
        found.sort_unstable();
        expected.sort_unstable();
        if found != expected {
            return Err(format!("the effects are {found:?}, and by the history {expected:?}"));
        }
        for effect in &shown.effects {
            let key = text(&effect["id"]);
            let status = text(&effect["status"]);
            // Also of a call whose server was killed between its result and saying that it was made.
            if status == "cancelled" && self.over.contains(key) {
                continue;
            }
            if status != "delivered" {
                return Err(format!("not delivered: {effect}"));
            }
            if let Some(arrived) = arrived {
                compare_delivery(shown, key, self.calls.get(key), arrived.get(key))?;
            }
        }
        let first = |key: &String| arrived?.get(key).map(|delivery| delivery.first);
        if !self.told.iter().map(first).is_sorted() {
            return Err(format!("the host was told out of order: {:?}", self.told));
        }
        self.held.effects = expected.into_iter().map(str::to_owned).collect();
        Ok(())
    }
}

/// Of an effect that is said to be delivered.
fn compare_delivery(
    shown: &Shown,
    key: &str,
    message: Option<&u64>,
    delivery: Option<&Delivery>,
) -> Result<(), String> {
    let delivery = delivery.filter(|delivery| delivery.taken);
    let delivery = delivery.ok_or_else(|| format!("{key} is said to be delivered and never arrived"))?;
    if let Some(changed) = &delivery.changed {
        return Err(format!("{key} arrived with two contents: {} and {changed}", delivery.said));
    }
    let said: Value = serde_json::from_str(&delivery.said).unwrap_or_default();
    let data = &said["data"];
    if data["instance"] != shown.instance["id"] || data["subject"] != shown.instance["subject"] {
        return Err(format!("{key} arrived as somebody else's: {}", delivery.said));
    }
    if let Some(message) = message
        && data["input"]["n"] != *message
    {
        return Err(format!("{key} was to be about m{message}: {}", delivery.said));
    }
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Of `2026-11-20T22:46:46.973Z`, counted from 1970 (Howard Hinnant, days from civil).
fn milliseconds(time: &str) -> Option<i64> {
    let number = |from: usize, to: usize| time.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = ((days * 24 + number(11, 13)?) * 60 + number(14, 16)?) * 60 + number(17, 19)?;
    Some(seconds * 1_000 + number(20, 23)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line(revision: u64, second: &str, event: &str, key: &str) -> Value {
        json!({ "revision": revision, "at": format!("2026-11-20T10:00:{second}Z"), "event": event, "key": key, "success": true })
    }

    fn rung(revision: u64, second: &str, deadline: &str) -> Value {
        let mut line = line(revision, second, "rung", "timer:x");
        line["cause"] =
            json!({ "timer": { "id": "bell", "deadline": format!("2026-11-20T10:00:{deadline}Z") } });
        line
    }

    fn effect(revision: u64) -> Value {
        json!({ "id": format!("i:{revision}:0"), "status": "delivered" })
    }

    /// Two messages, of which the first sets the bell, and a call with its result.
    fn sound() -> Shown {
        let history = vec![
            line(1, "00.000", "arm", "m1"),
            line(2, "00.100", "work", "m2"),
            line(3, "00.200", "done.invoke.job", "call:x"),
            rung(4, "00.312", "00.300"),
        ];
        let context = json!({ "seen": [1, 2], "rang": [1], "worked": [2], "asked": 2 });
        let instance =
            json!({ "id": "i", "subject": "u", "revision": 4, "context": context, "closed_at": null });
        Shown { instance, history, effects: vec![effect(4), effect(3), effect(2)] }
    }

    #[test]
    fn a_sound_session_is_counted() {
        let held = examine(&sound(), None).unwrap();
        assert_eq!((held.timers, held.timer_late_ms, held.effects.len()), (1, 12, 3));
        assert_eq!(held.messages, [(1, "arm".to_owned(), 1), (2, "work".to_owned(), 2)]);
    }

    #[test]
    fn whatever_is_lost_doubled_or_out_of_order_is_found() {
        type Change = fn(&mut Shown);
        let changes: [(&str, Change); 13] = [
            ("a gap in the history", |s| drop(s.history.remove(1))),
            ("`seen` is [2,1]", |s| s.instance["context"]["seen"] = json!([2, 1])),
            ("`seen` is [1,1,2]", |s| s.instance["context"]["seen"] = json!([1, 1, 2])),
            ("`rang` is []", |s| s.instance["context"]["rang"] = json!([])),
            ("the bell rang and was not set", |s| {
                s.history.push(rung(5, "00.900", "00.800"));
            }),
            ("was due at", |s| s.history[3] = rung(4, "00.312", "00.290")),
            ("never rang", |s| {
                s.history.push(line(5, "00.400", "arm", "m3"));
                s.instance["revision"] = json!(5);
                s.instance["context"]["seen"] = json!([1, 2, 3]);
            }),
            ("taken before it", |s| s.history[2] = line(3, "00.301", "count", "m3")),
            ("the effects are", |s| drop(s.effects.remove(0))),
            ("not delivered", |s| s.effects[2]["status"] = json!("dead")),
            ("not delivered", |s| s.effects[1]["status"] = json!("cancelled")),
            ("something was refused", |s| s.history[1]["success"] = json!(false)),
            ("the history ends", |s| s.instance["revision"] = json!(3)),
        ];
        for (complaint, change) in changes {
            let mut shown = sound();
            change(&mut shown);
            let found = examine(&shown, None).unwrap_err();
            assert!(found.contains(complaint), "{complaint}: {found}");
        }
    }

    #[test]
    fn an_effect_that_never_arrived_or_changed_is_found() {
        let said =
            |n: u64| json!({ "data": { "instance": "i", "subject": "u", "input": { "n": n } } }).to_string();
        let delivery = |first: usize| Delivery { first, times: 1, taken: true, said: said(2), changed: None };
        let arrived = || BTreeMap::from([2, 3, 4].map(|n| (format!("i:{n}:0"), delivery(n))));
        assert_eq!(examine(&sound(), Some(&arrived())).unwrap().effects.len(), 3);
        type Change = fn(&mut BTreeMap<String, Delivery>);
        let changes: [(&str, Change); 5] = [
            ("never arrived", |all| drop(all.remove("i:3:0"))),
            ("never arrived", |all| all.get_mut("i:4:0").unwrap().taken = false),
            ("two contents", |all| all.get_mut("i:4:0").unwrap().changed = Some(String::new())),
            ("out of order", |all| all.get_mut("i:4:0").unwrap().first = 1),
            ("somebody else's", |all| all.get_mut("i:2:0").unwrap().said = "{}".to_owned()),
        ];
        for (complaint, change) in changes {
            let mut arrived = arrived();
            change(&mut arrived);
            let found = examine(&sound(), Some(&arrived)).unwrap_err();
            assert!(found.contains(complaint), "{complaint}: {found}");
        }
    }

    #[test]
    fn times_are_counted_from_1970() {
        assert_eq!(milliseconds("1970-01-01T00:00:00.000Z"), Some(0));
        assert_eq!(milliseconds("2026-11-20T22:46:46.973Z"), Some(1_795_214_806_973));
        assert_eq!(milliseconds("yesterday"), None);
    }
}
