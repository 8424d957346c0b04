//! Lists and histories that are longer than a page, and what is found in them.

use std::process::Command;

use serde_json::json;

use super::furnished::furnished;
use crate::harness::Server;

/// Where a link of a page leads, if it is there.
fn link(page: &str, label: &str) -> Option<String> {
    let end = page.find(&format!("\">{label}</a>"))?;
    let begin = page[..end].rfind("href=\"")? + 6;
    Some(page[begin..end].replace("&#38;", "&"))
}

/// The pages of a list from `path` on, by what is said of each; then back again, where it has to be the same.
fn there_and_back(server: &Server, path: &str, said: fn(&str) -> String) -> Vec<String> {
    let (mut all, mut path) = (Vec::new(), path.to_owned());
    let last = loop {
        let page = server.get(&path).body;
        all.push(said(&page));
        match link(&page, "Older") {
            Some(older) => path = older,
            None => break page,
        }
    };
    let (mut back, mut page) = (vec![said(&last)], last);
    while let Some(newer) = link(&page, "Newer") {
        page = server.get(&newer).body;
        back.push(said(&page));
    }
    back.reverse();
    assert_eq!(all, back, "the way back is another");
    all
}

/// The text behind `before`, up to the next tag.
fn text<'p>(page: &'p str, before: &str) -> &'p str {
    let (_, after) = page.split_once(before).unwrap_or_else(|| panic!("there is no {before} in {page}"));
    after.split('<').next().unwrap()
}

/// How many rows a list has.
fn listed(page: &str, of: &str) -> usize {
    page.matches(&format!("<td class=\"id\"><a href=\"/{of}/")).count()
}

#[test]
fn a_long_history_is_seen_from_its_end_and_leafed_through_to_its_beginning() {
    let place = furnished();
    let server = &place.server;
    for number in 3..=450 {
        let event = json!({"key": format!("s{number}"), "event": "stay"}).to_string();
        assert_eq!(server.post("/v1/instances/guest-1/events", &event).status, 200);
    }
    let part = |page: &str| {
        text(page, "id=\"history-title\">What happened</h2>\n      <span class=\"quiet\">").to_owned()
    };
    assert_eq!(
        there_and_back(server, "/instances/guest-1", part),
        [
            "Page 1: 200 entries, of the revisions 251 to 450",
            "Page 2: 200 entries, of the revisions 51 to 250",
            "Page 3: 50 entries, of the revisions 1 to 50"
        ]
    );
    let past = server.get("/instances/guest-1?revision=3").body;
    assert_eq!(part(&past), "Page 1: 3 entries, of the revisions 1 to 3");
    assert!(past.contains("class=\"shown\"") && past.contains("sw-taken"), "{past}");
    assert_eq!(link(&past, "Newest").as_deref(), Some("/instances/guest-1"));
}

#[test]
fn lists_are_leafed_through_both_ways_with_their_filter() {
    let place = furnished();
    let server = &place.server;
    for number in 0..108 {
        let made =
            json!({"machine": "guest", "id": format!("many {number:03}"), "key": format!("m{number}")});
        assert_eq!(server.post("/v1/instances", &made.to_string()).status, 201);
    }
    let said = |page: &str| {
        format!("{}; {}", text(page, "part\"><span class=\"quiet\">"), listed(page, "instances"))
    };
    assert_eq!(
        there_and_back(server, "/instances?machine=guest", said),
        [
            "Page 1: 50 instances, by id, the highest first; 50",
            "Page 2: 50 instances, by id, the highest first; 50",
            "Page 3: 10 instances, by id, the highest first; 10"
        ]
    );
    assert!(
        said(&server.get("/instances?subject_contains=an").body).starts_with("2 instances, the newest first")
    );
    for number in 0..55 {
        let begun =
            json!({"flow": "release_train", "key": format!("f{number}"), "context": {"commit": "abc"}});
        assert_eq!(server.post("/v1/flows", &begun.to_string()).status, 201);
    }
    let said = |page: &str| text(page, "part\"><span class=\"quiet\">").to_owned();
    let phases = there_and_back(server, "/flows?phase=build&phase_state=not_started", said);
    assert_eq!(phases.len(), 2, "{phases:?}");
    let flows = there_and_back(server, "/flows?flow=release_train", said);
    assert_eq!(flows, ["Page 1: 50 flows, by id, the highest first", "Page 2: 6 flows, the newest first"]);
}

#[test]
fn an_instance_is_found_by_a_part_of_its_subject() {
    let place = furnished();
    let server = &place.server;
    let found = |query: &str| {
        let list = server.get(&format!("/v1/instances?{query}")).json();
        let subjects = list["data"].as_array().unwrap().iter().map(|one| one["subject"].as_str().unwrap());
        let mut subjects: Vec<String> = subjects.map(str::to_owned).collect();
        subjects.sort();
        subjects
    };
    assert_eq!(found("subject_contains=an"), ["ann", "dan"]);
    assert_eq!(found("subject_contains=an&closed=true"), ["dan"]);
    assert_eq!(found("subject_contains=AN"), Vec::<String>::new());
    assert_eq!(listed(&server.get("/instances?subject_contains=an").body, "instances"), 2);
    assert_eq!(listed(&server.get("/instances?subject=an").body, "instances"), 0);
    let told = Command::new(env!("CARGO_BIN_EXE_statewright"))
        .args(["ls", "--subject-contains", "an", "--closed", "true", "--server", &server.url])
        .output()
        .unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("dan") && !told.contains("ann"), "{told}");
}

#[test]
fn a_state_of_an_older_version_is_found_as_well() {
    let place = furnished();
    assert_eq!(
        place.server.post("/v1/instances/guest-1/events", r#"{"key":"b","event":"back"}"#).status,
        200
    );
    let second = super::furnished::GUEST.replace("version: 1", "version: 2").replace("taken", "had");
    assert_eq!(place.server.put("/v1/machines/guest", &second).status, 200);
    for (state, expected) in [("taken", 200), ("had", 200), ("nowhere", 400)] {
        let answer = place.server.get(&format!("/v1/instances?machine=guest&state={state}"));
        assert_eq!(answer.status, expected, "{state}: {}", answer.body);
    }
}

#[test]
fn what_was_delivered_and_what_not_is_told_in_words() {
    let place = furnished();
    let page = place.server.get("/instances/lost/deliveries").body;
    for words in [
        "notice of drop: waiting → over",
        "the host",
        "tried ",
        "the last time",
        ">dead<",
        "As JSON",
        "Try again",
    ] {
        assert!(page.contains(words), "there is no `{words}` in {page}");
    }
    let page = place.server.get("/inbox").body;
    assert!(page.contains("notice of drop: waiting → over"), "{page}");
    assert_eq!(place.server.get("/instances/nobody/deliveries").status, 404);
}
