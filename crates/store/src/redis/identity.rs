//! Whose data it is: the identity of the store, of which every bucket has a copy.
//!
//! A bucket without its copy has been emptied, evicted or replaced; what is not in it then must not be taken for what
//! has never been. So the scripts look for it each time, and a store is opened only if all copies are there.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use redis::cmd;

use crate::redis::failure::{self, Failure, OpenError};
use crate::redis::keys::{Keys, Place};
use crate::redis::script::OPEN;
use crate::redis::servers::{Call, Servers};
use crate::redis::value;

/// The layout of keys and values. A program that does not know it leaves them alone.
const LAYOUT: u32 = 1;

/// What the buckets count, as it was when the store was opened.
#[derive(Debug)]
pub(super) struct Found {
    pub identity: String,
    /// The last number of each bucket's log, and of its effects.
    pub numbers: Vec<(i64, i64)>,
}

/// Finds the store, or makes it where there is none.
pub(super) fn open(servers: &Servers, keys: &Keys) -> Result<Found, OpenError> {
    let mine = fresh();
    let (store, buckets, layout) = (keys.store(), keys.buckets.to_string(), LAYOUT.to_string());
    let command = eval(&store, [&mine, &buckets, &layout]);
    let answer = one(servers, Call::command(Place::Meta, command))?;
    let [identity, buckets, layout, ready] = value::parts(answer).map_err(OpenError::from)?;
    let (identity, buckets) = (value::text(identity)?, value::number(buckets)?);
    let layout = value::number(layout)?;
    if layout > i64::from(LAYOUT) {
        return Err(OpenError::Unusable(format!(
            "the store has layout {layout} and this program knows up to {LAYOUT}; use a newer program"
        )));
    }
    if buckets != i64::from(keys.buckets) {
        return Err(OpenError::Unusable(format!(
            "the store was made with {buckets} buckets, and {} are asked for; say `buckets={buckets}`",
            keys.buckets
        )));
    }
    if value::text(ready)? != "1" {
        make(servers, keys, &identity)?;
    }
    let numbers = check(servers, keys, &identity)?;
    Ok(Found { identity, numbers })
}

/// The script that makes the store runs before any is known to be loaded.
fn eval(store: &str, arguments: [&str; 3]) -> redis::Cmd {
    let mut command = cmd("EVAL");
    command.arg(&OPEN.source).arg(1).arg(store).arg(&arguments[..]);
    command
}

fn one(servers: &Servers, call: Call) -> Result<redis::Value, Failure> {
    let mut answers = servers.ask(&[call]);
    answers.pop().unwrap_or_else(|| Err(Failure::strange("nothing")))
}

/// May be done by two at once, and again after it was broken off.
fn make(servers: &Servers, keys: &Keys, identity: &str) -> Result<(), Failure> {
    let fields = [("store", identity), ("seq", "0"), ("effects", "0")];
    let calls = keys.all_buckets().flat_map(|place| {
        fields.map(|(field, value)| {
            let mut command = cmd("HSETNX");
            command.arg(keys.meta(place)).arg(field).arg(value);
            Call::command(place, command)
        })
    });
    failure::all(servers.ask(&calls.collect::<Vec<_>>()))?;
    let mut ready = cmd("HSET");
    ready.arg(keys.store()).arg("ready").arg("1");
    one(servers, Call::command(Place::Meta, ready)).map(|_| ())
}

fn check(servers: &Servers, keys: &Keys, identity: &str) -> Result<Vec<(i64, i64)>, OpenError> {
    let places: Vec<Place> = keys.all_buckets().collect();
    let calls = places.iter().map(|place| {
        let mut command = cmd("HMGET");
        command.arg(keys.meta(*place)).arg(&["store", "seq", "effects"][..]);
        Call::command(*place, command)
    });
    let answers = failure::all(servers.ask(&calls.collect::<Vec<_>>()))?;
    let mut numbers = Vec::with_capacity(places.len());
    for (place, answer) in places.into_iter().zip(answers) {
        let [store, seq, effects] = value::parts(answer)?;
        match value::optional_text(store)? {
            Some(found) if found == identity => {}
            found => {
                let what = if found.is_some() { "belongs to another store" } else { "is gone" };
                return Err(OpenError::Unusable(format!(
                    "the store lost a bucket: its key `{}` {what}; restore it from a backup, or use another prefix",
                    keys.meta(place)
                )));
            }
        }
        numbers.push((value::number(seq)?, value::number(effects)?));
    }
    Ok(numbers)
}

/// An identity that nobody else has. It is no secret: the randomness that protects hash maps will do.
fn fresh() -> String {
    let half = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", half(), half())
}
