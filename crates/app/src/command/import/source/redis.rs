//! Records under the keys of a Redis that fit a pattern: strings, in JSON or not, and hashes, each with its end of life.
//!
//! A record is `{ key, parts, value, expires_at }`: `parts` are what colons part in the key, `expires_at` is in
//! milliseconds, or null.

use std::collections::{HashSet, VecDeque};
use std::time::{SystemTime, UNIX_EPOCH};

use redis::{Connection, RedisResult, Value as Told};
use serde_json::{Map, Value, json};

use super::{Found, Reader, shown};
use crate::command::Failure;

/// Keys that are looked at for one answer.
const COUNT: usize = 500;

pub(super) struct Keys {
    connection: Connection,
    pattern: String,
    /// Where the server goes on; `None` when it has been through all keys.
    cursor: Option<u64>,
    /// A key may be told twice.
    known: HashSet<Vec<u8>>,
    ready: VecDeque<Found>,
}

impl Keys {
    pub fn open(url: &str, pattern: &str) -> Result<Self, Failure> {
        let open = || redis::Client::open(url)?.get_connection();
        let connection =
            open().map_err(|error| Failure(format!("failed to read {}: {error}", shown(url))))?;
        let (known, ready) = (HashSet::new(), VecDeque::new());
        Ok(Self { connection, pattern: pattern.to_owned(), cursor: Some(0), known, ready })
    }

    fn read(&mut self, cursor: u64) -> RedisResult<()> {
        let (next, keys): (u64, Vec<Vec<u8>>) = redis::cmd("SCAN")
            .arg(cursor)
            .arg("MATCH")
            .arg(&self.pattern)
            .arg("COUNT")
            .arg(COUNT)
            .query(&mut self.connection)?;
        self.cursor = (next != 0).then_some(next);
        for key in keys {
            if self.known.insert(key.clone()) {
                let number = self.known.len() as u64;
                let found = self.found(number, &key)?;
                self.ready.extend(found);
            }
        }
        Ok(())
    }

    /// `None` for a key that has gone meanwhile.
    fn found(&mut self, number: u64, key: &[u8]) -> RedisResult<Option<Found>> {
        let kind: String = redis::cmd("TYPE").arg(key).query(&mut self.connection)?;
        let name = String::from_utf8_lossy(key).into_owned();
        let value = match kind.as_str() {
            "none" => return Ok(None),
            "string" => match redis::cmd("GET").arg(key).query(&mut self.connection)? {
                Told::Nil => return Ok(None),
                told => text(&told).map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text))),
            },
            "hash" => hash(redis::cmd("HGETALL").arg(key).query(&mut self.connection)?),
            other => Err(format!("the key holds a {other}; strings and hashes can be imported")),
        };
        let expires_at = self.expires_at(key)?;
        let record = value.map(|value| {
            let parts: Vec<&str> = name.split(':').collect();
            json!({ "key": name, "parts": parts, "value": value, "expires_at": expires_at })
        });
        let (raw, place) = (record.is_err().then(|| name.clone()), format!("key {name}"));
        Ok(Some(Found { number, place, record, raw, weight: 1 }))
    }

    /// In milliseconds. Before version 7 a server tells only what is left.
    fn expires_at(&mut self, key: &[u8]) -> RedisResult<Option<i64>> {
        let at: RedisResult<i64> = redis::cmd("PEXPIRETIME").arg(key).query(&mut self.connection);
        if let Ok(at) = at {
            return Ok(Some(at).filter(|at| *at >= 0));
        }
        let left: i64 = redis::cmd("PTTL").arg(key).query(&mut self.connection)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as i64);
        Ok(Some(left).filter(|left| *left >= 0).map(|left| now + left))
    }
}

fn text(told: &Told) -> Result<String, String> {
    let bytes = match told {
        Told::BulkString(bytes) => bytes.clone(),
        Told::SimpleString(text) => return Ok(text.clone()),
        _ => return Err("the value is no text".to_owned()),
    };
    String::from_utf8(bytes).map_err(|_| "the value is not in UTF-8".to_owned())
}

fn hash(told: Vec<Told>) -> Result<Value, String> {
    let mut fields = Map::new();
    for pair in told.chunks(2) {
        if let [name, value] = pair {
            fields.insert(text(name)?, Value::String(text(value)?));
        }
    }
    Ok(Value::Object(fields))
}

impl Reader for Keys {
    fn next(&mut self) -> Result<Option<Found>, Failure> {
        while self.ready.is_empty() {
            let Some(cursor) = self.cursor else { return Ok(None) };
            self.read(cursor).map_err(|error| Failure(format!("Redis broke off: {error}")))?;
        }
        Ok(self.ready.pop_front())
    }
}
