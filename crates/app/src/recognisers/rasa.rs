//! Rasa's way to be asked: `POST {url}/model/parse`, which many classifiers speak.
//!
//! Pure. Facts: <https://rasa.com/docs/rasa/pages/http-api>, operation parseModelMessage.

use kernel::conversation::{Candidate, Confidence};
use kernel::input::Fields;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::outgoing::Request;
use crate::recognisers::{CANDIDATES_MAX, Endpoint, Question, Unread, share, unreadable};

/// What Rasa's fallback classifier says when it does not know: nothing that anybody meant.
const FALLBACK: &str = "nlu_fallback";

pub(super) fn encode(endpoint: &Endpoint, question: &Question<'_>) -> Request {
    // A server that was started with `--auth-token` wants it in the query.
    let token = endpoint.api_key.as_ref().map(|key| {
        let query =
            form_urlencoded::Serializer::new(String::new()).append_pair("token", key.expose()).finish();
        format!("?{query}")
    });
    let body = json!({ "text": question.text(), "message_id": question.key.as_str() });
    Request {
        url: format!("{}/model/parse{}", endpoint.url, token.unwrap_or_default()),
        headers: Vec::new(),
        content_type: "application/json".into(),
        body: body.to_string().into_bytes(),
        timeout: endpoint.timeout,
    }
}

#[derive(Deserialize)]
struct Parsed {
    intent: Option<Ranked>,
    #[serde(default)]
    intent_ranking: Vec<Ranked>,
    #[serde(default)]
    entities: Vec<Entity>,
}

#[derive(Deserialize)]
struct Ranked {
    /// Null where nothing was recognised.
    name: Option<String>,
    confidence: Option<f64>,
}

#[derive(Deserialize)]
struct Entity {
    entity: String,
    value: Value,
}

/// The ranking, else the one intent, as far as the machine knows them; the best first. Entities are parameters of each:
/// they were found in the text, whatever it means.
pub(super) fn decode(
    body: &[u8],
    question: &Question<'_>,
    most: Confidence,
) -> Result<Vec<Candidate>, Unread> {
    let parsed: Parsed = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
    if parsed.intent.is_none() && parsed.intent_ranking.is_empty() {
        return Err(Unread::Unreadable("it has neither `intent` nor `intent_ranking`".into()));
    }
    let mut parameters = Fields::new();
    for Entity { entity, value } in parsed.entities {
        parameters.entry(entity).or_insert(value);
    }
    let ranked = match parsed.intent_ranking.is_empty() {
        true => parsed.intent.into_iter().collect(),
        false => parsed.intent_ranking,
    };
    let candidates = ranked.into_iter().filter_map(|ranked| {
        let intent = ranked.name.filter(|name| name != FALLBACK && question.knows(name))?;
        let confidence = share(ranked.confidence?).min(most);
        Some(Candidate { intent, confidence, parameters: parameters.clone() })
    });
    let mut candidates: Vec<Candidate> = candidates.collect();
    candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.confidence));
    candidates.truncate(CANDIDATES_MAX);
    Ok(candidates)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recognisers::tests::{asked, endpoint};

    #[test]
    fn the_question_is_the_text_and_its_id() {
        asked("a wall & a door", |question| {
            let request = encode(&endpoint(None), question);
            assert_eq!(request.url, "http://nlu.example/model/parse");
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            assert_eq!(body, json!({"text": "a wall & a door", "message_id": "m1"}));
            let request = encode(&endpoint(Some("a&b")), question);
            assert_eq!(request.url, "http://nlu.example/model/parse?token=a%26b");
        });
    }

    #[test]
    fn the_ranking_becomes_candidates_and_entities_become_parameters() {
        let most = Confidence::CERTAIN;
        let decoded = |body: Value| asked("x", |q| decode(body.to_string().as_bytes(), q, most).unwrap());
        let names = |candidates: &[Candidate]| -> Vec<(String, u16)> {
            candidates.iter().map(|c| (c.intent.clone(), c.confidence.points())).collect()
        };
        let found = decoded(json!({
            "text": "x", "text_tokens": [[0, 1]],
            "intent": {"name": "nlu_fallback", "confidence": 0.7},
            "intent_ranking": [
                {"name": "nlu_fallback", "confidence": 0.7},
                {"id": 7, "name": "greeting", "confidence": 0.12},
                {"name": "not_ours", "confidence": 0.6},
                {"name": "progress_update", "confidence": 0.9312},
                {"name": null, "confidence": 0.5},
                {"name": "cancel", "confidence": 1.000_000_1},
            ],
            "entities": [
                {"entity": "task_id", "value": "T7", "start": 0, "end": 2, "confidence_entity": 0.9},
                {"entity": "task_id", "value": "T8"},
                {"entity": "size", "value": {"n": 3}},
            ],
        }));
        let expected =
            [("cancel".into(), 10_000), ("progress_update".into(), 9_312), ("greeting".into(), 1_200)];
        assert_eq!(names(&found), expected);
        let parameters = json!({"task_id": "T7", "size": {"n": 3}});
        assert!(found.iter().all(|candidate| json!(candidate.parameters) == parameters), "{found:?}");
        // Without a ranking, the one intent.
        let found = decoded(json!({"intent": {"name": "greeting", "confidence": 0.8}, "entities": []}));
        assert_eq!(names(&found), [("greeting".into(), 8_000)]);
        assert_eq!(decoded(json!({"intent": {"name": null, "confidence": 0.0}})), []);
        let known = ["cancel", "stop", "help", "person", "confirm", "greeting", "question"];
        let all: Vec<Value> = known.map(|name| json!({"name": name, "confidence": 0.1})).to_vec();
        assert_eq!(decoded(json!({ "intent_ranking": all })).len(), CANDIDATES_MAX);
    }

    #[test]
    fn what_is_no_answer_of_rasa_is_a_failure() {
        for body in
            ["", "no json", "[]", "{}", "{\"intent_ranking\": 5}", "{\"intent\": \"greeting\"}", "null"]
        {
            let read = asked("x", |question| decode(body.as_bytes(), question, Confidence::CERTAIN));
            assert!(matches!(read, Err(Unread::Unreadable(_))), "{body}: {read:?}");
        }
    }

    #[test]
    fn no_confidence_passes_the_configured_most() {
        let body = br#"{"intent": {"name": "greeting", "confidence": 0.99}}"#;
        let most = Confidence::basis_points(8_000);
        let found = asked("x", |question| decode(body, question, most).unwrap());
        assert_eq!(found[0].confidence, most);
    }
}
