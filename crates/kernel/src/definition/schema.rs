//! The JSON Schema of definitions, by which editors complete and check them.
//!
//! Written by hand, and held to the reader by tests: here its keys and words, in `tests/schema` what it takes and
//! refuses. It may be more lenient than the reader, which knows more, but never stricter.

/// Draft 2020-12.
pub const SCHEMA: &str = include_str!("schema.json");

#[cfg(test)]
pub(crate) fn words<T>(choices: &[(&'static str, T)]) -> Vec<&'static str> {
    choices.iter().map(|(word, _)| *word).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::SCHEMA;
    use crate::conversation::definition as conversation;
    use crate::definition::read;
    use crate::flow;

    fn schema() -> Value {
        serde_json::from_str(SCHEMA).unwrap()
    }

    /// Every part of the schema that is one itself, with its place.
    fn parts(place: String, part: &Value, found: &mut Vec<(String, Value)>) {
        found.push((place.clone(), part.clone()));
        for (key, value) in part.as_object().into_iter().flatten() {
            match (key.as_str(), value) {
                ("properties" | "patternProperties" | "$defs", Value::Object(named)) => {
                    for (name, value) in named {
                        parts(format!("{place}/{key}/{name}"), value, found);
                    }
                }
                ("anyOf" | "allOf", Value::Array(items)) => {
                    for (at, value) in items.iter().enumerate() {
                        parts(format!("{place}/{key}/{at}"), value, found);
                    }
                }
                ("items" | "additionalProperties", Value::Object(_)) => {
                    parts(format!("{place}/{key}"), value, found);
                }
                _ => {}
            }
        }
    }

    fn all_parts() -> Vec<(String, Value)> {
        let mut found = Vec::new();
        parts(String::new(), &schema(), &mut found);
        found
    }

    #[test]
    fn every_map_has_the_keys_that_the_reader_knows() {
        let schema = schema();
        let known = read::keys_by_place().into_iter().chain(conversation::keys_by_place());
        let known: Vec<_> = known.chain(flow::keys_by_place()).collect();
        for (place, keys) in &known {
            let properties = schema.pointer(place).unwrap()["properties"].as_object().unwrap();
            let written: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
            assert_eq!(written, keys.iter().copied().collect(), "{place}");
        }
        for (place, part) in all_parts() {
            let closed = part["additionalProperties"] == Value::Bool(false);
            let listed = known.iter().any(|(known, _)| *known == place);
            assert!(!closed || listed || part.get("patternProperties").is_some(), "{place}");
            assert!(closed || !listed, "{place} allows unknown keys");
        }
    }

    #[test]
    fn every_choice_has_the_words_that_the_reader_knows() {
        let schema = schema();
        let known = read::words_by_place().into_iter().chain(conversation::words_by_place());
        let known: Vec<_> = known.chain(flow::words_by_place()).collect();
        for (place, words) in &known {
            let written = schema.pointer(place).unwrap()["enum"].as_array().unwrap();
            let written: BTreeSet<&str> = written.iter().filter_map(Value::as_str).collect();
            assert_eq!(written, words.iter().copied().collect(), "{place}");
        }
        // A machine cannot be final as a whole, nor be history.
        let elsewhere = ["/$defs/machine/properties/type"];
        for (place, part) in all_parts() {
            let listed = known.iter().any(|(known, _)| *known == place) || elsewhere.contains(&&*place);
            assert!(part.get("enum").is_none() || listed || place.contains("/allOf/"), "{place}");
        }
    }

    #[test]
    fn every_key_is_described() {
        let schema = schema();
        for (place, part) in all_parts().iter().filter(|(place, _)| !place.contains("/allOf/")) {
            for (key, property) in part["properties"].as_object().into_iter().flatten() {
                let named = property["$ref"].as_str().map(|name| schema.pointer(&name[1..]).unwrap());
                let described = |part: &Value| part["description"].as_str().is_some_and(|d| d.ends_with('.'));
                let conditional = place.ends_with("/if") || place.contains("/then");
                assert!(
                    described(property) || named.is_some_and(described) || conditional,
                    "{place}: {key} {property}"
                );
            }
        }
    }

    #[test]
    fn names_are_written_alike_everywhere() {
        let schema = schema();
        let name = schema["$defs"]["name"]["pattern"].as_str().unwrap();
        let delay = schema["$defs"]["delay"]["pattern"].as_str().unwrap();
        let mut seen = 0;
        for (place, part) in all_parts() {
            for pattern in part["patternProperties"].as_object().into_iter().flat_map(|o| o.keys()) {
                seen += 1;
                let expected = match place.rsplit('/').next().unwrap() {
                    "on" => continue,
                    "after" => delay,
                    _ => name,
                };
                assert_eq!(pattern, expected, "{place}");
            }
        }
        assert_eq!(
            seen, 10,
            "context, states, phases, invariants, intents, replies, and `on` and `after` of the top and of states"
        );
    }
}
