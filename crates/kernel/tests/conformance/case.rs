//! A case: one test of the W3C's, what it asserts, and the definitions that show how we stand to it.
//!
//! Owns the shape of the files in `cases` and what is added to a definition before it is loaded. It plays nothing.

use std::fs;
use std::path::Path;

use kernel::input::Fields;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub id: u32,
    /// What the W3C's test is about, in our words.
    pub asserts: String,
    pub verdict: Verdict,
    /// Why we differ, or why there is nothing to hold against the test.
    pub because: Option<String>,
    pub machine: Option<Written>,
    #[serde(default)]
    script: Vec<Step>,
    ends: Option<String>,
    rejects: Option<String>,
    /// Further parts of the same test, or the other side of a difference.
    #[serde(default)]
    and: Vec<Play>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Passes,
    Differs,
    OutOfScope,
}

/// One definition, what happens to an instance of it once that is created, and how it ends.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Play {
    pub machine: Written,
    #[serde(default)]
    pub script: Vec<Step>,
    /// The state at the end; `pass` if nothing else is said.
    pub ends: Option<String>,
    /// The definition does not load, for errors of this code and no other.
    pub rejects: Option<String>,
}

/// An event from outside, or time that passes; and what must be true of the instance then.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Step {
    pub send: Option<String>,
    pub with: Fields,
    pub advance: Option<String>,
    pub refused: Option<String>,
    pub state: Option<String>,
}

impl Case {
    pub fn plays(&self) -> Vec<Play> {
        let first = self.machine.clone().map(|machine| Play {
            machine,
            script: self.script.clone(),
            ends: self.ends.clone(),
            rejects: self.rejects.clone(),
        });
        first.into_iter().chain(self.and.iter().cloned()).collect()
    }
}

impl Play {
    /// The definition with its name, and with the two final states in which most of the plays end.
    pub fn definition(&self) -> String {
        let Written::Map(entries) = &self.machine else { panic!("a machine is a map") };
        let mut entries = entries.clone();
        entries.insert(0, ("machine".into(), Written::Scalar("m".into())));
        let parallel = entries.iter().any(|(key, _)| key == "type");
        let states = entries.iter_mut().find(|(key, _)| key == "states");
        if let Some((_, Written::Map(states))) = states.filter(|_| !parallel) {
            for name in ["pass", "fail"] {
                let kind = ("type".into(), Written::Scalar("final".into()));
                states.push((name.into(), Written::Map(vec![kind])));
            }
        }
        Written::Map(entries).json()
    }
}

/// Every case there is, in the order of the W3C's numbers.
pub fn all() -> Vec<Case> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/cases");
    let mut cases = Vec::new();
    for file in fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        let options = serde_saphyr::options! { strict_booleans: true };
        let read: Result<Vec<Case>, _> =
            serde_saphyr::from_str_with_options(&fs::read_to_string(&path).unwrap(), options);
        cases.extend(read.unwrap_or_else(|error| panic!("{}: {error}", path.display())));
    }
    cases.sort_by_key(|case| case.id);
    cases
}

/// What stands in a file, with its maps in the order of writing: the order of states and transitions decides.
#[derive(Clone, Debug)]
pub enum Written {
    Scalar(Value),
    List(Vec<Written>),
    Map(Vec<(String, Written)>),
}

impl Written {
    fn json(&self) -> String {
        let joined = |parts: Vec<String>| parts.join(", ");
        match self {
            Self::Scalar(value) => value.to_string(),
            Self::List(items) => format!("[{}]", joined(items.iter().map(Self::json).collect())),
            Self::Map(entries) => {
                let entry = |(key, value): &(String, Self)| {
                    format!("{}: {}", Value::from(key.as_str()), value.json())
                };
                format!("{{{}}}", joined(entries.iter().map(entry).collect()))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WrittenVisitor)
    }
}

struct WrittenVisitor;

impl<'de> Visitor<'de> for WrittenVisitor {
    type Value = Written;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Written, E> {
        Ok(Written::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Written, E> {
        Ok(Written::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Written, E> {
        Ok(Written::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Written, E> {
        Ok(Written::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Written, E> {
        Ok(Written::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Written, E> {
        Ok(Written::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Written, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Written::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Written, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Written::Map(entries))
    }
}
